package api

import (
	"context"
	"fmt"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/storage/record"
)

// readNear begins a Read of a client in the rack of this broker, if it has a
// replica that follows and knows where the Read begins. nil: the leader is to be
// read, which also says what is wrong with the request.
func (s *BrokerService) readNear(ctx context.Context, topic *metadata.Topic, r *pb.ReadRequest) (*readCall, error) {
	rack := r.GetRack()
	if n := len(rack); n > maxRack {
		return nil, fieldFault("rack", fmt.Sprintf("has %d bytes, at most %d are allowed", n, maxRack))
	}
	m := s.metadata.Current()
	own, part := m.Broker(s.broker.ID()), topic.Partition(r.GetPartition())
	if rack == "" || s.peers == nil || own == nil || own.Rack != rack || part == nil || part.Leader == own.ID {
		return nil, nil
	}
	c := &readCall{topic: topic.ID, goal: goal{end: noEnd}}
	epoch := record.LeaderEpoch(noEpoch)
	switch at := r.GetStart().(type) {
	case nil:
		if r.LeaderEpoch != nil {
			return nil, nil
		}
	case *pb.ReadRequest_Offset:
		c.next = record.Offset(at.Offset)
		if r.LeaderEpoch != nil {
			epoch = record.LeaderEpoch(r.GetLeaderEpoch())
		}
	default:
		return nil, nil
	}
	p, err := s.broker.ReplicaOf(topic, r.GetPartition())
	if err != nil {
		return nil, nil //nolint:nilerr // the leader is read
	}
	if !r.GetFollow() {
		end, err := s.endAt(ctx, part.Leader, topic, r.GetPartition())
		if err != nil {
			return nil, nil //nolint:nilerr // the leader is read, or says why not
		}
		if seen := seenEnd(r.End); seen > end {
			return nil, nil // the leader says why
		} else if seen != noEnd {
			end = seen
		}
		c.goal = goal{end: end, seen: end}
	}
	c.part, c.reader = p, p.NewReplicaReader()
	c.wait = c.reader.Notify
	if r.GetStart() == nil {
		c.next = p.State().LogStart
	}
	if !p.PositionHere(c.next, epoch) {
		c.reader.Close()
		return nil, nil
	}
	return c, nil
}

// endAt asks a leader where a log ends.
func (s *BrokerService) endAt(ctx context.Context, leader int32, topic *metadata.Topic, id uint32) (record.Offset, error) {
	q := &pb.ListOffsetsRequest{
		Topic: topic.Name, Partitions: []uint32{id}, At: &pb.ListOffsetsRequest_Latest{Latest: true},
		MinRevision: s.metadata.Current().Revision,
	}
	got := &pb.ListOffsetsResponse{}
	if err := forward.CallBroker(ctx, s.peers, leader, pb.TopicService_ListOffsets_FullMethodName, q, got); err != nil {
		return 0, err
	}
	if len(got.GetOffsets()) != 1 || got.GetOffsets()[0].Offset == nil {
		return 0, &broker.NotLeaderError{Topic: topic.Name, Partition: id, Leader: metadata.NoLeader}
	}
	return record.Offset(got.GetOffsets()[0].GetOffset()), nil
}
