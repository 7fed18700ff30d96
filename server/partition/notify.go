package partition

import (
	"sync"
	"sync/atomic"

	"github.com/millstream-io/millstream/storage/record"
)

// Waiter is told that there may be more to read. Its dynamic type must be
// comparable: a pointer.
type Waiter interface {
	// Wake is called once for each armed Notify. It must not block, and may call
	// Notify and Cancel. It may come early, and once more after Cancel.
	Wake()
}

// waiters are the readers at the tail.
//
// WHY a slice: a publication usually wakes all of them, and cancelling 10,000
// one by one is 0.1 s in all. Publishing with nobody waiting is one load.
//
// Readers add and remove themselves; whoever publishes wakes. No waiter is
// missed: a reader counts itself before it looks at the end, a publisher
// stores the end before it looks at the count.
type waiters struct {
	count atomic.Int32 // len(list), stored under mu
	mu    sync.Mutex   // guards list; nothing else is done under it
	list  []waiting
}

type waiting struct {
	w    Waiter
	from record.Offset
}

// keptWaiters bounds the capacity that an empty list keeps.
const keptWaiters = 64

func (s *waiters) add(w Waiter, from record.Offset) {
	s.mu.Lock()
	s.list = append(s.list, waiting{w, from})
	s.count.Store(int32(len(s.list)))
	s.mu.Unlock()
}

// remove takes w out and tells whether it was there.
func (s *waiters) remove(w Waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.list {
		if s.list[i].w == w {
			last := len(s.list) - 1
			s.list[i] = s.list[last]
			s.list[last] = waiting{}
			s.shrink(last)
			return true
		}
	}
	return false
}

// take moves the waiters for offsets below end to out.
func (s *waiters) take(end record.Offset, out []Waiter) []Waiter {
	if s.count.Load() == 0 {
		return out
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := 0
	for _, e := range s.list {
		if e.from < end {
			out = append(out, e.w)
			continue
		}
		s.list[kept] = e
		kept++
	}
	clear(s.list[kept:])
	s.shrink(kept)
	return out
}

func (s *waiters) shrink(n int) {
	s.list = s.list[:n]
	if n == 0 && cap(s.list) > keptWaiters {
		s.list = nil
	}
	s.count.Store(int32(n))
}

// Notify arms w, once, for when a record at offset from can be read, or when
// the partition stops being readable here. It returns false, and does not arm,
// if that is so already. A waiter is armed at most once on a partition at a
// time.
func (p *Partition) Notify(w Waiter, from record.Offset) bool {
	return p.notify(w, from, func() error { return p.status.Load().unreadable() })
}

// Notify is that of the partition; a reader of a replica is also armed while
// this replica follows, and woken when it does not any more. No reader is armed
// behind a cut: it would wait for records of another history, at an offset that
// may never come, and nobody would tell it that its own are gone.
func (r *Reader) Notify(w Waiter, from record.Offset) bool { return r.p.notify(w, from, r.over) }

// over returns why the reader reads no further, or nil.
func (r *Reader) over() error {
	if r.Cut() {
		return &CutError{}
	}
	return r.unreadable()
}

func (p *Partition) notify(w Waiter, from record.Offset, unreadable func() error) bool {
	p.waiters.add(w, from)
	if p.readable.Load() <= int64(from) && unreadable() == nil {
		return true
	}
	// Whoever removes it owns it: if it is gone, Wake is on its way and the
	// caller was armed.
	return !p.waiters.remove(w)
}

// Cancel disarms w. A Wake that is under way may still arrive.
func (p *Partition) Cancel(w Waiter) { p.waiters.remove(w) }

// wakeAll wakes every waiter: the partition is not readable any more.
func (p *Partition) wakeAll() {
	for _, w := range p.waiters.take(endOfTime, nil) {
		w.Wake()
	}
}

// endOfTime is above every offset.
const endOfTime = record.Offset(1<<63 - 1)
