package broker

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// mostStep is by how much the time of day may differ from what it would be if
	// nobody had set it, and is believed all the same.
	mostStep = time.Minute
	// doubtFor is how long a time of day that was set has to last until it is
	// believed: long enough for somebody to notice.
	doubtFor = 24 * time.Hour
)

// calendar is the time of day by which what is old is removed: segments by
// retention, and logs in the trash. It is not what the machine says as soon as
// somebody sets its clock.
//
// WHY: a clock that is set to 2100 by mistake makes all records old at once. The
// leader would let them go, and its followers after it, before the clock is right
// again. So while the clock was set lately, time goes on as the steady clock of
// the process counts it, or as the machine says, if that is less: removed is
// only what was old before, too.
//
// INVARIANT: what it shows does not go forward faster than the steady clock, but
// for mostStep, and for a step that has lasted for doubtFor.
type calendar struct {
	now    func() time.Time     // of the machine
	uptime func() time.Duration // of the process, which nobody sets
	logger *slog.Logger

	mu      sync.Mutex // guards what follows
	began   time.Time  // the time of day at uptime 0, as far as it is believed
	doubted bool
	since   time.Duration // uptime at which the doubt began
}

func newCalendar(now func() time.Time, uptime func() time.Duration, logger *slog.Logger) *calendar {
	c := &calendar{now: now, uptime: uptime, logger: logger}
	c.began = c.machine().Add(-uptime())
	return c
}

// machine is what the machine shows, without the reading of the steady clock
// with which Go would count differences.
func (c *calendar) machine() time.Time { return c.now().Round(0) }

// Now is the time by which old things are removed.
func (c *calendar) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	is, up := c.machine(), c.uptime()
	steady := c.began.Add(up)
	step := is.Sub(steady)
	switch {
	case step.Abs() <= mostStep:
		if c.doubted {
			c.logger.Info("the time of day is what it would be if it had not been set")
		}
		c.doubted = false
		return is
	case !c.doubted:
		c.doubted, c.since = true, up
		c.logger.Warn("the time of day was set: for a while nothing is removed that was not old before",
			"by", step, "time", is, "for", doubtFor)
	case up-c.since >= doubtFor:
		c.logger.Warn("the time of day that was set is believed", "by", step, "time", is)
		c.doubted, c.began = false, is.Add(-up)
		return is
	}
	if step > 0 {
		return steady
	}
	return is
}

// Step is by how much the time of day differs from what it would be if nobody
// had set it since it was last believed.
func (c *calendar) Step() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machine().Sub(c.began.Add(c.uptime()))
}
