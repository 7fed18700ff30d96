package sim

import "time"

// Times of day, since the beginning of 1970.
const (
	today = 56 * 8766 * time.Hour
	y2100 = 130 * 8766 * time.Hour
)

// mostDrift is how much faster or slower than true time a clock goes at most.
const mostDrift = 0.05

// clock is what a machine knows of time. It has two clocks, as every machine
// has: a steady one, which nobody can set, but which may go too fast or too
// slowly and does not count while the machine itself sleeps; and the time of
// day, which is set by whoever likes to. What a lease or a session lasts is
// counted on the first alone.
type clock struct {
	w     *world
	at    time.Duration // true time of the next three; later than now: it sleeps until then
	shown time.Duration // by the steady clock
	day   time.Duration // what the time of day is ahead of the steady clock
	awake time.Duration // true time without that slept
	rate  float64
}

// newClock returns the clock of a machine that runs for some time already.
func newClock(w *world) *clock {
	c := &clock{w: w, at: w.now, day: today + w.between(0, time.Hour)}
	c.boot()
	c.drift()
	return c
}

// boot begins to count anew. The time of day goes on.
func (c *clock) boot() {
	c.look()
	was := c.shown
	c.shown = c.w.between(0, time.Hour)
	c.day += was - c.shown
}

// drift lets it go at another rate from here on.
func (c *clock) drift() {
	c.look()
	c.rate = 1 - mostDrift + 2*mostDrift*c.w.random.Float64()
}

// sleep lets it stand still for a while.
func (c *clock) sleep(d time.Duration) {
	c.look()
	c.at = max(c.at, c.w.now+d)
}

// wake lets it go on at a time if it stands still until later.
func (c *clock) wake(at time.Duration) {
	if c.at > c.w.now {
		c.at = max(c.w.now, min(c.at, at))
	}
}

// set sets the time of day.
func (c *clock) set(to time.Duration) { c.day = to - c.steady() }

// look takes down what is shown now.
func (c *clock) look() {
	if c.w.now <= c.at {
		return
	}
	c.shown, c.awake, c.at = c.steady(), c.wasAwake(), c.w.now
}

// steady is the clock that nobody sets.
func (c *clock) steady() time.Duration {
	return c.shown + time.Duration(float64(max(0, c.w.now-c.at))*c.rate)
}

// timeOfDay is the one that is set.
func (c *clock) timeOfDay() time.Duration { return c.steady() + c.day }

// wasAwake is true time, but for what the machine has slept.
func (c *clock) wasAwake() time.Duration { return c.awake + max(0, c.w.now-c.at) }
