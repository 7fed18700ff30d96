package api

import (
	"context"
	"slices"
	"sync"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
)

// GetTopic describes a topic and its partitions. Leaders elsewhere are asked
// what their logs hold, each once; a broker that another one asks describes
// what it leads itself.
func (s *TopicService) GetTopic(ctx context.Context, r *pb.GetTopicRequest) (*pb.GetTopicResponse, error) {
	m, t, err := s.topicOf(ctx, r.GetTopic(), r.GetMinRevision())
	if err != nil {
		return nil, err
	}
	forwarded := forward.Forwarded(ctx)
	out := &pb.GetTopicResponse{Topic: describe(t), Partitions: make([]*pb.Partition, 0, len(t.Partitions))}
	for _, p := range t.Partitions {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if !forwarded || p.Leader == s.broker.ID() {
			out.Partitions = append(out.Partitions, s.describePartition(ctx, m, t, p))
		}
	}
	if forwarded || r.GetMetadataOnly() || s.peers == nil {
		return out, nil
	}
	s.describeElsewhere(ctx, m, t, out.GetPartitions())
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return out, nil
}

// describeElsewhere completes partitions that others lead by what those say.
// WHY nothing is said of a leader that does not answer: the metadata is right
// without it, and who looks at a topic while a broker is lost wants that.
func (s *TopicService) describeElsewhere(ctx context.Context, m *metadata.Snapshot, t *metadata.Topic, partitions []*pb.Partition) {
	led := make(map[int32][]*pb.Partition)
	for _, p := range partitions {
		if leader := p.GetLeader().GetBrokerId(); leader != metadata.NoLeader && leader != s.broker.ID() {
			led[leader] = append(led[leader], p)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	var asking sync.WaitGroup
	for leader, ps := range led {
		asking.Go(func() {
			got := &pb.GetTopicResponse{}
			q := &pb.GetTopicRequest{Topic: t.Name, MinRevision: m.Revision}
			err := forward.CallBroker(ctx, s.peers, leader, pb.TopicService_GetTopic_FullMethodName, q, got)
			if err != nil || !slices.Equal(got.GetTopic().GetTopicId(), t.ID[:]) {
				return
			}
			complete(ps, leader, got.GetPartitions())
		})
	}
	asking.Wait()
}

// complete takes over what a leader says of the logs of its partitions. What it
// does not lead any more stays as it is.
func complete(partitions []*pb.Partition, leader int32, said []*pb.Partition) {
	by := make(map[uint32]*pb.Partition, len(said))
	for _, p := range said {
		by[p.GetPartition()] = p
	}
	for _, p := range partitions {
		if q := by[p.GetPartition()]; q != nil && q.GetLeader().GetBrokerId() == leader {
			p.Start, p.End, p.Bytes, p.Segments, p.OfflineReason = q.Start, q.End, q.GetBytes(), q.GetSegments(), q.GetOfflineReason()
		}
	}
}

func (s *TopicService) describePartition(ctx context.Context, m *metadata.Snapshot, t *metadata.Topic, p *metadata.Partition) *pb.Partition {
	out := &pb.Partition{
		Partition: p.ID, Leader: leaderOf(m, p), PartitionEpoch: p.Epoch, Replicas: p.Replicas, InSyncReplicas: p.ISR,
		EligibleLeaderReplicas: p.ELR, LastKnownReplicas: p.LastKnown, TargetReplicas: p.Target, AddingReplicas: p.Adding,
		MinInsyncReplicas: uint32(p.EffectiveMinISR()), MoveBytesPerSecond: p.MoveBytesPerSecond,
	}
	if p.Leader != metadata.NoLeader && p.Leader != s.broker.ID() {
		return out // its leader knows its ends
	}
	at, err := readable(ctx, s.broker, t, p.ID)
	if err != nil {
		out.OfflineReason = err.Error()
		if f := FaultOf(err); f != nil {
			out.OfflineReason = f.Message
		}
		return out
	}
	st := at.State()
	out.Start, out.End = new(int64(st.LogStart)), new(int64(st.HighWatermark))
	out.Bytes, out.Segments = st.Bytes, uint32(st.Segments)
	if st.Offline != nil {
		out.OfflineReason = st.Offline.Error()
		if f := FaultOf(st.Offline); f != nil {
			out.OfflineReason = f.Message
		}
	}
	return out
}
