package sim

import (
	"fmt"
	"time"
)

const (
	stormy     = 30 * time.Second // with faults
	recovering = 30 * time.Second // the longest until something is acknowledged without (rule R26)
	settling   = 60 * time.Second // the longest that convergence may take without
)

// Mistake is a known mistake around the cores, for the test that shows that it
// would be found. The cores have their own: replica.Mutation.
type Mistake uint8

// The mistakes.
const (
	// NoMistake is none.
	NoMistake Mistake = iota
	// RetrySync lets a broker go on after a failed sync.
	RetrySync
	// TrustPageCache lets a new process believe that what the one before left
	// unsynced will get to the disk with the next sync.
	TrustPageCache
	// NoBrokerEpoch lets the controller take anybody's incarnation into the ISR.
	NoBrokerEpoch
	// AppendWhileLeaving lets a leader take records while it hands over.
	AppendWhileLeaving
	// LeaseByTimeOfDay lets a leader count by the time of day how long ago it has
	// heard its followers.
	LeaseByTimeOfDay
	// HeardWhenAnswered lets a leader take the time at which an answer came for
	// the time at which it asked.
	HeardWhenAnswered
	// SessionsByTimeOfDay lets the controller count by the time of day how long a
	// broker was silent.
	SessionsByTimeOfDay
)

// Result is what became of a run.
type Result struct {
	// Seed is the run's.
	Seed uint64
	// Acked is how many records were acknowledged.
	Acked int
	// Epochs is how many leader epochs there were.
	Epochs int
	// HandedOver is how often a leader was followed by whom it handed over to.
	HandedOver int
	// Stale is how often the controller has refused to take an incarnation into
	// the ISR that was gone by then.
	Stale int
	// Violation is what must not be, or nil.
	Violation error
	// History is everything that happened, a line each.
	History []byte
}

// Run runs a seed.
func Run(seed uint64, m Mistake) Result {
	w := newWorld(seed, m)
	for i := range 2 + w.roll(3) {
		p := &producer{w: w, id: i + 1}
		w.clients = append(w.clients, p)
		w.after(0, p.run)
	}
	for range 2 {
		w.after(0, (&reader{w: w}).run)
	}
	w.after(w.between(0, 3*time.Second), w.nemesis.strike)
	w.run(stormy)
	w.nemesis.calmDown()
	w.converge()
	return Result{
		Seed: seed, Acked: w.check.count, Epochs: int(w.controller.p.LeaderEpoch), HandedOver: w.check.handedOver,
		Stale: w.controller.stale, Violation: w.failed, History: w.trace.Bytes(),
	}
}

// converge waits until all is as it should be without faults: producers are
// acknowledged again, and when they stop all replicas are in sync and equal.
func (w *world) converge() {
	before := w.check.count
	deadline, acked := w.now+settling, w.now+recovering
	for w.failed == nil && w.check.count == before {
		if w.now > acked {
			w.fail("no acknowledgement %v after the last fault", recovering)
		}
		w.run(w.now + 500*time.Millisecond)
	}
	for _, p := range w.clients {
		p.stopped = true
	}
	for w.failed == nil {
		why := w.check.converged()
		if why == "" {
			w.check.holders("at the end")
			break
		}
		if w.now > deadline {
			w.fail("%s, %v after the last fault", why, settling)
		}
		w.run(w.now + 500*time.Millisecond)
	}
	w.say("%d records acknowledged, %d leader epochs", w.check.count, w.controller.p.LeaderEpoch)
}

// String says it in a line.
func (r Result) String() string {
	if r.Violation != nil {
		return fmt.Sprintf("seed %d: %v", r.Seed, r.Violation)
	}
	return fmt.Sprintf("seed %d: %d acknowledged, %d epochs, %d handed over", r.Seed, r.Acked, r.Epochs, r.HandedOver)
}
