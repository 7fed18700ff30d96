package check

import (
	"testing"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// wait lets time pass before what follows.
func (s *tale) wait(d time.Duration) { s.later += int64(d) }

func (s *tale) mends(kind history.FaultKind, broker int32) {
	s.say(driver, history.Event{Kind: history.FaultEnd, Fault: &history.Fault{Kind: kind, Broker: broker}})
}

// tries has an append refused each five seconds, for a while.
func (s *tale) tries(op uint64, d time.Duration) {
	for ; d > 0; d -= 5 * time.Second {
		s.invoke(op, content(history.Digest(op)))
		s.say(client, history.Event{Kind: history.AppendFail, Op: op})
		s.wait(5 * time.Second)
		op++
	}
}

// A partition takes appends again within half a minute after what kept it from
// that was mended: all that was broken, or so much that min ISR of those in sync
// are there.
func TestAPartitionRecovers(t *testing.T) {
	const long = RecoveryMax + 10*time.Second
	for _, c := range []struct {
		name  string
		tell  func(s *tale)
		stuck bool
	}{
		{"at once", func(s *tale) {
			s.fault("kill", 1)
			s.tries(10, long)
			s.mends("kill", 1)
			s.wait(time.Second)
		}, false},
		{"in time", func(s *tale) {
			s.fault("kill", 1)
			s.mends("kill", 1)
			s.tries(10, RecoveryMax-5*time.Second)
		}, false},
		{"never, while it is broken", func(s *tale) {
			s.fault("kill", 1)
			s.tries(10, 2*long)
		}, false},
		{"late", func(s *tale) {
			s.fault("kill", 1)
			s.mends("kill", 1)
			s.tries(10, long)
		}, true},
		{"late, with one append under way since before", func(s *tale) {
			s.fault("kill", 1)
			s.invoke(10, content(10))
			s.mends("kill", 1)
			s.wait(long)
			s.say(client, history.Event{Kind: history.AppendUnknown, Op: 10})
		}, true},
		{"late, but nobody asked", func(s *tale) {
			s.fault("kill", 1)
			s.mends("kill", 1)
			s.wait(long)
		}, false},
		{"late, but something else broke meanwhile", func(s *tale) {
			s.fault("kill", 1)
			s.mends("kill", 1)
			s.tries(10, long/2)
			s.fault("kill-controller", 0)
			s.tries(30, time.Second)
			s.mends("kill-controller", 0)
			s.tries(40, long/2)
		}, false},
		{"late, and the same was made again, and ended once", func(s *tale) {
			s.fault("kill", 1)
			s.fault("kill", 1)
			s.mends("kill", 1)
			s.tries(10, long)
		}, true},
		{"never, with one of three in sync broken", func(s *tale) {
			s.leads(1, 1, history.MediumDisk, 1, 2, 3)
			s.fault("kill", 1)
			s.tries(10, long)
		}, true},
		{"never, with one of three broken again and again", func(s *tale) {
			s.leads(1, 1, history.MediumDisk, 1, 2, 3)
			for op := uint64(10); op < 60; op += 10 {
				s.fault("kill", 1)
				s.tries(op, 10*time.Second)
			}
		}, true},
		{"never, with two of three broken", func(s *tale) {
			s.leads(1, 1, history.MediumDisk, 1, 2, 3)
			s.fault("kill", 1)
			s.fault("pause", 2)
			s.tries(10, long)
		}, false},
		{"never, with one of three broken, and another not in sync", func(s *tale) {
			s.leads(1, 1, history.MediumDisk, 1, 2)
			s.fault("kill", 1)
			s.tries(10, long)
		}, false},
		{"late, once enough are in sync", func(s *tale) {
			s.leads(2, 2, history.MediumDisk, 1, 2)
			s.fault("kill", 1)
			s.tries(10, long)
			s.say(2, history.Event{Kind: history.ISR, Replica: &history.Replica{Epoch: 2, ISR: []int32{2, 3}, MinISR: 2, Medium: history.MediumDisk}})
			s.tries(30, long)
		}, true},
		{"never, and only an old leader says that enough are in sync", func(s *tale) {
			s.leads(2, 2, history.MediumDisk, 1, 2)
			s.fault("kill", 1)
			s.say(3, history.Event{Kind: history.ISR, Replica: &history.Replica{Epoch: 1, ISR: []int32{2, 3}, MinISR: 2, Medium: history.MediumDisk}})
			s.tries(10, long)
		}, false},
		{"never, with a controller broken", func(s *tale) {
			s.leads(1, 1, history.MediumDisk, 1, 2, 3)
			s.fault("kill", 0)
			s.tries(10, long)
		}, false},
		{"late, though nothing was ever broken", func(s *tale) { s.tries(10, long) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTale(t)
			s.invoke(1, content(1))
			s.ok(1, history.Ack{Epoch: 2})
			c.tell(s)
			s.invoke(100, content(100))
			s.wait(time.Millisecond)
			s.ok(100, history.Ack{Base: 1, Epoch: 2})
			got := judge(s.events).Result(R26)
			if stuck := got.Violated > 0; stuck != c.stuck {
				t.Errorf("stuck: %v; %+v", stuck, got.Violations)
			}
		})
	}
}
