package replica

import "github.com/millstream-io/millstream/storage/record"

// Lag is how far a replica is behind its leader.
type Lag struct {
	ID ID
	// Records that it does not have.
	Records record.Offset
	// InSync says that it is in the committed ISR; Added that it was added for a
	// move.
	InSync, Added bool
}

// Lags appends how far the others are behind.
func (l *Leader) Lags(out []Lag, logStart record.Offset) []Lag {
	if !l.leading {
		return out
	}
	for i := range l.members {
		if m := &l.members[i]; i != l.own {
			out = append(out, Lag{
				ID: m.id, Records: max(0, l.members[l.own].End-max(m.End, logStart)), InSync: m.committed, Added: m.added,
			})
		}
	}
	return out
}
