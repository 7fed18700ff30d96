package replica

import (
	"testing"
	"time"
)

// leavingFor is the record by which a leader is to hand over.
func (a Assignment) leavingFor(id ID) Assignment {
	a.HandsOver, a.Successor = true, id
	return a
}

func TestALeaderHandsOverWhenNothingIsInFlight(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Disk, 1, 2, 3), progress(10, 10), 10)
	resume(t, &l, 2, progress(10, 10))
	resume(t, &l, 3, progress(10, 10))
	l.Advance(1, 1, progress(12, 10))
	if l.Leaving() {
		t.Fatal("it is leaving though nobody said so")
	}
	l.Confirm(three(1, Disk, 1, 2, 3).at(1).leavingFor(2))
	if !l.Leaving() || l.Quiet(0) {
		t.Fatal("it is not leaving")
	}
	now := time.Second
	ask := func(answered bool) (Proposal, bool) { return l.HandOver(now, answered) }
	for why, step := range map[string]func(){
		"nothing is on disk":    func() {},
		"only its own":          func() { l.Advance(1, 1, progress(12, 12)) },
		"one follower has all":  func() { say(t, &l, 2, progress(12, 12)) },
		"one is not on disk":    func() { say(t, &l, 3, progress(12, 11)) },
		"its successor is last": func() {},
	} {
		if step(); l.highWatermark < 12 {
			if p, ok := ask(true); ok {
				t.Fatalf("%s, and it asks for %+v", why, p)
			}
		}
	}
	say(t, &l, 2, progress(12, 12))
	say(t, &l, 3, progress(12, 12))
	if _, ok := ask(false); ok {
		t.Fatal("it asks before all is answered")
	}
	p, ok := ask(true)
	if !ok || !p.HandOver || p.Epoch != 1 || p.PartitionEpoch != 1 || len(p.InSync) != 0 || p.Until != time.Second+askFor {
		t.Fatalf("%+v, %v", p, ok)
	}
	if end, ok := l.Drained(); !ok || end != 12 {
		t.Fatalf("drained at %d, %v", end, ok)
	}
	// Its followers are told at once what is committed.
	if o, ok := l.Offer(2, from(0), now); !ok || o.HighWatermark != 12 {
		t.Errorf("offered is %+v, %v", o, ok)
	} else {
		l.Sent(2, o, o.From, 0, now)
	}
	// No answer: again, a little later; of a newer record at once.
	if _, ok := ask(true); ok {
		t.Error("it asks twice at once")
	}
	now += askEvery
	if _, ok := ask(true); !ok {
		t.Error("it does not ask again")
	}
	l.Confirm(three(1, Disk, 1, 2).at(2).leavingFor(2))
	if p, ok := ask(true); !ok || p.PartitionEpoch != 2 || p.Until != time.Second+askFor {
		t.Errorf("of a newer record: %+v, %v", p, ok)
	}
	// What was asked last may be written down still: nothing more is asked, and
	// nothing is taken.
	now = p.Until
	if p, ok := ask(true); ok || !l.Leaving() {
		t.Errorf("when its time is over it asks for %+v, leaving %v", p, l.Leaving())
	}
	// A controller that does not answer does not hold up the partition.
	now = time.Second + handOverFor
	if p, ok := ask(true); ok || l.Leaving() {
		t.Errorf("it goes on leaving: %+v", p)
	}
	l.Confirm(three(1, Disk, 1, 2, 3).at(3).leavingFor(2))
	if l.Leaving() {
		t.Error("it tries again at once")
	}
	l.Confirm(three(1, Disk, 1, 2, 3).at(4))
	l.Confirm(three(1, Disk, 1, 2, 3).at(5).leavingFor(2))
	if !l.Leaving() {
		t.Error("it is asked anew and does not leave")
	}
	l.Confirm(three(1, Disk, 1, 2, 3).at(6))
	if l.Leaving() {
		t.Error("it leaves though the wish was taken back")
	}
}

func TestALeaderIsNotLeavingWithoutASuccessorInSync(t *testing.T) {
	for why, a := range map[string]Assignment{
		"to itself":               three(1, Memory, 1, 2, 3).at(1).leavingFor(1),
		"to one who is not there": three(1, Memory, 1, 2, 3).at(1).leavingFor(9),
		"to one who lags":         three(1, Memory, 1, 2).at(1).leavingFor(3),
	} {
		l := New(1)
		l.Lead(three(1, Memory, 1, 2, 3), progress(0, 0), 0)
		l.Confirm(a)
		if _, ok := l.HandOver(time.Second, true); ok || l.Leaving() {
			t.Errorf("it hands over %s", why)
		}
	}
	l := New(1)
	l.Lead(three(1, Memory, 1, 2, 3).leavingFor(2), progress(0, 0), 0)
	if !l.Leaving() {
		t.Fatal("what is wished when it begins does not count")
	}
	l.Resign(2)
	if l.Leaving() {
		t.Error("it is leaving and leads no more")
	}
	l.Lead(three(3, Memory, 1, 2, 3), progress(0, 0), 0)
	if l.Leaving() {
		t.Error("it is leaving in the next epoch")
	}
}

// The high watermark is known from the epoch before, in which the successor led
// and wrote more.
func TestTheSuccessorHasNoMoreThanTheLeader(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Memory, 1, 2, 3).leavingFor(2), progress(10, 10), 10)
	if p, ok := l.HandOver(time.Second, true); ok {
		t.Fatalf("%+v, and nothing is known of the successor", p)
	}
	resume(t, &l, 2, progress(10, 10))
	if _, ok := l.HandOver(time.Second, true); !ok {
		t.Error("it does not hand over to one that has the same")
	}
	l.Close(2, 1)
	l.Confirm(three(1, Memory, 1, 2, 3).at(1).leavingFor(2))
	if p, ok := l.HandOver(time.Second, true); ok {
		t.Errorf("%+v, and the successor's session has ended", p)
	}
}

func TestALeavingLeaderProposesNobody(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Memory, 1, 2), progress(0, 0), 0)
	resume(t, &l, 3, progress(0, 0))
	l.Confirm(three(1, Memory, 1, 2).at(1).leavingFor(2))
	if p, ok := l.Tick(time.Second, lagMax, nil); ok {
		t.Errorf("%+v while it hands over", p)
	}
	l.Confirm(three(1, Memory, 1, 2).at(2))
	if p, ok := l.Tick(2*time.Second, lagMax, nil); !ok || len(p.InSync) != 3 {
		t.Errorf("%+v, %v afterwards", p, ok)
	}
}
