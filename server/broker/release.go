package broker

import (
	"slices"

	"github.com/millstream-io/millstream/server/metadata"
)

// released tells whether what the metadata says of a partition lets a broker
// give its log up: others hold it, and one of them leads with enough of them in
// sync. That the metadata has no such partition says nothing (rule S5).
func (w *wanted) released(broker int32) bool {
	return !slices.Contains(w.part.Replicas, broker) && len(w.part.Replicas) > 0 &&
		w.part.Leader != metadata.NoLeader && len(w.part.ISR) >= w.part.EffectiveMinISR()
}

// release moves the log of a partition that was moved away to the trash, if
// the metadata says so then still. It is asked again with each change of the
// partition, and at each start.
func (b *Broker) release(w *wanted) {
	if !w.released(b.opts.ID) {
		return
	}
	b.errand.add(func() { b.giveUp(keyOf(w.topic.ID, w.part.ID)) })
}

// stillReleased returns what the metadata says now, if it still lets the log
// go.
func (b *Broker) stillReleased(k logKey) (*wanted, bool) {
	s := b.mirror.Current()
	t := s.TopicByID(metadata.TopicID(k.topic))
	if t == nil || !b.current(s.Generation) {
		return nil, false // deleted meanwhile, or of another generation: not for this reason
	}
	if b.found.unclaimed(k) {
		return nil, false // who leads now did not know of it
	}
	now := &wanted{s.Generation, t, t.Partition(uint32(k.partition))}
	return now, now.part != nil && now.released(b.opts.ID)
}

// giveUp moves a log to the trash.
func (b *Broker) giveUp(k logKey) {
	now, ok := b.stillReleased(k)
	if !ok {
		return
	}
	// WHY the log stays in the table meanwhile: should the partition come back,
	// nobody is to open the directory that is being moved.
	b.logs.Lock()
	l := b.logs.byKey[k]
	if l == nil {
		l = &localLog{b: b, key: k}
		l.want.Store(now)
		b.logs.byKey[k] = l
	}
	b.logs.Unlock()
	if err := l.close(); err != nil {
		b.logger.Warn("log that was moved away not closed in order", "log", k.String(), "err", err)
	}
	err := b.dir.discard(k, b.calendar.Now(), false)
	if err == nil {
		err = b.dir.settle()
	}
	if err != nil {
		b.logger.Error("log that was moved away not moved to the trash", "log", k.String(), "err", err)
	} else {
		b.auditGone(now)
		b.logger.Info("partition moved away", "topic", now.topic.Name, "partition", now.part.ID, "replicas", now.part.Replicas)
	}
	b.logs.Lock()
	delete(b.logs.byKey, k)
	b.logs.Unlock()
	if now, _ := b.stillReleased(k); now != nil && now.part != nil && slices.Contains(now.part.Replicas, b.opts.ID) {
		if l := b.ensure(now); l != nil {
			b.openInBackground(l)
		}
	}
}
