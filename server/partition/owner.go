package partition

import (
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// rouse makes sure that somebody looks at the mailbox.
//
// REQUIRES: mail.mu is held.
func (p *Partition) rouse() {
	m := &p.mail
	switch {
	case m.parked:
		m.parked = false
		p.wake <- struct{}{} // capacity 1, and empty while parked was set
	case !m.owned:
		m.owned = true
		p.run.Go(p.loop)
	}
}

// exclusively runs fn as the owner: at once if nobody owns the partition, else
// on the goroutine that does, before what is queued. It returns when fn has
// run.
func (p *Partition) exclusively(fn func()) {
	m := &p.mail
	m.mu.Lock()
	if m.owned {
		t := &task{run: fn, done: make(chan struct{})}
		m.tasks = append(m.tasks, t)
		if m.parked {
			p.rouse()
		}
		m.mu.Unlock()
		<-t.done
		return
	}
	m.owned = true
	m.mu.Unlock()
	fn()
	p.handOver()
	if !p.owner.syncing && !p.owner.closed {
		p.log.Idle()
	}
	for {
		m.mu.Lock()
		if m.idle() {
			m.owned = false
			m.mu.Unlock()
			return
		}
		if !p.owner.closed {
			p.run.Go(p.loop) // which inherits the ownership
			m.mu.Unlock()
			return
		}
		// Close waits, or has waited, for the goroutine: there is to be no other.
		m.mu.Unlock()
		if w, ok := p.take(); ok {
			p.do(&w)
		}
	}
}

// work is what the owner took from the mailbox.
type work struct {
	tasks []*task
	group queue
	ended bool // a sync
	end   syncEnd

	opens   []opening
	feeds   []*Feed
	arrived []arrival
	ticked  bool
	told    bool
	newer   record.LeaderEpoch
}

// loop is the partition's goroutine: it owns the partition until there has
// been nothing to do for a while.
func (p *Partition) loop() {
	timer := time.NewTimer(p.idleAfter)
	defer timer.Stop()
	for {
		w, ok := p.take()
		if ok {
			p.do(&w)
			continue
		}
		if !p.park(timer) {
			return
		}
	}
}

// take takes what is there: the tasks alone, else the end of a sync and one
// group.
//
// WHY tasks alone: a change of leadership goes before what is queued, so that
// it is refused and never written in the wrong epoch; and Close, which is a
// task, finds everything that was admitted before it in the queue.
func (p *Partition) take() (work, bool) {
	m := &p.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.tasks) > 0 {
		w := work{tasks: m.tasks}
		m.tasks = nil
		return w, true
	}
	if m.idle() {
		return work{}, false
	}
	w := work{ended: m.ended, end: m.end}
	m.ended, m.alarmed = false, false
	w.opens, m.opens = m.opens, nil
	// The room of the last time is used again: the owner has dealt with it.
	w.feeds, m.feeds, p.owner.roomFeeds = m.feeds, p.owner.roomFeeds[:0], m.feeds
	w.arrived, m.arrived, p.owner.roomArrived = m.arrived, p.owner.roomArrived[:0], m.arrived
	w.ticked, m.ticked = m.ticked, false
	w.told, w.newer, m.told = m.told, m.newer, false
	for n, bytes := 0, 0; !m.heldBack && !m.queued.empty() && n < groupRequests; n++ {
		if bytes += m.queued.head.size(); n > 0 && bytes > groupBytes {
			break
		}
		w.group.push(m.queued.pop())
	}
	return w, true
}

// park sleeps until there is work, and returns true. After a while without
// any it puts the log to rest, gives the ownership up and returns false.
//
// At MEMORY what is not on disk stays so, and its file open, until
// SyncInBackground: of thousands of partitions that are written to now and
// then, syncing each at every rest would take more than the writing does.
func (p *Partition) park(timer *time.Timer) bool {
	m := &p.mail
	m.mu.Lock()
	if !m.idle() {
		m.mu.Unlock()
		return true
	}
	if p.owner.closed {
		m.owned = false
		m.mu.Unlock()
		return false
	}
	m.parked = true
	m.mu.Unlock()

	timer.Reset(p.idleAfter)
	select {
	case <-p.wake:
		return true
	case <-timer.C:
	}
	m.mu.Lock()
	if !m.parked { // roused at the last moment
		m.mu.Unlock()
		<-p.wake
		return true
	}
	m.parked = false
	m.mu.Unlock()

	// Nobody else touches the log now: work that comes waits in the mailbox.
	switch {
	case p.owner.syncing:
		return true // its end will come
	case p.owner.stale:
		p.commit(true)
		return true
	case p.mustSync():
		p.sync()
		return true
	}
	p.log.Idle()
	p.owner.group, p.owner.woken, p.owner.roomFeeds, p.owner.roomArrived = nil, nil, nil, nil
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.idle() {
		return true
	}
	m.owned = false
	return false
}

// mustSync tells whether what is only in memory goes to disk before the
// partition rests: at DISK, where a sync that could not be begun left it, and
// where files have to be closed for others, which needs it.
//
// REQUIRES: the caller owns the partition.
func (p *Partition) mustSync() bool {
	return p.Unsynced() && p.writable() && (!p.atMemory() || p.log.Crowded())
}

// atMemory tells whether this replica, leader or follower, is asked for no more
// than to have records in memory.
func (p *Partition) atMemory() bool {
	o := &p.owner
	if o.up != nil {
		return o.follow.Durability() == replica.Memory
	}
	return o.core.Leading() && o.core.Asked() == replica.Memory
}

// do does what was taken.
func (p *Partition) do(w *work) {
	for _, t := range w.tasks {
		t.run()
		close(t.done)
	}
	if w.ended {
		p.syncEnded(w.end)
	}
	p.doStreams(w)
	if !w.group.empty() {
		p.append(&w.group)
	}
	p.pump()
	p.handOver()
	if s := p.status.Load(); s.failed != nil {
		p.abandon(s.failed)
		p.sever(replica.FailedLog)
	}
}

// doStreams does what streams between brokers ask for.
func (p *Partition) doStreams(w *work) {
	for i := range w.opens {
		p.openSession(&w.opens[i])
	}
	for i, f := range w.feeds {
		p.feedNoted(f)
		w.feeds[i] = nil
	}
	for i := range w.arrived {
		p.arrivedNow(&w.arrived[i])
	}
	clear(w.arrived) // it would keep their bytes
	if w.told {
		p.heardOf(w.newer)
	}
	if w.ticked {
		p.tick()
	}
	if len(w.feeds) > 0 || len(w.arrived) > 0 || w.ticked {
		p.commit(false)
	}
}

// sever ends all sessions, as leader and as follower.
func (p *Partition) sever(why replica.SessionError) {
	p.endFeeds(why, nobody)
	p.answerEarly(true)
	o := &p.owner
	p.obey(o.follow.Stop(max(o.follow.Epoch(), o.core.Epoch())))
	o.up = nil
	p.noteStream()
}

// awaitSync works on until no sync is under way.
//
// REQUIRES: the caller owns the partition.
func (p *Partition) awaitSync() {
	m := &p.mail
	for {
		if w, ok := p.take(); ok {
			p.do(&w)
			continue
		}
		if !p.owner.syncing {
			return
		}
		m.mu.Lock()
		if m.idle() {
			m.parked = true
			m.mu.Unlock()
			<-p.wake
			continue
		}
		m.mu.Unlock()
	}
}
