package replica

import (
	"math"
	"slices"
	"time"
)

// A replica that is added when a partition is moved has everything to get that
// there is. So that those who produce and consume meanwhile notice little of it,
// whoever moves the partition may say how fast it is sent.
//
// INVARIANT: what is sent to a replica that is added, and neither in sync nor
// proposed to be, is at most the rate times the time, one push and throttleBurst
// more.

// throttleBurst is how much time may be made up for: a leader looks at the
// clock ten times a second.
const throttleBurst = 200 * time.Millisecond

// throttle is what may be sent to a replica that is being added.
type throttle struct {
	rate float64 // bytes a second; 0: as fast as can be
	left float64 // bytes; below 0 after a push that was larger
	at   time.Duration
	runs bool // at is set
}

// adding sets the rate of a member, as a record has it.
func (t *throttle) adding(a Assignment, id ID, committed bool) {
	rate := 0.0
	if !committed && slices.Contains(a.Adding, id) {
		rate = float64(a.AddingRate)
	}
	if rate != t.rate {
		*t = throttle{rate: rate}
	}
}

// holds tells whether nothing may be sent to a member now.
//
// WHY one that is proposed is sent all there is: it counts from then on, so that whoever
// produces would wait for the throttle.
func (l *Leader) holds(m *member, now time.Duration) bool {
	held := m.throttle.holds(now) // asked in any case: it looks at the clock
	counts := l.proposing && m.proposed
	return held && !counts
}

// holds tells whether nothing may be sent now.
func (t *throttle) holds(now time.Duration) bool {
	if t.rate == 0 {
		return false
	}
	most := t.rate * throttleBurst.Seconds()
	if !t.runs {
		t.runs, t.left, t.at = true, most, now
	}
	t.left = math.Min(most, t.left+t.rate*(now-t.at).Seconds())
	t.at = now
	return t.left <= 0
}

// sent notes that so many bytes were sent.
func (t *throttle) sent(bytes int64) {
	if t.rate > 0 {
		t.left -= float64(bytes)
	}
}
