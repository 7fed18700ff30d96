package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/caller"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/topicconfig"

	"github.com/millstream-io/millstream/controller/backup"
	"github.com/millstream-io/millstream/controller/placement"
	"github.com/millstream-io/millstream/controller/reconcile"
	"github.com/millstream-io/millstream/controller/store"
)

// retryAfter is when a call may be repeated that a controller could not carry
// out now.
const retryAfter = 100 * time.Millisecond

// FaultOf says how an error of the controller is told to brokers; nil: it is
// not one that was foreseen. It is the only place that does.
func FaultOf(err error) *rpc.Fault {
	if f := ofRequest(err); f != nil {
		return f
	}
	return ofState(err)
}

// ofRequest maps errors that a request is to blame for.
func ofRequest(err error) *rpc.Fault {
	if e, ok := errors.AsType[*FieldError](err); ok {
		return &rpc.Fault{
			Code: codes.InvalidArgument, Reason: pb.ErrorReason_ERROR_REASON_INVALID_FIELD, Message: e.Error(),
			Field: &pb.FieldViolation{Field: e.Field, Description: e.Why},
		}
	}
	if e, ok := errors.AsType[*caller.Error](err); ok {
		return e.Fault()
	}
	if e, ok := errors.AsType[*topicconfig.NameError](err); ok {
		return &rpc.Fault{
			Code: codes.InvalidArgument, Reason: pb.ErrorReason_ERROR_REASON_INVALID_FIELD, Message: e.Error(),
			Field: &pb.FieldViolation{Field: "topic", Description: e.Why},
		}
	}
	if e, ok := errors.AsType[*topicconfig.UnknownError](err); ok {
		return &rpc.Fault{
			Code: codes.InvalidArgument, Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_CONFIG, Message: e.Error(),
			Field: &pb.FieldViolation{Field: e.Name, Description: "is not the name of a setting"},
		}
	}
	if e, ok := errors.AsType[*topicconfig.InvalidError](err); ok {
		return &rpc.Fault{
			Code: codes.InvalidArgument, Reason: pb.ErrorReason_ERROR_REASON_INVALID_CONFIG, Message: e.Error(),
			Field: &pb.FieldViolation{Field: e.Name, Description: e.Why},
		}
	}
	if e, ok := errors.AsType[*reconcile.FewerPartitionsError](err); ok {
		return &rpc.Fault{
			Code: codes.InvalidArgument, Reason: pb.ErrorReason_ERROR_REASON_INVALID_FIELD, Message: e.Error(),
			Field: &pb.FieldViolation{Field: "partition_count", Description: e.Error()},
		}
	}
	if e, ok := errors.AsType[*reconcile.UnknownBrokerError](err); ok {
		return &rpc.Fault{
			Code: codes.NotFound, Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_BROKER, Message: e.Error(), Resource: broker(e.Broker),
		}
	}
	if e, ok := errors.AsType[*reconcile.FeatureLevelError](err); ok {
		return &rpc.Fault{
			Code: codes.FailedPrecondition, Reason: pb.ErrorReason_ERROR_REASON_UNSUPPORTED_FIELD, Message: e.Error(),
			Field: &pb.FieldViolation{Field: "feature_level_max", Description: e.Error()},
		}
	}
	return nil
}

