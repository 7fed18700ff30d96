package partition

import (
	"errors"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// Everything in this file runs as the owner.

// append writes a group, and publishes and answers what needs no sync.
func (p *Partition) append(q *queue) {
	if p.keepOrder(q); q.empty() {
		return
	}
	o, s := &p.owner, p.status.Load()
	err := s.impaired()
	switch in, need := o.core.InSync(), o.core.EffectiveMinInSync(); {
	case o.closed:
		err = ErrClosed
	case err != nil:
	case s.damaged != nil:
		err = s.damaged
	case in < need:
		err = &NotEnoughReplicasError{InSync: in, Required: need}
	}
	if err != nil {
		p.refuse(q, err)
		return
	}
	appendTime := p.settings.Load().AppendTime
	o.group = o.group[:0]
	records, bytes := 0, 0
	for r := q.head; r != nil; r = r.next {
		r.batch = commitlog.Batch{Pieces: r.Batch, Summary: r.Summary, Attributes: r.Attributes.WithCompression(r.Summary.Compression)}
		if appendTime {
			r.batch.Attributes |= record.AppendTime
		}
		o.group = append(o.group, &r.batch)
		records += int(r.Summary.Records)
		bytes += r.Summary.Bytes
	}
	if err := p.log.Append(o.group, o.core.Epoch(), o.core.HighWatermark()); err != nil {
		p.written(q) // the first ones may be
		p.appendFailed(q, err)
	} else {
		p.observer.Appended(len(o.group), records, bytes)
		p.written(q)
	}
	p.advance()
	p.pump() // followers get it before the own sync has ended
	p.commit(false)
}

// advance tells the core how far the log is, and syncs it if somebody waits
// for that, or if much is only in memory: a topic at MEMORY would otherwise
// have all of a segment to sync when it is rolled.
func (p *Partition) advance() {
	o := &p.owner
	if o.up != nil {
		p.obey(o.follow.Synced(p.progress()))
		p.syncFollowed() // what came meanwhile: nothing else may come
		return
	}
	if o.core.Replicated() {
		p.restless.Store(true)
	}
	if o.core.Advance(p.self, o.core.Epoch(), p.progress()).NeedSync || p.log.SyncDue() {
		p.sync()
	}
}

func (p *Partition) progress() replica.Progress {
	// In this order: a sync may move both.
	synced := p.log.SyncedEnd()
	return replica.Progress{End: p.log.End(), SyncedEnd: synced}
}

// written takes from q what the log took, and notes where it is. What nobody
// waits for is done; the rest waits for its acknowledgement.
func (p *Partition) written(q *queue) {
	o := &p.owner
	var freed tally
	for !q.empty() && q.head.batch.Appended {
		r := q.pop()
		r.Base, r.Epoch = r.batch.BaseOffset, o.core.Epoch()
		r.end = r.Base + record.Offset(r.Summary.Records)
		if r.Acks != AcksNone {
			o.pending.push(r)
			continue
		}
		freed.add(r)
		p.complete(r)
	}
	p.release(freed)
}

// commit writes the checkpoint, publishes the ends and answers what they
// cover, in this order (rule S2). It does nothing if nothing is new, unless
// forced.
func (p *Partition) commit(force bool) {
	o, s := &p.owner, p.status.Load()
	if s.failed != nil {
		return // rule S6: nothing is acknowledged any more
	}
	p.audit()
	readable := p.readableEnd()
	advanced := int64(readable) > p.readable.Load()
	answers := !o.pending.empty() && p.covered(o.pending.head)
	if !advanced && !answers && !force && !o.stale && !o.ackDue {
		return
	}
	// A log that recovery found damaged is not written to; what it has may be
	// read.
	if p.log.Failed() == nil || s.damaged == nil {
		if err := p.log.StoreCheckpoint(); err != nil {
			p.checkpointFailed(err)
			// What the checkpoint of before covers can be read, or a disk that
			// became read-only could not be read after a restart.
			if known := min(readable, p.log.RecoveredEnd()); int64(known) > p.readable.Load() {
				p.publish(known)
			}
			return
		}
	}
	o.stale = false
	if o.ackDue && o.up != nil {
		o.up.Ack(o.ack)
	}
	o.ackDue = false
	if advanced {
		p.publish(readable)
	}
	var freed tally
	inSync, medium := uint32(o.core.InSync()), mediumOf(o.core.Durability())
	if o.up != nil {
		inSync, medium = o.inSync, mediumOf(o.follow.Durability())
	}
	for !o.pending.empty() && p.covered(o.pending.head) {
		r := o.pending.pop()
		if r.Err == nil {
			r.InSync, r.Medium = inSync, medium
		}
		freed.add(r)
		p.complete(r)
	}
	p.release(freed)
}

// readableEnd is the end of what may be read here.
func (p *Partition) readableEnd() record.Offset {
	if o := &p.owner; o.up != nil {
		return o.follow.ReadableEnd()
	}
	return p.owner.core.ReadableEnd()
}

// publish moves the readable end and wakes who waits for it.
func (p *Partition) publish(end record.Offset) {
	o := &p.owner
	p.readable.Store(int64(end))
	o.woken = p.waiters.take(end, o.woken[:0])
	for i, w := range o.woken {
		o.woken[i] = nil
		w.Wake()
	}
}

// covered tells whether what the request waits for has come. One that was
// refused waits only for those before it.
func (p *Partition) covered(r *Request) bool {
	if r.Err != nil {
		return true
	}
	o := &p.owner
	switch {
	case o.up != nil: // in limbo
		return r.end <= o.follow.HighWatermark()
	case r.Acks == AcksLeader:
		return r.end <= o.core.OwnAckEnd()
	}
	return r.end <= o.core.HighWatermark()
}

// tally counts what complete requests held in the mailbox.
type tally struct{ requests, bytes int }

func (t *tally) add(r *Request) {
	t.requests++
	t.bytes += r.size()
}

// complete hands a request back. The request is not ours afterwards.
func (p *Partition) complete(r *Request) {
	r.batch = commitlog.Batch{}
	r.Done.Complete(r)
}

func (p *Partition) release(t tally) {
	if t.requests == 0 {
		return
	}
	m := &p.mail
	m.mu.Lock()
	m.release(t.requests, t.bytes, p.limits)
	m.mu.Unlock()
}

// refuse answers all requests of a queue with an error, behind the requests
// that still wait: the answers of a partition come in order.
func (p *Partition) refuse(q *queue, err error) {
	o := &p.owner
	var freed tally
	for !q.empty() {
		r := q.pop()
		r.fail(err)
		if !o.pending.empty() && r.Acks != AcksNone {
			o.pending.push(r)
			continue
		}
		freed.add(r)
		p.complete(r)
	}
	p.release(freed)
}

// forsake answers all that wait with an unknown outcome, but for those that
// were refused already.
func (p *Partition) forsake(cause error) {
	o := &p.owner
	if o.pending.empty() {
		return
	}
	err := unknown(cause)
	var freed tally
	for !o.pending.empty() {
		r := o.pending.pop()
		if r.Err == nil {
			r.fail(err)
		}
		freed.add(r)
		p.complete(r)
	}
	p.release(freed)
}

// appendFailed answers a group that the log did not take.
func (p *Partition) appendFailed(q *queue, err error) {
	p.observer.AppendFailed(len(p.owner.group), err)
	failed, ok := errors.AsType[*commitlog.FailedError](err)
	if !ok { // surely not written; the log is as it was
		p.refuse(q, err)
		return
	}
	p.refuse(q, unknown(failed))
	p.observer.LogFailed(failed)
	p.Fail(failed)
}

// checkpointFailed keeps everything back that the checkpoint should precede.
// If the file system refused it, the next commit tries again; else the log has
// failed.
func (p *Partition) checkpointFailed(err error) {
	p.owner.stale = true
	if harmless(err) {
		p.logger.Warn("checkpoint not written", "err", err)
		p.forsake(err)
		return
	}
	p.observer.LogFailed(err)
	p.Fail(err)
	p.forsake(err)
}

// abandon answers everything that is here: what is written with an unknown
// outcome, what is not with the cause.
func (p *Partition) abandon(cause error) {
	p.forsake(cause)
	m := &p.mail
	m.mu.Lock()
	q := m.queued
	m.queued = queue{}
	m.mu.Unlock()
	p.refuse(&q, cause)
}

// sync submits the log to the flusher unless it is there already: what is
// written meanwhile is the next group.
func (p *Partition) sync() {
	if p.owner.syncing || !p.writable() {
		return
	}
	p.owner.syncing = true
	p.flusher.Submit((*syncer)(p))
}

// syncer is the partition as the flusher sees it.
type syncer Partition

// Sync syncs the log. The outcome returns through the mailbox.
func (s *syncer) Sync() error {
	p := (*Partition)(s)
	_, err := p.log.Sync()
	p.synced(syncEnd{err: err})
	return err // the flusher decides what it means for the directory
}

// Abandon says that the directory has failed.
func (s *syncer) Abandon(cause error) { (*Partition)(s).synced(syncEnd{err: cause, abandoned: true}) }

func (p *Partition) synced(e syncEnd) {
	m := &p.mail
	m.mu.Lock()
	m.ended, m.end = true, e
	p.rouse()
	m.mu.Unlock()
}

// syncEnded publishes and answers what a sync covers.
func (p *Partition) syncEnded(e syncEnd) {
	o := &p.owner
	o.syncing = false
	if e.err != nil {
		p.syncFailed(e)
		return
	}
	o.unsyncable = false
	p.advance() // before the answers, which cost time
	p.commit(true)
}

// syncFailed says what it means that a sync did not come about. If it failed,
// so has the partition (rule S6). If it was not begun, for want of a
// descriptor, nothing is lost: the synced end stays where it is, so at DISK
// nothing of what waits is covered, and it is answered with an unknown outcome
// rather than kept waiting for a descriptor. The next group syncs it, or the
// owner before it rests (park), a while later.
//
// At MEMORY nobody waits for a sync of this broker.
func (p *Partition) syncFailed(e syncEnd) {
	o := &p.owner
	if e.abandoned || !harmless(e.err) {
		p.Fail(e.err)
		return
	}
	if !o.unsyncable {
		o.unsyncable = true // said once, until one succeeds
		p.logger.Warn("log not synced, and tried again", "err", e.err)
	}
	if o.core.Durability() == replica.Disk {
		p.forsake(e.err)
	}
}
