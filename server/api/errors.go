package api

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/topicconfig"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/record"
)

// retryAfter is how long a client should wait for a leader, a controller or
// space.
const retryAfter = 100 * time.Millisecond

// FaultOf says how an error from below is told to clients. This file,
// errors_storage.go and errors_cluster.go are the only place where that is
// decided. Nil: it was not
// foreseen, or is the end of the call's context, which gRPC tells.
//
// The order matters: what wraps comes before what it may wrap.
func FaultOf(err error) *rpc.Fault {
	if f, ok := errors.AsType[*rpc.Fault](err); ok {
		return f
	}
	for _, faultOf := range [...]func(error) *rpc.Fault{
		outcomeFault, requestFault, topicFault, forwardFault, partitionFault, readFault, storageFault, controllerFault,
	} {
		if f := faultOf(err); f != nil {
			return f
		}
	}
	return nil
}

// fault makes a fault without details.
func fault(code codes.Code, reason pb.ErrorReason, message string) *rpc.Fault {
	return &rpc.Fault{Code: code, Reason: reason, Message: message}
}

// retryLater makes a fault of UNAVAILABLE after which nothing was written.
func retryLater(reason pb.ErrorReason, message string) *rpc.Fault {
	f := fault(codes.Unavailable, reason, message)
	f.Retryable, f.RetryAfter = true, retryAfter
	return f
}

// fieldFault says that a field is not acceptable; why follows its name.
func fieldFault(field, why string) *rpc.Fault {
	f := fault(codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, field+" "+why)
	f.Field = &pb.FieldViolation{Field: field, Description: why}
	return f
}

// named gives a fault the words of an error.
func named(f *rpc.Fault, err error) *rpc.Fault {
	f.Message = err.Error()
	return f
}

func unsupportedField(field, message string) *rpc.Fault {
	f := fieldFault(field, "is not supported")
	f.Reason, f.Message = pb.ErrorReason_ERROR_REASON_UNSUPPORTED_FIELD, message
	return f
}

// requestFault maps what is wrong with a request by itself.
func requestFault(err error) *rpc.Fault {
	if e, ok := errors.AsType[*record.InvalidBatchError](err); ok {
		return batchFault(e)
	}
	if e, ok := errors.AsType[*wire.MalformedError](err); ok {
		return rpc.MalformedFault(e)
	}
	if e, ok := errors.AsType[*wire.UnsupportedFieldError](err); ok {
		return unsupportedField(fmt.Sprintf("%s.%d", e.Message, e.Number), e.Error())
	}
	if e, ok := errors.AsType[*wire.InvalidValueError](err); ok {
		return fieldFault(e.Field, "is "+e.Why)
	}
	if e, ok := errors.AsType[*topicconfig.NameError](err); ok {
		return named(fieldFault("topic", e.Why), e)
	}
	if e, ok := errors.AsType[*topicconfig.UnknownError](err); ok {
		f := named(fieldFault(e.Name, "is no setting of a topic"), e)
		f.Reason = pb.ErrorReason_ERROR_REASON_UNKNOWN_CONFIG
		return f
	}
	if e, ok := errors.AsType[*topicconfig.InvalidError](err); ok {
		f := named(fieldFault(e.Name, e.Why), e)
		f.Reason = pb.ErrorReason_ERROR_REASON_INVALID_CONFIG
		return f
	}
	if e, ok := errors.AsType[*broker.BudgetError](err); ok {
		return rpc.LimitFault(codes.ResourceExhausted, "inflight.bytes", e.Limit, e.Bytes, e.Error())
	}
	return nil
}

// batchFault maps what is wrong with a batch.
func batchFault(e *record.InvalidBatchError) *rpc.Fault {
	limit := func(reason pb.ErrorReason, name string) *rpc.Fault {
		f := rpc.LimitFault(codes.InvalidArgument, name, e.Limit, e.Actual, e.Error())
		f.Reason = reason
		return f
	}
	f := named(fieldFault(e.Field, e.Kind.String()), e)
	f.Reason = pb.ErrorReason_ERROR_REASON_INVALID_BATCH
	switch e.Kind {
	case record.BatchTooLarge:
		return limit(pb.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE, "max.batch.bytes")
	case record.RecordTooLarge:
		return limit(pb.ErrorReason_ERROR_REASON_RECORD_TOO_LARGE, "max.record.bytes")
	case record.DecompressedTooLarge:
		return limit(pb.ErrorReason_ERROR_REASON_DECOMPRESSED_TOO_LARGE, "max.decompressed.bytes")
	case record.UnknownCompression:
		f.Reason = pb.ErrorReason_ERROR_REASON_UNSUPPORTED_COMPRESSION
	case record.UnsupportedField:
		f.Reason = pb.ErrorReason_ERROR_REASON_UNSUPPORTED_FIELD
	case record.Malformed, record.WrongCount, record.NotUTF8, record.EmptyBatch, record.BadCompression:
	}
	return f
}

