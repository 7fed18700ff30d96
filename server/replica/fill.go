package replica

import (
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

// fill limits how fast a replica is filled that was added for a move, so that
// the move leaves the disk and the network to others. It is a bucket of bytes
// that may be sent; a push may take more than is in it, which the next ones wait
// for.
//
// It belongs to the replica and not to its session, or each new session would
// begin with a full one. Who is in sync is not limited: what producers wait for
// is not held up.
type fill struct {
	asked  bool // the replica was added for a move
	begun  bool // bytes and at are set
	bytes  int64
	filled time.Duration // until when bytes were added
}

const (
	// mostFillRate is where a rate is no limit any more.
	mostFillRate = int64(1) << 40
	// fillBurst is for how long a rate may be saved: some times what passes
	// between two looks at the clock.
	fillBurst = 250 * time.Millisecond
)

// limited tells whether a member is filled at a rate.
func (l *Leader) limited(m *member) bool {
	return m.fill.asked && l.fillRate > 0 && !m.committed
}

// mayFill tells whether something may be sent to a member now.
func (l *Leader) mayFill(m *member, now time.Duration) bool {
	if !l.limited(m) {
		return true
	}
	f := &m.fill
	most := max(1, l.fillRate*fillBurst.Milliseconds()/1000)
	if !f.begun {
		f.begun, f.bytes, f.filled = true, most, now
	}
	// Time that made no whole byte stays to be counted: at a low rate that is much.
	if more := l.fillRate * min((now-f.filled).Milliseconds(), 10_000) / 1000; more > 0 {
		f.bytes = min(f.bytes+more, most)
		f.filled += time.Duration(float64(more) / float64(l.fillRate) * float64(time.Second))
		f.filled = max(f.filled, now-10*time.Second)
	}
	return f.bytes > 0
}

// Lag is how far a replica is behind its leader.
type Lag struct {
	ID ID
	// Records that it does not have.
	Records record.Offset
	// InSync says that it is in the committed ISR; Filling that it was added for
	// a move.
	InSync, Filling bool
}

// Lags appends how far the others are behind.
func (l *Leader) Lags(out []Lag, logStart record.Offset) []Lag {
	if !l.leading {
		return out
	}
	for i := range l.members {
		if m := &l.members[i]; i != l.own {
			out = append(out, Lag{
				ID: m.id, Records: max(0, l.members[l.own].End-max(m.End, logStart)), InSync: m.committed, Filling: m.fill.asked,
			})
		}
	}
	return out
}