// ofState maps errors that the state of the cluster is to blame for.
func ofState(err error) *rpc.Fault {
	if e, ok := errors.AsType[*reconcile.TopicExistsError](err); ok {
		return &rpc.Fault{
			Code: codes.AlreadyExists, Reason: pb.ErrorReason_ERROR_REASON_TOPIC_EXISTS, Message: e.Error(), Resource: topic(e.Topic),
		}
	}
	if e, ok := errors.AsType[*reconcile.UnknownTopicError](err); ok {
		return &rpc.Fault{
			Code: codes.NotFound, Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION, Message: e.Error(), Resource: topic(e.Topic),
		}
	}
	if e, ok := errors.AsType[*reconcile.UnknownPartitionError](err); ok {
		return &rpc.Fault{
			Code: codes.NotFound, Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION, Message: e.Error(), Resource: partitionOf(e.Topic, e.Partition),
		}
	}
	if e, ok := errors.AsType[*reconcile.NotOfflineError](err); ok {
		return &rpc.Fault{
			Code: codes.FailedPrecondition, Reason: pb.ErrorReason_ERROR_REASON_PARTITION_NOT_OFFLINE, Message: e.Error(),
			Leader: &pb.LeaderHint{BrokerId: e.Leader, LeaderEpoch: e.LeaderEpoch},
		}
	}
	if e, ok := errors.AsType[*reconcile.NoReplicaServesError](err); ok {
		return &rpc.Fault{
			Code: codes.FailedPrecondition, Reason: pb.ErrorReason_ERROR_REASON_NO_REPLICA_SERVES, Message: e.Error(), Resource: partitionOf(e.Topic, e.Partition),
		}
	}
	if e, ok := errors.AsType[*reconcile.MayReturnError](err); ok {
		return &rpc.Fault{
			Code: codes.FailedPrecondition, Reason: pb.ErrorReason_ERROR_REASON_REPLICAS_MAY_RETURN, Message: e.Error(), Resource: partitionOf(e.Topic, e.Partition),
			Metadata: map[string]string{"awaitedBrokerIds": strings.Trim(fmt.Sprint(e.Awaited), "[]")},
		}
	}
	if e, ok := errors.AsType[*reconcile.BrokerInUseError](err); ok {
		return &rpc.Fault{
			Code: codes.FailedPrecondition, Reason: pb.ErrorReason_ERROR_REASON_BROKER_IN_USE, Message: e.Error(), Resource: broker(e.Broker),
			Metadata: map[string]string{"replicaCount": strconv.Itoa(e.Replicas), "running": strconv.FormatBool(e.Running)},
		}
	}
	if e, ok := errors.AsType[*reconcile.ConflictError](err); ok {
		return &rpc.Fault{
			Code: codes.Aborted, Reason: pb.ErrorReason_ERROR_REASON_CONFLICT, Message: e.Error(), Resource: topic(e.Topic),
			Metadata: map[string]string{"currentRevision": strconv.FormatInt(e.Current, 10)},
		}
	}
	if e, ok := errors.AsType[*placement.NotEnoughBrokersError](err); ok {
		return &rpc.Fault{
			Code: codes.FailedPrecondition, Reason: pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_BROKERS, Message: e.Error(),
			Metadata: map[string]string{"wantedBrokers": strconv.Itoa(e.Wanted), "availableBrokers": strconv.Itoa(e.Available)},
			Field:    &pb.FieldViolation{Field: "replication_factor", Description: e.Error()},
		}
	}
	if e, ok := errors.AsType[*reconcile.NoPlaceError](err); ok {
		return &rpc.Fault{
			Code: codes.FailedPrecondition, Reason: pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_BROKERS, Message: e.Error(), Resource: partitionOf(e.Topic, e.Partition),
			Metadata: map[string]string{"wantedBrokers": strconv.Itoa(e.Wanted), "availableBrokers": strconv.Itoa(e.Available)},
		}
	}
	if e, ok := errors.AsType[*reconcile.LimitError](err); ok {
		return &rpc.Fault{
			Code: codes.ResourceExhausted, Reason: pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, Message: e.Error(),
			Limit: &pb.LimitViolation{Limit: e.Limit, Maximum: e.Most, Actual: e.Actual},
		}
	}
	if e, ok := errors.AsType[*reconcile.StaleBrokerEpochError](err); ok {
		return &rpc.Fault{
			Code: codes.FailedPrecondition, Reason: pb.ErrorReason_ERROR_REASON_STALE_BROKER_EPOCH, Message: e.Error(),
			Resource: broker(e.Broker),
			Metadata: map[string]string{"currentBrokerEpoch": strconv.FormatInt(e.Current, 10)},
		}
	}
	if e, ok := errors.AsType[*reconcile.WrongClusterError](err); ok {
		return &rpc.Fault{
			Code: codes.FailedPrecondition, Reason: pb.ErrorReason_ERROR_REASON_WRONG_CLUSTER, Message: e.Error(),
			Field: &pb.FieldViolation{Field: "cluster_id", Description: e.Error()},
		}
	}
	if e, ok := errors.AsType[*reconcile.BrokerAliveError](err); ok {
		return &rpc.Fault{
			Code: codes.AlreadyExists, Reason: pb.ErrorReason_ERROR_REASON_BROKER_ALIVE, Message: e.Error(), Resource: broker(e.Broker),
		}
	}
	return ofController(err)
}

