package partition

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// Outlet is a stream on which a follower has sessions with this broker. Its
// methods are called by the owner of a partition and must not block.
type Outlet interface {
	// Opened takes the answer to OpenSession. feed is the session that has
	// begun; nil: none has.
	Opened(a replica.Opened, feed *Feed)
	// Offer says that a feed has something to send: Read follows.
	Offer(feed *Feed)
	// Closed says that a session has ended, and not because the follower said so.
	Closed(feed *Feed, why replica.SessionError)
	// Heard is when the last ping was sent that the follower has answered on
	// this stream, as Uptime.
	Heard() time.Duration
	// Ask pings the follower soon, and wakes w when it has answered a ping, be it
	// an earlier one, or when the stream has ended.
	Ask(w Waiter)
}

// maxPush bounds what one push carries, but for a larger batch (rule P2).
const maxPush = 256 << 10

// Feed is a session of a follower with this partition, in which it is sent
// what the log has. Owner and stream hand it to and fro: it is the stream's from
// Outlet.Offer until Sent, or until Read says that there is nothing to send.
type Feed struct {
	p       *Partition
	id      replica.ID
	outlet  Outlet
	session uint64

	// What the stream left for the owner, guarded by mail.mu.
	noted  bool // in mail.feeds
	acked  bool
	ack    replica.Ack
	done   bool // sent or skipped
	sent   sent
	closed bool
	newest record.LeaderEpoch // that the follower knew of when it closed

	// Whoever has it.
	offer  replica.Offer
	reader *commitlog.Reader

	// The owner's.
	away bool // offered, and not back
	// heard says that an ack has come since it was offered.
	heard bool
	// starved says that the next batch is larger than the credit: more has to
	// be granted, or acked, first. INVARIANT: an ack is still to come then.
	starved bool
	ended   bool

	// gone says that the session has ended: set by whoever ends it, before the
	// owner hears of it, and seen by who asks whether the leader is fresh.
	gone atomic.Bool
}

// sent is what became of an offer.
type sent struct {
	end     record.Offset
	bytes   int64
	starved bool
	failure replica.SessionError
}

// Session is the number of the session.
func (f *Feed) Session() uint64 { return f.session }

// Records tells whether what was offered has records.
func (f *Feed) Records() bool { return f.offer.Records }

// Read reads what was offered: the ends, and the bytes of whole batches, as
// they stand in the log, up to end; none: there is nothing to send but the
// ends. alloc gives the memory, as for commitlog.Reader. Sent follows before
// the bytes are on their way, so that no ack comes before it. If there is
// nothing to send after all, ok is false and the offer is given back.
func (f *Feed) Read(alloc func(int) []byte) (push replica.Push, batches []byte, end record.Offset, ok bool) {
	o := &f.offer
	if !o.Records {
		return o.Push, nil, o.From, true
	}
	if f.reader == nil {
		f.reader = f.p.log.NewReader()
	}
	// The batch that holds the log start may begin before it.
	from := max(o.From, f.p.log.Start())
	got, err := f.reader.Read(from, o.End, int(min(max(o.Budget, 1), maxPush)), alloc)
	switch {
	case err != nil:
		f.failed(err)
		return replica.Push{}, nil, 0, false
	case !o.Whole && int64(len(got.Bytes)) > o.Budget:
		f.back(sent{starved: true})
		return replica.Push{}, nil, 0, false
	case got.First > o.From && from > o.From: // as of an offset out of range
		f.back(sent{starved: false})
		return replica.Push{}, nil, 0, false
	case got.First != o.From:
		// A session begins and goes on at whole batches. This log is as it should
		// be; the follower comes again, and is told where one begins.
		f.p.logger.Error("a follower's log ends in the middle of a batch", "follower", int32(f.id), "end", int64(o.From), "batch", int64(got.First))
		f.back(sent{failure: replica.BehindLogStart})
		return replica.Push{}, nil, 0, false
	}
	return o.Push, got.Bytes, got.Next, true
}

// failed gives back an offer that cannot be read.
func (f *Feed) failed(err error) {
	if errors.As(err, new(*commitlog.OffsetOutOfRangeError)) {
		f.back(sent{starved: false}) // the log start has moved: the next offer says so
		return
	}
	why := replica.CorruptLog
	if errors.Is(err, commitlog.ErrClosed) {
		why = replica.Stopping
	} else {
		_ = f.p.examine(err)
		f.p.logger.Error("log not read for a follower", "follower", int32(f.id), "err", err)
	}
	f.back(sent{failure: why})
}

// Sent says that what Read gave is about to be sent: records up to end, of so
// many bytes.
func (f *Feed) Sent(end record.Offset, bytes int) { f.back(sent{end: end, bytes: int64(bytes)}) }

