package api

import (
	"context"
	"errors"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/record"
)

const (
	// moveWait is how long a subscription looks for a leader before the client
	// is told that there is none: longer than a failover takes.
	moveWait = 30 * time.Second
	// placeRetry and placeRetryMost are the waits between attempts.
	placeRetry, placeRetryMost = 20 * time.Millisecond, 500 * time.Millisecond
	// homeWait bounds how long move waits for one partition to know its end.
	homeWait = 100 * time.Millisecond
)

// place gives a subscription to move, which finds its leader.
//
// REQUIRES: mu is held, and the subscription is in no list.
func (f *fetchStream) place(s *subscription) {
	if f.elsewhere == nil {
		f.elsewhere = &elsewhere{links: make(map[int32]*fetchLink), moved: make(chan struct{}, 1)}
	}
	e := f.elsewhere
	s.state, s.lead, s.away.attached = away, nil, false
	if s.away.since.IsZero() {
		s.away.since = time.Now()
	}
	e.placing = append(e.placing, s)
	if !e.moving {
		e.moving = true
		f.s.streams.Go(f.move)
		return
	}
	wake(e.moved)
}

// replace is place for a subscription that has lost its leader.
//
// REQUIRES: mu is held, and the subscription is in no list.
func (f *fetchStream) replace(s *subscription) {
	a := &s.away
	a.notBefore = time.Now().Add(min(placeRetry<<min(a.failures, 10), placeRetryMost))
	a.failures++
	f.place(s)
}

// move finds leaders until all subscriptions have one, or the stream ends.
func (f *fetchStream) move() {
	e := f.elsewhere
	for {
		f.mu.Lock()
		list := e.placing
		e.placing = nil
		if len(list) == 0 || f.closed {
			e.moving = false
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
		seen := f.s.metadata.Current()
		var left []*subscription
		var wait time.Duration
		for _, s := range list {
			if d := f.placeNow(s, seen); d > 0 {
				left = append(left, s)
				if wait == 0 || d < wait {
					wait = d
				}
			}
		}
		if len(left) == 0 {
			continue
		}
		f.mu.Lock()
		e.placing = append(left, e.placing...)
		f.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-seen.Superseded():
		case <-e.moved:
		case <-f.ctx.Done():
		}
		t.Stop()
	}
}

// placeNow gives a subscription to the leader of its partition. It returns how
// long to wait for the next attempt; 0: it is done with.
func (f *fetchStream) placeNow(s *subscription, m *metadata.Snapshot) (wait time.Duration) {
	a := &s.away
	now := time.Now()
	if d := a.notBefore.Sub(now); d > 0 {
		return d
	}
	topic := m.TopicByID(s.topic.ID)
	if topic == nil {
		f.giveUp(s, noTopic(s.topic.Name))
		return 0
	}
	part := topic.Partition(uint32(s.partition))
	switch {
	case part == nil:
		f.giveUp(s, &broker.UnknownPartitionError{Topic: topic.Name, Partition: uint32(s.partition), Count: len(topic.Partitions)})
	case now.Sub(a.since) >= moveWait:
		f.giveUp(s, retryLater(pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE, "nobody leads the partition, or its leader cannot be reached"))
	case part.Leader == metadata.NoLeader:
		return placeRetryMost
	default:
		return f.placeAt(s, topic, part, m)
	}
	return 0
}

// placeAt gives a subscription to a broker that may serve it.
func (f *fetchStream) placeAt(s *subscription, topic *metadata.Topic, part *metadata.Partition, m *metadata.Snapshot) (wait time.Duration) {
	at := part.Leader
	if s.roams() {
		at = s.nearest(m, part)
	}
	switch self := f.s.broker.ID(); {
	case at == self && at != part.Leader:
		return f.takeReplica(s, topic)
	case at == self:
		return f.takeHome(s, topic)
	case at == part.Leader:
		f.attach(s, at, "", m.Revision)
	default:
		f.attach(s, at, s.rack, m.Revision)
	}
	return 0
}

// attach subscribes at another broker: at one that follows, by its rack.
func (f *fetchStream) attach(s *subscription, leader int32, rack string, revision int64) {
	q := &pb.FetchSubscription{
		SubscriptionId: s.id, Topic: s.topic.Name, TopicId: s.topic.ID[:], Partition: uint32(s.partition), Position: s.resume(),
		UntilEnd: s.away.untilEnd, Form: s.form, MaxFrameBytes: uint32(s.maxFrame), MinRevision: revision,
		Rack: rack,
	}
	if s.away.untilEnd && s.away.until != noEnd {
		q.End = new(int64(s.away.until))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.state == over || f.closed {
		return
	}
	s.lead = f.linkTo(leader)
	s.lead.link.Subscribe(q)
}

// resume returns where a subscription goes on: behind the last record that was
// sent, which has to be of its epoch there (rule H6).
func (s *subscription) resume() *pb.FetchPosition {
	a := &s.away
	if !a.begun {
		return a.position
	}
	p := &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: int64(s.next)}}
	if a.epoch != noEpoch {
		p.LeaderEpoch = &a.epoch
	}
	return p
}

// takeHome lets a subscription go on here. It returns how long to wait if this
// broker is not ready for it.
func (f *fetchStream) takeHome(s *subscription, topic *metadata.Topic) (wait time.Duration) {
	part, reader, next, ends, err := f.homePosition(s, topic)
	if err != nil {
		if leaderGone(err) || isType[*partition.EndUnknownError](err) || isType[*broker.NotLeaderError](err) {
			return placeRetry
		}
		f.giveUp(s, err)
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.state == over || f.closed {
		return 0
	}
	s.readFrom(part, reader, next, s.resume())
	s.topic, s.goal, s.roaming.named, s.away = topic, ends, false, awayPosition{}
	f.queue(s)
	wake(f.work)
	return 0
}

// homePosition returns where a subscription goes on here, and where it ends.
func (f *fetchStream) homePosition(s *subscription, topic *metadata.Topic) (*partition.Partition, *partition.Reader, record.Offset, goal, error) {
	ends := goal{end: noEnd}
	part, err := f.s.broker.PartitionOf(topic, uint32(s.partition))
	if err != nil {
		return nil, nil, 0, ends, err
	}
	ctx, cancel := context.WithTimeout(f.ctx, homeWait)
	defer cancel()
	if err := part.AwaitEnd(ctx); err != nil {
		return nil, nil, 0, ends, err
	}
	reader := part.NewReader() // before the position is checked
	since := partition.Uptime()
	next, err := positionOf(ctx, part, s.resume(), since)
	if err == nil && s.away.untilEnd {
		ends, err = goalOf(ctx, part, s.away.until, since)
	}
	return part, reader, next, ends, err
}

// giveUp ends a subscription that no leader was found for, and says why.
func (f *fetchStream) giveUp(s *subscription, err error) {
	if errors.Is(err, context.Canceled) {
		return // the stream has ended
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.giveUpLocked(s, err)
}

// giveUpLocked is giveUp.
//
// REQUIRES: mu is held.
func (f *fetchStream) giveUpLocked(s *subscription, err error) {
	if s.state == over || f.closed {
		return
	}
	r := f.failure(s, err)
	f.forget(s)
	f.control = append(f.control, r)
	wake(f.work)
}
