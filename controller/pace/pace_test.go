package pace

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millstream-io/millstream/server/slowdisk"
)

// calls are so many that took so long each.
func calls(n int, took time.Duration) Calls {
	s := took.Seconds()
	return Calls{uint64(n), float64(n) * s, float64(n) * s * s}
}

// seen is a judge that has looked once a second, and the time of the last look.
func seen(each ...Calls) (*Judge, time.Duration) {
	j := NewJudge()
	now := time.Duration(0)
	for _, c := range each {
		now += LookEvery
		j.See(now, c)
	}
	return j, now
}

func repeat(n int, c Calls) []Calls { return slices.Repeat([]Calls{c}, n) }

func TestADelayIsThatOfWhoComesAtAnyTime(t *testing.T) {
	quick, still := calls(500, time.Millisecond), calls(1, 500*time.Millisecond)
	both := Calls{quick.Count + still.Count, quick.Seconds + still.Seconds, quick.Squares + still.Squares}
	for name, c := range map[string]struct {
		calls Calls
		want  time.Duration
	}{
		"nothing":      {Calls{}, 0},
		"all alike":    {calls(20, 30*time.Millisecond), 30 * time.Millisecond},
		"one of many":  {both, 250500 * time.Microsecond},
		"taken at one": {both.Since(quick), 500 * time.Millisecond},
	} {
		if got := c.calls.delay().Round(time.Microsecond); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// What a histogram says is the true delay, within what its buckets allow: a call
// counts as no less than 1/√2 of what it took, and no more than √2 times that.
func TestAHistogramSaysAboutTheDelay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		took := rapid.SliceOfN(rapid.Float64Range(0.002, 8), 1, 50).Draw(t, "seconds")
		var truth Calls
		buckets := make([]Bucket, 0, 15)
		for most := 0.001; most < 10; most *= 2 {
			buckets = append(buckets, Bucket{Most: most})
		}
		buckets = append(buckets, Bucket{Most: math.Inf(1)})
		for _, s := range took {
			truth.Count++
			truth.Seconds += s
			truth.Squares += s * s
			for i := range buckets {
				if s <= buckets[i].Most {
					buckets[i].Count++
				}
			}
		}
		var got Calls
		got.Add(buckets)
		if ratio := got.delay().Seconds() / truth.delay().Seconds(); got.Count != truth.Count || ratio < 0.35 || ratio > 2.83 {
			t.Fatalf("%v of %d, in truth %v of %d", got.delay(), got.Count, truth.delay(), truth.Count)
		}
	})
}

// Calls that took 128 ms or less are never slow, those that took longer are.
func TestTheLimitIsABoundOfTheBuckets(t *testing.T) {
	for _, c := range []struct {
		seconds float64
		slow    bool
	}{{0.064, false}, {0.128, false}, {0.256, true}, {8.192, true}, {math.Inf(1), true}} {
		buckets := []Bucket{{0.001, 0}, {0.064, 0}, {0.128, 0}, {0.256, 0}, {8.192, 0}, {math.Inf(1), 0}}
		for i := range buckets {
			if c.seconds <= buckets[i].Most {
				buckets[i].Count = 10
			}
		}
		var got Calls
		got.Add(buckets)
		if slow := got.delay() >= Slow; slow != c.slow {
			t.Errorf("in the bucket up to %v s: %v, slow: %v", c.seconds, got.delay(), slow)
		}
	}
}

func TestADiskIsSlowWhenItHasBeenForAWhile(t *testing.T) {
	still, quick, none := calls(2, 300*time.Millisecond), calls(200, 2*time.Millisecond), Calls{}
	for name, c := range map[string]struct {
		looks         []Calls
		slow, suffers bool
		delay         time.Duration
	}{
		"unknown":                  {nil, false, false, 0},
		"quick":                    {repeat(20, quick), false, false, 2 * time.Millisecond},
		"one pause":                {append(repeat(5, quick), still), false, false, 2 * time.Millisecond},
		"three of six":             {append(repeat(3, quick), repeat(3, still)...), false, false, 300 * time.Millisecond},
		"four of six":              {append(repeat(2, quick), repeat(4, still)...), true, true, 300 * time.Millisecond},
		"slow at its first looks":  {repeat(4, still), true, true, 300 * time.Millisecond},
		"quick for a moment":       {append(repeat(6, still), repeat(3, quick)...), true, false, 300 * time.Millisecond},
		"quick for 29 s":           {append(repeat(6, still), repeat(4+29, quick)...), true, false, 2 * time.Millisecond},
		"quick for 30 s":           {append(repeat(6, still), repeat(4+30, quick)...), false, false, 2 * time.Millisecond},
		"idle for an hour":         {append(repeat(6, still), repeat(3600, none)...), true, false, 0},
		"idle, and then it is not": {append(append(repeat(6, still), repeat(60, none)...), repeat(29, quick)...), true, false, 2 * time.Millisecond},
		"slow now and then":        {slices.Repeat(append(repeat(4, still), repeat(16, none)...), 5), true, true, 300 * time.Millisecond},
	} {
		j, now := seen(c.looks...)
		if j.Slow() != c.slow || j.Suffers(now) != c.suffers || j.Delay(now).Round(time.Microsecond) != c.delay {
			t.Errorf("%s: slow %v, suffers %v, delay %v; want %v, %v, %v", name, j.Slow(), j.Suffers(now), j.Delay(now), c.slow, c.suffers, c.delay)
		}
	}
}

