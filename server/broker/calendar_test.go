package broker

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheTimeOfDayIsBelievedAfterAWhile(t *testing.T) {
	const start = 1_800_000_000
	var up, set time.Duration // of the process; and by how much somebody set the time of day
	machine := func() time.Time { return time.Unix(start, 0).Add(up + set) }
	c := newCalendar(machine, func() time.Duration { return up }, slog.New(slog.DiscardHandler))
	want := func(what string, since time.Duration) {
		t.Helper()
		if got := c.Now().Sub(time.Unix(start, 0)); got != since {
			t.Errorf("%s: %v since the start, want %v", what, got, since)
		}
	}
	pass := func(d time.Duration) { up += d }

	want("at the start", 0)
	pass(time.Hour)
	want("an hour later", time.Hour)
	set = 50 * time.Second
	want("set a little", time.Hour+50*time.Second)

	set = 74 * 365 * 24 * time.Hour
	want("set to the next century", time.Hour)
	pass(23 * time.Hour)
	want("a day later, nearly", 24*time.Hour)
	set = 0
	want("set right again", 24*time.Hour)

	set = time.Hour
	want("an hour ahead", 24*time.Hour)
	pass(23 * time.Hour)
	want("a day later, nearly", 47*time.Hour)
	pass(time.Hour)
	want("a day later", 49*time.Hour)
	if step := c.Step(); step != 0 {
		t.Errorf("believed, and %v off", step)
	}

	set = 0
	want("set back", 48*time.Hour)
	if step := c.Step(); step != -time.Hour {
		t.Errorf("%v off", step)
	}
	set = time.Hour
	want("set right again", 49*time.Hour)
	set = -10 * 365 * 24 * time.Hour
	want("a decade ago", 48*time.Hour+set)
	set = time.Hour
	want("set right again", 49*time.Hour)
}

// A clock that is set to an hour or a century ahead, or back, removes nothing
// that was not old before: no records, and no deleted log.
func TestAClockThatIsSetRemovesNothing(t *testing.T) {
	const century = 100 * 365 * 24 * time.Hour
	inBubble(t, func(t *testing.T, e *env) {
		var set atomic.Int64
		e.opts.Now = func() time.Time { return time.Now().Add(time.Duration(set.Load())) }
		e.start()
		e.cluster.create(1, "flights", 1, map[string]string{"retention.ms": "3000000", "segment.ms": "1000"})
		e.cluster.create(2, "gone", 1, nil)
		e.mustProduce("gone", 0, "a")
		e.cluster.remove(2, false)
		// Some sealed segments, and one that is written to.
		for _, text := range []string{"a", "b", "c", "d"} {
			e.mustProduce("flights", 0, text)
			pass(2 * time.Second)
		}
		p, _, err := e.b.Partition("flights", 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, by := range []time.Duration{time.Hour, century, -time.Hour, -30 * 365 * 24 * time.Hour, 0} {
			set.Store(int64(by))
			pass(max(2*trashInterval, 4*e.b.opts.RetentionInterval))
			synctest.Wait()
			if s := p.State(); s.LogStart != 0 {
				t.Fatalf("set by %v: the log begins at %d", by, s.LogStart)
			}
			if trash := e.names("trash"); len(trash) != 1 {
				t.Fatalf("set by %v: the trash has %q", by, trash)
			}
		}
		pass(time.Hour) // what is old goes
		synctest.Wait()
		if s := p.State(); s.LogStart != 4 {
			t.Fatalf("the log begins at %d: %+v", s.LogStart, s)
		}
		// A time of day that lasts is the time of day.
		e.mustProduce("flights", 0, "e")
		set.Store(int64(time.Hour))
		pass(doubtFor / 2)
		synctest.Wait()
		if len(e.names("trash")) != 1 {
			t.Fatal("the trash was emptied half a day later")
		}
		pass(doubtFor)
		synctest.Wait()
		if trash := e.names("trash"); len(trash) != 0 {
			t.Fatalf("the trash has %q", trash)
		}
	})
}
