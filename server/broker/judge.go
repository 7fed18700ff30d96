package broker

import (
	"slices"
	"time"

	"github.com/millstream-io/millstream/storage/vfs/watchfs"
)

// impairment is what is the matter with the disk. Of two the greater counts.
type impairment uint8

const (
	unimpaired impairment = iota
	diskSlow
	diskFull
	diskReadOnly
	diskError
	impairments // how many there are
)

var impairmentNames = [impairments]string{"none", "slow_disk", "disk_full", "disk_read_only", "disk_error"}

// String names it as metrics and logs do.
func (i impairment) String() string { return impairmentNames[i] }

const (
	// lookEvery is how often the disk is looked at.
	lookEvery = 500 * time.Millisecond
	// looks is how many looks count, of those in which something was written or
	// synced; slowLooks of them make a disk slow, which is three seconds of five;
	// one of them does not: a pause of a second is nothing to move leaders for.
	looks     = 10
	slowLooks = 6
	oddLooks  = 1
	// lookKept is how long a look counts where little is written.
	lookKept = 20 * time.Second
	// wellFor is how long a disk is well before it counts as that. It doubles each
	// time that it was well for less than relapse, up to mostWellFor.
	wellFor     = 30 * time.Second
	mostWellFor = 8 * time.Minute
	relapse     = 10 * time.Minute
)

// judge decides whether a disk is in trouble, from what was seen of it. It is
// pure: it reads no clock and keeps nothing else.
//
// A disk that fills up or refuses writes is in trouble at once, a slow one when
// it has been slow for a while. It is well when it has shown that, without a
// break, for long enough; what nothing was tried on has shown nothing.
type judge struct {
	// limit is the delay from which a disk is slow; 0: none is.
	limit time.Duration

	is    impairment
	since time.Duration // while it is impaired: since when it has been well
	hold  time.Duration // how long it has to be well, the last time
	ended time.Duration // when it was last impaired
	once  bool          // it was

	ring [looks]look
	next int
}

// look is one look at the disk in which something was written or synced.
type look struct {
	taken bool
	at    time.Duration
	delay time.Duration
}

// see takes what was seen since the last look, and returns the verdict. roomy
// tells whether there is room on the disk again.
func (j *judge) see(now time.Duration, s watchfs.Sample, roomy bool) impairment {
	if s.Calls > 0 {
		j.ring[j.next] = look{true, now, s.Delay}
		j.next = (j.next + 1) % looks
	}
	slow := j.slow(now)
	found := unimpaired
	switch {
	case s.Broken != nil:
		found = diskError
	case s.ReadOnly != nil:
		found = diskReadOnly
	case s.Full != nil:
		found = diskFull
	case slow >= slowLooks:
		found = diskSlow
	}
	switch {
	case found != unimpaired && j.is == unimpaired:
		j.fall(now)
		j.is, j.since = found, now
	case found != unimpaired:
		j.is, j.since = max(j.is, found), now
	case j.is == unimpaired:
	case s.Calls == 0, slow > oddLooks, j.is == diskFull && !roomy:
		j.since = now
	case now-j.since >= j.hold:
		j.is, j.ended, j.once = unimpaired, now, true
	}
	return j.is
}

// fall decides how long the disk has to be well after it is impaired anew.
func (j *judge) fall(now time.Duration) {
	if j.once && now-j.ended < relapse {
		j.hold = min(2*j.hold, mostWellFor)
		return
	}
	j.hold = wellFor
}

// slow counts the looks at which the disk was slow.
func (j *judge) slow(now time.Duration) int {
	n := 0
	for i := range j.ring {
		if l := &j.ring[i]; j.limit > 0 && l.taken && now-l.at <= lookKept && l.delay >= j.limit {
			n++
		}
	}
	return n
}

// delay returns how long writes and syncs take: the median of the looks; 0:
// nothing is known.
func (j *judge) delay(now time.Duration) time.Duration {
	var all [looks]time.Duration
	n := 0
	for i := range j.ring {
		if l := &j.ring[i]; l.taken && now-l.at <= lookKept {
			all[n] = l.delay
			n++
		}
	}
	if n == 0 {
		return 0
	}
	slices.Sort(all[:n])
	return all[n/2]
}
