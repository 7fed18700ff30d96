package api

import (
	"errors"
	"slices"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// elsewhere is what a Fetch stream has of partitions that other brokers lead:
// one link to each leader, whose frames pass to the client as they are. All of
// it is guarded by fetchStream.mu.
//
// Goroutines: those of the links, and one that finds leaders (move), while
// there are subscriptions without one.
type elsewhere struct {
	links   map[int32]*fetchLink
	ready   []*fetchLink    // those whose next frame may be sent, oldest first
	placing []*subscription // those that have no leader
	moving  bool            // move runs
	moved   chan struct{}   // wakes move; capacity 1
	held    int             // bytes of the budget that frames have which have come
}

// fetchLink is the link to a leader. It is the Sink of what comes on it.
//
// Credit: a link reserves a share of the client's, and grants it to the leader.
// So what has come and is not sent yet is within what the client allows, and a
// link in which nothing happens leaves most of it to the others.
//
// Bytes: a frame counts in BrokerService.passing from before it is copied until
// it counts in the budget for reading, when its turn to be sent has come.
//
// No deadlock: a link waits for passing, and send, which makes room there, does
// not. What the client does not let send take is given up after parkAfter, so
// that clients who read nothing leave others the room.
type fetchLink struct {
	f      *fetchStream
	broker int32
	link   *forward.FetchLink

	// Guarded by fetchStream.mu.
	arrived  []*forward.Frame // not sent yet
	ended    error            // why there will be no more; nil: there may be
	waits    *forward.Frame   // for credit, with a timer; not the first of arrived: no longer
	listed   bool             // in elsewhere.ready
	share    uint64           // credit that it may have reserved
	reserved uint64           // credit that it has reserved
	passed   uint64           // credit of the frames that were sent, or dropped
}

// noEpoch stands for an unknown leader epoch.
const noEpoch = int32(commitlog.NoEpoch)

// awayPosition is where a subscription is to go on at a leader. It belongs to
// who has the subscription: send while it has a link, move while it has none.
type awayPosition struct {
	position *pb.FetchPosition // as the client said; used until a frame has come
	untilEnd bool
	begun    bool          // subscription.next and epoch say where it is
	epoch    int32         // of the last record that was sent; noEpoch: unknown
	attached bool          // a frame has come on the present link
	parked   bool          // it has no link: it is subscribed again when there is credit
	until    record.Offset // where it is finished, once that is known; noEnd: it is not. Meaningful if untilEnd
	hinted   int32         // broker that the client was told leads, if told
	told     bool

	since     time.Time // when it lost its leader; zero: it has one
	failures  int
	notBefore time.Time // of the next attempt
}

// mostShare is the most credit that a link reserves: two frames of the usual
// size, so that one is on its way while the other is sent.
const mostShare = 1 << 20

// linkTo returns the link to a broker.
//
// REQUIRES: mu is held.
func (f *fetchStream) linkTo(broker int32) *fetchLink {
	e := f.elsewhere
	l := e.links[broker]
	if l == nil {
		l = &fetchLink{f: f, broker: broker, share: mostShare}
		if f.credit.limited {
			others := max(1, len(f.s.metadata.Current().Brokers())-1)
			l.share = max(1, min(mostShare, f.credit.window/uint64(2*others)))
		}
		l.link = forward.NewFetchLink(f.ctx, f.s.peers, broker, l, f.s.passing, f.s.streams.Go)
		l.grant()
		l.link.Grant(l.reserved) // also if it is nothing: else it would be unlimited
		e.links[broker] = l
	}
	return l
}

// Frame takes a frame from the leader.
func (l *fetchLink) Frame(fr *forward.Frame) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if l.f.closed {
		l.f.free(fr)
		return
	}
	l.f.elsewhere.held += fr.Held
	l.arrived = append(l.arrived, fr)
	l.list()
}

// Ended notes that there will be no more frames. What has come is sent before
// its subscriptions look for another leader.
func (l *fetchLink) Ended(err error) {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	if e := l.f.elsewhere; e.links[l.broker] == l {
		delete(e.links, l.broker)
	}
	l.ended = err
	l.list()
}

// list gives the link to send.
//
// REQUIRES: mu is held.
func (l *fetchLink) list() {
	if l.listed || len(l.arrived) == 0 && l.ended == nil {
		return
	}
	if len(l.arrived) > 0 && !l.affords(l.arrived[0]) {
		l.await(l.arrived[0]) // until the client grants more
		return
	}
	l.listed = true
	l.f.elsewhere.ready = append(l.f.elsewhere.ready, l)
	wake(l.f.work)
}