// back gives the offer back.
func (f *Feed) back(s sent) {
	f.p.leave(f, func() { f.done, f.sent = true, s })
}

// Ack takes how far the follower is. Of several the last is enough.
func (f *Feed) Ack(a replica.Ack) {
	f.p.leave(f, func() { f.acked, f.ack = true, a })
}

// Close ends the session: the stream has ended.
func (f *Feed) Close() { f.Left(-1) }

// Left ends the session: the follower said so, and which leader epoch it knows
// of; -1: it says nothing of that.
func (f *Feed) Left(epoch record.LeaderEpoch) {
	f.gone.Store(true)
	f.p.leave(f, func() { f.closed, f.newest = true, max(f.newest, epoch) })
}

// leave leaves something with a feed for the owner.
func (p *Partition) leave(f *Feed, what func()) {
	m := &p.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.status.Load().closed {
		return
	}
	what()
	if !f.noted {
		f.noted = true
		m.feeds = append(m.feeds, f)
	}
	p.rouse()
}

// opening is a follower's wish for a session.
type opening struct {
	id          replica.ID
	brokerEpoch int64
	open        replica.Open
	outlet      Outlet
}

// OpenSession asks for a session of a follower. The answer goes to the outlet,
// unless a later wish of the same follower comes first.
func (p *Partition) OpenSession(id replica.ID, brokerEpoch int64, o replica.Open, outlet Outlet) {
	if s := p.leaveOpening(&opening{id, brokerEpoch, o, outlet}); s.closed {
		outlet.Opened(replica.Opened{Session: o.Session, Epoch: s.epoch, Error: replica.NotLeader}, nil)
	}
}

// leaveOpening leaves a wish for the owner, unless the partition is closed or
// the follower has a later one. It returns the status.
func (p *Partition) leaveOpening(next *opening) *status {
	m := &p.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	s := p.status.Load()
	if s.closed {
		return s
	}
	for i := range m.opens {
		if was := &m.opens[i]; was.id == next.id {
			if was.brokerEpoch < next.brokerEpoch || (was.brokerEpoch == next.brokerEpoch && was.open.Session < next.open.Session) {
				*was = *next
			}
			return s
		}
	}
	m.opens = append(m.opens, *next)
	p.rouse()
	return s
}

// Tick looks at the clock: the broker calls it some ten times a second for
// partitions that are Restless. It does not block.
func (p *Partition) Tick() {
	m := &p.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	if !p.status.Load().closed {
		m.ticked = true
		p.rouse()
	}
}

// Restless tells whether the clock matters to the partition: a follower is
// behind or not in sync, or has not been told of an end.
func (p *Partition) Restless() bool { return p.restless.Load() }

// Refused takes the controller's refusal of the proposal that was made at a
// partition epoch.
func (p *Partition) Refused(partitionEpoch int32) {
	p.exclusively(func() {
		p.owner.core.Refused(partitionEpoch)
		p.meet()
		p.commit(false)
	})
}

// Everything below runs as the owner.

// openSession answers a follower's wish.
func (p *Partition) openSession(o *opening) {
	a, e := p.owner.core.Open(o.id, o.brokerEpoch, o.open, p.log)
	switch {
	case a.Error == replica.UnknownLeaderEpoch && !p.owner.closed && p.status.Load().failed == nil:
		p.keepEarly(o)
		p.heardOf(o.open.Epoch)
		return
	case a.Error != replica.NoError:
		o.outlet.Opened(a, nil)
		return
	}
	if p.auditor != nil {
		has := o.open.Progress
		if a.Diverged || a.Reset {
			has = replica.Progress{} // it says again what is left
		}
		p.auditor.Heard(o.id, a.Epoch, has)
	}
	p.endFeed(o.id, replica.NoError) // the one before, whatever the answer
	var f *Feed
	if !a.Diverged && !a.Reset {
		f = &Feed{p: p, id: o.id, outlet: o.outlet, session: o.open.Session}
		p.owner.feeds = append(p.owner.feeds, f)
		p.meet()
	}
	o.outlet.Opened(a, f)
	p.restless.Store(true)
	if !e.Fenced {
		p.commit(false)
	}
}

