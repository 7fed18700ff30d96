package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// A subscription with a rack is served by an in-sync replica there, if there is
// one: by this broker, or by another, as a forwarded one is by the leader. It
// begins at the leader if only that knows where, and moves when the first frame
// has said so. Wherever it goes on, its position is checked there, so that no
// record is missed or comes twice, and another history is noticed.

const (
	// roamEvery is how often a subscription looks for a replica that is nearer,
	// and for how long it keeps away from one that could not serve it.
	roamEvery = 5 * time.Second
	// behindWait is how long a subscription waits for a replica that does not
	// know of its position yet: a few times what it takes to hear of a high
	// watermark.
	behindWait = 500 * time.Millisecond
	// maxRack bounds FetchSubscription.rack.
	maxRack = 255
	// nobodyAvoided is no broker.
	nobodyAvoided = int32(-1)
)

// errRoams says that a subscription is to be placed.
var errRoams = errors.New("served by the nearest replica")

// roaming is what a subscription with a rack has beside others. It belongs to
// who has the subscription, as awayPosition does.
type roaming struct {
	replica bool      // it is served here, by a replica that follows or has done so
	named   bool      // a frame has said that it is served here
	lookAt  time.Time // when to look for a nearer replica
	avoid   int32     // broker that could not serve it; nobodyAvoided: none
	until   time.Time // for how long
}

// roams tells whether a replica that follows can serve the subscription: it is
// known where it goes on, and it does not end.
func (s *subscription) roams() bool {
	if s.rack == "" || s.goal.end >= 0 || s.away.untilEnd {
		return false
	}
	return s.away.begun || anyReplicaKnows(s.away.position)
}

// anyReplicaKnows tells whether a position means the same at every replica.
func anyReplicaKnows(at *pb.FetchPosition) bool {
	switch at.GetAt().(type) {
	case nil, *pb.FetchPosition_Offset, *pb.FetchPosition_Earliest:
		return true
	}
	return false
}

// beginInRack begins a subscription with a rack, unless it begins at the leader.
// For a client it is placed; for another broker, which has placed it here, it
// is served or refused.
func (s *subscription) beginInRack(until context.Context, want *pb.FetchSubscription) (done bool, err error) {
	if n := len(s.rack); n > maxRack {
		return true, fieldFault("rack", fmt.Sprintf("has %d bytes, at most %d are allowed", n, maxRack))
	}
	if want.GetUntilEnd() || !anyReplicaKnows(want.GetPosition()) {
		return false, nil
	}
	if s.f.s.peers != nil {
		return true, errRoams
	}
	if !s.f.s.internal {
		return false, nil // there is no other broker
	}
	s.away = awayPosition{position: want.GetPosition()}
	p, err := s.f.s.broker.ReplicaOf(s.topic, want.GetPartition())
	if err != nil {
		return true, err
	}
	if at, ok := want.GetPosition().GetAt().(*pb.FetchPosition_Offset); ok {
		behind, cancel := context.WithTimeout(until, behindWait)
		p.AwaitOffset(behind, record.Offset(at.Offset))
		cancel()
	}
	if !s.serveFrom(p) {
		return true, notServed(p)
	}
	s.away = awayPosition{}
	return true, nil
}

// notServed is why a replica that follows does not serve a subscription: the
// leader will, or knows why not.
func notServed(p *partition.Partition) error {
	st := p.State()
	return &partition.NotLeaderError{Leader: st.Leader, Epoch: st.LeaderEpoch}
}

// serveFrom has a replica serve the subscription, if it knows its position.
func (s *subscription) serveFrom(p *partition.Partition) bool {
	// Before the position is checked: what is cut from here on it notices.
	reader := p.NewReplicaReader()
	at, next := s.resume(), p.State().LogStart
	if offset, ok := at.GetAt().(*pb.FetchPosition_Offset); ok {
		next = record.Offset(offset.Offset)
	}
	if !p.PositionHere(next, record.LeaderEpoch(epochIn(at))) {
		reader.Close()
		return false
	}
	s.readFrom(p, reader, next, at)
	s.roaming.named, s.roaming.replica = false, true
	return true
}

