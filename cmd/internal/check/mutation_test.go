package check

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// story is a history of the model that is about to be doctored.
type story struct {
	*rand.Rand
	events []history.Event
}

// pick returns the index of one of the events that fit, or -1.
func (s *story) pick(fits func(e *history.Event) bool) int {
	var all []int
	for i := range s.events {
		if fits(&s.events[i]) {
			all = append(all, i)
		}
	}
	if len(all) == 0 {
		return -1
	}
	return all[s.IntN(len(all))]
}

// promised tells whether a batch was acknowledged at scope ISR, and when.
func (s *story) promised(b *history.Batch) (index int, ok bool) {
	for i := range s.events {
		e := &s.events[i]
		if e.Kind == history.AppendOK && e.Ack.Scope == history.ScopeISR && e.Ack.Base == b.Base {
			return i, true
		}
	}
	return 0, false
}

// edit lets a function change the batches of an event, which other events
// share.
func (s *story) edit(i int, change func([]history.Batch) []history.Batch) {
	s.events[i].Batches = change(slices.Clone(s.events[i].Batches))
}

// read changes the read of an event.
func (s *story) read(i int, change func(*history.Read)) {
	r := *s.events[i].Read
	change(&r)
	s.events[i].Read = &r
}

func (s *story) ack(i int, change func(*history.Ack)) {
	a := *s.events[i].Ack
	change(&a)
	s.events[i].Ack = &a
}

func (s *story) replica(i int, change func(*history.Replica)) {
	r := *s.events[i].Replica
	change(&r)
	s.events[i].Replica = &r
}

// metadata lets a function change what was told of the metadata in an event.
func (s *story) metadata(i int, change func(*history.Metadata)) {
	md := *s.events[i].Metadata
	md.Topics = slices.Clone(md.Topics)
	for j := range md.Topics {
		md.Topics[j].Settings = maps.Clone(md.Topics[j].Settings)
		md.Topics[j].Partitions = slices.Clone(md.Topics[j].Partitions)
	}
	change(&md)
	s.events[i].Metadata = &md
}

func (s *story) settings(i int, change func(*history.Settings)) {
	x := *s.events[i].Settings
	change(&x)
	s.events[i].Settings = &x
}

func (s *story) remove(i int) { s.events = slices.Delete(s.events, i, i+1) }

// add puts an event behind another, written by the same recorder.
func (s *story) add(after int, e history.Event) {
	e.Topic, e.At = "t", s.events[after].At
	s.events = slices.Insert(s.events, after+1, e)
}

// promisedFrame finds a frame or dump that has an acknowledged batch.
func (s *story) promisedFrame(fits func(*history.Event) bool) (frame, batch int) {
	frame = s.pick(func(e *history.Event) bool {
		return fits(e) && slices.ContainsFunc(e.Batches, func(b history.Batch) bool { _, ok := s.promised(&b); return ok })
	})
	if frame < 0 {
		return -1, 0
	}
	batch = slices.IndexFunc(s.events[frame].Batches, func(b history.Batch) bool { _, ok := s.promised(&b); return ok })
	return frame, batch
}

func isDrain(e *history.Event) bool { return e.Kind == history.ReadOK && e.Read.Reader == 9 }
func isRead(e *history.Event) bool  { return e.Kind == history.ReadOK && e.Read.Reader != 9 }
func isDump(e *history.Event) bool  { return e.Kind == history.LogDump }
func isPromise(e *history.Event) bool {
	return e.Kind == history.AppendOK && e.Ack.Scope == history.ScopeISR
}

// lastEpoch is the epoch of the last leader.
func (s *story) lastEpoch() (epoch int32) {
	for i := range s.events {
		if s.events[i].Kind == history.LeaderBegin {
			epoch = s.events[i].Replica.Epoch
		}
	}
	return epoch
}

// invoked finds where the append that an event completes was invoked.
func (s *story) invoked(op uint64) int {
	return slices.IndexFunc(s.events, func(e history.Event) bool { return e.Kind == history.AppendInvoke && e.Op == op })
}

// dropBatch takes a batch out of an event.
func dropBatch(i int) func([]history.Batch) []history.Batch {
	return func(b []history.Batch) []history.Batch { return slices.Delete(b, i, i+1) }
}

// mutation doctors a history; it returns false if there is nothing to doctor
// in this one.
type mutation struct {
	name string
	rule Rule
	do   func(s *story) bool
}

// doctor changes the event of an index, if there is one.
func doctor(i int, change func(i int)) bool {
	if i >= 0 {
		change(i)
	}
	return i >= 0
}

// TestEveryMutationIsCaught doctors histories of the model in every way of the
// table, and looks for the rule that has to see it.
func TestEveryMutationIsCaught(t *testing.T) {
	const times = 15 // histories that each mutation has to apply to
	covered := map[Rule]bool{}
	for _, m := range mutations() {
		covered[m.rule] = true
		t.Run(m.name, func(t *testing.T) {
			done := 0
			for seed := uint64(0); done < times; seed++ {
				if seed == 1000 {
					t.Fatalf("applies to %d of %d histories only", done, seed)
				}
				random := rand.New(rand.NewPCG(seed, 1))
				s := &story{random, newModel(random).run(250)}
				if !m.do(s) {
					continue
				}
				done++
				r := judge(s.events)
				if res := r.Result(m.rule); res.Violated == 0 || len(res.Violations[0].Events) == 0 && m.rule != Whole {
					explain(t, r)
					t.Fatalf("seed %d: not caught by %s", seed, m.rule)
				}
			}
		})
	}
	for _, d := range Rules() {
		if !covered[d.Rule] {
			t.Errorf("no mutation is for %s (%s)", d.Rule, d.Title)
		}
	}
}
