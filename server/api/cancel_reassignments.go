package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// CancelReassignments puts partitions that are being moved back to where they
// were.
func (s *ClusterService) CancelReassignments(ctx context.Context, r *pb.CancelReassignmentsRequest) (*pb.CancelReassignmentsResponse, error) {
	if err := checkPartitions("partitions", r.GetPartitions()); err != nil {
		return nil, err
	}
	ask := &controllerv1.CancelReassignmentsRequest{ValidateOnly: r.GetValidateOnly()}
	for _, p := range r.GetPartitions() {
		ask.Reassignments = append(ask.Reassignments, &controllerv1.Reassignment{Topic: p.GetTopic(), Partition: p.GetPartition()})
	}
	done, err := s.controller.CancelReassignments(ctx, ask)
	if err := s.seen(ctx, done.GetRevision(), err); err != nil {
		return nil, err
	}
	return &pb.CancelReassignmentsResponse{Results: resultsOf(done.GetResults()), Revision: done.GetRevision()}, nil
}
