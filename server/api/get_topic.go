package api

import (
	"context"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
)

// GetTopic describes a topic and its partitions.
func (s *TopicService) GetTopic(ctx context.Context, r *pb.GetTopicRequest) (*pb.GetTopicResponse, error) {
	m, t, err := s.topicOf(ctx, r.GetTopic(), r.GetMinRevision())
	if err != nil {
		return nil, err
	}
	out := &pb.GetTopicResponse{Topic: describe(t), Partitions: make([]*pb.Partition, len(t.Partitions))}
	for i, p := range t.Partitions {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		out.Partitions[i] = s.describePartition(ctx, m, t, p)
	}
	return out, nil
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
