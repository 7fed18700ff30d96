package partition

import (
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

// What a leader has written when it is deposed, and not acknowledged, is in
// limbo: it stays in the queue of what waits. If the new leader has it, that is
// found out soon: this replica follows, and hears that it is committed; then it
// is acknowledged as it would have been, for it is where it was, on every in-sync
// replica. So a planned change of leaders seldom leaves an unknown outcome.
//
// INVARIANT: what is in limbo is acknowledged only when a high watermark above
// it is known to hold for this log. What is cut was perhaps not lost for good:
// a third replica may have it and lead one day. Its outcome is unknown, as is
// that of what has waited for limboFor.

// limboFor is longer than a change of leaders takes.
const limboFor = 3 * time.Second

// enterLimbo refuses what is queued, and lets what is written wait.
func (p *Partition) enterLimbo(cause error) {
	o, m := &p.owner, &p.mail
	m.mu.Lock()
	q := m.queued
	m.queued = queue{}
	m.mu.Unlock()
	p.refuse(&q, cause)
	if o.pending.empty() || o.limbo != nil {
		return
	}
	o.limboCause, o.limboEnds = cause, p.uptime()+limboFor // before the tick that looks at it
	o.limbo = time.AfterFunc(limboFor, p.Tick)
}

// leaveLimbo ends the waiting: there is nothing left, or it is of a leader
// again.
func (p *Partition) leaveLimbo() {
	if o := &p.owner; o.limbo != nil {
		o.limbo.Stop()
		o.limbo, o.limboCause = nil, nil
	}
}

// endLimbo gives up what has waited long enough.
func (p *Partition) endLimbo() {
	o := &p.owner
	switch {
	case o.limbo == nil:
	case o.core.Leading() || o.pending.empty():
		p.leaveLimbo()
	case p.uptime() >= o.limboEnds:
		p.forsake(o.limboCause)
		p.leaveLimbo()
	}
}

// forsakeFrom gives up what is no longer in the log, which ends at end.
func (p *Partition) forsakeFrom(end record.Offset) {
	for r := p.owner.pending.head; r != nil; r = r.next {
		if r.Err == nil && r.end > end {
			r.fail(unknown(&NotLeaderError{Leader: p.owner.follow.Leader(), Epoch: p.owner.follow.Epoch()}))
		}
	}
}
