package replica

import (
	"testing"
	"time"
)

func TestWhoIsHeardDecidesWhatALeaderMaySay(t *testing.T) {
	const since = 10 * time.Second
	late, soon := since-1, since
	others := func(inSync ...bool) (list []Other) {
		for i, in := range inSync {
			list = append(list, Other{ID: ID(i + 2), InSync: in, Session: 1})
		}
		return list
	}
	for what, c := range map[string]struct {
		q              Quorum
		heard          []time.Duration
		vouched        time.Duration
		fresh, current bool
	}{
		"alone":                            {Quorum{Enough: true, MinInSync: 1}, nil, Never, true, true},
		"both heard":                       {Quorum{others(true, true), true, 2}, []time.Duration{soon, soon}, Never, true, true},
		"one of two heard":                 {Quorum{others(true, true), true, 2}, []time.Duration{soon, late}, Never, false, true},
		"one of two heard, and enough":     {Quorum{others(true, true), true, 1}, []time.Duration{soon, late}, Never, false, false},
		"none heard":                       {Quorum{others(true, true), true, 2}, []time.Duration{late, late}, soon, false, false},
		"who is not in sync is not heard":  {Quorum{others(true, false), true, 1}, []time.Duration{soon, Never}, Never, true, true},
		"only who is not in sync is":       {Quorum{others(true, false), true, 2}, []time.Duration{late, soon}, Never, false, true},
		"too few in sync, and one heard":   {Quorum{others(false, false), false, 2}, []time.Duration{soon, Never}, Never, false, true},
		"too few in sync":                  {Quorum{others(false, false), false, 2}, []time.Duration{Never, Never}, late, false, false},
		"too few in sync, by controllers":  {Quorum{others(false, false), false, 2}, []time.Duration{Never, Never}, soon, false, true},
		"too few in sync, one of them out": {Quorum{others(true, false), false, 3}, []time.Duration{late, Never}, soon, false, true},
	} {
		heard := func(i int) time.Duration { return c.heard[i] }
		if got := c.q.Fresh(since, heard); got != c.fresh {
			t.Errorf("%s: fresh %t", what, got)
		}
		if got := c.q.Current(since, c.vouched, heard); got != c.current {
			t.Errorf("%s: current %t", what, got)
		}
	}
}

func TestAProposedReplicaHasToBeHeard(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Memory, 1, 2), progress(0, 0), 0)
	resume(t, &l, 2, progress(0, 0))
	resume(t, &l, 3, progress(0, 0))
	if _, ok := l.Tick(0, lagMax, nil); !ok {
		t.Fatal("replica 3 is not proposed")
	}
	at := map[ID]time.Duration{2: time.Minute, 3: Never}
	heard := func(id ID) time.Duration { return at[id] }
	if l.Fresh(time.Minute, time.Second, heard) {
		t.Error("replica 3 may have been taken in, and elected")
	}
	if at[3] = time.Minute; !l.Fresh(time.Minute, time.Second, heard) {
		t.Error("all were heard")
	}
}
