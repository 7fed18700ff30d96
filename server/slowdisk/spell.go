package slowdisk

import "time"

const (
	// WellFor is how long a disk is well before it counts as that. It doubles each
	// time that it was well for less than Relapse, up to MostWellFor.
	WellFor = 30 * time.Second
	// MostWellFor is the longest that it can take.
	MostWellFor = 8 * time.Minute
	// Relapse is how soon after trouble more of it belongs to it.
	Relapse = 10 * time.Minute
)

// Spell is a time of trouble, and what came before. The zero value is of a disk
// that was never in trouble.
type Spell struct {
	on    bool
	since time.Duration // while it is on: since when the disk has been well
	hold  time.Duration // how long it has to be well, the last time
	ended time.Duration // when the last one ended
	once  bool          // one did
}

// See takes what was seen of a disk now: whether it is in trouble, and if it is
// not, whether it has shown that. It returns whether the trouble goes on. now is
// of a clock that never goes back.
func (s *Spell) See(now time.Duration, trouble, shown bool) bool {
	switch {
	case trouble && !s.on:
		s.hold = s.nextHold(now)
		s.on, s.since = true, now
	case trouble:
		s.since = now
	case !s.on:
	case !shown:
		s.since = now
	case now-s.since >= s.hold:
		s.on, s.ended, s.once = false, now, true
	}
	return s.on
}

// On tells whether the trouble goes on, as far as See was told.
func (s *Spell) On() bool { return s.on }

// nextHold is how long the disk has to be well after it is in trouble anew.
func (s *Spell) nextHold(now time.Duration) time.Duration {
	if s.once && now-s.ended < Relapse {
		return min(2*s.hold, MostWellFor)
	}
	return WellFor
}
