package api

import (
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
)

// lane is what a Produce stream knows of one partition: where it is, whether
// requests for it are refused until a `restart`, and the requests whose
// answers have to come in order.
type lane struct {
	// Fixed.
	topic     *topicLanes
	partition uint32

	// receive's own.
	refusing bool // the last request that receive refused or that no `restart` followed
	at       *partition.Partition
	atSnap   *metadata.Snapshot // for which `at` was found
	topicID  [16]byte           // of the topic in which it was found

	// order is the side of `last` of refusing: what fails there fails what is
	// queued behind it. nil: no partition was found yet.
	order *partition.Lane
	last  *partition.Partition
	away  *awayLane // nil: was never forwarded

	// Guarded by produceStream.mu.
	head, tail *unit // not answered, in the order of the stream
	inside     int   // units that the partition has
}

// topicLanes are the lanes of a topic.
type topicLanes struct {
	name string
	// undirected is the lane of requests that name no partition and were refused
	// before one was chosen.
	undirected  lane
	byPartition map[uint32]*lane
}

// push adds a unit.
//
// REQUIRES: produceStream.mu is held.
func (l *lane) push(u *unit) {
	if l.tail == nil {
		l.head = u
	} else {
		l.tail.next = u
	}
	l.tail = u
}

// pop removes the head.
//
// REQUIRES: produceStream.mu is held.
func (l *lane) pop() {
	u := l.head
	if l.head = u.next; l.head == nil {
		l.tail = nil
	}
	u.next = nil
}

// laneSet holds the lanes of a stream. It is receive's own.
//
// A lane that neither refuses nor has requests can be forgotten: the next
// request makes it anew. So the set is bounded without refusing clients that
// write to many partitions in turn.
type laneSet struct {
	limit  int
	count  int // lanes, undirected ones included
	topics map[string]*topicLanes
	last   *lane // the last one found; usually the next one too
}

func newLaneSet(limit int) laneSet {
	return laneSet{limit: limit, topics: make(map[string]*topicLanes)}
}

// knows tells whether there are lanes of a topic, whose name is then a valid
// one.
func (s *laneSet) knows(topic []byte) bool {
	_, ok := s.topics[string(topic)]
	return ok
}

// topic returns the lanes of a topic.
func (s *laneSet) topic(name []byte) *topicLanes {
	if t, ok := s.topics[string(name)]; ok {
		return t
	}
	t := &topicLanes{name: string(name), byPartition: make(map[uint32]*lane)}
	t.undirected.topic = t
	s.topics[t.name] = t
	s.count++
	return t
}

// find returns the lane of a partition.
func (s *laneSet) find(topic []byte, id uint32) *lane {
	if l := s.last; l != nil && l.partition == id && l.topic.name == string(topic) {
		return l
	}
	s.last = s.of(s.topic(topic), id)
	return s.last
}

// of returns the lane of a partition of a topic.
func (s *laneSet) of(t *topicLanes, id uint32) *lane {
	l, ok := t.byPartition[id]
	if !ok {
		l = &lane{topic: t, partition: id}
		t.byPartition[id] = l
		s.count++
	}
	return l
}

// full tells whether the set has reached its limit.
func (s *laneSet) full() bool { return s.count >= s.limit }

// forget drops what can be forgotten.
//
// REQUIRES: produceStream.mu is held.
func (s *laneSet) forget() {
	s.last = nil
	for name, t := range s.topics {
		for id, l := range t.byPartition {
			if l.forgettable() {
				delete(t.byPartition, id)
				s.count--
			}
		}
		if len(t.byPartition) == 0 && t.undirected.forgettable() {
			delete(s.topics, name)
			s.count--
		}
	}
}

// forgettable tells whether a new lane would be the same.
//
// REQUIRES: produceStream.mu is held: the partition's last Complete was under
// it, so its side of the lane may be looked at.
func (l *lane) forgettable() bool {
	return !l.refusing && l.head == nil && l.inside == 0 && (l.order == nil || !l.order.Failed()) && !l.away.failed()
}
