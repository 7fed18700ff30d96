package broker

import (
	"time"

	"github.com/millstream-io/millstream/server/slowdisk"
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
)

// judge decides whether a disk is in trouble, from what was seen of it. It is
// pure: it reads no clock and keeps nothing else.
//
// A disk that fills up or refuses writes is in trouble at once, a slow one when
// it has been slow for a while. It is well when it has shown that, without a
// break, for long enough; what nothing was tried on has shown nothing.
type judge struct {
	is      impairment
	looks   slowdisk.Looks
	trouble slowdisk.Spell
}

// newJudge returns a judge of a disk of which nothing is known. limit is the
// delay from which one is slow; 0: none is.
func newJudge(limit time.Duration) judge {
	return judge{looks: slowdisk.Looks{Count: looks, Limit: limit}}
}

// see takes what was seen since the last look, and returns the verdict. roomy
// tells whether there is room on the disk again.
func (j *judge) see(now time.Duration, s watchfs.Sample, roomy bool) impairment {
	if s.Calls > 0 {
		j.looks.Add(now, s.Delay)
	}
	slow := j.looks.Slow(now)
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
	shown := s.Calls > 0 && slow <= slowdisk.Odd && (j.is != diskFull || roomy)
	if !j.trouble.See(now, found != unimpaired, shown) {
		j.is = unimpaired
		return j.is
	}
	j.is = max(j.is, found)
	return j.is
}

// delay returns how long writes and syncs take; 0: nothing is known.
func (j *judge) delay(now time.Duration) time.Duration { return j.looks.Delay(now) }
