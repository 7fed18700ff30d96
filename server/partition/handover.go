package partition

// While this replica is about to hand its leadership over (replica.Leader), what
// is admitted waits in the mailbox, within the same bounds as ever: it is not
// refused, for the change takes but a moment. If another leads then, it is
// answered *NotLeaderError, and surely not written; if nothing came of it, it is
// written here.
//
// INVARIANT: while the replica is leaving, nothing is taken from the queue of
// requests; and it says that it has nothing in flight only when every request
// that was written is answered.

// handOver goes on with handing the leadership over, after every step.
//
// REQUIRES: the caller owns the partition.
func (p *Partition) handOver() {
	o := &p.owner
	if !o.heldBack && !o.core.Leaving() {
		return
	}
	p.holdBack(o.core.Leaving())
	proposal, ask := o.core.HandOver(p.uptime(), o.pending.empty())
	if ask {
		if !o.asked {
			o.asked, o.askedAt = true, p.uptime()
		}
		p.pump() // the successor is to know what is committed
		p.propose(proposal)
	}
	p.holdBack(o.core.Leaving())
}

// holdBack leaves requests in the queue, or no longer.
func (p *Partition) holdBack(held bool) {
	o, m := &p.owner, &p.mail
	if o.heldBack == held {
		return
	}
	o.heldBack = held
	m.mu.Lock()
	m.heldBack = held
	m.mu.Unlock()
	if held {
		o.leavingAt, o.asked = p.uptime(), false
		p.restless.Store(true) // the clock ends it
		return
	}
	took := p.uptime() - o.leavingAt
	p.observer.HandedOver(took, !o.core.Leading())
	switch {
	case o.closed:
	case o.core.Leading():
		p.logger.Warn("leadership not handed over, and records are taken again", "leader_epoch", int32(o.core.Epoch()), "after", took,
			"asked", o.asked, "end", int64(p.log.End()), "high_watermark", int64(o.core.HighWatermark()))
	default:
		drained := took // it was not: another leads for another reason
		if o.asked {
			drained = o.askedAt - o.leavingAt
		}
		p.logger.Info("leadership handed over", "leader_epoch", int32(o.core.Epoch()), "asked", o.asked, "took", took, "drained_after", drained)
	}
}
