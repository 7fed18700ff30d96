package partition

import (
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
		e := o.core.Lead(a, p.progress(), record.Offset(p.readable.Load()))
		if e.Fenced {
			return
		}
		led = true
		p.elected.Store(int64(p.log.End()))
		p.mail.mu.Lock()
		p.change(func(s *status) bool {
			s.leading, s.leader, s.epoch, s.inSync, s.notLeader = true, p.self, a.Epoch, o.core.InSync(), nil
			return true
		})
		p.mail.mu.Unlock()
		if e.NeedSync {
			p.sync()
		}
		p.commit(false)
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

// Resign ends leadership: who leads now, in which epoch. What is written and
// not acknowledged is answered ErrUnknownOutcome, what is queued
// *NotLeaderError; readers are woken and find out.
func (p *Partition) Resign(leader replica.ID, epoch record.LeaderEpoch) {
	p.exclusively(func() {
		o := &p.owner
		if o.closed || epoch < o.core.Epoch() {
			return
		}
		o.core.Resign(epoch)
		gone := &NotLeaderError{Leader: leader, Epoch: epoch}
		p.mail.mu.Lock()
		p.change(func(s *status) bool {
			s.leading, s.leader, s.epoch, s.inSync, s.notLeader = false, leader, epoch, 0, gone
			return true
		})
		p.mail.turnAway(gone)
		p.mail.mu.Unlock()
		p.abandon(gone)
		p.wakeAll()
	})
}
