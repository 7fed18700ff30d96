// Package placement decides which brokers hold the replicas of new
// partitions. It is pure: a cluster in, a plan out; it reads no clock, keeps
// nothing, starts no goroutine, and the same input gives the same plan.
//
// It refuses to own who leads (controller/election) and moving what is placed.
//
// INVARIANT: the replicas of a partition are on different brokers, and on as
// many racks as there can be.
package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// Broker is a broker that can take replicas.
type Broker struct {
	// ID is its identity.
	ID int32
	// Rack is where it stands; brokers without one count as one rack.
	Rack string
	// Replicas is the number that it holds already, of all topics.
	Replicas int
	// Leaders is the number of partitions that prefer it as their leader.
	Leaders int
}

// NotEnoughBrokersError says that there are fewer brokers than replicas.
type NotEnoughBrokersError struct {
	// Wanted is the replication factor.
	Wanted int
	// Available is the number of brokers.
	Available int
}

// Error says it for people.
func (e *NotEnoughBrokersError) Error() string {
	return fmt.Sprintf("the replication factor is %d, and the number of brokers that take replicas %d", e.Wanted, e.Available)
}

// load is a broker and what this plan knows of it.
type load struct {
	Broker
	topicLeaders  int // partitions of the topic that prefer it
	topicReplicas int // replicas of the topic that it holds
}

// Placer places the partitions of one topic, one after the other. One
// goroutine.
type Placer struct {
	loads    []load
	replicas int
	racks    map[string]int // how many replicas of the partition at hand
}

// NewPlacer returns a placer for a topic of that many replicas a partition.
// Each broker's identity is there once. It fails with *NotEnoughBrokersError.
func NewPlacer(brokers []Broker, replicas int) (*Placer, error) {
	if replicas < 1 || len(brokers) < replicas {
		return nil, &NotEnoughBrokersError{Wanted: replicas, Available: len(brokers)}
	}
	p := &Placer{replicas: replicas, loads: make([]load, len(brokers)), racks: map[string]int{}}
	for i, b := range brokers {
		p.loads[i] = load{Broker: b}
	}
	slices.SortFunc(p.loads, func(a, b load) int { return cmp.Compare(a.ID, b.ID) })
	return p, nil
}

// Placed tells the placer of a partition of the topic that has its replicas
// already; they are not among the brokers' counts twice.
func (p *Placer) Placed(replicas []int32) {
	for i, id := range replicas {
		if n, ok := slices.BinarySearchFunc(p.loads, id, func(l load, id int32) int { return cmp.Compare(l.ID, id) }); ok {
			p.loads[n].topicReplicas++
			if i == 0 {
				p.loads[n].topicLeaders++
			}
		}
	}
}

// Next places the next partition: its replicas, the preferred leader first.
//
// The leader is the broker that leads the least of this topic, then of all;
// each follower is on the rack that has the least of this partition, then on
// the broker that holds the least of this topic, then of all. So a topic is
// spread evenly by itself, and many small topics are together.
func (p *Placer) Next() []int32 {
	clear(p.racks)
	chosen := make([]int32, 0, p.replicas)
	leader := p.least(chosen, func(a, b *load) int {
		return cmp.Or(cmp.Compare(a.topicLeaders, b.topicLeaders), cmp.Compare(a.Leaders, b.Leaders),
			cmp.Compare(a.topicReplicas, b.topicReplicas), cmp.Compare(a.Replicas, b.Replicas))
	})
	leader.topicLeaders++
	leader.Leaders++
	chosen = p.take(chosen, leader)
	for len(chosen) < p.replicas {
		chosen = p.take(chosen, p.least(chosen, func(a, b *load) int {
			return cmp.Or(cmp.Compare(p.racks[a.Rack], p.racks[b.Rack]),
				cmp.Compare(a.topicReplicas, b.topicReplicas), cmp.Compare(a.Replicas, b.Replicas),
				// Of equals, the one that will lead soon has room the longest.
				cmp.Compare(b.topicLeaders, a.topicLeaders))
		}))
	}
	return chosen
}

func (p *Placer) take(chosen []int32, l *load) []int32 {
	l.topicReplicas++
	l.Replicas++
	p.racks[l.Rack]++
	return append(chosen, l.ID)
}

// least returns the least of the brokers that are not chosen; of equals, the
// one with the lowest identity.
func (p *Placer) least(chosen []int32, compare func(a, b *load) int) *load {
	var best *load
	for i := range p.loads {
		l := &p.loads[i]
		if slices.Contains(chosen, l.ID) {
			continue
		}
		if best == nil || compare(l, best) < 0 {
			best = l
		}
	}
	return best
}
