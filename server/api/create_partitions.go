package api

import (
	"context"
	"fmt"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// CreatePartitions gives a topic more partitions and waits until this broker
// knows their leaders.
func (s *TopicService) CreatePartitions(ctx context.Context, r *pb.CreatePartitionsRequest) (*pb.CreatePartitionsResponse, error) {
	if err := topicconfig.ValidateNewName(r.GetTopic()); err != nil { // the system's are not changed by request
		return nil, err
	}
	if n := r.GetPartitionCount(); n < 1 || n > topicconfig.MaxPartitions {
		return nil, fieldFault("partition_count", fmt.Sprintf("is %d, not 1 to %d", n, topicconfig.MaxPartitions))
	}
	done, err := s.controller.CreatePartitions(ctx, &controllerv1.CreatePartitionsRequest{
		Topic: r.GetTopic(), PartitionCount: r.GetPartitionCount(), ValidateOnly: r.GetValidateOnly(),
	})
	if err != nil {
		return nil, err
	}
	var t *pb.Topic
	if r.GetValidateOnly() {
		t, err = describeRecord(done.GetTopic(), done.GetRevision())
	} else {
		t, err = s.awaitLeaders(ctx, done.GetTopic(), done.GetRevision())
	}
	if err != nil {
		return nil, err
	}
	return &pb.CreatePartitionsResponse{Topic: t}, nil
}
