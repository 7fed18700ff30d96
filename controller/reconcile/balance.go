package reconcile

import (
	"log/slog"
	"time"

	"github.com/millstream-io/millstream/controller/election"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/placement"
	"github.com/millstream-io/millstream/controller/store"
)

const (
	// preferredEvery is how often leaders are brought back.
	preferredEvery = 5 * time.Minute
	// spreadAfter is for how long a broker has little before it is filled: time
	// enough to say what shall be moved to it, by those who want to.
	spreadAfter = time.Minute
	// spreadLook is how often brokers that have little are looked for, which takes
	// a look at every partition.
	spreadLook = 5 * time.Second
)

// Balance says what is moved though nobody asks for it: replicas to brokers
// that have few, and leaders to where they are preferred. The zero value says
// all, always.
type Balance struct {
	// Off: nothing.
	Off bool
	// From and To are times of day, in UTC: moves begin from the one to the other,
	// which may be on the next day. If they are equal: always.
	From, To time.Duration
}

// allows tells whether a move may begin.
func (b Balance) allows(now time.Time) bool {
	now = now.UTC()
	at := now.Sub(time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, time.UTC))
	switch {
	case b.Off:
		return false
	case b.From == b.To:
		return true
	case b.From < b.To:
		return b.From <= at && at < b.To
	default:
		return b.From <= at || at < b.To
	}
}

// spreading is what the active controller knows of the moves to brokers that
// have little. It is lost with the election: the next one begins to look anew.
type spreading struct {
	on     bool      // moves are begun until all brokers have as much
	looked time.Time // last
	short  time.Time // since when a broker has little; zero: none has
}

// planPreferred brings leaders back to where they are preferred, now and then:
// after its broker was away a partition is led by another, and many such leave
// the load uneven.
func (a *active) planPreferred() {
	if time.Since(a.preferredAt) < preferredEvery || !a.o.Balance.allows(a.o.Now()) {
		return
	}
	a.preferredAt = time.Now()
	a.handOvers.wish(nil)
	a.scan = true
}

// planSpread returns the next moves to brokers that have few replicas, as many
// as may go on at a time. A broker that was added, or is drained no more, has
// less than half of what brokers have on average: it is filled until all have
// as much. Less uneven than that is what somebody may have wanted.
func (a *active) planSpread(v *image.View) []*store.Edit {
	s, now := &a.spread, time.Now()
	if !s.on && now.Sub(s.looked) < spreadLook {
		return nil
	}
	s.looked = now
	if a.o.Balance.Off {
		return nil
	}
	to := takers(v)
	if !s.on {
		if !uneven(to) {
			s.short = time.Time{}
			return nil
		}
		if s.short.IsZero() {
			s.short = now
		}
		if now.Sub(s.short) < spreadAfter {
			return nil
		}
	}
	// Where something is wrong, or is moved already, that comes first.
	room, sound := spreadable(v)
	if !sound || !a.o.Balance.allows(a.o.Now()) {
		return nil
	}
	ps := movables(v)
	replicas := make([][]int32, len(ps))
	for i, p := range ps {
		replicas[i] = p.Record.GetReplicas()
	}
	moves := placement.NewMover(to, racks(v)).Spread(replicas, fillsAtOnce*len(to))
	edits, filled := newBatch(), fills(v)
	for _, m := range moves {
		p := ps[m.Partition]
		if room--; room < 0 || !filled.add(p.Record.GetReplicas(), m.Replicas) {
			continue
		}
		edits.put(store.PartitionKey(store.TopicID(p.Record.GetTopicId()), p.Record.GetPartition()), p.Revision,
			newElectable(p.Record).begin(v, m.Replicas, a.o.MoveBytes).edited())
	}
	switch {
	case len(edits.edits) > 0 && !s.on:
		s.on = true
		a.o.Logger.Info("replicas are moved to brokers that have few", slog.Int("brokers", len(to)))
	case len(moves) == 0:
		s.on, s.short = false, time.Time{}
	}
	return edits.edits
}

// uneven tells whether a broker has less than half of what they have on average,
// and less than one replica too few.
func uneven(bs []placement.Broker) bool {
	sum, least := 0, 0
	for i, b := range bs {
		sum += b.Replicas
		if i == 0 || b.Replicas < least {
			least = b.Replicas
		}
	}
	return 2*least*len(bs) < sum && sum-least*len(bs) >= len(bs)
}

// spreadable returns how many more partitions may be moved, and whether all are
// led and have every replica in sync that is not being added, and no broker is
// drained.
func spreadable(v *image.View) (room int, sound bool) {
	for _, b := range v.Brokers {
		if b.Record.GetDraining() {
			return 0, false
		}
	}
	room = maxMoves
	for _, t := range v.Topics {
		for _, p := range t.Partitions {
			if len(p.Record.GetTargetReplicas()) > 0 {
				room--
			}
			if p.Record.GetLeader() == election.NoLeader || len(p.Record.GetInSyncReplicas())+len(p.Record.GetAddingReplicas()) < len(p.Record.GetReplicas()) {
				return 0, false
			}
		}
	}
	return room, true
}
