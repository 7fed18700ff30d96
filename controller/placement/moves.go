package placement

import (
	"cmp"
	"slices"
)

// Mover plans which replicas go where on brokers that have some already. What
// it plans it counts, so that one plan after the other is even. One goroutine.
type Mover struct {
	loads []load           // of brokers that take replicas, by identity
	racks map[int32]string // of every broker, also of those that take none
}

// NewMover returns a mover onto those brokers. The racks of brokers that take
// nothing more are needed too, since what stays on them counts.
func NewMover(takers []Broker, racks map[int32]string) *Mover {
	m := &Mover{loads: make([]load, len(takers)), racks: racks}
	for i, b := range takers {
		m.loads[i] = load{Broker: b}
	}
	slices.SortFunc(m.loads, func(a, b load) int { return cmp.Compare(a.ID, b.ID) })
	return m
}

func (m *Mover) find(id int32) *load {
	n, ok := slices.BinarySearchFunc(m.loads, id, func(l load, id int32) int { return cmp.Compare(l.ID, id) })
	if !ok {
		return nil
	}
	return &m.loads[n]
}

// Replace returns the replicas of a partition with another broker in the place
// of one that is leaving: on the rack that has the least of the partition, then
// the one that holds the least, or leads the least if it is to be the preferred
// leader. It fails with *NotEnoughBrokersError.
func (m *Mover) Replace(replicas []int32, leaving int32) ([]int32, error) {
	at := slices.Index(replicas, leaving)
	if at < 0 {
		return slices.Clone(replicas), nil
	}
	shared := map[string]int{}
	for _, id := range replicas {
		if id != leaving {
			shared[m.racks[id]]++
		}
	}
	var best *load
	for i := range m.loads {
		l := &m.loads[i]
		if slices.Contains(replicas, l.ID) {
			continue
		}
		byLead := 0
		if best != nil && at == 0 {
			byLead = cmp.Compare(l.Leaders, best.Leaders)
		}
		if best == nil || cmp.Or(cmp.Compare(shared[l.Rack], shared[best.Rack]), cmp.Compare(l.Replicas, best.Replicas), byLead) < 0 {
			best = l
		}
	}
	if best == nil {
		return nil, &NotEnoughBrokersError{Wanted: len(replicas), Available: len(m.loads)}
	}
	next := slices.Clone(replicas)
	next[at] = best.ID
	m.count(m.find(leaving), at, -1)
	m.count(best, at, +1)
	return next, nil
}

// count notes that a broker holds one replica more or less, at that place.
func (m *Mover) count(l *load, at, by int) {
	if l == nil {
		return
	}
	l.Replicas += by
	if at == 0 {
		l.Leaders += by
	}
}

// Move is where a partition goes.
type Move struct {
	// Partition is its place in the list that was given.
	Partition int
	// Replicas are those that it shall have.
	Replicas []int32
}

// Spread returns at most so many moves, of one replica each and of different
// partitions, that make the brokers hold as many replicas as each other. Every
// move is from a broker to one that holds at least two less, so none is in
// vain; none takes a partition to fewer racks. A partition without replicas in
// the list stays where it is.
func (m *Mover) Spread(partitions [][]int32, most int) []Move {
	held := map[int32][]int{} // partitions by broker
	for n, replicas := range partitions {
		for _, id := range replicas {
			held[id] = append(held[id], n)
		}
	}
	moved := map[int]bool{}
	var moves []Move
	for len(moves) < most {
		n, from, to := m.next(partitions, held, moved)
		if n < 0 {
			break
		}
		at := slices.Index(partitions[n], from.ID)
		replicas := slices.Clone(partitions[n])
		replicas[at] = to.ID
		m.count(from, at, -1)
		m.count(to, at, +1)
		moved[n] = true
		moves = append(moves, Move{Partition: n, Replicas: replicas})
	}
	return moves
}

// next returns the next partition to move, from the broker that holds the most
// for which there is one to that which holds the least; -1: there is none.
func (m *Mover) next(partitions [][]int32, held map[int32][]int, moved map[int]bool) (int, *load, *load) {
	by := make([]*load, len(m.loads))
	for i := range m.loads {
		by[i] = &m.loads[i]
	}
	slices.SortStableFunc(by, func(a, b *load) int { return cmp.Compare(b.Replicas, a.Replicas) })
	for _, from := range by {
		for _, to := range slices.Backward(by) {
			if from.Replicas-to.Replicas < 2 {
				break
			}
			if n := m.movable(partitions, held[from.ID], moved, from, to); n >= 0 {
				return n, from, to
			}
		}
		// WHY not the next broker: this one can give more in the next plan, when
		// what has moved is where it goes. One that holds less would give more than
		// its share instead.
		if from.Replicas-by[len(by)-1].Replicas > 1 && slices.ContainsFunc(held[from.ID], func(n int) bool { return moved[n] }) {
			break
		}
	}
	return -1, nil, nil
}

// movable returns a partition that can go from one broker to the other; -1:
// there is none. One that leads is chosen where there is one if the other
// leads less, and one that follows otherwise.
func (m *Mover) movable(partitions [][]int32, candidates []int, moved map[int]bool, from, to *load) int {
	found := -1
	for _, n := range candidates {
		replicas := partitions[n]
		if moved[n] || slices.Contains(replicas, to.ID) || m.rackCount(replicas, from.ID, to.ID) < m.rackCount(replicas, from.ID, from.ID) {
			continue
		}
		if leads := replicas[0] == from.ID; leads == (from.Leaders > to.Leaders) {
			return n
		}
		if found < 0 {
			found = n
		}
	}
	return found
}

// rackCount returns on how many racks a partition is with one broker in the
// place of another.
func (m *Mover) rackCount(replicas []int32, from, to int32) int {
	seen := map[string]bool{}
	for _, id := range replicas {
		if id == from {
			id = to
		}
		seen[m.racks[id]] = true
	}
	return len(seen)
}
