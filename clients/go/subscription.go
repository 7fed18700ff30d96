package millstream

import (
	"math"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millstream-io/millstream/clients/go/internal/wire"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// subscription is one partition of a reader, as the receiver sees it: what
// was received, not what Next has returned.
type subscription struct {
	partition uint32
	start     Position
	// next is the position after what was received, once anything was.
	next  int64
	epoch int32
	begun bool
	// stop is the end that UntilEnd means, known since the first frame.
	stop int64

	route  *route
	leader string // address of who is to be asked, as last heard; empty: the own route is as good
	// unsure is the address of a leader that could not be sure that it leads, and
	// is not asked before unsureUntil, unless by the broker that is asked.
	unsure      string
	unsureUntil time.Time
	id          uint64 // on the open stream of the route; 0: not subscribed
	// handing: a receiver is about to hand a frame of it over to Next.
	handing bool

	over      bool
	failures  int
	failing   time.Time // since when nothing could be read
	notBefore time.Time // of the next attempt
}

// position returns where to subscribe.
func (s *subscription) position() Position {
	if s.begun {
		return AtOffset(s.next, s.epoch)
	}
	return s.start
}

// subscriptions are the partitions of a reader. The receiver, the sender and
// Next use them, each briefly, under mu.
type subscriptions struct {
	mu     sync.Mutex
	routes routes
	all    []*subscription
	byID   map[uint64]*subscription // of all routes
	// brokers are addresses that have been given or heard of, at most maxRoutes,
	// and turn is which of them was tried last for want of a leader.
	brokers []string
	turn    int
	last    uint64 // id given out last
	left    int    // that are not over
}

func (q *subscriptions) add(partition uint32, start Position) {
	q.all = append(q.all, &subscription{partition: partition, start: start, route: q.routes.own, epoch: NoEpoch, stop: math.MaxInt64})
	q.left++
}

// remaining returns how many partitions are not over.
func (q *subscriptions) remaining() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.left
}

// reset forgets the ids of a stream of a route that ended.
func (q *subscriptions) reset(r *route) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r.drop = nil
	for _, s := range q.all {
		if s.route != r {
			continue
		}
		delete(q.byID, s.id)
		s.id = 0
		if s.begun && s.next >= s.stop {
			q.finish(s)
		}
	}
}

// finish ends a partition. REQUIRES: mu is held.
func (q *subscriptions) finish(s *subscription) {
	if !s.over {
		s.over = true
		q.left--
	}
	delete(q.byID, s.id)
}

// end ends a partition that Next cannot go on with.
func (q *subscriptions) end(partition uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.all {
		if s.partition == partition && !s.over {
			if s.id != 0 {
				s.route.drop = append(s.route.drop, s.id)
			}
			q.finish(s)
		}
	}
}

// due returns what is to be asked for now on a route, without credit, and how long it is
// until more is; 0: there is none.
func (q *subscriptions) due(r *route, o *ReaderOptions, topic *pb.Topic) (m *pb.FetchRequest, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var now time.Time
	m = &pb.FetchRequest{Unsubscribe: r.drop}
	r.drop = nil
	for _, s := range q.all {
		if s.route != r || s.over || s.id != 0 || s.handing {
			continue
		}
		if !s.notBefore.IsZero() {
			if now.IsZero() {
				now = time.Now()
			}
			if d := s.notBefore.Sub(now); d > 0 {
				if wait == 0 || d < wait {
					wait = d
				}
				continue
			}
		}
		q.last++
		s.id = q.last
		if q.byID == nil {
			q.byID = make(map[uint64]*subscription)
		}
		q.byID[s.id] = s
		ask := &pb.FetchSubscription{
			SubscriptionId: s.id, Topic: o.Topic, TopicId: topic.GetTopicId(), Partition: s.partition, Position: s.position().message(),
			UntilEnd: o.UntilEnd, MaxFrameBytes: uint32(o.FrameBytes), Rack: o.Rack,
			MinRevision: topic.GetRevision(), // a broker that restarts may not know the topic yet
		}
		if s.begun && o.UntilEnd {
			ask.End = proto.Int64(s.stop) // who is asked may know of less by now
		}
		m.Subscribe = append(m.Subscribe, ask)
	}
	return m, wait
}

// verdict is what to do with a frame.
type verdict uint8

