package partition

import (
	"errors"
	"slices"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// Upstream is the way to the leader of one partition. Its methods are called
// by the owner of the partition and must not block.
type Upstream interface {
	// Open asks the leader for a session.
	Open(replica.Open)
	// Ack tells the leader how far this replica is. Of several of one session the
	// last is enough.
	Ack(replica.Ack)
	// Close tells the leader, if it can be told, that a session has ended.
	Close(session uint64, epoch record.LeaderEpoch, why replica.SessionError)
}

// Pushed is a range of the leader's log that has come.
type Pushed struct {
	// Push is the header.
	replica.Push
	// End is the offset after the last record; From if there is none.
	End record.Offset
	// Batches are the bytes of whole batches, as they stand in the leader's log.
	// BORROWED until Free.
	Batches record.Pieces
	// Free is called once, when the bytes are not needed any more; nil: there is
	// nothing to free.
	Free interface{ Free() }
}

// arrival is something that has come from the leader, or happened to the
// stream that it comes on.
type arrival struct {
	kind    arrivalKind
	up      Upstream
	session uint64
	opened  replica.Opened
	pushed  Pushed
}

type arrivalKind uint8

const (
	arrivedStream arrivalKind = iota
	arrivedOpened
	arrivedPush
	arrivedClose
	arrivedCut
)

// Connect says that there is a stream to the leader, or that it is time to try
// again after a session was refused or closed. The methods below are called by
// who reads the stream; none of them blocks.
func (p *Partition) Connect(up Upstream) { p.arrive(arrival{kind: arrivedStream, up: up}) }

// SessionOpened takes the leader's answer to Upstream.Open.
func (p *Partition) SessionOpened(o replica.Opened) {
	p.arrive(arrival{kind: arrivedOpened, opened: o})
}

// Push takes a range of the leader's log. What waits to be written is bounded
// by the credit that was granted.
func (p *Partition) Push(in Pushed) { p.arrive(arrival{kind: arrivedPush, pushed: in}) }

// SessionClosed takes the leader's end of a session.
func (p *Partition) SessionClosed(session uint64) {
	p.arrive(arrival{kind: arrivedClose, session: session})
}

// Disconnect says that the stream has ended on which a session was.
func (p *Partition) Disconnect(session uint64) {
	p.arrive(arrival{kind: arrivedCut, session: session})
}

func (p *Partition) arrive(a arrival) {
	m := &p.mail
	m.mu.Lock()
	open := !p.status.Load().closed
	if open {
		m.arrived = append(m.arrived, a)
		p.rouse()
	}
	m.mu.Unlock()
	if !open {
		a.free()
	}
}

// free gives back the bytes of a push.
func (a *arrival) free() {
	if a.pushed.Free != nil {
		a.pushed.Free.Free()
	}
}

// Follow begins to follow a leader, in an epoch that is not older than what is
// known; else it changes nothing. A leadership ends as in Resign. Connect is
// the next step.
func (p *Partition) Follow(a replica.Assignment, leader replica.ID, up Upstream) {
	p.exclusively(func() {
		o := &p.owner
		if o.closed || a.Epoch < o.core.Epoch() || a.Epoch < o.follow.Epoch() {
			return
		}
		known := max(o.core.HighWatermark(), record.Offset(p.readable.Load()))
		p.resign(leader, a.Epoch)
		before := o.up
		// WHY not what the record says alone: it is of the election, when the new
		// leader may have been the only one in sync. What it commits is in as many
		// replicas as it needs.
		o.up, o.inSync = up, uint32(max(len(a.InSync), a.EffectiveMinInSync()))
		p.obeyTo(before, o.follow.Follow(a, leader, p.progress(), known))
		p.behind.Store(0)
		p.answerEarly(false)
		p.serveAs(slices.Contains(a.InSync, p.self))
		p.syncFollowed() // DISK may be asked for now, of what came at MEMORY
	})
}

// Behind is how many offsets the leader is ahead, as far as is known.
func (p *Partition) Behind() record.Offset { return record.Offset(p.behind.Load()) }

// Everything below runs as the owner.

// arrivedNow takes what has come from the leader.
func (p *Partition) arrivedNow(a *arrival) {
	o := &p.owner
	switch a.kind {
	case arrivedStream:
		if a.up == o.up && p.followable() {
			p.audit() // the leader is about to hear where the log ends
			p.obey(o.follow.Connect())
		}
	case arrivedOpened:
		p.obey(o.follow.Opened(a.opened))
	case arrivedPush:
		p.pushed(&a.pushed)
		a.free()
	case arrivedClose:
		p.obey(o.follow.ClosedByLeader(a.session))
	case arrivedCut:
		if number, _ := o.follow.Session(); number == a.session {
			o.follow.Disconnect()
		}
	}
	p.behind.Store(int64(o.follow.Behind()))
	p.noteStream()
}

// followable tells whether the log can take records of a leader.
func (p *Partition) followable() bool {
	s := p.status.Load()
	return p.writable() && !s.closed && s.damaged == nil
}

// pushed writes a push, if it continues the log.
func (p *Partition) pushed(in *Pushed) {
	o := &p.owner
	e := o.follow.Push(in.Push, in.End, int64(in.Batches.Len()))
	p.obey(e)
	if !e.Append {
		return
	}
	if !p.followable() {
		p.obey(o.follow.AppendFailed(p.progress()))
		return
	}
	err := p.log.AppendFollowed(in.Batches)
	if err == nil && p.log.End() != in.End {
		err = &UnequalPushError{Said: in.End, Got: p.log.End()}
	}
	if err != nil {
		p.notFollowed(err)
		return
	}
	p.observer.Followed(in.Batches.Len())
	p.obey(o.follow.Appended(p.progress()))
	p.syncFollowed()
}

// syncFollowed syncs what the leader waits for.
func (p *Partition) syncFollowed() {
	if p.log.SyncDue() || (p.owner.follow.Durability() == replica.Disk && p.Unsynced()) {
		p.sync()
	}
}

// notFollowed gives up a session whose push could not be written.
func (p *Partition) notFollowed(err error) {
	p.observer.AppendFailed(1, err)
	p.obey(p.owner.follow.AppendFailed(p.progress()))
	if failed, ok := errors.AsType[*commitlog.FailedError](err); ok {
		p.observer.LogFailed(failed)
		p.Fail(failed)
		return
	}
	p.logger.Warn("records of the leader not written", "err", err)
}

// obey carries out what a step of the follower asks for. A commit follows,
// which publishes the ends and sends the ack.
func (p *Partition) obey(e replica.FollowerEffects) { p.obeyTo(p.owner.up, e) }

// obeyTo is obey; up is who is told of the end of a session.
func (p *Partition) obeyTo(up Upstream, e replica.FollowerEffects) {
	o := &p.owner
	if e.Close {
		o.ackDue = false
		if up != nil {
			up.Close(e.Closed, o.follow.Epoch(), e.Why)
		}
	}
	if e.Truncate || e.Reset {
		p.cut(e)
		return
	}
	if e.Opens && o.up != nil {
		o.up.Open(e.Open)
	}
	if e.LogStart >= 0 {
		p.followStart(e.LogStart)
	}
	if e.Acks {
		o.ack, o.ackDue = e.Ack, true // it goes with the next commit
	}
	if e.Acks && e.LogStart >= 0 && p.log.SyncedEnd() > e.Ack.SyncedEnd {
		// A log start is durable at once, and what is below it. Nobody else would say
		// so: there is nothing to sync any more.
		p.obey(o.follow.Synced(p.progress()))
	}
}

// cut removes what the leader does not have, and opens the next session.
func (p *Partition) cut(e replica.FollowerEffects) {
	o := &p.owner
	if e.Lost {
		p.logger.Error("committed records are removed: the leader does not have them",
			"from", int64(e.To), "end", int64(p.log.End()), "leader", int32(o.follow.Leader()), "leader_epoch", int32(o.follow.Epoch()))
		p.observer.Lost(p.log.End() - e.To)
	} else {
		p.logger.Info("log is cut to that of the leader", "from", int64(e.To), "end", int64(p.log.End()),
			"leader", int32(o.follow.Leader()), "leader_epoch", int32(o.follow.Epoch()), "reset", e.Reset)
	}
	p.unpublish(e.To) // before it goes: readers look at this end
	from := p.log.End()
	p.auditCut(from, e.To)
	var err error
	reset := e.Reset || e.To < p.log.Start()
	if reset {
		err = p.log.ResetTo(e.To)
	} else {
		_, err = p.log.TruncateTo(e.To)
	}
	if errors.As(err, new(*commitlog.OffsetOutOfRangeError)) && e.To < p.log.End() {
		// The batch that would have to go as a whole holds the log start: nothing
		// would be left.
		reset, err = true, p.log.ResetTo(e.To)
	}
	if err != nil {
		p.notFollowed(err)
		return
	}
	if end := p.log.End(); end < e.To { // where the batch begins
		p.unpublish(end)
		p.auditCut(e.To, end)
	}
	left := p.log.End()
	if reset {
		left = 0 // of what there was, though the log may begin again above it
	}
	p.forsakeFrom(left)
	p.obey(o.follow.Truncated(p.progress()))
}

// unpublish says of what is cut that it cannot be read any more, nor is committed
// what comes in its place. Those who wait behind it are told, or they would wait
// until the log is as long again (Reader.Notify).
func (p *Partition) unpublish(from record.Offset) {
	if record.Offset(p.readable.Load()) > from {
		p.cuts.Add(1)
		p.readable.Store(int64(from))
		p.wakeAll()
	}
	p.owner.core.Cut(from)
}

// followStart lets go what the leader has let go.
func (p *Partition) followStart(start record.Offset) {
	if !p.writable() {
		return
	}
	if _, err := p.log.DeleteBefore(min(start, p.log.End())); err != nil {
		_ = p.noteFailure(err)
		p.logger.Warn("log start of the leader not followed", "err", err)
	}
}
