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
		m := &pb.OngoingReassignment{
			Placement: placementOf(o.GetTopic(), o.GetRecord()), AwaitedBrokerIds: o.GetAwaitedBrokerIds(),
		}
		for _, p := range o.GetProgress() {
			m.Progress = append(m.Progress, &pb.FillProgress{BrokerId: p.GetBrokerId(), RecordsLeft: p.GetRecordsLeft(), BytesLeft: p.GetBytesLeft()})
		}
		out.Reassignments = append(out.Reassignments, m)
	}
	return out, nil
}
