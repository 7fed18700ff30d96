package api

import (
	"context"
	"fmt"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// ReassignPartitions begins to move partitions.
func (s *ClusterService) ReassignPartitions(ctx context.Context, r *pb.ReassignPartitionsRequest) (*pb.ReassignPartitionsResponse, error) {
	if err := checkPartitions("reassignments", r.GetReassignments()); err != nil {
		return nil, err
	}
	ask := &controllerv1.ReassignPartitionsRequest{BytesPerSecond: r.GetBytesPerSecond(), ValidateOnly: r.GetValidateOnly()}
	for i, m := range r.GetReassignments() {
		if err := checkReplicas(fmt.Sprintf("reassignments[%d]", i), m); err != nil {
			return nil, err
		}
		ask.Reassignments = append(ask.Reassignments, &controllerv1.Reassignment{
			Topic: m.GetTopic(), Partition: m.GetPartition(), Replicas: m.GetReplicas(), PartitionEpoch: m.ExpectedPartitionEpoch,
		})
	}
	done, err := s.controller.ReassignPartitions(ctx, ask)
	if err := s.seen(ctx, done.GetRevision(), err); err != nil {
		return nil, err
	}
	return &pb.ReassignPartitionsResponse{Results: resultsOf(done.GetResults()), Revision: done.GetRevision()}, nil
}

// checkReplicas refuses replicas that no partition can have.
func checkReplicas(field string, m *pb.Reassignment) error {
	if n := len(m.GetReplicas()); n == 0 || n > topicconfig.MaxReplicationFactor {
		return fieldFault(field+".replicas", fmt.Sprintf("has %d brokers, not 1 to %d", n, topicconfig.MaxReplicationFactor))
	}
	seen := make(map[int32]bool, len(m.GetReplicas()))
	for _, id := range m.GetReplicas() {
		switch {
		case id < 0 || id > maxBrokerID:
			return fieldFault(field+".replicas", fmt.Sprintf("has broker %d, which is not 0 to %d", id, maxBrokerID))
		case seen[id]:
			return fieldFault(field+".replicas", fmt.Sprintf("has broker %d twice", id))
		}
		seen[id] = true
	}
	if m.ExpectedPartitionEpoch != nil && m.GetExpectedPartitionEpoch() < 0 {
		return fieldFault(field+".expected_partition_epoch", "must not be negative")
	}
	return nil
}
