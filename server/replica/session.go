package replica

import (
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

// endsEvery is how long an end that moved may wait for a push to carry it
// (rule P3).
const endsEvery = 100 * time.Millisecond

// SessionError says why there is no session, or no longer. Its numbers are
// those of millstream.replication.v1.SessionError.
type SessionError uint8

// The session errors that brokers of one version give each other.
const (
	NoError            SessionError = 0
	NotLeader          SessionError = 1
	FencedLeaderEpoch  SessionError = 2
	UnknownLeaderEpoch SessionError = 3
	FencedBrokerEpoch  SessionError = 4
	NotReplica         SessionError = 5
	StaleSession       SessionError = 6
	BehindLogStart     SessionError = 7
	CorruptLog         SessionError = 8
	Stopping           SessionError = 9
	NotContinued       SessionError = 10
	FailedLog          SessionError = 11
)

// Open asks for a session: where a follower's log ends.
type Open struct {
	// Session is greater than every number that this incarnation of the broker
	// has used.
	Session uint64
	// Epoch is the leader epoch that is followed.
	Epoch record.LeaderEpoch
	// LastEpoch is the one of the last record; NoEpoch: there is none.
	LastEpoch record.LeaderEpoch
	// Progress is how far the log is.
	Progress
	// LogStart is the first offset of the log.
	LogStart record.Offset
	// Credit is as in Ack.
	Credit int64
}

// Opened answers Open. Without Error, Diverged or Reset the session has begun.
type Opened struct {
	// Session is the one asked for.
	Session uint64
	// Epoch is the one that the leader leads in, or knows of.
	Epoch record.LeaderEpoch
	// Error is why there is no session.
	Error SessionError
	// Diverged says that the follower has to truncate, and open again.
	Diverged   bool
	Divergence Divergence
	// Reset says that the follower has to begin again at LogStart, which then is
	// where the leader's first batch begins.
	Reset bool
	// LogStart, End and HighWatermark are the leader's.
	LogStart, End, HighWatermark record.Offset
}

// Ack says how far a follower is.
type Ack struct {
	// Session and Epoch are those of the session.
	Session uint64
	Epoch   record.LeaderEpoch
	// Progress is how far the log is.
	Progress
	// Credit is how many bytes the leader may send in all since the session
	// began.
	Credit int64
}

// Push is a range of the leader's log on its way, without the bytes.
type Push struct {
	// Session and Epoch are those of the session.
	Session uint64
	Epoch   record.LeaderEpoch
	// From is the end that the range continues.
	From record.Offset
	// HighWatermark, LogStart and End are the leader's.
	HighWatermark, LogStart, End record.Offset
}

// Offer is what there is to send to a follower.
type Offer struct {
	// Push is the header. It may go without records: it tells ends.
	Push
	// Records says that there are records from Push.From on, of which Budget
	// bytes may be sent; at least one batch, if Whole.
	Records bool
	Budget  int64
	Whole   bool
	// Closed, if set, is why the session has ended: nothing else is offered.
	Closed SessionError
}

// session is what a leader keeps of a follower's session.
type session struct {
	number      uint64 // the last one heard of
	brokerEpoch int64  // of the incarnation that chose it
	open        bool
	next        record.Offset // after what was sent
	sent        int64         // bytes
	credit      int64         // bytes
	told        ends
	toldAt      time.Duration
	toldOnce    bool
}

// ends are those that a push carries.
type ends struct{ highWatermark, logStart record.Offset }

// Open takes a follower's wish for a session. h is the leader's own log. The
// session before ends, whatever the answer, unless the wish is older.
//
// What the follower had counts from here on as it says now, not as it said
// before: it may have truncated, or lost what only its memory held.
func (l *Leader) Open(id ID, brokerEpoch int64, o Open, h History) (Opened, Effects) {
	a := Opened{Session: o.Session, Epoch: l.epoch}
	i := l.index(id)
	switch {
	case o.Epoch > l.epoch:
		a.Error = UnknownLeaderEpoch
	case !l.leading:
		a.Error = NotLeader
	case o.Epoch < l.epoch:
		a.Error = FencedLeaderEpoch
	case i < 0 || i == l.own:
		a.Error = NotReplica
	case brokerEpoch < l.members[i].session.brokerEpoch:
		a.Error = FencedBrokerEpoch
	case brokerEpoch == l.members[i].session.brokerEpoch && o.Session <= l.members[i].session.number:
		a.Error = StaleSession
	}
	if a.Error != NoError {
		return a, l.fenced()
	}
	m := &l.members[i]
	m.session = session{number: o.Session, brokerEpoch: brokerEpoch}
	m.Progress = Progress{}
	a.LogStart, a.End, a.HighWatermark = h.Start(), h.End(), l.highWatermark
	switch how, d := compare(h, o.LastEpoch, o.End); how {
	case diverges:
		a.Diverged, a.Divergence = true, d
	case unrelated:
		a.Reset, a.LogStart = true, h.Begin()
	case agrees:
		m.session.open = true
		m.session.next, m.session.credit = o.End, o.Credit
		m.reached = min(m.reached, o.End)
		m.advance(o.Progress)
	}
	return a, l.settle()
}

// Close ends a session, because the follower says so or its stream has ended.
// What it acked still counts: it has it.
func (l *Leader) Close(id ID, number uint64) {
	if i := l.index(id); i >= 0 && l.members[i].session.number == number && mutation != StaleFrames {
		l.members[i].session.open = false
	}
}

// Ack takes how far a follower is. An ack of another epoch or session is
// Fenced, and so is one of records that were not sent.
func (l *Leader) Ack(id ID, a Ack) Effects {
	i := l.index(id)
	if !l.leading || i < 0 || i == l.own {
		return l.fenced()
	}
	m := &l.members[i]
	s := &m.session
	if mutation == StaleFrames {
		m.advance(a.Progress)
		s.credit = max(s.credit, a.Credit)
		return l.settle()
	}
	if a.Epoch != l.epoch || !s.open || a.Session != s.number || a.End > s.next {
		return l.fenced()
	}
	s.credit = max(s.credit, a.Credit)
	m.advance(a.Progress)
	return l.settle()
}

// Offer says what there is to send to a follower now, and whether there is
// anything. first is where the leader's log begins.
func (l *Leader) Offer(id ID, first Beginning, now time.Duration) (Offer, bool) {
	i := l.index(id)
	if !l.leading || i < 0 || !l.members[i].session.open {
		return Offer{}, false
	}
	m, own := &l.members[i], l.members[l.own].End
	s := &m.session
	o := Offer{Push: Push{
		Session: s.number, Epoch: l.epoch, From: s.next,
		HighWatermark: l.highWatermark, LogStart: first.Start, End: own,
	}}
	if s.next < first.Begin {
		s.open = false
		o.Closed = BehindLogStart
		return o, true
	}
	o.Budget = s.credit - s.sent
	// Nothing is under way: a batch larger than the credit would never go.
	o.Whole = m.End == s.next
	o.Records = s.next < own && (o.Budget > 0 || o.Whole) && !l.holds(m, now)
	// The successor is told at once: it begins with the high watermark that it
	// knows.
	moved := s.told != ends{l.highWatermark, first.Start} && (!s.toldOnce || now-s.toldAt >= endsEvery || l.drained())
	return o, o.Records || moved
}

// Sent notes that an offer was sent, with the records up to end, of so many
// bytes; none: end is o.From.
func (l *Leader) Sent(id ID, o Offer, end record.Offset, bytes int64, now time.Duration) {
	i := l.index(id)
	if i < 0 || !l.members[i].session.open || l.members[i].session.number != o.Session {
		return
	}
	s := &l.members[i].session
	s.next = end
	s.sent += bytes
	l.members[i].throttle.sent(bytes)
	s.told, s.toldAt, s.toldOnce = ends{o.HighWatermark, o.LogStart}, now, true
}
