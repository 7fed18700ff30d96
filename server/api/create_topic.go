package api

import (
	"context"
	"fmt"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// CreateTopic creates a topic and waits until this broker knows its leaders.
func (s *TopicService) CreateTopic(ctx context.Context, r *pb.CreateTopicRequest) (*pb.CreateTopicResponse, error) {
	if err := topicconfig.ValidateNewName(r.GetTopic()); err != nil {
		return nil, err
	}
	if n := r.GetPartitionCount(); n > topicconfig.MaxPartitions {
		return nil, fieldFault("partition_count", fmt.Sprintf("is %d, more than %d", n, topicconfig.MaxPartitions))
	}
	if n := r.GetReplicationFactor(); n > topicconfig.MaxReplicationFactor {
		return nil, fieldFault("replication_factor", fmt.Sprintf("is %d, more than %d", n, topicconfig.MaxReplicationFactor))
	}
	if _, err := topicconfig.Parse(r.GetConfig()); err != nil {
		return nil, err
	}
	if err := checkRequestID(r.GetRequestId()); err != nil {
		return nil, err
	}
	made, err := s.controller.CreateTopic(ctx, &controllerv1.CreateTopicRequest{
		Topic: r.GetTopic(), PartitionCount: max(r.GetPartitionCount(), 1), ReplicationFactor: r.GetReplicationFactor(),
		Config: r.GetConfig(), ValidateOnly: r.GetValidateOnly(), RequestId: r.GetRequestId(),
	})
	if err != nil {
		return nil, err
	}
	if r.GetValidateOnly() {
		t, err := describeRecord(made.GetTopic(), made.GetRevision())
		return &pb.CreateTopicResponse{Topic: t}, err
	}
	t, err := s.awaitLeaders(ctx, made.GetTopic(), made.GetRevision())
	if err != nil {
		return nil, err
	}
	return &pb.CreateTopicResponse{Topic: t}, nil
}

// awaitLeaders waits until every partition of a topic has a leader, as far as
// this broker knows, or the topic is gone again.
func (s *TopicService) awaitLeaders(ctx context.Context, made *controllerv1.TopicRecord, revision int64) (*pb.Topic, error) {
	id := metadata.TopicID(made.GetTopicId())
	m, err := s.metadata.WaitFor(ctx, func(m *metadata.Snapshot) bool {
		return m.Revision >= revision && hasLeaders(m.TopicByID(id))
	})
	if err != nil {
		return nil, err
	}
	if t := m.TopicByID(id); t != nil {
		return describe(t), nil
	}
	return describeRecord(made, revision)
}

func hasLeaders(t *metadata.Topic) bool {
	if t == nil {
		return true
	}
	for _, p := range t.Partitions {
		if p.Leader == metadata.NoLeader {
			return false
		}
	}
	return true
}
