package partition

import (
	"context"
	"slices"
	"sync"

	"github.com/millstream-io/millstream/storage/record"
)

// mailbox is where others leave work for the owner of a partition.
//
// Anybody puts; the owner takes. Everything in it is guarded by mu, which is
// never held over I/O, a callback, a send that can block, or another lock.
type mailbox struct {
	mu sync.Mutex
	// owned says that somebody owns the partition: the goroutine, or a caller
	// for the length of one task.
	owned bool
	// parked says that the owner sleeps and waits for wake.
	parked bool

	queued queue // admitted, not taken yet
	// heldBack says that queued is left alone for now.
	heldBack bool
	tasks    []*task // in order
	// ended says that the sync that was submitted is over, end how.
	ended bool
	end   syncEnd
	// What streams between brokers left: wishes for sessions, at most one of a
	// follower; sessions of followers, each once; what has come from the leader,
	// within the credit that it was granted.
	opens   []opening
	feeds   []*Feed
	arrived []arrival
	ticked  bool
	// told says that newer has not been looked at: a leader epoch that a broker
	// knows of.
	told  bool
	newer record.LeaderEpoch
	// alarmed says that the partition failed: everything is to be answered.
	alarmed bool

	// heldRequests and heldBytes count what is admitted and not complete, and
	// what waiters have been granted.
	heldRequests, heldBytes int
	waiting                 []*admission // for room, oldest first
}

// task is a rare operation that needs the owner.
type task struct {
	run  func()
	done chan struct{} // closed by the owner
}

// syncEnd is how a sync ended.
type syncEnd struct {
	err       error
	abandoned bool // the directory failed before it began: err is why
}

// admission is an Append that waits for room.
type admission struct {
	bytes   int
	granted bool          // guarded by mailbox.mu
	refused error         // guarded by mailbox.mu
	ready   chan struct{} // closed when granted or refused
}

func (m *mailbox) fits(bytes int, l Limits) bool {
	return m.heldRequests == 0 || m.heldRequests < l.Requests && m.heldBytes+bytes <= l.Bytes
}

func (m *mailbox) hold(bytes int) {
	m.heldRequests++
	m.heldBytes += bytes
}

// release gives room back and lets waiters in, oldest first.
func (m *mailbox) release(requests, bytes int, l Limits) {
	m.heldRequests -= requests
	m.heldBytes -= bytes
	n := 0
	for n < len(m.waiting) && m.fits(m.waiting[n].bytes, l) {
		a := m.waiting[n]
		m.hold(a.bytes)
		a.granted = true
		close(a.ready)
		n++
	}
	clear(m.waiting[:n])
	if m.waiting = m.waiting[n:]; len(m.waiting) == 0 {
		m.waiting = nil
	}
}

// idle tells whether there is nothing for the owner.
func (m *mailbox) idle() bool {
	return (m.queued.empty() || m.heldBack) && len(m.tasks) == 0 && !m.ended && !m.alarmed &&
		len(m.opens) == 0 && len(m.feeds) == 0 && len(m.arrived) == 0 && !m.ticked && !m.told
}

// Append admits a request. It blocks while the mailbox is full, and fails
// with the cause of ctx, *NotLeaderError, *FailedError, *QuarantinedError,
// *TimestampError or ErrClosed. After nil, Complete is called exactly once.
//
// Requests of one caller are appended in the order of its calls.
func (p *Partition) Append(ctx context.Context, r *Request) error {
	if err := p.checkTime(r); err != nil {
		return err
	}
	m, bytes := &p.mail, r.size()
	m.mu.Lock()
	if err := p.refusal(); err != nil {
		m.mu.Unlock()
		return err
	}
	if len(m.waiting) == 0 && m.fits(bytes, p.limits) {
		m.hold(bytes)
	} else if err := p.awaitRoom(ctx, bytes); err != nil {
		m.mu.Unlock()
		return err
	}
	r.Err, r.Medium, r.InSync = nil, 0, 0
	m.queued.push(r)
	p.rouse()
	m.mu.Unlock()
	return nil
}

// awaitRoom waits until the request has its room, or will never get it.
//
// REQUIRES and ENSURES: mail.mu is held; it is released meanwhile.
func (p *Partition) awaitRoom(ctx context.Context, bytes int) error {
	m := &p.mail
	a := &admission{bytes: bytes, ready: make(chan struct{})}
	m.waiting = append(m.waiting, a)
	m.mu.Unlock()
	var gaveUp error
	select {
	case <-a.ready:
	case <-ctx.Done():
		gaveUp = context.Cause(ctx)
	}
	m.mu.Lock()
	switch refused := p.refusal(); {
	case a.refused != nil:
		return a.refused
	case !a.granted:
		m.forget(a)
		return gaveUp
	case refused != nil:
		m.release(1, bytes, p.limits)
		return refused
	case gaveUp != nil:
		m.release(1, bytes, p.limits)
		return gaveUp
	}
	return nil
}

// forget takes an admission out of the line.
func (m *mailbox) forget(a *admission) {
	if i := slices.Index(m.waiting, a); i >= 0 {
		m.waiting = slices.Delete(m.waiting, i, i+1)
	}
}

// turnAway refuses all who wait for room.
func (m *mailbox) turnAway(err error) {
	for _, a := range m.waiting {
		a.refused = err
		close(a.ready)
	}
	m.waiting = nil
}