const (
	frameWanted verdict = iota // hand it to Next
	frameStale                 // it is of no subscription any more
	frameRetry                 // its partition is to be subscribed again
)

// receive notes what a frame says of its partition, and fills in what Next
// needs. A frame that is wanted is handed over before handed is called.
func (q *subscriptions) receive(f *frame, o *ReaderOptions) (v verdict, s *subscription) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s = q.byID[f.SubscriptionID]; s == nil {
		return frameStale, nil
	}
	v = q.take(s, f, o)
	s.handing = v == frameWanted
	return v, s
}

// handed notes that a frame is with Next, so that the next one may come by any
// route. It returns how many partitions are not over.
func (q *subscriptions) handed(s *subscription) (left int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.handing = false
	if s.id == 0 && !s.over {
		s.route.notify() // it waited for that
	}
	return q.left
}

// take is receive for a subscription. REQUIRES: mu is held.
func (q *subscriptions) take(s *subscription, f *frame, o *ReaderOptions) verdict {
	f.Partition, f.to = s.partition, math.MaxInt64
	if f.Control == wire.ControlError || f.Control == wire.ControlReroute {
		if q.failed(s, f, o); f.err == nil {
			return frameRetry
		}
		return frameWanted
	}
	if f.Damage != nil {
		f.err = &DamagedError{Topic: o.Topic, Partition: s.partition, Offset: max(f.FirstOffset, s.next), Cause: f.Damage}
		q.finish(s)
		return frameWanted
	}
	if !s.begun && o.UntilEnd {
		s.stop = f.HighWatermark
	}
	f.to = s.stop
	s.begun, s.failures, s.failing = true, 0, time.Time{}
	s.next = f.NextOffset
	if len(f.Leader) > 0 {
		s.leader = string(f.Leader)
		q.hear(s.leader)
	}
	if n := len(f.Batches); n > 0 {
		s.epoch = f.Batches[n-1].LeaderEpoch
	}
	if f.Control == wire.ControlCaughtUp && wire.Finished(f.ControlBytes) || s.next >= s.stop && o.UntilEnd {
		q.finish(s)
	}
	q.steer(s)
	return frameWanted
}

// failed takes a subscription that the server ended: it is tried again, or it
// is over. REQUIRES: mu is held.
func (q *subscriptions) failed(s *subscription, f *frame, o *ReaderOptions) {
	var m pb.RequestError
	if f.Control == wire.ControlReroute {
		m.Retryable = true
	} else if err := proto.Unmarshal(f.ControlBytes, &m); err != nil {
		f.err = &DamagedError{Topic: o.Topic, Partition: s.partition, Offset: s.next, Cause: err}
		q.finish(s)
		return
	}
	said := newError("fetch", o.Topic, int32(s.partition), &m)
	now := time.Now()
	if s.failing.IsZero() {
		s.failing = now
	}
	diverged := m.GetDivergence()
	switch {
	case o.PastDivergence && m.GetReason() == pb.ErrorReason_ERROR_REASON_DIVERGED && diverged != nil && now.Sub(s.failing) < o.RetryFor:
		s.start, s.begun = AtOffset(diverged.GetSafeOffset(), diverged.GetLeaderEpoch()), false
		q.again(s, now)
	case !m.GetRetryable() && m.GetReason() != pb.ErrorReason_ERROR_REASON_NOT_LEADER:
		f.err = said
		q.finish(s)
	case now.Sub(s.failing) >= o.RetryFor:
		f.err = &GaveUpError{Topic: o.Topic, Reading: true, Partition: int32(s.partition), Cause: said}
		q.finish(s)
	default:
		q.again(s, now)
		if m.GetReason() == pb.ErrorReason_ERROR_REASON_NOT_FRESH {
			q.flee(s, now)
		}
	}
}

// again lets a partition be subscribed once more, after a rest. REQUIRES: mu is
// held.
func (q *subscriptions) again(s *subscription, now time.Time) {
	s.failures++
	s.notBefore = now.Add(backoffFor(s.failures))
	delete(q.byID, s.id)
	s.id = 0
}

// subscribed returns the partitions that are not over, for a message.
func (q *subscriptions) subscribed() []uint32 {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []uint32
	for _, s := range q.all {
		if !s.over {
			all = append(all, s.partition)
		}
	}
	slices.Sort(all)
	return all
}
