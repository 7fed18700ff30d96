package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/caller"

	"github.com/millstream-io/millstream/controller/backup"
	"github.com/millstream-io/millstream/controller/reconcile"
	"github.com/millstream-io/millstream/controller/store"
)

func TestErrorsOfTheControllerAreMapped(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   codes.Code
		reason pb.ErrorReason
		retry  bool
	}{
		{&reconcile.NotActiveError{Active: 2}, codes.Unavailable, pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE, true},
		{&reconcile.FeatureLevelError{Least: 2, Greatest: 3, InForce: 1}, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_UNSUPPORTED_FIELD, false},
		{&reconcile.UnfinishedError{Topic: "a"}, codes.Unknown, pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME, false},
		{store.ErrDeposed, codes.Unavailable, pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE, true},
		// What was deposed half-way may have been carried out.
		{fmt.Errorf("%w: %w", store.ErrUnknownOutcome, store.ErrDeposed), codes.Unknown, pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME, false},
		{fmt.Errorf("%w: %w", &reconcile.NotActiveError{Active: -1}, context.DeadlineExceeded), codes.Unavailable, pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE, true},
		{context.DeadlineExceeded, codes.Unknown, pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME, false},
		{store.ErrFull, codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, false},
		{store.ErrDiskFull, codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_DISK_FULL, true},
		{errTooManyWatchers, codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, false},
		{&caller.Error{Why: "it is another", Cause: context.Canceled}, codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_WRONG_IDENTITY, false},
		{&reconcile.UnknownBrokerError{Broker: 7}, codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_BROKER, false},
		{&reconcile.BrokerInUseError{Broker: 7, Replicas: 1}, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_BROKER_IN_USE, false},
		{&reconcile.NoPlaceError{Broker: 7, Topic: "a"}, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_BROKERS, false},
		{&reconcile.BrokerAliveError{Broker: 7}, codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_BROKER_ALIVE, false},
		{&reconcile.NotOfflineError{Topic: "a", Leader: 1}, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_PARTITION_NOT_OFFLINE, false},
		{&reconcile.MayReturnError{Topic: "a", Awaited: []int32{2, 3}}, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_REPLICAS_MAY_RETURN, false},
		{&reconcile.NoReplicaServesError{Topic: "a"}, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_NO_REPLICA_SERVES, false},
		{&reconcile.FewerPartitionsError{Topic: "a", Have: 3, Asked: 2}, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, false},
		{&store.MembershipError{Retryable: true}, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_QUORUM_AT_RISK, true},
		{&store.MembershipError{Refusal: store.RefusedUnknown}, codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_CONTROLLER, false},
		{&store.MembershipError{Refusal: store.RefusedExists}, codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_CONTROLLER_EXISTS, false},
		{&unreadableError{errors.New("x")}, codes.Unavailable, pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE, true},
		{backup.ErrNoCluster, codes.Unavailable, pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE, true},
		{&backup.ReadError{Cause: context.DeadlineExceeded}, codes.Unavailable, pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE, true},
		{errTooManyBackups, codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, true},
		{errDraining, codes.Unavailable, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN, true},
	} {
		f := FaultOf(c.err)
		if f == nil {
			t.Errorf("%v is not mapped", c.err)
			continue
		}
		if f.Code != c.code || f.Reason != c.reason || f.Retryable != c.retry {
			t.Errorf("%v: %v %v, retryable %v", c.err, f.Code, f.Reason, f.Retryable)
		}
	}
	if got := FaultOf(&reconcile.NotActiveError{Active: 2, Self: 1}).Metadata; got["activeControllerId"] != "2" || got["controllerId"] != "1" {
		t.Errorf("the active controller is said to be %q", got)
	}
	if f := FaultOf(errors.New("unforeseen")); f != nil {
		t.Errorf("an error that nobody foresaw is %v", f)
	}
}

