package api

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// maxRequestIDBytes bounds request_id.
const maxRequestIDBytes = 64

// TopicService administers topics. What changes metadata is the controller's
// to do; this broker checks, passes on, and waits until it has seen the change.
// Its methods are safe for concurrent use.
type TopicService struct {
	pb.UnimplementedTopicServiceServer

	broker     Broker
	metadata   *metadata.Mirror
	controller controllerv1.ControllerServiceClient
	limits     Limits
	forwarding
}

func checkRequestID(id string) error {
	if len(id) > maxRequestIDBytes {
		return fieldFault("request_id", fmt.Sprintf("has %d bytes, more than %d", len(id), maxRequestIDBytes))
	}
	return nil
}

// topicOf returns a topic and the metadata that has it, of at least the given
// revision.
func (s *TopicService) topicOf(ctx context.Context, name string, revision int64) (*metadata.Snapshot, *metadata.Topic, error) {
	m, err := waitRevision(ctx, ctx, s.metadata, revision, s.limits)
	if err != nil {
		return nil, nil, err
	}
	if t := m.TopicByName(name); t != nil {
		return m, t, nil
	}
	return nil, nil, noTopic(name)
}

// describe returns a topic as clients see it.
func describe(t *metadata.Topic) *pb.Topic {
	return &pb.Topic{
		Topic: t.Name, TopicId: t.ID[:], PartitionCount: uint32(len(t.Partitions)), ReplicationFactor: uint32(t.ReplicationFactor),
		Config: t.Config.Values(), ConfigSet: slices.Sorted(maps.Keys(t.Set)), Partitioning: pb.Partitioning_PARTITIONING_MURMUR2,
		CreateTime: timestampOf(t.CreateTimeMs), Revision: t.Revision,
	}
}

// describeRecord is describe for what the controller answered.
func describeRecord(r *controllerv1.TopicRecord, revision int64) (*pb.Topic, error) {
	config, err := topicconfig.Parse(r.GetConfig())
	if err != nil {
		return nil, fmt.Errorf("the controller's answer: %w", err)
	}
	var created *timestamppb.Timestamp
	if r.GetCreateTimeMs() != 0 {
		created = timestampOf(r.GetCreateTimeMs())
	}
	return &pb.Topic{
		Topic: r.GetTopic(), TopicId: r.GetTopicId(), PartitionCount: r.GetPartitionCount(), ReplicationFactor: r.GetReplicationFactor(),
		Config: config.Values(), ConfigSet: slices.Sorted(maps.Keys(r.GetConfig())), Partitioning: pb.Partitioning_PARTITIONING_MURMUR2,
		CreateTime: created, Revision: revision,
	}, nil
}

// leaderOf says who leads a partition.
func leaderOf(m *metadata.Snapshot, p *metadata.Partition) *pb.LeaderHint {
	h := &pb.LeaderHint{BrokerId: p.Leader, LeaderEpoch: p.LeaderEpoch, Revision: m.Revision}
	if b := m.Broker(p.Leader); b != nil {
		h.Address = b.Address
	}
	return h
}
