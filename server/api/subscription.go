package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/record"
)

// Bounds of FetchSubscription.max_frame_bytes.
const (
	minFrameBytes     = 4 << 10
	defaultFrameBytes = 1 << 20
	maxFrameBytes     = 3 << 20
)

// subscription is a partition that a Fetch stream delivers.
type subscription struct {
	f *fetchStream

	// Fixed.
	id        uint64
	topic     *metadata.Topic
	partition record.PartitionID
	part      *partition.Partition
	form      pb.FetchForm
	maxFrame  int
	rack      string // where the client stands; "": it wants the leader

	// send's own, and receive's before the subscription is in the stream.
	reader    *partition.Reader // of part; nil: none is open
	next      record.Offset
	epoch     int32 // of the record before next, as it was when that was sent; noEpoch: unknown
	goal      goal
	announced bool      // its first frame is sent
	caughtUp  bool      // and has said so
	staleFrom time.Time // since when it is held, with breaks; zero: it is not
	away      awayPosition
	roaming   roaming

	// Guarded by fetchStream.mu.
	state      subscriptionState
	need       uint64        // bytes of credit that it waits for
	lead       *fetchLink    // to the broker that leads; nil: this one does, or nobody
	prev, link *subscription // in the list of its state
}

// subscriptionState says where a subscription is.
type subscriptionState uint8

const (
	// sending: in send's hands, or not in the stream yet.
	sending subscriptionState = iota
	// ready: in the ready list.
	ready
	// starved: in the starved list.
	starved
	// armed: its partition wakes it.
	armed
	// holding: this broker may not serve it before it has heard other replicas.
	holding
	// away: another broker leads, or one is looked for.
	away
	// over: removed; who has it lets it go.
	over
)

// Wake makes the subscription ready: its partition has more, or has something
// to say. It does not block.
func (s *subscription) Wake() {
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.state != armed { // a late one
		return
	}
	f.queue(s)
	wake(f.work)
}

// queue puts a subscription at the end of the ready list, unless it is over.
//
// REQUIRES: mu is held, and the subscription is in no list.
func (f *fetchStream) queue(s *subscription) {
	if s.state != over {
		s.state = ready
		f.ready.push(s)
	}
}

// subscriptionList is a list of subscriptions, oldest first.
type subscriptionList struct{ head, tail *subscription }

func (l *subscriptionList) push(s *subscription) {
	s.prev, s.link = l.tail, nil
	if l.tail == nil {
		l.head = s
	} else {
		l.tail.link = s
	}
	l.tail = s
}

// remove takes a subscription out of the list, in which it is.
func (l *subscriptionList) remove(s *subscription) {
	if s.prev == nil {
		l.head = s.link
	} else {
		s.prev.link = s.link
	}
	if s.link == nil {
		l.tail = s.prev
	} else {
		s.link.prev = s.prev
	}
	s.prev, s.link = nil, nil
}