func TestFieldsAreChecked(t *testing.T) {
	long := strings.Repeat("x", 300)
	registration := func(change func(*controllerv1.RegisterBrokerRequest)) error {
		r := &controllerv1.RegisterBrokerRequest{DirectoryId: make([]byte, 16), Address: "a:1"}
		change(r)
		return checkRegistration(r)
	}
	heartbeat := func(change func(*controllerv1.HeartbeatRequest)) error {
		r := &controllerv1.HeartbeatRequest{BrokerEpoch: 1}
		change(r)
		return checkHeartbeat(r)
	}
	alter := func(change func(*controllerv1.AlterPartitionRequest)) error {
		of := func(n uint32) *controllerv1.InSyncProposal {
			return &controllerv1.InSyncProposal{TopicId: make([]byte, 16), Partition: n, InSyncReplicas: []*controllerv1.InSyncReplica{{BrokerId: 1}}}
		}
		r := &controllerv1.AlterPartitionRequest{BrokerId: 1, BrokerEpoch: 1, Proposals: []*controllerv1.InSyncProposal{of(0), of(1)}}
		change(r)
		return checkAlterPartition(r)
	}
	if err := alter(func(*controllerv1.AlterPartitionRequest) {}); err != nil {
		t.Error(err)
	}
	if err := registration(func(*controllerv1.RegisterBrokerRequest) {}); err != nil {
		t.Error(err)
	}
	if err := heartbeat(func(*controllerv1.HeartbeatRequest) {}); err != nil {
		t.Error(err)
	}
	for field, err := range map[string]error{
		"broker_id":             registration(func(r *controllerv1.RegisterBrokerRequest) { r.BrokerId = maxBrokerID + 1 }),
		"directory_id":          registration(func(r *controllerv1.RegisterBrokerRequest) { r.DirectoryId = nil }),
		"cluster_id":            registration(func(r *controllerv1.RegisterBrokerRequest) { r.ClusterId = []byte{1} }),
		"address":               registration(func(r *controllerv1.RegisterBrokerRequest) { r.Address = long }),
		"internal_address":      registration(func(r *controllerv1.RegisterBrokerRequest) { r.InternalAddress = long }),
		"rack":                  registration(func(r *controllerv1.RegisterBrokerRequest) { r.Rack = long }),
		"version":               registration(func(r *controllerv1.RegisterBrokerRequest) { r.Version = long }),
		"incarnation_id":        registration(func(r *controllerv1.RegisterBrokerRequest) { r.IncarnationId = []byte(long) }),
		"previous_broker_epoch": registration(func(r *controllerv1.RegisterBrokerRequest) { r.PreviousBrokerEpoch = -1 }),
		"feature_level_min":     registration(func(r *controllerv1.RegisterBrokerRequest) { r.FeatureLevelMin = 1 }),
		"broker_epoch":          heartbeat(func(r *controllerv1.HeartbeatRequest) { r.BrokerEpoch = 0 }),
		"revision":              heartbeat(func(r *controllerv1.HeartbeatRequest) { r.Revision = -1 }),
		"failed_directory_ids":  heartbeat(func(r *controllerv1.HeartbeatRequest) { r.FailedDirectoryIds = make([][]byte, maxFailedDirs+1) }),
		"moves":                 heartbeat(func(r *controllerv1.HeartbeatRequest) { r.Moves = make([]*controllerv1.MoveProgress, maxMovesTold+1) }),
		"proposals": alter(func(r *controllerv1.AlterPartitionRequest) {
			r.Proposals = make([]*controllerv1.InSyncProposal, maxProposals+1)
		}),
		"proposals[1]":           alter(func(r *controllerv1.AlterPartitionRequest) { r.Proposals[1].Partition = 0 }),
		"proposals[1].partition": alter(func(r *controllerv1.AlterPartitionRequest) { r.Proposals[1].Partition = 1 << 31 }),
		"proposals[0].topic_id":  alter(func(r *controllerv1.AlterPartitionRequest) { r.Proposals[0].TopicId = nil }),
		"proposals[0].in_sync_replicas": alter(func(r *controllerv1.AlterPartitionRequest) {
			r.Proposals[0].InSyncReplicas = append(r.Proposals[0].InSyncReplicas, r.Proposals[0].InSyncReplicas[0])
		}),
		"proposals[1].in_sync_replicas": alter(func(r *controllerv1.AlterPartitionRequest) { r.Proposals[1].InSyncReplicas[0].BrokerId = 2 }),
		"request_id":                    checkCreateTopic(&controllerv1.CreateTopicRequest{Topic: "a", RequestId: long}),
		"replication_factor":            checkCreateTopic(&controllerv1.CreateTopicRequest{Topic: "a", ReplicationFactor: 1 << 31}),
		"partition_count":               checkCreateTopic(&controllerv1.CreateTopicRequest{Topic: "a", PartitionCount: 1 << 31}),
		"expected_revision":             checkUpdateTopicConfig(&controllerv1.UpdateTopicConfigRequest{Topic: "a", ExpectedRevision: new(int64(-1))}),
		"topic_id":                      checkDeleteTopic(&controllerv1.DeleteTopicRequest{Topic: "a", TopicId: []byte{1}}),
	} {
		if e, ok := errors.AsType[*FieldError](err); !ok || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