// takeReplica lets a subscription go on here, at a replica that follows. It
// returns how long to wait for the next attempt.
func (f *fetchStream) takeReplica(s *subscription, topic *metadata.Topic) (wait time.Duration) {
	p, err := f.s.broker.ReplicaOf(topic, uint32(s.partition))
	if err != nil {
		s.keepAway(f.s.broker.ID())
		return placeRetry
	}
	if !s.serveFrom(p) {
		if time.Since(s.away.since) >= behindWait {
			s.keepAway(f.s.broker.ID())
		}
		return placeRetry
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.state == over || f.closed {
		return 0
	}
	s.topic, s.away = topic, awayPosition{}
	f.queue(s)
	wake(f.work)
	return 0
}

// nearest returns the broker that is to serve a subscription with a rack: this
// one, the leader or any other in the rack, in this order, else the leader.
func (s *subscription) nearest(m *metadata.Snapshot, part *metadata.Partition) int32 {
	self, now := s.f.s.broker.ID(), time.Now()
	var near []int32
	for _, id := range part.ISR {
		b := m.Broker(id)
		if b == nil || b.Rack != s.rack || b.Fenced || b.Stopping || id == s.roaming.avoid && now.Before(s.roaming.until) {
			continue
		}
		if id == self {
			return self
		}
		near = append(near, id)
	}
	for _, id := range near {
		if id == part.Leader {
			return id
		}
	}
	if len(near) == 0 {
		return part.Leader
	}
	return near[int(part.ID)%len(near)]
}

// keepAway keeps a subscription from a broker that could not serve it, for a
// while.
func (s *subscription) keepAway(broker int32) {
	s.roaming.avoid, s.roaming.until = broker, time.Now().Add(roamEvery)
}

// nearer tells, now and then, whether another broker than that should serve the
// subscription.
func (f *fetchStream) nearer(s *subscription, at int32) bool {
	now := time.Now()
	if now.Before(s.roaming.lookAt) || s.goal.end >= 0 || s.away.untilEnd {
		return false
	}
	s.roaming.lookAt = now.Add(roamEvery)
	m := f.s.metadata.Current()
	topic := m.TopicByID(s.topic.ID)
	if topic == nil {
		return false
	}
	part := topic.Partition(uint32(s.partition))
	return part != nil && part.Leader != metadata.NoLeader && s.nearest(m, part) != at
}

// roam moves a subscription with a rack to a nearer replica, if there is one,
// once its first frame is sent. It notes where it goes on.
//
// REQUIRES: the subscription is in send's hands.
func (f *fetchStream) roam(s *subscription) bool {
	if f.s.peers == nil || !s.roaming.named || !f.nearer(s, f.s.broker.ID()) {
		return false
	}
	s.leave()
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.state != over {
		f.place(s)
	}
	return true
}

// leave notes where a subscription that was served here goes on elsewhere: behind
// what was sent, whatever stands there in the log by now.
//
// REQUIRES: it is in send's hands.
func (s *subscription) leave() {
	s.away = awayPosition{begun: true, epoch: s.epoch}
	s.roaming.replica = false
	s.reader.Close()
	s.reader = nil
}

// unserved returns why a partition cannot be read, as the rest sees it: what a
// replica that follows cannot judge, the leader can. So can it say what has
// become of a position where records were cut, this broker too if it is the one
// that leads now.
func (f *fetchStream) unserved(s *subscription, err error) error {
	if isType[*partition.CutError](err) {
		err = notServed(s.part)
	}
	if !s.roaming.replica {
		return err
	}
	if isType[*commitlog.OffsetOutOfRangeError](err) {
		err = notServed(s.part)
	}
	if isType[*partition.NotLeaderError](err) {
		s.keepAway(f.s.broker.ID())
	}
	return err
}
