package sim

import (
	"slices"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// produce takes a producer's batch.
func (b *broker) produce(r request) {
	if !b.lead.Leading() || b.failed || b.lead.InSync() < b.lead.EffectiveMinInSync() {
		r.done(0, false)
		return
	}
	if b.lead.Leaving() && b.w.mistake != AppendWhileLeaving {
		b.held = append(b.held, r)
		return
	}
	r.at = b.log.End()
	b.log.entries = append(b.log.entries, entry{b.lead.Epoch(), r.value, b.lead.HighWatermark()})
	b.pending = append(b.pending, r)
	b.settle(b.lead.Advance(b.id, b.lead.Epoch(), b.log.progress()))
}

// settle carries out what a step of the leader asks for.
func (b *broker) settle(e replica.Effects) {
	if e.Fenced || !b.lead.Leading() || b.failed {
		return
	}
	for len(b.pending) > 0 && b.pending[0].at < e.HighWatermark {
		r := b.pending[0]
		b.pending = b.pending[1:]
		b.w.check.acks(b, r)
		r.done(r.at, true)
	}
	if e.NeedSync {
		b.sync()
	}
	b.pump()
	b.handOver()
}

// pump sends what there is to send.
func (b *broker) pump() {
	if !b.lead.Leading() {
		return
	}
	for id, out := range b.out {
		s := out.stream
		if s == nil {
			continue
		}
		for {
			o, ok := b.lead.Offer(replica.ID(id), replica.Beginning{Start: b.log.Start(), Begin: b.log.Begin()}, b.clock())
			if !ok {
				break
			}
			if o.Closed != replica.NoError {
				b.out[id] = outgoing{}
				s.down(func() { s.follower.effects(s.follower.follow.ClosedByLeader(o.Session)) })
				break
			}
			var entries []entry
			if o.Records {
				n := min(int(o.End-o.From), pushEntries, max(1, int(o.Budget/entryBytes)))
				entries = slices.Clone(b.log.entries[o.From:][:n])
			}
			b.lead.Sent(replica.ID(id), o, o.From+record.Offset(len(entries)), int64(len(entries)*entryBytes), b.clock())
			s.down(func() { s.follower.push(o.Push, entries) })
		}
	}
}

// retain lets old records go, now and then: how many, retention decides.
func (b *broker) retain() {
	if !b.lead.Leading() || b.w.roll(60) > 0 {
		return
	}
	if end := b.lead.ReadableEnd(); end > b.log.start {
		b.log.letGo(b.log.start + record.Offset(b.w.roll(int(end-b.log.start)+1)))
		b.w.check.deleted = max(b.w.check.deleted, b.log.start)
		b.w.say("broker %d lets go what is below %d", b.id, b.log.start)
	}
}

// opens answers a follower.
func (b *broker) opens(from replica.ID, brokerEpoch int64, o replica.Open, s *stream) {
	a, e := b.lead.Open(from, brokerEpoch, o, b.log)
	if a.Error == replica.NoError {
		b.out[from] = outgoing{s, o.Session}
	}
	s.down(func() { s.follower.opened(a) })
	b.settle(e)
}

// connect asks the leader for a session, if there is none.
func (b *broker) connect() {
	if b.failed || !b.follow.Closed() || b.w.now < b.retryAt {
		return
	}
	b.retry()
	// Another stream now and then: frames of the old one come late.
	if b.in == nil || b.in.broken || b.in.leader.id != b.follow.Leader() || b.w.roll(3) == 0 {
		if b.in = b.w.net.dial(b, b.w.broker(b.follow.Leader())); b.in == nil {
			return
		}
	}
	b.effects(b.follow.Connect())
}

func (b *broker) opened(a replica.Opened) {
	if !b.failed {
		b.effects(b.follow.Opened(a))
	}
}

// push takes a range of the leader's log.
func (b *broker) push(p replica.Push, entries []entry) {
	if b.failed {
		return
	}
	e := b.follow.Push(p, p.From+record.Offset(len(entries)), int64(len(entries)*entryBytes))
	b.effects(e)
	if !e.Append {
		return
	}
	if entries[0].epoch < b.log.LastEpoch() {
		b.w.fail("broker %d: a push of epoch %d continues a log of epoch %d (F5)", b.id, entries[0].epoch, b.log.LastEpoch())
		return
	}
	b.log.entries = append(b.log.entries, entries...)
	b.effects(b.follow.Appended(b.log.progress()))
	if b.w.durability == replica.Disk {
		b.sync()
	}
}

// effects carries out what a step of the follower asks for.
func (b *broker) effects(e replica.FollowerEffects) {
	s := b.in
	if e.Close && s != nil {
		known := b.follow.Epoch()
		s.up(func() {
			s.leader.lead.Close(b.id, e.Closed)
			s.leader.heardOf(known)
		})
		b.retry()
	}
	if e.Truncate || e.Reset {
		b.w.say("broker %d truncates from %d to %d, epoch %d, reset %v", b.id, b.log.End(), e.To, b.follow.Epoch(), e.Reset)
		if e.Lost {
			b.w.fail("broker %d: committed records are lost", b.id)
			return
		}
		if e.Reset {
			b.log.begin(e.To)
		} else {
			b.log.truncate(e.To)
		}
		b.shown = min(b.shown, e.To)
		b.w.check.holders("truncation")
		b.effects(b.follow.Truncated(b.log.progress()))
		return
	}
	if e.LogStart >= 0 {
		b.log.letGo(e.LogStart)
	}
	if s == nil {
		return
	}
	if e.Opens {
		epoch := b.epoch
		s.up(func() { s.leader.opens(b.id, epoch, e.Open, s) })
	}
	if e.Acks {
		s.up(func() {
			s.leader.settle(s.leader.lead.Ack(b.id, e.Ack))
		})
	}
}
