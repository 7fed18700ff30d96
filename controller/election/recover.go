package election

import (
	"cmp"
	"slices"
)

// Recovered is where a replica's log ended when its broker started.
type Recovered struct {
	// LastEpoch is the leader epoch of its last batch; 0: it has none.
	LastEpoch int32
	// End is the offset after its last record.
	End int64
}

// Compare orders logs by what they can have: more epochs before more records.
func (r Recovered) Compare(o Recovered) int {
	return cmp.Or(cmp.Compare(r.LastEpoch, o.LastEpoch), cmp.Compare(r.End, o.End))
}

// Awaits returns whom a partition that nobody leads waits for: the replicas
// that are in sync or eligible, since any of them may lead once it serves; or,
// if there are none, those last known whose ends are not reported; or, when all
// are, those that have the most. Nil: somebody leads, or Recover has an answer.
func Awaits(p Partition, standing func(id int32) Standing, reported func(id int32) (Recovered, bool)) []int32 {
	if p.Leader != NoLeader {
		return nil
	}
	if trusted := union(p.ISR, p.ELR); len(trusted) > 0 {
		return trusted
	}
	if len(p.LastKnown) == 0 {
		return slices.Clone(p.Replicas)
	}
	silent := without(p.LastKnown, func(id int32) bool { _, ok := reported(id); return ok })
	if len(silent) > 0 {
		return slices.Clone(silent)
	}
	best := greatest(p, p.LastKnown, reported)
	if slices.ContainsFunc(best, func(id int32) bool { return standing(id) != Gone }) {
		return nil
	}
	return best
}

// Recover returns the partition led by the replica that has the most of all
// that are last known, and whether there is one: none is trusted, every one of
// them has reported where its log ends, and one that has the most serves. What
// was acknowledged may be missing even there.
func Recover(p Partition, standing func(id int32) Standing, reported func(id int32) (Recovered, bool)) (Partition, bool) {
	if p.Leader != NoLeader || len(p.LastKnown) == 0 || len(Awaits(p, standing, reported)) > 0 {
		return p, false
	}
	return lead(p, greatest(p, p.LastKnown, reported), standing, reported)
}

// AcceptLoss returns the partition led by whoever of its replicas serves and
// has the most, whatever the others have, and whether there is one. A replica
// that has not reported its end is taken to have nothing.
func AcceptLoss(p Partition, standing func(id int32) Standing, reported func(id int32) (Recovered, bool)) (Partition, bool) {
	if p.Leader != NoLeader {
		return p, false
	}
	here := without(p.Replicas, func(id int32) bool { return standing(id) == Gone })
	return lead(p, greatest(p, here, reported), standing, reported)
}

// lead makes the first of the candidates that serves the leader and alone in
// sync. Its epoch is above every one in a log: no two records of one epoch can
// come from different leaders.
func lead(p Partition, candidates []int32, standing func(id int32) Standing, reported func(id int32) (Recovered, bool)) (Partition, bool) {
	for _, want := range []Standing{Serving, Impaired, Leaving} {
		i := slices.IndexFunc(candidates, func(id int32) bool { return standing(id) == want })
		if i < 0 {
			continue
		}
		p.Leader = candidates[i]
		for _, id := range p.Replicas {
			r, _ := reported(id)
			p.LeaderEpoch = max(p.LeaderEpoch, r.LastEpoch)
		}
		p.LeaderEpoch++
		// Nothing more was acknowledged while nobody led: who was last known
		// still is, until the ISR is enough by itself.
		others := union(union(p.ISR, p.ELR), p.LastKnown)
		p.ISR, p.ELR = []int32{p.Leader}, nil
		p.LastKnown = without(others, in(p.ISR))
		return forget(p), true
	}
	return p, false
}

// greatest returns the replicas among those given whose logs have the most, in
// the order of the partition's replicas.
func greatest(p Partition, among []int32, reported func(id int32) (Recovered, bool)) []int32 {
	var best []int32
	var most Recovered
	for _, id := range p.Replicas {
		if !slices.Contains(among, id) {
			continue
		}
		r, _ := reported(id)
		switch c := r.Compare(most); {
		case len(best) == 0 || c > 0:
			best, most = []int32{id}, r
		case c == 0:
			best = append(best, id)
		}
	}
	return best
}
