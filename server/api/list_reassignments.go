package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// ListReassignments lists the partitions that are being moved.
func (s *ClusterService) ListReassignments(ctx context.Context, r *pb.ListReassignmentsRequest) (*pb.ListReassignmentsResponse, error) {
	list, err := s.controller.ListReassignments(ctx, &controllerv1.ListReassignmentsRequest{
		PageSize: min(r.GetPageSize(), maxPartitionsPage), PageToken: r.GetPageToken(),
	})
	if err != nil {
		return nil, err
	}
	out := &pb.ListReassignmentsResponse{NextPageToken: list.GetNextPageToken()}
	for _, o := range list.GetReassignments() {
		out.Reassignments = append(out.Reassignments, &pb.OngoingReassignment{
			Placement: placementOf(o.GetTopic(), o.GetRecord()), AwaitedBrokerIds: o.GetAwaitedBrokerIds(),
		})
	}
	return out, nil
}
