package api

import (
	"context"
	"fmt"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
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
		c.goal, c.near = goal{end: end, seen: end}, &nearEnd{record.LeaderEpoch(part.LeaderEpoch)}
	}
	c.part, c.reader = p, p.NewReplicaReader()
	if r.GetStart() == nil {
		c.next = p.State().LogStart
	}
	if !p.PositionHere(c.next, epoch) {
		c.reader.Close()
		return nil, nil
	}
	return c, nil
}

// nearEnd is in which leader epoch the end was seen that a replica near is read
// to. It is the reading goroutine's own.
//
// INVARIANT: a Read waits for records before that end only in the leader epoch in
// which it was seen last. A later leader may have less, after an election that
// accepted a loss, and this replica then never gets so far.
type nearEnd struct{ epoch record.LeaderEpoch }

// outdated tells whether another leader has come since.
func (n *nearEnd) outdated(p *partition.Partition) bool {
	return n != nil && p.State().LeaderEpoch != n.epoch
}

// seeEndAgain asks the leader of now where the log ends, and has the Read end
// there, with the reason, if that is before the end that it was to have.
func (c *readCall) seeEndAgain() error {
	epoch := c.part.State().LeaderEpoch // first: what comes later is noticed
	m := c.s.metadata.Current()
	topic := m.TopicByID(c.topic)
	if topic == nil {
		return c.failed(partition.ErrClosed)
	}
	end, err := c.s.endNow(c.ctx, c.part, topic, c.id)
	if err != nil {
		return c.failed(err)
	}
	if c.near.epoch = epoch; end < c.goal.end {
		c.goal = goal{end: end, seen: c.goal.seen, short: shorter(c.part.EpochBefore(end), end, c.goal.seen)}
	}
	return nil
}

// endNow asks whoever leads a partition by now where its log ends.
func (s *BrokerService) endNow(ctx context.Context, p *partition.Partition, topic *metadata.Topic, id uint32) (record.Offset, error) {
	part := topic.Partition(id)
	switch {
	case part == nil || part.Leader == metadata.NoLeader:
		return 0, &broker.NotLeaderError{Topic: topic.Name, Partition: id, Leader: metadata.NoLeader}
	case part.Leader != s.broker.ID():
		return s.endAt(ctx, part.Leader, topic, id)
	}
	patience, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	if err := p.AwaitEnd(patience); err != nil {
		return 0, err
	}
	return freshEnd(patience, p, partition.Uptime())
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
