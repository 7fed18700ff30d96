package pace

import (
	"slices"
	"time"
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
	oddLooks  = 1
	// lookKept is how long a look counts where little is written.
	lookKept = 20 * time.Second
	// wellFor is how long a disk is well before it counts as that. It doubles each
	// time that it was well for less than relapse, up to mostWellFor.
	wellFor     = 30 * time.Second
	mostWellFor = 8 * time.Minute
	relapse     = 10 * time.Minute
)

// Judge decides whether a disk is slow, from what was seen of it. It is well
// again when it has shown that for long enough, without a break; a disk that
// nothing was written to has shown nothing. The zero value is of a disk of
// which nothing is known.
type Judge struct {
	ring [looks]look
	next int

	slow  bool
	since time.Duration // while it is slow: since when it has been well
	hold  time.Duration // how long it has to be well, this time
	ended time.Duration // when it was slow the last time
	once  bool          // it was
}

// look is one look at the disk in which something was written.
type look struct {
	taken bool
	at    time.Duration
	delay time.Duration
}

// See takes the calls that have ended since the last look. now is of a clock
// that never goes back.
func (j *Judge) See(now time.Duration, c Calls) {
	if c.Count > 0 {
		j.ring[j.next] = look{true, now, c.delay()}
		j.next = (j.next + 1) % looks
	}
	slow := j.slowLooks(now)
	switch {
	case slow >= slowLooks && !j.slow:
		j.fall(now)
		j.slow, j.since = true, now
	case slow >= slowLooks:
		j.since = now
	case !j.slow:
	case c.Count == 0, slow > oddLooks:
		j.since = now
	case now-j.since >= j.hold:
		j.slow, j.ended, j.once = false, now, true
	}
}

// fall decides how long the disk has to be well after it is slow anew.
func (j *Judge) fall(now time.Duration) {
	if j.once && now-j.ended < relapse {
		j.hold = min(2*j.hold, mostWellFor)
		return
	}
	j.hold = wellFor
}

// slowLooks counts the looks at which the disk was slow.
func (j *Judge) slowLooks(now time.Duration) int {
	n := 0
	for i := range j.ring {
		if l := &j.ring[i]; l.taken && now-l.at <= lookKept && l.delay >= Slow {
			n++
		}
	}
	return n
}

// Suffers tells whether the disk is slow at this very time, so that who leads
// holds up everybody.
func (j *Judge) Suffers(now time.Duration) bool { return j.slow && j.slowLooks(now) >= slowLooks }

// Slow tells whether the disk is slow, or was and has not been well for long
// enough since: nobody should hand over to whom it belongs.
func (j *Judge) Slow() bool { return j.slow }

// Delay is how long writes and syncs take: the median of the looks; 0: nothing is
// known.
func (j *Judge) Delay(now time.Duration) time.Duration {
	all := make([]time.Duration, 0, looks)
	for i := range j.ring {
		if l := &j.ring[i]; l.taken && now-l.at <= lookKept {
			all = append(all, l.delay)
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}
