package watchfs

import (
	"errors"
	"io/fs"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/storage/vfs"
)

const (
	// slots is how many calls are watched at a time while they last. What goes
	// beyond counts when it ends.
	slots = 128
	// syncRate is what any disk syncs a second, in bytes: a sync of much is not
	// slow because it takes the time for that.
	syncRate = 32 << 20
)

// Meter says how long writes and syncs take, and how they fail. Its methods may
// be called from any goroutine. It costs two readings of the clock and a few
// atomic operations for each call of the system.
type Meter struct {
	began time.Time

	// under has, for each call under way, since when it takes longer than it must,
	// in nanoseconds since began, plus one; 0: the slot is free.
	under [slots]atomic.Int64
	next  atomic.Uint32 // where a free slot is looked for first

	failed [kinds]atomic.Pointer[error]

	mu    sync.Mutex // guards ended; nothing else is done under it
	ended tally
}

// tally is of the calls that ended since Take.
type tally struct {
	calls int
	// sum is of the times that they took, squares of the squares of those, in
	// microseconds.
	sum, squares uint64
}

// The kinds of failures that say something of the disk.
const (
	full = iota
	readOnly
	broken
	kinds
)

// Sample is what was seen since the one before.
type Sample struct {
	// Calls that ended, or are under way.
	Calls int
	// Delay is how long the calls took: what somebody had to wait for who came at
	// any time at which one was under way, so that quick ones do not hide those
	// that stop everybody; at least the age of the oldest that is under way.
	Delay time.Duration
	// Full is an error of a disk without room, ReadOnly one of a file system that
	// cannot be written to, Broken any other error of the disk; nil: there was
	// none.
	Full, ReadOnly, Broken error
}

// NewMeter returns a meter that has seen nothing.
func NewMeter() *Meter { return &Meter{began: time.Now()} }

// Take returns what was seen since it was last called.
func (m *Meter) Take() Sample {
	m.mu.Lock()
	ended := m.ended
	m.ended = tally{}
	m.mu.Unlock()
	s := Sample{Calls: ended.calls}
	if ended.sum > 0 {
		s.Delay = time.Duration(ended.squares/ended.sum) * time.Microsecond
	}
	now := int64(time.Since(m.began))
	for i := range m.under {
		if since := m.under[i].Load(); since != 0 {
			s.Calls++
			s.Delay = max(s.Delay, time.Duration(now-since+1))
		}
	}
	take := func(kind int) error {
		if err := m.failed[kind].Swap(nil); err != nil {
			return *err
		}
		return nil
	}
	s.Full, s.ReadOnly, s.Broken = take(full), take(readOnly), take(broken)
	return s
}

// call is one under way.
type call struct {
	since int64 // when it takes longer than it must
	slot  int   // -1: it has none
}

// begin notes a call that may take a while.
func (m *Meter) begin(allowed time.Duration) call {
	c := call{since: int64(time.Since(m.began) + allowed), slot: -1}
	at := m.next.Add(1)
	for i := range uint32(slots) {
		n := int((at + i) % slots)
		if m.under[n].CompareAndSwap(0, c.since+1) {
			c.slot = n
			break
		}
	}
	return c
}

// end notes that it has ended.
func (m *Meter) end(c call, err error) {
	took := uint64(max(0, int64(time.Since(m.began))-c.since)) / uint64(time.Microsecond)
	if c.slot >= 0 {
		m.under[c.slot].Store(0)
	}
	m.mu.Lock()
	m.ended.calls++
	m.ended.sum += took
	m.ended.squares += took * took
	m.mu.Unlock()
	if err != nil && !errors.Is(err, fs.ErrClosed) && !vfs.IsTooManyFiles(err) {
		m.fail(err, broken)
	}
}

// fail notes an error of a call; other is what it stands for if it says neither
// that the disk is full nor that it is read-only: kinds, nothing.
func (m *Meter) fail(err error, other int) {
	switch {
	case vfs.IsFull(err):
		other = full
	case vfs.IsReadOnly(err):
		other = readOnly
	case errors.Is(err, syscall.EIO):
		other = broken
	}
	if other < kinds {
		m.failed[other].Store(&err)
	}
}
