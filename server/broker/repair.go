package broker

import (
	"slices"

	"github.com/millstream-io/millstream/server/metadata"
)

// A replica in which damage is found while others have its records is repaired
// from them, in three steps, each of which any later one waits for:
//
//  1. the controller is told, and counts on it no longer: another leads;
//  2. when the metadata says so, its log is moved to the trash, where it stays
//     as long as deleted ones do, however full the disk is;
//  3. it begins anew, as a follower without records, and is in sync again when
//     it has everything: batch by batch, each with its epoch, offset and CRC.
//
// INVARIANT: a log is moved away only while another broker leads the partition
// and this one is neither in sync nor eligible: nothing is counted on that is
// in it alone.

// counted tells whether the metadata counts on the replica of a broker.
func (w *wanted) counted(broker int32) bool {
	return w.part.Leader == broker || slices.Contains(w.part.ISR, broker) || slices.Contains(w.part.ELR, broker)
}

// others tells whether another than a broker has everything.
func (w *wanted) others(broker int32) bool {
	other := func(id int32) bool { return id != broker }
	return slices.ContainsFunc(w.part.ISR, other) || slices.ContainsFunc(w.part.ELR, other)
}

// mendable tells whether what is on the disk of a broker may be replaced by
// what the leader has.
func (w *wanted) mendable(broker int32) bool {
	return w.part.Leader != metadata.NoLeader && slices.Contains(w.part.Replicas, broker) && !w.counted(broker)
}

// damaged is told of damage in an open log.
func (b *Broker) damaged(l *localLog) {
	w, p := l.want.Load(), l.opened.Load()
	switch {
	case w.mendable(b.opts.ID):
		b.errand.add(func() { b.mend(l) })
	case w.counted(b.opts.ID) && w.others(b.opts.ID):
		b.doubtOpen(l, p)
	}
}

// auditGone tells that a log was moved to the trash.
func (b *Broker) auditGone(w *wanted) {
	if b.opts.AuditGone != nil {
		b.opts.AuditGone(w.topic.Name, w.part.ID)
	}
}

// mend lets a damaged replica begin anew. It does nothing if the metadata has
// changed its mind.
func (b *Broker) mend(l *localLog) {
	l.carrying.Lock()
	p := l.opened.Load()
	if !l.want.Load().mendable(b.opts.ID) || (p != nil && !p.Quarantined()) || b.failure.Load() != nil {
		l.carrying.Unlock()
		return
	}
	l.unlink(-1)
	if p != nil {
		_ = p.Close() // what is wrong with it is known
	}
	err := b.dir.quarantine(l.key, b.calendar.Now())
	if err == nil {
		err = b.dir.settle()
	}
	if err != nil {
		b.logger.Error("damaged log not moved away, and not repaired", "log", l.key.String(), "err", err)
		l.carrying.Unlock()
		return
	}
	l.mu.Lock()
	l.opened.Store(nil)
	l.carried.Store(nil)
	l.refused, l.doubted, l.told = nil, false, false
	l.mu.Unlock()
	l.carrying.Unlock()
	b.auditGone(l.want.Load())
	b.metrics.mended.Inc()
	b.logger.Warn("a damaged replica begins anew", "log", l.key.String(), "leader", l.want.Load().part.Leader)
	b.openInBackground(l)
}