// await has a frame given up that the client grants no credit for.
//
// REQUIRES: mu is held, and it is the next one.
func (l *fetchLink) await(fr *forward.Frame) {
	if l.waits != fr {
		l.waits = fr
		time.AfterFunc(parkAfter, func() { l.park(fr) }) // it ends by itself
	}
}

// park gives a frame up that still waits for credit. Its subscription goes on
// there when the client has granted as much, as one that is read here does.
func (l *fetchLink) park(fr *forward.Frame) {
	f := l.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || l.listed || len(l.arrived) == 0 || l.arrived[0] != fr {
		return
	}
	if !l.affords(fr) {
		l.pop()
		l.settle(fr, false)
		f.free(fr)
		if s := f.subs[fr.SubscriptionID]; s != nil && s.lead == l && (s.away.attached || fr.First) {
			l.link.Unsubscribe(s.id)
			s.lead, s.away.attached, s.away.parked = nil, false, true
			f.starveLocked(s, fr.CreditUsed)
		}
	}
	l.list()
	wake(f.work)
}

// pop takes the next frame, which its caller sends or frees.
//
// REQUIRES: mu is held.
func (l *fetchLink) pop() *forward.Frame {
	fr := l.arrived[0]
	l.arrived[0] = nil
	l.arrived = l.arrived[1:]
	l.f.elsewhere.held -= fr.Held
	return fr
}

// free drops a frame.
func (f *fetchStream) free(fr *forward.Frame) {
	rpc.SharedPool().Put(fr.Bytes)
	f.s.passing.Release(fr.Held)
}

// unpark has a subscription go on where its partition is led, if it waited for
// credit for a frame of there. It returns false if it did not.
//
// REQUIRES: the subscription is in send's hands.
func (f *fetchStream) unpark(s *subscription) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !s.away.parked {
		return false
	}
	s.away.parked = false
	if s.state != over {
		f.place(s)
	}
	return true
}

// affords tells whether there is credit for a frame. It may be larger than what
// was reserved: one item may exceed the credit.
func (l *fetchLink) affords(fr *forward.Frame) bool {
	return fr.CreditUsed <= l.reserved || l.f.credit.fits(fr.CreditUsed-l.reserved)
}

// settle takes the credit of a frame that is sent, or gives it back.
//
// REQUIRES: mu is held.
func (l *fetchLink) settle(fr *forward.Frame, sent bool) {
	c := &l.f.credit
	own := min(fr.CreditUsed, l.reserved)
	l.reserved -= own
	l.passed += fr.CreditUsed
	if sent {
		c.use(own)
		c.take(fr.CreditUsed - own)
	} else {
		c.giveUp(own)
	}
	l.grant()
}

// grant reserves credit up to the share and grants it.
//
// REQUIRES: mu is held.
func (l *fetchLink) grant() {
	if l.ended != nil || l.reserved >= l.share {
		return
	}
	if n := l.f.credit.reserve(l.share - l.reserved); n > 0 {
		l.reserved += n
		l.link.Grant(l.passed + l.reserved)
	}
}

// feedLinks is told that the client has granted more.
//
// REQUIRES: mu is held.
func (f *fetchStream) feedLinks() {
	for _, l := range f.elsewhere.links {
		l.grant()
		l.list()
	}
}

// passOn sends the next frame of a link whose turn it is, or carries out its
// end. The error is that of the stream.
func (f *fetchStream) passOn() error {
	f.mu.Lock()
	e := f.elsewhere
	l := e.ready[0]
	e.ready = e.ready[1:]
	l.listed = false
	if len(l.arrived) == 0 {
		f.unlink(l)
		f.mu.Unlock()
		return nil
	}
	if fr := l.arrived[0]; !l.affords(fr) { // another one took it
		l.await(fr)
		f.mu.Unlock()
		return nil
	}
	fr := l.pop()
	said := fr.Finished
	sent := f.wants(l, fr)
	var hint *pb.LeaderHint
	if sent {
		hint = f.hint(l, fr)
	}
	l.settle(fr, sent)
	l.list()
	f.mu.Unlock()
	if !sent {
		f.free(fr)
		return nil
	}
	if fr.Finished && !said {
		*fr.Bytes = wire.AppendFetchFinished(*fr.Bytes)
	}
	if hint != nil {
		*fr.Bytes = wire.AppendFetchLeader(*fr.Bytes, hint)
	}
	f.s.metrics.passed(fr.CreditUsed)
	err := f.mem.reserve(f.ctx, cap(*fr.Bytes))
	f.s.passing.Release(fr.Held)
	if err != nil {
		return err
	}
	return f.out.lend(fr.Bytes)
}

