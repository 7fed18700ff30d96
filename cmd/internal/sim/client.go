package sim

import (
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// producer appends one record after the other, each with another value. It has
// no producer id: what has an unknown outcome it never sends again.
type producer struct {
	w       *world
	id      int
	sent    uint64
	last    record.Offset // of the last one acknowledged
	acked   int
	guess   replica.ID
	stopped bool
}

func (p *producer) run() {
	if p.stopped {
		return
	}
	p.sent++
	value := uint64(p.id)<<32 | p.sent
	if p.guess == 0 || p.w.roll(20) == 0 {
		p.guess = replica.ID(p.w.roll(len(p.w.brokers)) + 1)
	}
	b := p.w.broker(p.guess)
	settled := false
	next := func(d time.Duration) {
		if !settled {
			settled = true
			p.w.after(d, p.run)
		}
	}
	life := b.life
	p.w.after(p.w.net.delay(), func() {
		b.alive(life, func() {
			b.produce(request{value: value, done: func(at record.Offset, ok bool) {
				p.w.after(p.w.net.delay(), func() {
					if ok && !settled {
						p.heard(at)
						next(p.w.between(0, 40*time.Millisecond))
						return
					}
					p.look()
					next(p.w.between(5*time.Millisecond, 100*time.Millisecond))
				})
			}})
		})
	})
	p.w.after(2*time.Second, func() {
		if !settled {
			p.look()
			next(0)
		}
	})
}

// heard takes an acknowledgement. A record that was sent after another was
// acknowledged stands behind it.
func (p *producer) heard(at record.Offset) {
	p.acked++
	if p.acked > 1 && at <= p.last {
		p.w.fail("producer %d: a record at %d was sent after one at %d was acknowledged", p.id, at, p.last)
	}
	p.last = at
}

// look asks who leads: some broker, which may be wrong.
func (p *producer) look() {
	b := p.w.brokers[p.w.roll(len(p.w.brokers))]
	if b.up && b.record.Leader > 0 {
		p.guess = replica.ID(b.record.Leader)
	} else {
		p.guess = 0
	}
}

// reader reads from whoever thinks that it leads.
type reader struct {
	w     *world
	at    record.Offset
	epoch record.LeaderEpoch
	end   record.Offset // the greatest high watermark told
}

func (r *reader) run() {
	r.w.after(r.w.between(20*time.Millisecond, 120*time.Millisecond), r.run)
	b := r.w.brokers[r.w.roll(len(r.w.brokers))]
	if !b.up || b.pausedUntil > r.w.now || b.failed || !b.lead.Leading() {
		return
	}
	// Whatever this reader knows: another may not.
	heard := func(id replica.ID) time.Duration { return b.heard[id] }
	if b.lead.Fresh(b.leaseClock(), lease, heard) || b.lead.Current(b.leaseClock(), lease, heard) {
		r.w.check.fresh(b)
	}
	end := b.lead.ReadableEnd()
	for r.at = max(r.at, b.log.start); r.at < end; r.at++ {
		r.w.check.reads(b, r.at, b.log.entries[r.at].value)
	}
	if b.lead.Epoch() < r.epoch || !b.lead.KnowsEnd() {
		return // it is told to wait, or knows better
	}
	if b.lead.HighWatermark() < r.end {
		r.w.fail("a reader saw the high watermark at %d in epoch %d, and at %d in epoch %d of broker %d",
			r.end, r.epoch, b.lead.HighWatermark(), b.lead.Epoch(), b.id)
	}
	r.epoch, r.end = b.lead.Epoch(), b.lead.HighWatermark()
}
