package mmap

import (
	"sync"
	"sync/atomic"
)

// Counts are the regions of this process.
type Counts struct {
	Regions int64 // not yet gone
	Mapped  int64 // of them, those with a mapping
	Bytes   int64 // address space of the mappings; more than the files hold
	Pending int64 // mappings without references that wait to be taken down
}

// live is a variable of the package because a process has one address space
// and the kernel one limit on its mappings (vm.max_map_count).
var live struct {
	regions, mapped, bytes, pending atomic.Int64
}

// Live returns the counts as of now, for metrics.
func Live() Counts {
	return Counts{
		Regions: live.regions.Load(), Mapped: live.mapped.Load(),
		Bytes: live.bytes.Load(), Pending: live.pending.Load(),
	}
}

// unmapper takes mappings down, one after the other: in parallel each would
// block a thread, and they would wait for one lock of the kernel.
//
// The queue is bounded by the number of mappings.
var unmapper struct {
	mu      sync.Mutex // guards queue and running
	queue   []*Region
	running bool
	// busy is locked while the goroutine runs. It is a mutex and not a channel
	// so that goroutines in different bubbles of testing/synctest can share
	// it. The goroutine unlocks it while it holds mu.
	busy sync.Mutex
}

// unmapLater hands over a region whose last reference went.
func unmapLater(r *Region) {
	live.pending.Add(1)
	unmapper.mu.Lock()
	defer unmapper.mu.Unlock()
	unmapper.queue = append(unmapper.queue, r)
	if !unmapper.running {
		unmapper.running = true
		unmapper.busy.Lock()
		go runUnmapper()
	}
}

func runUnmapper() {
	for r := nextToUnmap(); r != nil; r = nextToUnmap() {
		// A mapping that the kernel does not take down stays, and stays
		// counted: nobody has a reference to it, so nothing else is wrong.
		if r.unmap() == nil {
			live.bytes.Add(-r.length)
			live.mapped.Add(-1)
		}
		r.closeOwned()
		live.regions.Add(-1)
		live.pending.Add(-1)
	}
}

// nextToUnmap returns nil, and ends the goroutine's turn, if nothing is left.
func nextToUnmap() *Region {
	unmapper.mu.Lock()
	defer unmapper.mu.Unlock()
	if len(unmapper.queue) == 0 {
		unmapper.queue = nil
		unmapper.running = false
		unmapper.busy.Unlock()
		return nil
	}
	r := unmapper.queue[0]
	unmapper.queue[0] = nil
	unmapper.queue = unmapper.queue[1:]
	return r
}

// Settle waits until all regions whose last reference went are gone, and their
// files closed.
func Settle() {
	unmapper.busy.Lock()
	//nolint:staticcheck // Empty on purpose: to have had the lock is all.
	unmapper.busy.Unlock()
}