// ofController maps errors that the controller is to blame for.
func ofController(err error) *rpc.Fault {
	if e, ok := errors.AsType[*reconcile.NotActiveError](err); ok {
		f := unavailable(e.Error(), e.Active)
		f.Metadata["controllerId"] = strconv.Itoa(int(e.Self)) // whoever knows addresses only learns whose this is
		return f
	}
	if e, ok := errors.AsType[*reconcile.UnfinishedError](err); ok {
		return unknownOutcome(e.Error())
	}
	if e, ok := errors.AsType[*backup.ReadError](err); ok {
		return unavailable(e.Error(), -1)
	}
	if e, ok := errors.AsType[*unreadableError](err); ok {
		return unavailable(e.Error(), -1)
	}
	if e, ok := errors.AsType[*store.MembershipError](err); ok {
		return ofMembers(e)
	}
	switch {
	case errors.Is(err, backup.ErrNoCluster):
		return unavailable(err.Error(), -1)
	case errors.Is(err, errTooManyBackups):
		return &rpc.Fault{
			Code: codes.ResourceExhausted, Reason: pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, Message: err.Error(), Retryable: true,
			Limit: &pb.LimitViolation{Limit: "backups of a controller at once", Maximum: maxBackups, Actual: maxBackups + 1},
		}
	case errors.Is(err, store.ErrUnknownOutcome):
		return unknownOutcome("the controller lost sight of the change: it may or may not be carried out")
	case errors.Is(err, store.ErrDeposed):
		return unavailable("the controller is not active any more", -1)
	case errors.Is(err, store.ErrFull):
		return &rpc.Fault{
			Code: codes.ResourceExhausted, Reason: pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, Message: store.ErrFull.Error(),
			Limit: &pb.LimitViolation{Limit: "bytes of the metadata store"},
		}
	case errors.Is(err, store.ErrDiskFull):
		return &rpc.Fault{
			Code: codes.ResourceExhausted, Reason: pb.ErrorReason_ERROR_REASON_DISK_FULL, Message: store.ErrDiskFull.Error(), Retryable: true,
		}
	case errors.Is(err, errTooManyWatchers):
		return &rpc.Fault{
			Code: codes.ResourceExhausted, Reason: pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, Message: err.Error(),
			Limit: &pb.LimitViolation{Limit: "watches of a controller", Maximum: maxWatchers, Actual: maxWatchers + 1},
		}
	case errors.Is(err, errDraining):
		return rpc.ShuttingDownFault()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unknownOutcome("the call ended before its outcome was known")
	}
	return nil
}

// ofMembers maps why the controllers cannot be changed.
func ofMembers(e *store.MembershipError) *rpc.Fault {
	f := &rpc.Fault{Code: codes.FailedPrecondition, Reason: pb.ErrorReason_ERROR_REASON_QUORUM_AT_RISK, Message: e.Error(), Retryable: e.Retryable}
	switch e.Refusal {
	case store.RefusedUnknown:
		f.Code, f.Reason = codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_CONTROLLER
	case store.RefusedExists:
		f.Code, f.Reason = codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_CONTROLLER_EXISTS
	case store.RefusedAtRisk:
	}
	return f
}

func unavailable(message string, active int32) *rpc.Fault {
	return &rpc.Fault{
		Code: codes.Unavailable, Reason: pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE, Message: message,
		Retryable: true, RetryAfter: retryAfter, Metadata: map[string]string{"activeControllerId": fmt.Sprint(active)},
	}
}

func unknownOutcome(message string) *rpc.Fault {
	return &rpc.Fault{Code: codes.Unknown, Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME, Message: message}
}

func topic(name string) *pb.ResourceReference {
	return &pb.ResourceReference{Type: "topic", Name: name}
}

func partitionOf(name string, n uint32) *pb.ResourceReference {
	return &pb.ResourceReference{Type: "partition", Name: fmt.Sprintf("%s-%d", name, n)}
}

func broker(id int32) *pb.ResourceReference {
	return &pb.ResourceReference{Type: "broker", Name: strconv.Itoa(int(id))}
}
