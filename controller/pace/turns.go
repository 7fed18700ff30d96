package pace

import (
	"cmp"
	"slices"
	"time"

	"github.com/millstream-io/millstream/server/slowdisk"
)

const (
	// faster is how many times faster the disk of the next must be: a disk that is
	// slow as all are is a load, and nobody else would bear it better.
	faster = 3
	// Who has handed over does it again after restFor at the earliest, twice as long
	// after each time that comes within slowdisk.Relapse of the end of that, up to mostRest.
	restFor  = time.Minute
	mostRest = 16 * time.Minute
	// askAgain is how long it is till the others are asked again if none of them can
	// take over.
	askAgain = 5 * time.Second
)

// Standing is how a controller that has a vote is, as it says itself.
type Standing struct {
	// Key is how the quorum names it.
	Key uint64
	// ControllerID is its identity.
	ControllerID int32
	// Revision is that of the metadata that it has.
	Revision int64
	// Delay is Judge.Delay, Slow is Judge.Slow.
	Delay time.Duration
	Slow  bool
}

// Turns decides to whom an active controller hands over, and when it may again.
// The zero value has handed over to nobody.
type Turns struct {
	notBefore time.Duration // nobody is asked, and nothing is handed over
	rest      time.Duration // after the last time
	rested    time.Duration // when that was over; 0: there was none
}

// May tells whether it is time to ask the others how they are.
func (t *Turns) May(now time.Duration) bool { return now >= t.notBefore }

// Choose returns to whom a controller that suffers hands over: of those whose
// disks are well, much faster and have everything up to a revision, the one with the
// fastest. false: to none of them.
func (t *Turns) Choose(now, delay time.Duration, revision int64, others []Standing) (Standing, bool) {
	fit := slices.DeleteFunc(slices.Clone(others), func(s Standing) bool {
		return s.Slow || s.Delay <= 0 || s.Delay >= Slow || s.Delay*faster > delay || s.Revision < revision
	})
	if len(fit) == 0 {
		t.notBefore = now + askAgain
		return Standing{}, false
	}
	t.rest = t.restAfter(now)
	t.notBefore, t.rested = now+t.rest, now+t.rest
	return slices.MinFunc(fit, func(a, b Standing) int { return cmp.Or(cmp.Compare(a.Delay, b.Delay), cmp.Compare(a.Key, b.Key)) }), true
}

// restAfter is how long nothing is handed over after something is now.
func (t *Turns) restAfter(now time.Duration) time.Duration {
	if t.rested != 0 && now-t.rested < slowdisk.Relapse {
		return min(2*t.rest, mostRest)
	}
	return restFor
}
