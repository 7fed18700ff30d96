package partition

import (
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// Auditor is told what a replica does, for a history that shows afterwards
// whether all promises were kept. It is told by the owner, before anybody can
// see the effect: what is written and synced before it is acked, what is
// committed before it is pushed or served, the end of a leadership after the
// last append. A broker without one pays nothing.
type Auditor interface {
	// Led says that a leadership begins; minInSync is the effective one.
	Led(a replica.Assignment, minInSync int, highWatermark record.Offset)
	// InSync says that the committed ISR, or a setting, is another.
	InSync(a replica.Assignment, minInSync int)
	// Heard says that another replica has opened a session with this one, that
	// leads, and how far it says it is: what it said before counts no longer.
	Heard(id replica.ID, epoch record.LeaderEpoch, has replica.Progress)
	// Resigned says that a leadership has ended.
	Resigned(epoch record.LeaderEpoch)
	// Committed says what is known to be committed.
	Committed(epoch record.LeaderEpoch, highWatermark record.Offset)
	// Written and Synced say how far the log is; also when it was opened, be it
	// empty.
	Written(end record.Offset)
	Synced(end record.Offset)
	// Truncated says that what the leader does not have was given up.
	Truncated(from, to record.Offset)
	// Started says that the first offset kept has moved.
	Started(start record.Offset)
}

// audited is what the auditor was told last.
type audited struct {
	opened                            bool
	written, synced, start, committed record.Offset
}

// audit tells the auditor what has changed. It runs as the owner, before what
// changed has an effect.
func (p *Partition) audit() {
	if p.auditor == nil {
		return
	}
	o, last := &p.owner, &p.owner.audited
	now := p.progress()
	if now.End > last.written || !last.opened {
		last.written = now.End
		p.auditor.Written(now.End)
	}
	last.opened = true
	if now.SyncedEnd > last.synced {
		last.synced = now.SyncedEnd
		p.auditor.Synced(now.SyncedEnd)
	}
	epoch, committed := o.core.Epoch(), o.core.HighWatermark()
	if o.up != nil {
		epoch, committed = o.follow.Epoch(), o.follow.HighWatermark()
	}
	if committed > last.committed {
		last.committed = committed
		p.auditor.Committed(epoch, committed)
	}
	if start := p.log.Start(); start > last.start {
		last.start = start
		p.auditor.Started(start)
	}
}

// auditCut tells the auditor of a truncation, before it is made: after kill -9
// the log may be cut already. Where it begins again above its end it is the log
// start that moves.
func (p *Partition) auditCut(from, to record.Offset) {
	if p.auditor == nil {
		return
	}
	last := &p.owner.audited
	if to > from {
		last.start = to
		p.auditor.Started(to)
		return
	}
	p.auditor.Truncated(from, to)
	last.written, last.synced = min(last.written, to), min(last.synced, to)
	last.committed = min(last.committed, to)
}
