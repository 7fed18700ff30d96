// Package election decides who leads a partition and which of its replicas
// are in sync, from which brokers can be counted on. It is pure: a partition
// and the brokers in, the partition as it should be out. It reads no clock,
// keeps nothing, starts no goroutine.
//
// It refuses to own when that is asked: controller/reconcile asks after every
// change of a broker, and writes the answer down. Since the answer depends on
// nothing but the state, a controller that takes over finishes what another
// began.
//
// INVARIANT: epochs never fall; every change of the leader, nobody included,
// begins an epoch; who leads was in sync or eligible, or had the most of all
// that are last known; Next of Next is Next.
//
// ELR and last known mean something only while the ISR is below MinISR, when
// the high watermark stands still: every replica that left since then had
// everything below it. Whatever brings the ISR to MinISR clears both, because
// from there on records are acknowledged without them.
package election

import "slices"

// NoLeader is the leader of a partition that nobody leads.
const NoLeader int32 = -1

// Standing says how far a broker can be counted on for a partition.
type Standing uint8

// The standings.
const (
	// Gone: fenced, unknown, or with another directory than the partition's.
	Gone Standing = iota
	// Leaving: it serves but is about to stop; it leads if nobody else can.
	Leaving
	// Impaired: its disk is in trouble; it leads if nobody who serves is in sync.
	Impaired
	// Serving: it can lead.
	Serving
)

// Partition is what elections read and change of a partition.
type Partition struct {
	// Leader is who leads, or NoLeader.
	Leader int32
	// LeaderEpoch grows with every change of the leader.
	LeaderEpoch int32
	// Replicas hold the partition, the preferred leader first.
	Replicas []int32
	// ISR are the replicas in sync. It is empty only when none can be trusted.
	ISR []int32
	// ELR may lead though they are not in sync: they had everything when they
	// left, and nothing was acknowledged since.
	ELR []int32
	// LastKnown had everything once and cannot be trusted to have it still.
	LastKnown []int32
	// MinISR is the effective min.insync.replicas.
	MinISR int
}

// Next returns the partition as it should be, and whether that differs. The
// slices of p are not changed. standing is asked for replicas only.
//
// A replica whose broker is gone leaves the ISR, but the last one stays: it
// alone is known to have everything. Those that leave while the ISR is below
// MinISR stay eligible, as the high watermark does not move without them.
//
// A broker that is leaving is led away from first, and leaves the ISR once
// somebody who stays leads: then nobody waits for it when it stops. It stays
// where the ISR would fall below MinISR, which comes soon enough.
func Next(p Partition, standing func(id int32) Standing) (Partition, bool) {
	n := forget(p) // MinISR may be another than when the ISR last changed
	gone := func(id int32) bool { return standing(id) == Gone }
	if alive := without(n.ISR, gone); len(alive) < len(n.ISR) {
		if len(alive) == 0 {
			alive = []int32{lastOf(n)}
		}
		n = withISR(n, alive)
	}
	leader := choose(n, standing)
	if leader != NoLeader && !slices.Contains(n.ISR, leader) {
		// It was eligible, so the ISR was below MinISR and nothing was
		// acknowledged since: those in it become what it was.
		n.ELR = union(without(n.ELR, func(id int32) bool { return id == leader }), n.ISR)
		n.ISR = []int32{leader}
		n = forget(n)
	}
	if leader != n.Leader {
		n.Leader = leader
		n.LeaderEpoch++
	}
	n = LetGo(n, standing)
	return n, changed(p, n)
}

// LetGo returns the partition without replicas in sync that are leaving or
// impaired, as long as that is enough without them, if who leads serves: nobody
// is to wait for them.
func LetGo(p Partition, standing func(id int32) Standing) Partition {
	if p.Leader == NoLeader || standing(p.Leader) != Serving {
		return p
	}
	drop := func(as Standing, enough int) {
		for _, id := range p.ISR {
			if standing(id) == as && len(p.ISR) > enough {
				p = withISR(p, without(p.ISR, in([]int32{id})))
			}
		}
	}
	drop(Leaving, p.MinISR)
	if Enough(p, standing) {
		drop(Impaired, 0)
	}
	return p
}

// Enough tells whether so many serve and are in sync that nobody has to wait for
// one that is impaired: MinISR, and two where there are as many replicas. A slow
// copy is better than none.
func Enough(p Partition, standing func(id int32) Standing) bool {
	serve := 0
	for _, id := range p.ISR {
		if standing(id) == Serving {
			serve++
		}
	}
	return serve >= max(p.MinISR, min(2, len(p.Replicas)))
}

// Propose returns the partition with the ISR that its leader proposes. Who
// leaves it stays eligible if it falls below MinISR. REQUIRES: the leader is in
// it, all in it are replicas and hold everything below the high watermark.
func Propose(p Partition, isr []int32) Partition { return withISR(p, slices.Clone(isr)) }

// withISR replaces the ISR. Who was in it until now has all that was ever
// acknowledged, and as long as the ISR is below MinISR nothing more is: so who
// leaves is eligible then.
func withISR(p Partition, isr []int32) Partition {
	if len(isr) < p.MinISR {
		p.ELR = union(p.ELR, p.ISR)
	}
	p.ISR = isr
	p.ELR = without(p.ELR, in(isr))
	p.LastKnown = without(p.LastKnown, func(id int32) bool { return in(isr)(id) || in(p.ELR)(id) })
	return forget(p)
}

// forget clears ELR and last known when the ISR is enough by itself.
func forget(p Partition) Partition {
	if len(p.ISR) >= p.MinISR {
		p.ELR, p.LastKnown = nil, nil
	}
	return p
}

