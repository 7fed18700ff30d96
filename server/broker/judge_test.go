package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/millstream-io/millstream/server/slowdisk"
	"github.com/millstream-io/millstream/storage/vfs/watchfs"
)

// court is a judge and its clock.
type court struct {
	judge
	now time.Duration
}

func newCourt() *court { return &court{judge: newJudge(100 * time.Millisecond)} }

// quick and slowly are what a disk shows at one look.
var (
	quick  = watchfs.Sample{Calls: 5, Delay: 3 * time.Millisecond}
	slowly = watchfs.Sample{Calls: 1, Delay: 300 * time.Millisecond}
	idle   = watchfs.Sample{}
)

// look has the judge see the same again and again, and returns the last verdict.
func (c *court) look(times int, s watchfs.Sample) impairment {
	is := c.is
	for range times {
		c.now += lookEvery
		is = c.see(c.now, s, false)
	}
	return is
}

// lookFor is look for a while.
func (c *court) lookFor(d time.Duration, s watchfs.Sample) impairment {
	return c.look(int(d/lookEvery), s)
}

// A disk is slow when it was for three seconds of five, and not for a pause.
func TestAPauseIsNoSlowDisk(t *testing.T) {
	c := newCourt()
	c.look(20, quick)
	if is := c.look(slowLooks-1, slowly); is != unimpaired {
		t.Errorf("after a pause of 2.5 s: %v", is)
	}
	c.look(20, quick)
	if is := c.look(slowLooks, slowly); is != diskSlow {
		t.Errorf("after 3 s: %v", is)
	}
	c = newCourt()
	for range 10 { // every second look
		if is := max(c.look(1, slowly), c.look(1, quick)); is != unimpaired {
			t.Fatalf("slow half the time: %v", is)
		}
	}
	if got := c.delay(c.now); got != slowly.Delay && got != quick.Delay {
		t.Errorf("the delay is %v", got)
	}
	c = &court{judge: newJudge(0)}
	if is := c.look(100, slowly); is != unimpaired {
		t.Errorf("none is too slow, and this is: %v", is)
	}
}

// One call that never ends makes a disk slow, and a little traffic is enough.
func TestADiskThatStandsStillIsSlow(t *testing.T) {
	c := newCourt()
	is := unimpaired
	for i := range slowLooks + 1 { // at the first it is not long under way
		is = c.look(1, watchfs.Sample{Calls: 1, Delay: time.Duration(i)*lookEvery + time.Millisecond})
	}
	if is != diskSlow {
		t.Errorf("a call that never ends: %v", is)
	}
	for every, want := range map[int]impairment{3: diskSlow, 10: unimpaired} { // seconds
		c := newCourt()
		for range 20 {
			c.lookFor(time.Duration(every)*time.Second-lookEvery, idle)
			is = c.look(1, slowly)
		}
		if is != want {
			t.Errorf("a slow sync every %d s: %v", every, is)
		}
	}
}

// A disk is well when it has shown that for long enough, without a break.
func TestADiskHasToShowThatItIsWell(t *testing.T) {
	c := newCourt()
	c.look(looks, slowly)
	if is := c.lookFor(time.Hour, idle); is != diskSlow {
		t.Errorf("nothing was tried: %v", is)
	}
	if is := c.lookFor(slowdisk.WellFor-lookEvery, quick); is != diskSlow {
		t.Errorf("not for long: %v", is)
	}
	c = newCourt()
	c.look(looks, slowly)
	c.lookFor(slowdisk.WellFor-time.Second, quick)
	c.look(slowdisk.Odd+1, slowly)
	if is := c.lookFor(slowdisk.WellFor-lookEvery, quick); is != diskSlow {
		t.Errorf("not without a break: %v", is)
	}
	if is := c.lookFor(looks*lookEvery, quick); is != unimpaired {
		t.Errorf("for long enough: %v", is)
	}
}

// A disk that comes and goes is left alone for longer each time.
func TestADiskThatComesAndGoesIsTrustedLess(t *testing.T) {
	c := newCourt()
	mend := func() time.Duration {
		begun := c.now
		for c.is != unimpaired {
			c.look(1, quick)
			if c.now-begun > time.Hour {
				t.Fatal("it is never well again")
			}
		}
		return c.now - begun
	}
	var took []time.Duration
	for range 7 {
		c.look(looks, slowly)
		took = append(took, mend())
		c.lookFor(time.Minute, quick)
	}
	const slack = looks * lookEvery // in which the last slow looks count
	for i, want := range []time.Duration{slowdisk.WellFor, 2 * slowdisk.WellFor, 4 * slowdisk.WellFor, 8 * slowdisk.WellFor, 16 * slowdisk.WellFor, slowdisk.MostWellFor, slowdisk.MostWellFor} {
		if took[i] < want || took[i] > want+slack {
			t.Errorf("the %d. time it had to be well for %v, and should for %v", i+1, took[i], want)
		}
	}
	c.lookFor(slowdisk.Relapse, quick)
	c.look(looks, slowly)
	if got := mend(); got > slowdisk.WellFor+slack {
		t.Errorf("after a long time in which it was well it had to be for %v", got)
	}
}

// What is refused counts at once, the worst of it counts, and room on the disk
// is looked for before a full one is well.
func TestADiskThatRefusesIsInTroubleAtOnce(t *testing.T) {
	some := errors.New("no")
	for want, s := range map[impairment]watchfs.Sample{
		diskFull: {Full: some}, diskReadOnly: {ReadOnly: some, Full: some}, diskError: {Broken: some, ReadOnly: some},
	} {
		c := newCourt()
		c.look(20, quick)
		if is := c.look(1, s); is != want {
			t.Errorf("%v: %v", want, is)
		}
		if is := c.look(looks, slowly); is != want {
			t.Errorf("%v, and slow: %v", want, is)
		}
	}
	c := newCourt()
	c.look(1, watchfs.Sample{Full: some})
	if is := c.lookFor(2*slowdisk.WellFor, quick); is != diskFull {
		t.Errorf("without room: %v", is)
	}
	for range int(slowdisk.WellFor / lookEvery) {
		c.now += lookEvery
		c.see(c.now, quick, true)
	}
	if c.is != unimpaired {
		t.Errorf("with room: %v", c.is)
	}
}