// topicFault maps what is wrong with the topic or the partition asked for.
func topicFault(err error) *rpc.Fault {
	if e, ok := errors.AsType[*broker.UnknownTopicError](err); ok {
		return unknownResource("topic", e.Topic, e.Error())
	}
	if e, ok := errors.AsType[*broker.UnknownPartitionError](err); ok {
		return unknownResource("partition", fmt.Sprintf("%s-%d", e.Topic, e.Partition), e.Error())
	}
	if e, ok := errors.AsType[*broker.NotLeaderError](err); ok {
		return leaderFault(&pb.LeaderHint{
			BrokerId: e.Leader, Address: e.Address, LeaderEpoch: int32(e.Epoch), Revision: e.Revision,
		}, e.Error())
	}
	if e, ok := errors.AsType[*partition.NotLeaderError](err); ok {
		return leaderFault(&pb.LeaderHint{BrokerId: int32(e.Leader), LeaderEpoch: int32(e.Epoch)}, e.Error())
	}
	return nil
}

func unknownResource(kind, name, message string) *rpc.Fault {
	f := fault(codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION, message)
	f.Resource = &pb.ResourceReference{Type: kind, Name: name}
	return f
}

// leaderFault says that somebody else leads, or nobody.
func leaderFault(hint *pb.LeaderHint, message string) *rpc.Fault {
	if hint.GetBrokerId() < 0 {
		f := retryLater(pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE, message)
		f.Leader = hint
		return f
	}
	f := fault(codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_NOT_LEADER, message)
	f.Leader, f.Retryable = hint, true
	return f
}

// precedingFailed says that an earlier request for the partition failed.
func precedingFailed() *rpc.Fault {
	return fault(codes.Aborted, pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED,
		"an earlier request for the partition failed and none with restart has come since")
}

// outcomeFault maps that something may have been done. It comes first: what is
// the cause of that, as that another leads now, would say by itself that nothing
// was, and the client would do it again.
func outcomeFault(err error) *rpc.Fault {
	if errors.Is(err, partition.ErrUnknownOutcome) {
		return fault(codes.Unknown, pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME,
			"the records were written but not acknowledged: they may or may not stay")
	}
	return nil
}

// partitionFault maps why a partition does not do what it was asked.
func partitionFault(err error) *rpc.Fault {
	switch {
	case errors.Is(err, partition.ErrPrecedingFailed):
		return precedingFailed()
	case errors.Is(err, partition.ErrClosed):
		// Deleted, moved, or the broker stops. What the client should do is the
		// same, and the metadata knows more by then.
		return retryLater(pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE, "the partition is closed on this broker")
	}
	if e, ok := errors.AsType[*partition.TimestampError](err); ok {
		f := rpc.LimitFault(codes.InvalidArgument, "timestamp.max.ahead.ms", e.MaxAheadMs, e.TimestampMs-e.NowMs, e.Error())
		f.Reason = pb.ErrorReason_ERROR_REASON_TIMESTAMP_TOO_FAR_AHEAD
		return f
	}
	if e, ok := errors.AsType[*partition.NotEnoughReplicasError](err); ok {
		return retryLater(pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_REPLICAS, e.Error())
	}
	if e, ok := errors.AsType[*partition.DivergedError](err); ok {
		f := fault(codes.Aborted, pb.ErrorReason_ERROR_REASON_DIVERGED, e.Error())
		f.Divergence = &pb.Divergence{LeaderEpoch: int32(e.Epoch), SafeOffset: int64(e.SafeOffset)}
		return f
	}
	if e, ok := errors.AsType[*partition.EndUnknownError](err); ok {
		return retryLater(pb.ErrorReason_ERROR_REASON_OFFSET_NOT_AVAILABLE, e.Error())
	}
	if e, ok := errors.AsType[*partition.CutError](err); ok { // the leader will say what has become of the position
		return retryLater(pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE, e.Error())
	}
	if e, ok := errors.AsType[*partition.NotFreshError](err); ok {
		return retryLater(pb.ErrorReason_ERROR_REASON_NOT_FRESH, e.Error())
	}
	if isType[*partition.QuarantinedError](err) {
		return corrupt("damage was found in the log of the partition: this broker writes nothing to it until an operator acts")
	}
	if isType[*partition.FailedError](err) {
		return storageFailed("this broker writes nothing to it until an operator acts")
	}
	return nil
}

// notFresh says that the metadata is older than the caller has seen.
func notFresh(revision int64) *rpc.Fault {
	return retryLater(pb.ErrorReason_ERROR_REASON_NOT_FRESH,
		fmt.Sprintf("the metadata of this broker has not reached revision %d (min_revision)", revision))
}