// A disk that comes and goes is believed less each time.
func TestADiskThatComesAndGoesIsWaitedForLonger(t *testing.T) {
	j, now := NewJudge(), time.Duration(0)
	var held []time.Duration
	for range 6 {
		for range looks {
			now += LookEvery
			j.See(now, calls(2, time.Second/2))
		}
		begun := now
		for j.Slow() {
			now += LookEvery
			j.See(now, calls(9, time.Millisecond))
		}
		held = append(held, (now - begun).Truncate(30*time.Second))
	}
	want := []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 8 * time.Minute}
	if !slices.Equal(held, want) {
		t.Errorf("it was waited for %v, want %v", held, want)
	}
}

func TestItIsHandedOverToTheFastestThatIsWell(t *testing.T) {
	well := func(key uint64, delay time.Duration) Standing {
		return Standing{Key: key, ControllerID: int32(key), Revision: 10, Delay: delay}
	}
	const delay = 400 * time.Millisecond
	slow := well(9, time.Millisecond)
	slow.Slow = true
	behind := well(9, time.Millisecond)
	behind.Revision = 9
	for name, c := range map[string]struct {
		others []Standing
		want   uint64 // 0: to nobody
	}{
		"nobody is reached":    {nil, 0},
		"the fastest":          {[]Standing{well(2, 20*time.Millisecond), well(3, 5*time.Millisecond)}, 3},
		"the first of two":     {[]Standing{well(3, 5*time.Millisecond), well(2, 5*time.Millisecond)}, 2},
		"one that was slow":    {[]Standing{slow, well(2, 20*time.Millisecond)}, 2},
		"only slow ones":       {[]Standing{slow}, 0},
		"one that is behind":   {[]Standing{behind}, 0},
		"one that says naught": {[]Standing{well(2, 0)}, 0},
		"not much faster":      {[]Standing{well(2, 134*time.Millisecond)}, 0},
		"slow beyond that":     {[]Standing{well(2, Slow)}, 0},
	} {
		got, ok := new(Turns).Choose(time.Hour, delay, 10, c.others)
		if got.Key != c.want || ok != (c.want != 0) {
			t.Errorf("%s: %+v, %v; want %d", name, got, ok, c.want)
		}
	}
	if _, ok := new(Turns).Choose(time.Hour, 2*Slow, 10, []Standing{well(2, Slow-1)}); ok {
		t.Error("it is handed over to a disk that is only half as slow")
	}
}

func TestItIsHandedOverSeldom(t *testing.T) {
	var turns Turns
	others := []Standing{{Key: 2, Delay: time.Millisecond}}
	now := time.Second
	var times []time.Duration
	for now < 2*time.Hour {
		if now += time.Second; !turns.May(now) {
			continue
		}
		if _, ok := turns.Choose(now, time.Second, 0, others); ok {
			times = append(times, now)
		}
	}
	var gaps []time.Duration
	for i := 1; i < len(times); i++ {
		gaps = append(gaps, times[i]-times[i-1])
	}
	want := []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 16 * time.Minute}
	if len(gaps) < len(want) || !slices.Equal(gaps[:len(want)], want) {
		t.Errorf("between two times there are %v", gaps)
	}
	// After a long time in which it led well it is as it was at first.
	now = times[len(times)-1] + mostRest + slowdisk.Relapse
	if _, ok := turns.Choose(now, time.Second, 0, others); !ok || turns.May(now+restFor-1) || !turns.May(now+restFor) {
		t.Error("what was long ago counts")
	}
	// Who finds nobody asks again soon.
	turns = Turns{}
	if _, ok := turns.Choose(now, time.Second, 0, nil); ok || turns.May(now+askAgain-1) || !turns.May(now+askAgain) {
		t.Error("it asks too often, or not again")
	}
}

// Whatever the disks of three controllers do, leadership changes hands seldom:
// as often as each of them may hand over, and no more.
func TestLeadershipDoesNotFlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const controllers, hour = 3, 3600
		judges, turns := make([]*Judge, controllers), make([]Turns, controllers)
		left := make([]int, controllers) // of the time in which the disk is as it is
		took := make([]time.Duration, controllers)
		for i := range judges {
			judges[i] = NewJudge()
		}
		leader, changes := 0, 0
		for second := range hour {
			now := time.Duration(second) * time.Second
			for i := range judges {
				if left[i]--; left[i] < 0 {
					left[i] = rapid.IntRange(1, 90).Draw(t, fmt.Sprint("seconds of ", i))
					took[i] = rapid.SampledFrom([]time.Duration{2 * time.Millisecond, 40 * time.Millisecond, 300 * time.Millisecond, 2 * time.Second}).Draw(t, fmt.Sprint("delay of ", i))
				}
				judges[i].See(now, calls(3, took[i]))
			}
			if !judges[leader].Suffers(now) || !turns[leader].May(now) {
				continue
			}
			var others []Standing
			for i := range judges {
				if i != leader {
					others = append(others, Standing{Key: uint64(i), Delay: judges[i].Delay(now), Slow: judges[i].Slow()})
				}
			}
			if next, ok := turns[leader].Choose(now, judges[leader].Delay(now), 0, others); ok {
				leader = int(next.Key)
				changes++
			}
		}
		// At most 0, 1, 3 and 7 minutes after each has begun, and the same again 25
		// minutes later, when its rest has been over for ten.
		if most := controllers * 12; changes > most {
			t.Fatalf("leadership changed hands %d times in an hour", changes)
		}
	})
}
