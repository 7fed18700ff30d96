package replica

import (
	"sync/atomic"

	"github.com/millstream-io/millstream/storage/record"
)

// Sessions gives sessions their numbers. All followers of a broker share one,
// and it lives as long as the broker's incarnation.
type Sessions struct{ last atomic.Uint64 }

func (s *Sessions) next() uint64 { return s.last.Add(1) }

// FollowerEffects are what a step of a follower asks for, to be done in the
// order of the fields.
type FollowerEffects struct {
	// Fenced says that the event belongs to another epoch or session and
	// changed nothing.
	Fenced bool
	// Close says that session Closed has ended; Why is for the leader.
	Close  bool
	Closed uint64
	Why    SessionError
	// Truncate asks to remove the records from To on. Reset asks to remove all
	// and to begin again at To. Truncated is the next step.
	Truncate, Reset bool
	To              record.Offset
	// Lost says that what is removed was committed: it is to be reported.
	Lost bool
	// Append asks to write the records of the push. Appended or AppendFailed
	// follows.
	Append bool
	// Opens asks to send Open.
	Opens bool
	Open  Open
	// Acks asks to send Ack. Of several of one session the last is enough.
	Acks bool
	Ack  Ack
	// LogStart asks to let go what is below; -1: nothing.
	LogStart record.Offset
}

// followerState says what a follower waits for.
type followerState uint8

const (
	// closed: for Connect.
	closed followerState = iota
	// opening: for Opened.
	opening
	// truncating: for Truncated.
	truncating
	// streaming: for Push.
	streaming
)

// accepted says how many bytes had been accepted in a session when the log was
// to reach an end.
type accepted struct {
	end      record.Offset
	received int64
}

// writingMarks bounds what is told apart of what is being written: beyond it
// the last stands for all that came after the one before.
const writingMarks = 16

// Follower is the state of a follower.
//
// INVARIANT: while streaming, the log up to next is a beginning of the log of
// the leader of epoch.
type Follower struct {
	log        History
	sessions   *Sessions
	epoch      record.LeaderEpoch
	leader     ID
	durability Durability
	state      followerState
	session    uint64
	next       record.Offset // after what was accepted; what is below and not in own is being written
	own        Progress
	opened     Progress // what the session was opened with
	received   int64    // bytes accepted in this session
	granted    int64    // bytes that the leader may send in it
	window     int64
	writing    [writingMarks]accepted // what of them is being written, in order
	marks      int                    // of writing
	// highWatermark is the highest known to hold for this log. It may be beyond
	// the own end while streaming.
	highWatermark record.Offset
	logStart      record.Offset // as last asked for
	leaderEnd     record.Offset
}

// NewFollower returns the state of a broker that follows nobody yet. log is
// asked for its history of epochs only. window is how many bytes may be under
// way to it.
func NewFollower(log History, sessions *Sessions, window int64) Follower {
	return Follower{log: log, sessions: sessions, epoch: -1, leader: None, window: window}
}

// Follow begins following a leader, in an epoch that is not older than any
// heard of. own is how far the own log is, known the highest high watermark
// learned of. Connect is the next step, when there is a stream to that leader.
//
// REQUIRES: what was accepted is written or given up.
func (f *Follower) Follow(a Assignment, leader ID, own Progress, known record.Offset) FollowerEffects {
	if a.Epoch < f.epoch {
		return fencedFollower()
	}
	f.durability = a.Durability
	if a.Epoch == f.epoch && leader == f.leader {
		return nothing()
	}
	e := f.end(NoError)
	f.epoch, f.leader = a.Epoch, leader
	f.own, f.next = own, own.End
	// Beyond the own end it may be void: the new leader may not have that.
	f.highWatermark = min(max(f.highWatermark, known), own.End)
	return e
}