// unlink looks for other leaders for the subscriptions of a link that ended, or
// ends them, if there are too many links: that has nothing to do with who leads.
//
// REQUIRES: mu is held.
func (f *fetchStream) unlink(l *fetchLink) {
	f.credit.giveUp(l.reserved)
	l.reserved = 0
	_, busy := errors.AsType[*forward.BusyError](l.ended)
	for _, s := range f.subs {
		switch {
		case s.lead != l:
		case busy:
			f.giveUpLocked(s, l.ended)
		default:
			s.keepAway(l.broker)
			f.replace(s)
		}
	}
	f.feed()
}

// wants notes what a frame says of its subscription, and tells whether the
// client is to get it.
//
// REQUIRES: mu is held.
func (f *fetchStream) wants(l *fetchLink, fr *forward.Frame) bool {
	if fr.SubscriptionID == 0 {
		if fr.Error != nil {
			l.link.Close() // it did not take what it was asked: begin anew
		}
		return false // it stops; its subscriptions move when it has
	}
	s := f.subs[fr.SubscriptionID]
	if s == nil || s.lead != l {
		return false
	}
	switch {
	case fr.Reroute, fr.Error != nil && movesOn(fr.Error):
		s.keepAway(l.broker)
		f.replace(s)
		return false
	case fr.Error != nil:
		f.s.metrics.fetchErrors.WithLabelValues(reasonLabel(fr.Error.GetReason())).Inc()
		f.forget(s)
		return true
	case !s.away.attached && !fr.First:
		return false // of the subscription of that id before this one
	}
	a := &s.away
	a.attached, a.failures, a.since = true, 0, time.Time{}
	switch {
	case fr.Records:
		a.epoch = int32(fr.LeaderEpoch)
	case !a.begun || fr.NextOffset != s.next:
		a.epoch = noEpoch // records without content, of whatever epoch
	}
	if a.untilEnd {
		if a.until == noEnd {
			// Not before the end that the leader saw, and seen hardly later.
			a.until = fr.HighWatermark
		}
		if !fr.Finished && fr.NextOffset >= a.until {
			fr.Finished = true // a leader that came later saw a later end
			l.link.Unsubscribe(s.id)
		}
	}
	a.begun, s.next = true, fr.NextOffset
	if fr.Finished {
		f.forget(s)
	} else if s.rack != "" && f.nearer(s, l.broker) {
		l.link.Unsubscribe(s.id)
		f.place(s)
	}
	return true
}

// hint returns what a client is told with a frame of a leader that it was not
// told of yet, nil if it was.
//
// REQUIRES: mu is held.
func (f *fetchStream) hint(l *fetchLink, fr *forward.Frame) *pb.LeaderHint {
	s := f.subs[fr.SubscriptionID]
	if s == nil || s.lead != l || s.away.told && s.away.hinted == l.broker {
		return nil // it is over, or knows
	}
	m := f.s.metadata.Current()
	topic := m.TopicByID(s.topic.ID)
	if topic == nil {
		return nil
	}
	part := topic.Partition(uint32(s.partition))
	if part == nil || part.Leader != l.broker && (s.rack == "" || !slices.Contains(part.ISR, l.broker)) {
		return nil // there is another by now
	}
	s.away.told, s.away.hinted = true, l.broker
	return f.s.hintOf(forward.Target{Leader: l.broker, Epoch: part.LeaderEpoch, Revision: m.Revision})
}

// movesOn tells whether what a leader says is a reason to look for another.
func movesOn(e *pb.RequestError) bool {
	switch e.GetReason() {
	case pb.ErrorReason_ERROR_REASON_NOT_LEADER, pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE,
		pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN, pb.ErrorReason_ERROR_REASON_NOT_FRESH,
		pb.ErrorReason_ERROR_REASON_OFFSET_NOT_AVAILABLE:
		return true
	case pb.ErrorReason_ERROR_REASON_STORAGE_FAILED:
		return e.GetRetryable() // somebody else can lead
	default:
		return false
	}
}

// follow lets a subscription whose partition this broker leads no longer go on
// where it is led. It returns false if the client has to see to that.
//
// REQUIRES: the subscription is in send's hands.
func (f *fetchStream) follow(s *subscription, err error) bool {
	_, moved := errors.AsType[*partition.NotLeaderError](err)
	closed := errors.Is(err, partition.ErrClosed) && f.s.metadata.Current().TopicByID(s.topic.ID) != nil
	if f.s.peers == nil || !moved && !closed || f.isDraining() {
		return false
	}
	s.leave()
	if s.goal.end >= 0 {
		s.away.untilEnd, s.away.until, s.goal = true, s.goal.seen, goal{end: noEnd}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.state != over {
		f.replace(s)
	}
	return true
}

func (f *fetchStream) isDraining() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.draining
}
