package pace

import (
	"time"

	"github.com/millstream-io/millstream/server/slowdisk"
)

const (
	// LookEvery is how often the disk is looked at.
	LookEvery = time.Second
	// Slow is the delay from which a disk is slow, a bound of the buckets in which
	// the store counts. Brokers have 100 ms for theirs.
	Slow = 128 * time.Millisecond

	// looks is how many looks count, of those in which something was written;
	// slowLooks of them make a disk slow, one alone does not: a pause of a second
	// is nothing to change the active controller for.
	looks     = 6
	slowLooks = 4
)

// Judge decides whether a disk is slow, from what was seen of it. It is well
// again when it has shown that for long enough, without a break; a disk that
// nothing was written to has shown nothing.
type Judge struct {
	looks slowdisk.Looks
	slow  slowdisk.Spell
}

// NewJudge returns a judge of a disk of which nothing is known.
func NewJudge() *Judge {
	return &Judge{looks: slowdisk.Looks{Count: looks, Limit: Slow}}
}

// See takes the calls that have ended since the last look. now is of a clock
// that never goes back.
func (j *Judge) See(now time.Duration, c Calls) {
	if c.Count > 0 {
		j.looks.Add(now, c.delay())
	}
	slow := j.looks.Slow(now)
	j.slow.See(now, slow >= slowLooks, c.Count > 0 && slow <= slowdisk.Odd)
}

// Suffers tells whether the disk is slow at this very time, so that who leads
// holds up everybody.
func (j *Judge) Suffers(now time.Duration) bool {
	return j.slow.On() && j.looks.Slow(now) >= slowLooks
}

// Slow tells whether the disk is slow, or was and has not been well for long
// enough since: nobody should hand over to whom it belongs.
func (j *Judge) Slow() bool { return j.slow.On() }

// Delay is how long writes and syncs take: the median of the looks; 0: nothing is
// known.
func (j *Judge) Delay(now time.Duration) time.Duration { return j.looks.Delay(now) }