// subscribe adds a subscription, or answers why not: under its id if that is
// its own, else under 0. It waits until the end of `until` at most; what it
// says of the end is not older than since.
func (f *fetchStream) subscribe(until context.Context, i int, want *pb.FetchSubscription, since time.Duration) {
	id := want.GetSubscriptionId()
	if id == 0 {
		id = uint64(want.GetPartition()) + 1
	}
	f.mu.Lock()
	_, taken := f.subs[id]
	count := len(f.subs)
	f.mu.Unlock()
	if taken {
		bad := fieldFault(fmt.Sprintf("subscribe[%d].subscription_id", i), fmt.Sprintf("is %d, which the stream has already", id))
		f.refuse(wire.FetchResponse{Error: bad.RequestError()})
		return
	}
	s := &subscription{f: f, id: id, epoch: noEpoch, roaming: roaming{avoid: nobodyAvoided}, partition: record.PartitionID(want.GetPartition()), goal: goal{end: noEnd}}
	var err error
	if most := f.s.limits.Subscriptions; count >= most {
		err = tooManySubscriptions(most, count+1)
	} else {
		err = f.s.settled(f.ctx, until, func() error { return s.begin(f.ctx, until, want, since) })
	}
	_, elsewhere := f.s.to(f.ctx, topicIDOf(s.topic), err)
	roams := errors.Is(err, errRoams)
	elsewhere = elsewhere || roams
	if err != nil && !elsewhere {
		f.refuse(f.failure(s, err))
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.subs[id] = s
	f.s.metrics.fetchSubscriptions.Inc()
	if elsewhere {
		s.away = awayPosition{position: want.GetPosition(), untilEnd: want.GetUntilEnd(), epoch: noEpoch, until: seenEnd(want.End)}
		if !roams {
			f.s.metrics.forwarded.Inc()
		}
		f.place(s)
		return
	}
	f.queue(s)
}

func topicIDOf(t *metadata.Topic) metadata.TopicID {
	if t == nil {
		return metadata.TopicID{}
	}
	return t.ID
}

func tooManySubscriptions(most, wanted int) *rpc.Fault {
	return rpc.LimitFault(codes.ResourceExhausted, "stream.subscriptions", int64(most), int64(wanted),
		fmt.Sprintf("a stream may have %d subscriptions (stream.subscriptions)", most))
}

// begin finds the partition and where to begin.
func (s *subscription) begin(ctx, until context.Context, want *pb.FetchSubscription, since time.Duration) error {
	broker := s.f.s
	switch s.form = want.GetForm(); s.form {
	case pb.FetchForm_FETCH_FORM_UNSPECIFIED:
		s.form = pb.FetchForm_FETCH_FORM_BATCHES
	case pb.FetchForm_FETCH_FORM_BATCHES, pb.FetchForm_FETCH_FORM_RECORDS:
	default:
		return fieldFault("form", "is no value of FetchForm")
	}
	switch n := want.GetMaxFrameBytes(); {
	case n == 0:
		s.maxFrame = broker.limits.FrameBytes
	case n < minFrameBytes || n > maxFrameBytes:
		return fieldFault("max_frame_bytes", fmt.Sprintf("must be 0, or %d to %d", minFrameBytes, maxFrameBytes))
	default:
		s.maxFrame = int(n)
	}
	err := checkSeenEnd(want.End, want.GetUntilEnd(), "goes with until_end only")
	if err != nil {
		return err
	}
	if s.topic, err = broker.topicUntil(ctx, until, want.GetTopic(), want.GetMinRevision()); err != nil {
		return err
	}
	if err := checkTopicID(s.topic, want.GetTopicId()); err != nil {
		return err
	}
	if s.rack = want.GetRack(); s.rack != "" {
		if done, err := s.beginInRack(until, want); done {
			return err
		}
	}
	if s.part, err = readable(until, broker.broker, s.topic, want.GetPartition()); err != nil {
		return err
	}
	reader := s.part.NewReader() // before the position is checked: what is cut from here on it notices
	if s.next, err = positionOf(until, s.part, want.GetPosition(), since); err != nil {
		return err
	}
	if want.GetUntilEnd() {
		if s.goal, err = goalOf(until, s.part, seenEnd(want.End), since); err != nil {
			return err
		}
	}
	s.readFrom(s.part, reader, s.next, want.GetPosition())
	return nil
}

// readFrom has the subscription read a partition here from an offset on, which
// was checked for that position while the reader was there.
func (s *subscription) readFrom(p *partition.Partition, r *partition.Reader, next record.Offset, at *pb.FetchPosition) {
	s.part, s.reader, s.next, s.epoch = p, r, next, epochIn(at)
	if s.epoch != noEpoch {
		return
	}
	// In this order: of what was put in the place of that record since, a leader
	// would be right to say that it has it.
	if epoch := p.EpochBefore(next); !r.Cut() {
		s.epoch = int32(epoch)
	}
}

// epochIn returns the leader epoch that a position says the record before it
// has; noEpoch: it does not.
func epochIn(at *pb.FetchPosition) int32 {
	if _, isOffset := at.GetAt().(*pb.FetchPosition_Offset); !isOffset || at.LeaderEpoch == nil {
		return noEpoch
	}
	return at.GetLeaderEpoch()
}

func checkTopicID(t *metadata.Topic, want []byte) error {
	switch {
	case len(want) == 0:
		return nil
	case len(want) != len(t.ID):
		return fieldFault("topic_id", fmt.Sprintf("must have %d bytes", len(t.ID)))
	case string(want) != string(t.ID[:]):
		return otherTopic(t.Name)
	}
	return nil
}
