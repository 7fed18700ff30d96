package partition

import (
	"slices"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// Lead begins leadership. It returns false if the assignment is not newer than
// what is known, or does not name this broker. When it returns, requests are
// admitted; at DISK what recovery found above the synced end becomes readable
// once it is synced.
func (p *Partition) Lead(a replica.Assignment) bool {
	led := false
	p.exclusively(func() {
		o := &p.owner
		if o.closed {
			return
		}
		if last := p.log.LastEpoch(); a.Epoch < last {
			// The metadata is older than the log: it was restored. Appending would
			// make epochs fall (rule F5).
			p.logger.Error("leader epoch is older than the log's", "leader_epoch", int32(a.Epoch), "log_epoch", int32(last))
			return
		}
		known := max(record.Offset(p.readable.Load()), o.follow.HighWatermark())
		e := o.core.Lead(a, p.progress(), known)
		if e.Fenced {
			return
		}
		led = true
		if p.auditor != nil {
			p.audit()
			p.auditor.Led(a, o.core.EffectiveMinInSync(), e.HighWatermark)
		}
		p.obey(o.follow.Stop(a.Epoch))
		o.up = nil
		p.leaveLimbo()
		p.endDeposed() // unless there is a newer epoch still
		p.restless.Store(o.core.Replicated())
		p.elected.Store(int64(p.log.End()))
		p.meet()
		p.mail.mu.Lock()
		p.change(func(s *status) bool {
			s.leading, s.leader, s.epoch, s.inSync, s.notLeader = true, p.self, a.Epoch, o.core.InSync(), nil
			s.follower = false
			return true
		})
		p.mail.mu.Unlock()
		p.answerEarly(false)
		if e.NeedSync {
			p.sync()
		}
		p.commit(false)
		p.pump()
	})
	return led
}

// Confirm takes a newer record of the partition in the epoch that is led: its
// in-sync replicas, min ISR and durability. It returns false if the record is
// older, or of another epoch.
func (p *Partition) Confirm(a replica.Assignment) bool {
	taken := false
	p.exclusively(func() {
		o := &p.owner
		if o.closed {
			return
		}
		e := o.core.Confirm(a)
		if e.Fenced {
			return
		}
		taken = true
		if p.auditor != nil {
			p.auditor.InSync(a, o.core.EffectiveMinInSync())
		}
		p.endFeeds(replica.NotReplica, func(id replica.ID) bool { return slices.Contains(a.Replicas, id) })
		p.meet()
		p.restless.Store(o.core.Replicated())
		p.mail.mu.Lock()
		p.change(func(s *status) bool {
			s.inSync = o.core.InSync()
			return true
		})
		p.mail.mu.Unlock()
		if e.NeedSync {
			p.sync()
		}
		p.commit(false)
	})
	return taken
}

// Resign ends leadership, or following: nobody is followed, and leader leads
// now, in that epoch. What is queued is answered *NotLeaderError, what is
// written and not acknowledged ErrUnknownOutcome: at once if another leads, or
// after a while in which that may still be found out (see limbo.go). Readers are
// woken and find out.
func (p *Partition) Resign(leader replica.ID, epoch record.LeaderEpoch) {
	p.exclusively(func() {
		o := &p.owner
		if o.closed || epoch < o.core.Epoch() {
			return
		}
		p.resign(leader, epoch)
		p.answerEarly(false)
		if leader == replica.None {
			p.obey(o.follow.Stop(max(epoch, o.follow.Epoch())))
			o.up = nil
			return
		}
		// This replica is none of the partition any more: nothing will be heard.
		p.abandon(&NotLeaderError{Leader: leader, Epoch: epoch})
		p.obey(o.follow.Stop(max(epoch, o.follow.Epoch())))
		o.up = nil
	})
}

// resign is Resign for the leader's part.
func (p *Partition) resign(leader replica.ID, epoch record.LeaderEpoch) {
	o := &p.owner
	if s := p.status.Load(); !s.leading && s.leader == leader && s.epoch == epoch {
		return // known
	}
	led, before := o.core.Leading(), o.core.Epoch()
	o.core.Resign(epoch)
	p.undeposed()
	p.endFeeds(replica.NotLeader, nobody)
	p.meet()
	gone := &NotLeaderError{Leader: leader, Epoch: epoch}
	p.mail.mu.Lock()
	p.change(func(s *status) bool {
		s.leading, s.leader, s.epoch, s.inSync, s.notLeader = false, leader, epoch, 0, gone
		s.follower = false
		return true
	})
	p.mail.turnAway(gone)
	p.mail.mu.Unlock()
	if led && p.auditor != nil {
		p.auditor.Resigned(before)
	}
	p.enterLimbo(gone)
	p.wakeAll()
}