func in(ids []int32) func(int32) bool {
	return func(id int32) bool { return slices.Contains(ids, id) }
}

// choose returns the leader: who leads already if it can go on, else the first
// of the replicas in sync, else the first that is eligible; a broker that is
// impaired only if none serves, one that is leaving only if there is no other.
// An impaired leader goes on where others are at most eligible: who is not in
// sync has to catch up with somebody.
func choose(p Partition, standing func(id int32) Standing) int32 {
	first := func(among []int32, as Standing) int32 {
		for _, id := range p.Replicas {
			if slices.Contains(among, id) && standing(id) == as {
				return id
			}
		}
		return NoLeader
	}
	led := NoLeader // by whom it can still be
	if slices.Contains(p.ISR, p.Leader) {
		led = p.Leader
	}
	if led != NoLeader && standing(led) == Serving {
		return led
	}
	if id := first(p.ISR, Serving); id != NoLeader {
		return id
	}
	if led != NoLeader && standing(led) == Impaired {
		return led
	}
	for _, as := range []Standing{Serving, Impaired} {
		for _, among := range [][]int32{p.ISR, p.ELR} {
			if id := first(among, as); id != NoLeader {
				return id
			}
		}
	}
	if led != NoLeader && standing(led) == Leaving {
		return led
	}
	return first(p.ISR, Leaving)
}

// lastOf returns the replica that stays in the ISR when all are gone: the
// leader, who has everything that was acknowledged.
func lastOf(p Partition) int32 {
	if slices.Contains(p.ISR, p.Leader) {
		return p.Leader
	}
	return p.ISR[0]
}

// Distrust returns the partition after a replica turned out not to have what
// it was thought to have, and whether that differs: it is neither in sync nor
// eligible any more, and leads nothing.
func Distrust(p Partition, id int32) (Partition, bool) {
	n := p
	is := func(x int32) bool { return x == id }
	if !slices.ContainsFunc(p.ISR, is) && !slices.ContainsFunc(p.ELR, is) {
		return p, false
	}
	n.ISR, n.ELR = without(p.ISR, is), without(p.ELR, is)
	n.LastKnown = union(p.LastKnown, []int32{id})
	if n.Leader == id {
		n.Leader = NoLeader
		n.LeaderEpoch++
	}
	return forget(n), true
}

// Narrow returns the partition with only those of its replicas, in that order,
// and whether that is safe: nobody who may lead is left out, or enough of those
// that stay are in sync and one of them serves. Whoever leads and is left out
// is followed by the first that is in sync and serves.
//
// Leaving out members of the ISR loses nothing, as each of those that stay has
// everything that was acknowledged; and the leader, until it knows, waits for
// more of them than it must.
func Narrow(p Partition, replicas []int32, minISR int, standing func(id int32) Standing) (Partition, bool) {
	out := func(id int32) bool { return !in(replicas)(id) }
	isr := without(p.ISR, out)
	safe := !slices.ContainsFunc(slices.Concat(p.ISR, p.ELR, p.LastKnown), out) ||
		len(isr) >= max(1, minISR) && slices.ContainsFunc(isr, func(id int32) bool { return standing(id) == Serving })
	if !safe {
		return p, false
	}
	p.Replicas, p.MinISR, p.ISR = slices.Clone(replicas), minISR, isr
	p.ELR, p.LastKnown = without(p.ELR, out), without(p.LastKnown, out)
	p = forget(p)
	if p.Leader != NoLeader && out(p.Leader) {
		p.Leader = choose(p, standing)
		p.LeaderEpoch++
	}
	return p, true
}

// Succeed returns the partition led by another broker, to which the leader hands
// it over. REQUIRES: it is in sync and serves.
func Succeed(p Partition, id int32) Partition {
	p.Leader = id
	p.LeaderEpoch++
	return p
}

// CanMove reports whether another broker than the leader, which is leaving, could
// lead.
func CanMove(p Partition, standing func(id int32) Standing) bool {
	return slices.ContainsFunc(slices.Concat(p.ISR, p.ELR), func(id int32) bool {
		return id != p.Leader && standing(id) > Leaving
	})
}

// Missed reports whether a broker, which is leaving, is worth waiting for: without
// it too few would be in sync, and another that serves is about to be. What its
// clients and the leader have in flight would wait for its return, and without
// anybody in sync have no outcome.
func Missed(p Partition, id int32, standing func(id int32) Standing) bool {
	if !slices.Contains(p.ISR, id) {
		return false
	}
	stay := 0
	for _, other := range p.ISR {
		if other != id && standing(other) > Leaving {
			stay++
		}
	}
	return stay < max(1, p.MinISR) && slices.ContainsFunc(p.Replicas, func(other int32) bool {
		return !slices.Contains(p.ISR, other) && standing(other) == Serving
	})
}

func changed(a, b Partition) bool {
	return a.Leader != b.Leader || a.LeaderEpoch != b.LeaderEpoch || !slices.Equal(a.ISR, b.ISR) ||
		!slices.Equal(a.ELR, b.ELR) || !slices.Equal(a.LastKnown, b.LastKnown)
}

// without returns the elements for which drop does not hold, in a new slice if
// any is dropped.
func without(ids []int32, drop func(int32) bool) []int32 {
	if !slices.ContainsFunc(ids, drop) {
		return ids
	}
	return slices.DeleteFunc(slices.Clone(ids), drop)
}

// union returns the elements of a, then those of b that are not in a, in a new
// slice.
func union(a, b []int32) []int32 {
	u := slices.Clone(a)
	for _, id := range b {
		if !slices.Contains(u, id) {
			u = append(u, id)
		}
	}
	return u
}
