package slowdisk

import (
	"testing"
	"time"
)

const (
	quick = 3 * time.Millisecond
	slow  = 300 * time.Millisecond
	limit = 100 * time.Millisecond
)

func TestOnlyTheLastLooksCount(t *testing.T) {
	l := Looks{Count: 3, Limit: limit}
	if got := l.Delay(0); got != 0 {
		t.Errorf("nothing is known, and the delay is %v", got)
	}
	now := time.Duration(0)
	for i, want := range []struct {
		delay, median time.Duration
		slow          int
	}{
		{slow, slow, 1}, {slow, slow, 2}, {quick, slow, 2}, {quick, quick, 1}, {quick, quick, 0}, {limit, quick, 1},
	} {
		now += time.Second
		l.Add(now, want.delay)
		if n, median := l.Slow(now), l.Delay(now); n != want.slow || median != want.median {
			t.Errorf("look %d: %d slow, median %v; want %d, %v", i, n, median, want.slow, want.median)
		}
	}
	if got := l.Slow(now + kept); got != 1 {
		t.Errorf("%v later %d looks are slow", kept, got)
	}
	if n, delay := l.Slow(now+kept+1), l.Delay(now+kept+1); n != 0 || delay != 0 {
		t.Errorf("later %d looks are slow, median %v", n, delay)
	}
}

func TestWithoutALimitNothingIsSlow(t *testing.T) {
	l := Looks{Count: Most}
	for range Most {
		l.Add(0, time.Hour)
	}
	if n, delay := l.Slow(0), l.Delay(0); n != 0 || delay != time.Hour {
		t.Errorf("%d looks are slow, median %v", n, delay)
	}
}

// Trouble ends when the disk has shown for the whole of a hold that it is well,
// and each spell that comes soon after another has twice the hold.
func TestTroubleEndsWhenTheDiskHasShownIt(t *testing.T) {
	var s Spell
	now := time.Hour
	if s.See(now, false, true) {
		t.Fatal("there was no trouble")
	}
	for i, hold := range []time.Duration{1, 2, 4, 8, 16, 16} {
		hold *= WellFor
		if !s.See(now, true, false) {
			t.Fatalf("spell %d: there is trouble", i)
		}
		now += hold - 1
		if !s.See(now, false, true) {
			t.Errorf("spell %d: it ended after less than %v", i, hold)
		}
		if s.See(now, false, false); !s.See(now+hold-1, false, true) { // the hold begins anew
			t.Errorf("spell %d: it ended though the disk has shown nothing in between", i)
		}
		now += hold
		if s.See(now, false, true) || s.On() {
			t.Errorf("spell %d: the disk was well for %v", i, hold)
		}
		now += Relapse - 1
	}
	now++
	s.See(now, true, false)
	if now += WellFor; s.See(now, false, true) {
		t.Errorf("after %v without trouble it took more than %v", Relapse, WellFor)
	}
}
