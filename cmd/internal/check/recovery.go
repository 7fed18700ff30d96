package check

import (
	"slices"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// RecoveryMax is how long a partition may take no append once nothing that is
// broken keeps it from that. A broker that is gone is followed within some five
// seconds, and a machine that is busy multiplies that: what takes longer than
// this is stuck.
const RecoveryMax = 30 * time.Second

// troubles are the faults that were made and are not over.
type troubles struct {
	open map[history.Fault]bool
	ever bool // there was one
}

// take takes a fault that begins or ends, and tells whether that changed what is
// broken.
func (t *troubles) take(e *history.Event) bool {
	f := *e.Fault
	if f.Kind == history.FaultOff { // it follows another, and ends with that
		return false
	}
	begins := e.Kind == history.FaultBegin
	if t.open[f] == begins {
		return false
	}
	if t.open == nil {
		t.open = map[history.Fault]bool{}
	}
	t.ever = true
	if begins {
		t.open[f] = true
	} else {
		delete(t.open, f)
	}
	return true
}

// spare tells whether what is broken leaves enough for a partition to go on:
// nothing is, or brokers alone, and min ISR of those in sync are none of them.
func (t *troubles) spare(isr []int32, minISR uint32) bool {
	if len(t.open) == 0 {
		return true
	}
	hit := map[int32]bool{}
	for f := range t.open {
		hit[f.Broker] = true
	}
	if hit[0] { // a controller, or everything
		return false
	}
	left := 0
	for _, id := range isr {
		if !hit[id] {
			left++
		}
	}
	return left >= max(1, int(minISR))
}

// recovery is whether a partition takes appends again after something broke or
// was mended.
type recovery struct {
	scribe
	epoch  int32 // of the leader that said what follows
	isr    []int32
	minISR uint32

	owed    bool // it has to take appends
	waiting bool // since it has, or since what is broken changed, none was acknowledged
	since   mark // when that was; n is a time
	tried   mark // the first append since one was acknowledged
}

// settings takes what a leader says of the partition.
func (r *recovery) settings(e *history.Event, t *troubles) {
	if e.Replica.Epoch < r.epoch {
		return
	}
	r.epoch, r.isr, r.minISR = e.Replica.Epoch, slices.Clone(e.Replica.ISR), e.Replica.MinISR
	if t.ever && t.spare(r.isr, r.minISR) != r.owed {
		r.begin(e, t)
	}
}

// begin takes that something broke or was mended.
func (r *recovery) begin(e *history.Event, t *troubles) {
	r.owed = t.spare(r.isr, r.minISR)
	r.waiting, r.since = r.owed, mark{e.T, e.At}
}

// try takes that an append is asked for, or has failed, or nobody knows.
func (r *recovery) try(e *history.Event) {
	if r.tried.at.Line == 0 {
		r.tried = mark{e.T, e.At}
	}
	r.late(e)
}

// acknowledged takes an acknowledgement.
func (r *recovery) acknowledged(e *history.Event) {
	if e.Ack.Scope == history.ScopeNone {
		return
	}
	if r.late(e); r.waiting {
		r.judged(R26)
		r.waiting = false
	}
	r.tried = mark{}
}

// late looks how long nothing was acknowledged, though it was asked for.
func (r *recovery) late(e *history.Event) {
	if !r.waiting || r.tried.at.Line == 0 {
		return
	}
	from := r.since
	from.raise(r.tried.n, r.tried.at)
	if took := time.Duration(e.T - from.n); took > RecoveryMax {
		r.waiting = false
		r.violated(R26, at(r.since.at, r.tried.at, e.At), "no append was acknowledged for %v, and nothing that is broken was in the way", took.Round(time.Millisecond))
	}
}