// Stop ends following: this replica leads, or nobody does, in an epoch that is
// not older than any heard of.
func (f *Follower) Stop(epoch record.LeaderEpoch) FollowerEffects {
	if epoch < f.epoch {
		return fencedFollower()
	}
	e := f.end(NoError)
	f.epoch, f.leader = epoch, None
	// Beyond the own end it speaks of records that this replica never had, and
	// may lead without: what it then writes there is not committed by that.
	f.highWatermark = min(f.highWatermark, f.own.End)
	return e
}

// Connect opens a session: there is a stream to the leader, or it is time to
// try again after the last session was refused or closed.
//
// REQUIRES: what was accepted is written or given up.
func (f *Follower) Connect() FollowerEffects {
	if f.leader == None || f.state != closed {
		return fencedFollower()
	}
	e := nothing()
	if mutation == TruncateToHighWatermark && f.highWatermark < f.own.End {
		f.state = truncating
		e.Truncate, e.To = true, f.highWatermark
		return e
	}
	return f.open(e)
}

// Disconnect says that the stream to the leader has ended, and with it the
// session.
func (f *Follower) Disconnect() { f.state = closed }

// ClosedByLeader takes the leader's end of a session. If it is the current
// one, Connect is the next step, in a while.
func (f *Follower) ClosedByLeader(session uint64) FollowerEffects {
	if f.state == closed || session != f.session {
		return fencedFollower()
	}
	f.state = closed
	return nothing()
}

// Opened takes the leader's answer. After an error Connect is the next step,
// in a while.
func (f *Follower) Opened(o Opened) FollowerEffects {
	if f.state != opening || o.Session != f.session {
		return fencedFollower()
	}
	e := nothing()
	switch {
	case o.Error != NoError:
		f.state = closed
		return e
	case o.Reset:
		e.Reset, e.To = true, o.LogStart
	case o.Diverged:
		e.To = o.Divergence.cut(f.log)
		// WHY begin again where nothing is left: an empty log still knows the leader
		// epoch of what it has let go. If the leader's has another there, the two
		// would part at the same place for ever.
		e.Reset = e.To <= f.log.Start()
		e.Truncate = !e.Reset
	default:
		f.state = streaming
		f.learn(&e, o.HighWatermark, o.LogStart, o.End)
		if f.own != f.opened { // a sync has ended meanwhile, and there may be no other
			f.ack(&e)
		}
		return e
	}
	f.state = truncating
	// In an epoch whose leader has all that is committed this does not happen.
	if committed := min(f.highWatermark, f.own.End); max(e.To, f.log.Start()) < committed {
		e.Lost = true
	}
	f.highWatermark = min(f.highWatermark, e.To)
	return e
}

// Truncated says how far the log is after Truncate or Reset, and opens the
// next session.
func (f *Follower) Truncated(own Progress) FollowerEffects {
	if f.state != truncating {
		return fencedFollower()
	}
	f.own, f.next = own, own.End
	// It may have been cut further, where a batch begins: what comes there is not
	// committed because that was.
	f.highWatermark = min(f.highWatermark, own.End)
	return f.open(nothing())
}

// Push takes a range of the leader's log: end is the one of its last batch, or
// p.From if it has none; bytes are those of the batches. A range that does not
// continue the log, or that no credit was given for, ends the session.
func (f *Follower) Push(p Push, end record.Offset, bytes int64) FollowerEffects {
	if mutation != StaleFrames && (f.state != streaming || p.Session != f.session || p.Epoch != f.epoch) {
		return fencedFollower()
	}
	if p.From != f.next || end < p.From || (f.received+bytes > f.granted && f.next != f.own.End) {
		return f.end(NotContinued)
	}
	e := nothing()
	f.learn(&e, p.HighWatermark, p.LogStart, max(p.End, end))
	if end > p.From {
		f.next = end
		f.received += bytes
		if f.marks < writingMarks {
			f.marks++
		}
		f.writing[f.marks-1] = accepted{end, f.received}
		e.Append = true
	}
	return e
}

