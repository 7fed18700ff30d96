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
	// Resigned says that a leadership has ended.
	Resigned(epoch record.LeaderEpoch)
	// Committed says what is known to be committed.
	Committed(epoch record.LeaderEpoch, highWatermark record.Offset)
	// Written and Synced say how far the log is.
	Written(end record.Offset)
	Synced(end record.Offset)
	// Truncated says that what the leader does not have was given up.
	Truncated(from, to record.Offset)
	// Started says that the first offset kept has moved.
	Started(start record.Offset)
}

// audited is what the auditor was told last.
type audited struct {
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
	if now.End > last.written {
		last.written = now.End
		p.auditor.Written(now.End)
	}
	if now.SyncedEnd > last.synced {
		last.synced = now.SyncedEnd
		p.auditor.Synced(now.SyncedEnd)
	}
	if start := p.log.Start(); start > last.start {
		last.start = start
		p.auditor.Started(start)
	}
	epoch, committed := o.core.Epoch(), o.core.HighWatermark()
	if o.up != nil {
		epoch, committed = o.follow.Epoch(), o.follow.HighWatermark()
	}
	if committed > last.committed {
		last.committed = committed
		p.auditor.Committed(epoch, committed)
	}
}

// auditCut tells the auditor of a truncation.
func (p *Partition) auditCut(from record.Offset) {
	if p.auditor == nil {
		return
	}
	now, last := p.progress(), &p.owner.audited
	p.auditor.Truncated(from, now.End)
	last.written, last.synced = now.End, min(last.synced, now.SyncedEnd)
	last.committed = min(last.committed, now.End)
}
