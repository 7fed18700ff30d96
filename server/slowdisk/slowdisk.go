// Package slowdisk is how brokers and controllers judge a disk by how long its
// writes and syncs take: by the last few times that it was looked at, and so that
// a disk that is now slow and now well counts as slow.
//
// It refuses to own what is measured and how often (storage/vfs/watchfs,
// controller/etcd), from when a disk is slow, and what is done about it
// (server/broker, controller/pace).
//
// INVARIANT: trouble ends only after the disk has shown for the whole of a hold
// that it is well; what nothing was tried on has shown nothing.
//
// It is pure: it reads no clock, keeps no time but what it is given, and starts
// no goroutine. Its types are one goroutine's.
package slowdisk

import (
	"slices"
	"time"
)

const (
	// Most is how many looks can count.
	Most = 10
	// kept is how long a look counts where little is written.
	kept = 20 * time.Second
	// Odd is how many slow looks of those that count a disk may have that is well
	// again.
	Odd = 1
)

// Looks are the last looks at a disk in which it had something to do.
type Looks struct {
	// Count is how many of them count, at most Most.
	Count int
	// Limit is the delay from which a disk is slow; 0: none is.
	Limit time.Duration

	ring [Most]look
	next int
}

type look struct {
	taken bool
	at    time.Duration
	delay time.Duration
}

// Add takes a look: how long calls took that ended, or are under way. now is of
// a clock that never goes back.
func (l *Looks) Add(now, delay time.Duration) {
	l.ring[l.next] = look{true, now, delay}
	l.next = (l.next + 1) % l.Count
}

// Slow counts the looks at which the disk was slow.
func (l *Looks) Slow(now time.Duration) int {
	n := 0
	for i := range l.ring {
		if at := &l.ring[i]; l.Limit > 0 && at.counts(now) && at.delay >= l.Limit {
			n++
		}
	}
	return n
}

// Delay is how long writes and syncs take: the median of the looks; 0: nothing is
// known.
func (l *Looks) Delay(now time.Duration) time.Duration {
	var all [Most]time.Duration
	n := 0
	for i := range l.ring {
		if at := &l.ring[i]; at.counts(now) {
			all[n] = at.delay
			n++
		}
	}
	if n == 0 {
		return 0
	}
	slices.Sort(all[:n])
	return all[n/2]
}

func (l *look) counts(now time.Duration) bool { return l.taken && now-l.at <= kept }