// Appended says how far the log is after what was accepted was written.
func (f *Follower) Appended(own Progress) FollowerEffects { return f.advance(own) }

// Synced says how far the log is after a sync.
func (f *Follower) Synced(own Progress) FollowerEffects { return f.advance(own) }

func (f *Follower) advance(own Progress) FollowerEffects {
	f.own = own
	e := nothing()
	if f.state != streaming {
		return e
	}
	// What is written makes room, while the rest still is: a leader that had to
	// wait for all of it would stand still for a round trip each time.
	written := 0
	for written < f.marks && f.writing[written].end <= own.End {
		f.granted = max(f.granted, f.writing[written].received+f.window)
		written++
	}
	f.marks = copy(f.writing[:], f.writing[written:f.marks])
	if f.logStart > f.log.Start() && f.logStart <= own.End {
		// The leader's log starts in the middle of the batch with which this one
		// began again.
		e.LogStart = f.logStart
	}
	f.ack(&e)
	return e
}

func (f *Follower) ack(e *FollowerEffects) {
	e.Acks = true
	e.Ack = Ack{Session: f.session, Epoch: f.epoch, Progress: f.own, Credit: f.granted}
}

// AppendFailed says how far the log is after something accepted could not be
// written: nothing that was accepted is under way any more.
func (f *Follower) AppendFailed(own Progress) FollowerEffects {
	f.own, f.next = own, own.End
	return f.end(FailedLog)
}

// Epoch returns the leader epoch last heard of; -1 before the first.
func (f *Follower) Epoch() record.LeaderEpoch { return f.epoch }

// Durability returns what the topic asks for.
func (f *Follower) Durability() Durability { return f.durability }

// Leader returns who is followed, or None.
func (f *Follower) Leader() ID { return f.leader }

// Session returns the number of the last session, and whether it has begun.
func (f *Follower) Session() (number uint64, open bool) { return f.session, f.state == streaming }

// Closed says that there is no session and none is being opened: Connect would
// open one.
func (f *Follower) Closed() bool { return f.leader != None && f.state == closed }

// HighWatermark returns the highest high watermark known, within the own log.
func (f *Follower) HighWatermark() record.Offset { return min(f.highWatermark, f.own.End) }

// ReadableEnd returns the end of what may be read here.
func (f *Follower) ReadableEnd() record.Offset {
	return min(f.highWatermark, f.own.at(f.durability))
}

// Behind returns how many offsets the leader is ahead, as far as is known: a
// replica far behind belongs on the catch-up stream.
func (f *Follower) Behind() record.Offset { return max(0, f.leaderEnd-f.own.End) }

// learn takes the leader's ends.
func (f *Follower) learn(e *FollowerEffects, highWatermark, logStart, end record.Offset) {
	f.highWatermark = max(f.highWatermark, highWatermark)
	f.leaderEnd = end
	if logStart > f.logStart {
		f.logStart = logStart
		e.LogStart = logStart
	}
}

// open asks for a session with a number of its own.
func (f *Follower) open(e FollowerEffects) FollowerEffects {
	f.state, f.session = opening, f.sessions.next()
	f.received, f.granted, f.marks, f.opened = 0, f.window, 0, f.own
	f.logStart = 0 // that of another leader may be above what this one's log holds
	e.Opens = true
	e.Open = Open{
		Session: f.session, Epoch: f.epoch, LastEpoch: f.log.LastEpoch(),
		Progress: f.own, LogStart: f.log.Start(), Credit: f.window,
	}
	return e
}

// end ends the session, if there is one or one is being opened.
func (f *Follower) end(why SessionError) FollowerEffects {
	e := nothing()
	if f.state != closed {
		e.Close, e.Closed, e.Why = true, f.session, why
	}
	f.state = closed
	return e
}

func nothing() FollowerEffects { return FollowerEffects{LogStart: -1} }

func fencedFollower() FollowerEffects { return FollowerEffects{Fenced: true, LogStart: -1} }
