package api

import (
	"fmt"
	"strconv"

	"google.golang.org/grpc/codes"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

// reassignmentFault says why the move of a partition was refused, or its
// cancelling; nil: it was not. i is its place in the request.
func reassignmentFault(i int, r *controllerv1.ReassignmentResult) *rpc.Fault {
	name := fmt.Sprintf("%s-%d", r.GetTopic(), r.GetPartition())
	refused := func(reason pb.ErrorReason, message string, args ...any) *rpc.Fault {
		f := fault(codes.FailedPrecondition, reason, fmt.Sprintf(message, args...))
		f.Resource = &pb.ResourceReference{Type: "partition", Name: name}
		return f
	}
	ofBroker := func(f *rpc.Fault) *rpc.Fault {
		f.Resource = &pb.ResourceReference{Type: "broker", Name: strconv.Itoa(int(r.GetBrokerId()))}
		return f
	}
	switch r.GetOutcome() {
	case controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_DONE, controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNCHANGED:
		return nil
	case controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNKNOWN_PARTITION:
		return unknownResource("partition", name, fmt.Sprintf("there is no partition %s", name))
	case controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNKNOWN_BROKER:
		return ofBroker(fault(codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_BROKER, fmt.Sprintf("there is no broker %d", r.GetBrokerId())))
	case controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_BROKER_NOT_SERVING:
		return ofBroker(refused(pb.ErrorReason_ERROR_REASON_BROKER_NOT_SERVING, "broker %d takes no replicas: it is fenced, stopping or drained", r.GetBrokerId()))
	case controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_BROKER_TWICE:
		return fieldFault(fmt.Sprintf("reassignments[%d].replicas", i), fmt.Sprintf("has broker %d twice", r.GetBrokerId()))
	case controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_WRONG_COUNT:
		return fieldFault(fmt.Sprintf("reassignments[%d].replicas", i), "has more or fewer brokers than the replication factor of the topic")
	case controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_IN_PROGRESS:
		return refused(pb.ErrorReason_ERROR_REASON_REASSIGNMENT_IN_PROGRESS, "partition %s is being moved to brokers %v already", name, r.GetRecord().GetTargetReplicas())
	case controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_STALE_PARTITION_EPOCH:
		f := refused(pb.ErrorReason_ERROR_REASON_CONFLICT, "partition %s has changed: its epoch is %d", name, r.GetRecord().GetPartitionEpoch())
		f.Code = codes.Aborted
		return f
	case controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNSAFE:
		return refused(pb.ErrorReason_ERROR_REASON_UNSAFE_REASSIGNMENT, "too few of the replicas of partition %s that would be left are in sync", name)
	default: // of a newer controller
		return fault(codes.Unknown, pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME, fmt.Sprintf("what became of partition %s is said in a way that this broker does not know", name))
	}
}

// tooManyPartitions says that a request names more than one may.
func tooManyPartitions(field string, n int) *rpc.Fault {
	return rpc.LimitFault(codes.InvalidArgument, field, maxReassignments, int64(n), fmt.Sprintf("%s has %d partitions, more than %d", field, n, maxReassignments))
}
