package api

import (
	"context"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// maxPartitionsPage is how many partitions a page has at most.
const maxPartitionsPage = 1_000

// ListOfflinePartitions lists the partitions that nobody leads.
func (s *ClusterService) ListOfflinePartitions(ctx context.Context, r *pb.ListOfflinePartitionsRequest) (*pb.ListOfflinePartitionsResponse, error) {
	list, err := s.controller.ListOfflinePartitions(ctx, &controllerv1.ListOfflinePartitionsRequest{
		PageSize: min(r.GetPageSize(), maxPartitionsPage), PageToken: r.GetPageToken(),
	})
	if err != nil {
		return nil, err
	}
	out := &pb.ListOfflinePartitionsResponse{NextPageToken: list.GetNextPageToken()}
	for _, p := range list.GetPartitions() {
		out.Partitions = append(out.Partitions, &pb.OfflinePartition{
			Topic: p.GetTopic(), TopicId: p.GetTopicId(), Partition: p.GetPartition(), AwaitedBrokerIds: p.GetAwaitedBrokerIds(),
		})
	}
	return out, nil
}