// feedNoted takes what a stream left.
func (p *Partition) feedNoted(f *Feed) {
	m := &p.mail
	m.mu.Lock()
	acked, ack, done, back, closed, newest := f.acked, f.ack, f.done, f.sent, f.closed, f.newest
	f.noted, f.acked, f.done = false, false, false
	m.mu.Unlock()
	o := &p.owner
	// In this order: an ack may be of what was sent.
	if done {
		f.away = false
		switch {
		case back.failure != replica.NoError && !f.ended:
			o.core.Close(f.id, f.session)
			p.forgetFeed(f)
			f.outlet.Closed(f, back.failure)
		case back.starved:
			// An ack that came meanwhile gave credit that the offer did not have. It
			// may have been the last one: nobody else would end the waiting.
			f.starved = !f.heard
		case back.end > 0 || back.bytes > 0 || !f.offer.Records:
			o.core.Sent(f.id, f.offer, max(back.end, f.offer.From), back.bytes, p.uptime())
		}
	}
	if acked && !f.ended {
		f.heard, f.starved = true, false
		o.core.Ack(f.id, ack)
	}
	if closed && !f.ended {
		o.core.Close(f.id, f.session)
		p.forgetFeed(f)
	}
	if closed {
		p.heardOf(newest)
	}
}

// pump offers what there is to send to each follower that has nothing on its
// way from the log to the stream.
func (p *Partition) pump() {
	o := &p.owner
	if len(o.feeds) == 0 {
		return
	}
	p.audit()
	now, first := p.uptime(), replica.Beginning{Start: p.log.Start(), Begin: p.log.Begin()}
	for i := 0; i < len(o.feeds); i++ {
		f := o.feeds[i]
		if f.away || f.starved {
			continue
		}
		offer, ok := o.core.Offer(f.id, first, now)
		switch {
		case !ok:
		case offer.Closed != replica.NoError:
			p.forgetFeed(f)
			f.outlet.Closed(f, offer.Closed)
			i--
		default:
			f.away, f.heard, f.offer = true, false, offer
			f.outlet.Offer(f)
		}
	}
}

// tick looks at the clock.
func (p *Partition) tick() {
	o := &p.owner
	p.endDeposed()
	p.endLimbo()
	p.answerEarly(false)
	if !o.core.Leading() {
		p.noteLags(true)
		p.restless.Store(false)
		return
	}
	o.core.NoteAway(p.away)
	if proposal, ok := o.core.Tick(p.uptime(), p.lagMax, p.impaired); ok {
		p.meet() // before it can be taken
		p.propose(proposal)
	}
	p.pump()
	quiet := o.core.Quiet(p.log.Start())
	p.noteLags(quiet)
	p.restless.Store(!quiet)
}

// noteLags publishes how far followers are behind, some times a second at most
// while that changes.
func (p *Partition) noteLags(quiet bool) {
	o := &p.owner
	if quiet {
		p.lags.Store(nil)
		o.lagsDue = 0
		return
	}
	if now := p.uptime(); p.lags.Load() == nil || now >= o.lagsDue {
		list := o.core.Lags(make([]replica.Lag, 0, 4), p.log.Start())
		p.lags.Store(&list)
		o.lagsDue = now + lagsEvery
	}
}

// lagsEvery is how old published lags are at most, beside one look at the clock.
const lagsEvery = 500 * time.Millisecond

// Lags returns how far followers are behind, as of half a second ago; nothing:
// all have everything, or this replica does not lead. BORROWED: read only.
func (p *Partition) Lags() []replica.Lag {
	if list := p.lags.Load(); list != nil && p.status.Load().leading {
		return *list
	}
	return nil
}

// endFeed ends the session of a follower, if there is one; why is for the
// follower, NoError says nothing to it.
func (p *Partition) endFeed(id replica.ID, why replica.SessionError) {
	for _, f := range p.owner.feeds {
		if f.id == id {
			p.forgetFeed(f)
			if why != replica.NoError {
				f.outlet.Closed(f, why)
			}
			return
		}
	}
}

// endFeeds ends all sessions that keep does not want.
func (p *Partition) endFeeds(why replica.SessionError, keep func(replica.ID) bool) {
	o := &p.owner
	for i := len(o.feeds) - 1; i >= 0; i-- {
		if f := o.feeds[i]; !keep(f.id) {
			p.forgetFeed(f)
			f.outlet.Closed(f, why)
		}
	}
}

func (p *Partition) forgetFeed(f *Feed) {
	f.ended = true
	f.gone.Store(true)
	o := &p.owner
	for i := range o.feeds {
		if o.feeds[i] == f {
			last := len(o.feeds) - 1
			o.feeds[i] = o.feeds[last]
			o.feeds[last] = nil
			o.feeds = o.feeds[:last]
			p.meet()
			return
		}
	}
}

func nobody(replica.ID) bool { return false }

// Uptime is the clock of sessions and lags: what has passed since the process
// began, and never goes back.
func Uptime() time.Duration { return time.Since(begun) }

var begun = time.Now()
