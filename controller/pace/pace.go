// Package pace decides when the active controller lets another be active,
// because its own disk is slow: every change of the metadata waits for that disk
// otherwise, for as long as it is slow, since whoever has it is alive and leads on.
//
// It refuses to own what is measured (controller/etcd), how the others are asked
// and how one hands over (controller/node).
//
// INVARIANT: a controller hands over only to one whose disk is known to be well
// and much faster, and seldom: see Turns. So leadership does not wander among
// disks that are alike, and no two disks that are slow in turn throw it to and fro.
//
// It is pure: it reads no clock, keeps no time but what it is given, and starts no
// goroutine. Its types are one goroutine's.
package pace

import (
	"math"
	"time"
)

// Calls are the writes and syncs of a disk that have ended so far.
type Calls struct {
	// Count is how many.
	Count uint64
	// Seconds is how long they took together, Squares the sum of the squares of
	// how long each took.
	Seconds, Squares float64
}

// Since returns what came to it after before.
func (c Calls) Since(before Calls) Calls {
	return Calls{c.Count - before.Count, c.Seconds - before.Seconds, c.Squares - before.Squares}
}

// delay is how long somebody waits who comes at any time while the disk is at
// work: a thousand quick writes do not hide the one that stops all.
func (c Calls) delay() time.Duration {
	if c.Count == 0 || c.Seconds <= 0 {
		return 0
	}
	return time.Duration(c.Squares / c.Seconds * float64(time.Second))
}

// Bucket is calls that took about as long.
type Bucket struct {
	// Most is the longest that one of them took, in seconds; +Inf: longer than
	// those of all other buckets.
	Most float64
	// Count is how many took that long or less, since all began.
	Count uint64
}

// Add adds the calls of a histogram, whose buckets are in order. Those of a
// bucket count as the mean, by size, of its bounds.
func (c *Calls) Add(buckets []Bucket) {
	var least float64
	var below uint64
	for _, b := range buckets {
		took := math.Sqrt(least * b.Most)
		switch {
		case least == 0:
			took = b.Most / 2
		case math.IsInf(b.Most, 1):
			took = least
		}
		if n := b.Count - below; n > 0 {
			c.Count += n
			c.Seconds += float64(n) * took
			c.Squares += float64(n) * took * took
		}
		least, below = b.Most, b.Count
	}
}
