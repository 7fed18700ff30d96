package api

import (
	"context"
	"fmt"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/topicconfig"
)

const (
	// maxBrokerID is the greatest identity of a broker.
	maxBrokerID = 1<<20 - 1
	// maxReassignments is how many partitions one request names at most.
	maxReassignments = 1_000
)

func checkBrokerID(id int32) error {
	if id < 0 || id > maxBrokerID {
		return fieldFault("broker_id", fmt.Sprintf("is %d, not 0 to %d", id, maxBrokerID))
	}
	return nil
}

func checkPartition(field string, n uint32) error {
	if n >= topicconfig.MaxPartitions {
		return fieldFault(field, fmt.Sprintf("is %d, not 0 to %d", n, topicconfig.MaxPartitions-1))
	}
	return nil
}

// checkPartitions refuses a list of partitions that has none, too many, or one
// twice.
func checkPartitions[M interface {
	GetTopic() string
	GetPartition() uint32
}](field string, list []M) error {
	if len(list) == 0 {
		return fieldFault(field, "is empty")
	}
	if len(list) > maxReassignments {
		return tooManyPartitions(field, len(list))
	}
	type name struct {
		topic string
		n     uint32
	}
	seen := make(map[name]bool, len(list))
	for i, p := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		if topicconfig.ValidateName(p.GetTopic()) != nil {
			return fieldFault(at+".topic", "is not the name of a topic")
		}
		if err := checkPartition(at+".partition", p.GetPartition()); err != nil {
			return err
		}
		k := name{p.GetTopic(), p.GetPartition()}
		if seen[k] {
			return fieldFault(at, "is the same partition as one before")
		}
		seen[k] = true
	}
	return nil
}

// seen waits until this broker knows of a change that the controller made, so
// that who asks it next sees the change.
func (s *ClusterService) seen(ctx context.Context, revision int64, err error) error {
	if err == nil {
		_, err = s.metadata.Wait(ctx, revision)
	}
	return err
}

// placementOf returns where a partition is, as clients see it.
func placementOf(topic string, r *controllerv1.PartitionRecord) *pb.PartitionPlacement {
	return &pb.PartitionPlacement{
		Topic: topic, Partition: r.GetPartition(), LeaderId: r.GetLeader(), LeaderEpoch: r.GetLeaderEpoch(), PartitionEpoch: r.GetPartitionEpoch(),
		Replicas: r.GetReplicas(), InSyncReplicas: r.GetInSyncReplicas(), TargetReplicas: r.GetTargetReplicas(),
		AddingReplicas: r.GetAddingReplicas(), BytesPerSecond: r.GetMoveBytesPerSecond(),
	}
}

// resultsOf returns what became of moves, as clients see it.
func resultsOf(results []*controllerv1.ReassignmentResult) []*pb.ReassignmentResult {
	out := make([]*pb.ReassignmentResult, len(results))
	for i, r := range results {
		out[i] = &pb.ReassignmentResult{
			Placement:      &pb.PartitionPlacement{Topic: r.GetTopic(), Partition: r.GetPartition(), LeaderId: metadata.NoLeader},
			ReplicasBefore: r.GetReplicasBefore(),
			Unchanged:      r.GetOutcome() == controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNCHANGED,
		}
		if r.GetRecord() != nil {
			out[i].Placement = placementOf(r.GetTopic(), r.GetRecord())
		}
		if f := reassignmentFault(i, r); f != nil {
			out[i].Error = f.RequestError()
		}
	}
	return out
}
