package broker

import (
	"errors"
	"sync"
	"time"

	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/segment"
)

// Flusher runs the syncs of one log directory (rule S8): at most a fixed
// number at once, oldest first, with no added delay. What is written while a
// log is being synced is the next group of that log.
//
// WHY bounded: fdatasync holds a thread. A thousand partitions that sync for
// themselves hold a thousand threads and wait longer than sixteen do.
//
// INVARIANT: after a sync has failed no other is begun. One that could not be
// begun has not failed (endsDirectory).
//
// Goroutines: one per running sync, ended when nothing waits; Close waits.
type Flusher struct {
	most    int
	metrics *flusherMetrics
	failed  func(error) // told once, outside the lock

	mu      sync.Mutex // guards what follows; nothing else is done under it
	waiting []partition.Syncer
	first   int // index in waiting of the oldest
	running int
	cause   error // of the first failure

	workers sync.WaitGroup
	begin   func() // work, bound once: a sync costs no allocation
}

// NewFlusher returns a flusher that runs at most that many syncs at once.
// onFailure is told of the first failure, which is final; it must not block
// on the flusher.
func NewFlusher(most int, onFailure func(error)) *Flusher {
	return newFlusher(most, onFailure, newFlusherMetrics())
}

func newFlusher(most int, onFailure func(error), m *flusherMetrics) *Flusher {
	f := &Flusher{most: max(1, most), failed: onFailure, metrics: m}
	f.begin = f.work
	return f
}

// Submit asks for a sync and returns at once.
func (f *Flusher) Submit(s partition.Syncer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = append(f.waiting, s)
	f.metrics.waiting.Inc()
	if f.running < f.most {
		f.running++
		f.workers.Add(1)
		go f.begin()
	}
}

// Close waits for the syncs that were submitted.
func (f *Flusher) Close() { f.workers.Wait() }

// work syncs until nothing waits.
func (f *Flusher) work() {
	defer f.workers.Done()
	for {
		s, cause := f.next()
		if s == nil {
			return
		}
		if cause != nil {
			s.Abandon(cause)
			continue
		}
		begun := time.Now()
		f.metrics.running.Inc()
		err := s.Sync()
		f.metrics.running.Dec()
		f.metrics.took(time.Since(begun), err)
		if endsDirectory(err) {
			f.fail(err)
		}
	}
}

// endsDirectory tells whether what befell a log is final for its log directory
// (rule S6). It is, if a sync failed: nobody knows what is on the disk. It is
// not, if nothing was done (no descriptor, or the log is closed), or if a write
// could not be taken back, which is that log's own trouble (rule S9). An error
// that is none of these is taken for the worst.
func endsDirectory(err error) bool {
	if err == nil {
		return false
	}
	// First: a failure may have a refused write as its cause.
	if _, failed := errors.AsType[*commitlog.FailedError](err); failed {
		_, own := errors.AsType[*segment.RollbackError](err)
		return !own
	}
	return !wasRefused(err) && !errors.Is(err, commitlog.ErrClosed)
}

// next returns the oldest wish, and why it is to be abandoned, if it is. It
// returns nil when there is none; the worker is then no longer counted.
func (f *Flusher) next() (partition.Syncer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == len(f.waiting) {
		f.waiting, f.first = f.waiting[:0], 0
		f.running--
		return nil, nil
	}
	s := f.waiting[f.first]
	f.waiting[f.first] = nil
	if f.first++; f.first >= 1024 && f.first*2 >= len(f.waiting) {
		// A queue that never runs empty must not grow for ever.
		n := copy(f.waiting, f.waiting[f.first:])
		clear(f.waiting[n:])
		f.waiting, f.first = f.waiting[:n], 0
	}
	f.metrics.waiting.Dec()
	return s, f.cause
}

// fail ends the flusher: what waits is abandoned.
func (f *Flusher) fail(err error) {
	f.mu.Lock()
	was := f.cause
	if was == nil {
		f.cause = err
	}
	f.mu.Unlock()
	if was == nil && f.failed != nil {
		f.failed(err)
	}
}
