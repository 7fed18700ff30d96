package sim

import (
	"bytes"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/millstream-io/millstream/server/replica"
)

// event is something that happens at a time. Those of one time happen in the
// order in which they were made.
type event struct {
	at  time.Duration
	seq int
	do  func()
}

// agenda is a heap of events.
type agenda []event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(event)) }
func (a *agenda) Pop() any {
	old := *a
	e := old[len(old)-1]
	*a = old[:len(old)-1]
	return e
}

// world is a run.
type world struct {
	seed   uint64
	random *rand.Rand
	now    time.Duration
	seq    int
	agenda agenda
	trace  bytes.Buffer
	failed error // the first violation

	durability replica.Durability
	minISR     int
	mistake    Mistake
	brokers    []*broker // broker i has id i+1
	controller *controller
	net        *network
	check      *checker
	nemesis    *nemesis
	clients    []*producer
	calm       bool // the faults have stopped
}

// newWorld draws a cluster from the seed.
func newWorld(seed uint64, m Mistake) *world {
	w := &world{seed: seed, random: rand.New(rand.NewPCG(seed, 0x6d696c6c73747265)), mistake: m}
	replicas := 3 + 2*w.roll(2)
	w.minISR = 2
	switch w.roll(6) {
	case 0:
		w.minISR = 1
	case 1:
		w.minISR = replicas/2 + 1
	}
	if w.roll(3) == 0 {
		w.durability = replica.Memory
	}
	w.net = newNetwork(w, replicas+1)
	w.check = &checker{w: w, acker: map[int32]replica.ID{}, at: map[uint64]int{}}
	for i := range replicas {
		w.brokers = append(w.brokers, newBroker(w, replica.ID(i+1)))
	}
	w.controller = newController(w)
	w.nemesis = &nemesis{w: w}
	w.say("%d replicas, min ISR %d, durability %v", replicas, w.minISR, w.durability)
	return w
}

// run lets things happen until a time, or a violation.
func (w *world) run(until time.Duration) {
	for w.failed == nil && len(w.agenda) > 0 && w.agenda[0].at <= until {
		e := heap.Pop(&w.agenda).(event)
		w.now = e.at
		e.do()
	}
	if w.failed == nil {
		w.now = until
	}
}

// after makes something happen later.
func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.agenda, event{at: w.now + max(0, d), seq: w.seq, do: do})
}

// say writes a line of the history.
func (w *world) say(format string, args ...any) {
	fmt.Fprintf(&w.trace, "%12.6f ", w.now.Seconds())
	fmt.Fprintf(&w.trace, format, args...)
	w.trace.WriteByte('\n')
}

// fail ends the run.
func (w *world) fail(format string, args ...any) {
	if w.failed == nil {
		w.failed = fmt.Errorf(format, args...)
		w.say("VIOLATION: %v", w.failed)
	}
}

// roll draws one of n.
func (w *world) roll(n int) int { return w.random.IntN(n) }

// between draws a time.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.random.Int64N(int64(most-least)+1))
}

func (w *world) broker(id replica.ID) *broker { return w.brokers[id-1] }
