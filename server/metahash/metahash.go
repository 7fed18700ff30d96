// Package metahash makes one number of all the metadata that brokers are told,
// so that a broker can find out that it does not have what a controller has.
// Controllers and brokers make it of what each of them holds, and not of the
// messages between them.
//
// It refuses to own where the metadata is kept: it is told of each thing once,
// in any order.
//
// INVARIANT: the same things give the same number, on any machine and in any
// process, for as long as Form is the same.
//
// It starts no goroutine.
package metahash

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// Form is which things go into the number, and how. Numbers of two forms say
// nothing of each other.
const Form = 1

// Sum is the number, as far as it has come. The zero value is of nothing. One
// goroutine.
type Sum struct {
	n   uint64
	buf []byte
}

// Value returns the number.
func (s *Sum) Value() uint64 { return s.n }

// The kinds of things, so that two of different kinds differ.
const (
	cluster = iota + 1
	broker
	topic
	partition
	deletion
)

// Cluster adds the cluster.
func (s *Sum) Cluster(id []byte, featureLevel uint32) {
	s.begin(cluster)
	s.bytes(id)
	s.number(int64(featureLevel))
	s.end()
}

// Broker is what is added of a broker.
type Broker struct {
	// ID and the revision of its last change say which it is.
	ID       int32
	Revision int64
	// Epoch of its incarnation.
	Epoch int64
	// Fenced, Stopping and Draining say what is to be expected of it.
	Fenced, Stopping, Draining bool
	// InternalAddress is where brokers reach it.
	InternalAddress string
}

// Broker adds a broker.
func (s *Sum) Broker(b Broker) {
	s.begin(broker)
	s.number(int64(b.ID))
	s.number(b.Revision)
	s.number(b.Epoch)
	for _, is := range [...]bool{b.Fenced, b.Stopping, b.Draining} {
		if is {
			s.number(1)
		} else {
			s.number(0)
		}
	}
	s.text(b.InternalAddress)
	s.end()
}

// Topic adds a topic, without its partitions.
func (s *Sum) Topic(id [16]byte, name string, partitions int, revision int64) {
	s.begin(topic)
	s.buf = append(s.buf, id[:]...)
	s.text(name)
	s.number(int64(partitions))
	s.number(revision)
	s.end()
}

// Partition is what is added of a partition.
type Partition struct {
	// Topic, ID and the revision of its last change say which it is.
	Topic    [16]byte
	ID       uint32
	Revision int64
	// Leader, LeaderEpoch and Epoch say who leads it.
	Leader, LeaderEpoch, Epoch int32
	// Replicas, InSync and Eligible say who has it.
	Replicas, InSync, Eligible []int32
}

// Partition adds a partition.
func (s *Sum) Partition(p *Partition) {
	s.begin(partition)
	s.buf = append(s.buf, p.Topic[:]...)
	s.number(int64(p.ID))
	s.number(p.Revision)
	s.number(int64(p.Leader))
	s.number(int64(p.LeaderEpoch))
	s.number(int64(p.Epoch))
	for _, ids := range [...][]int32{p.Replicas, p.InSync, p.Eligible} {
		s.number(int64(len(ids)))
		for _, id := range ids {
			s.number(int64(id))
		}
	}
	s.end()
}

// Deletion adds the deletion of a topic.
func (s *Sum) Deletion(topic [16]byte, revision int64) {
	s.begin(deletion)
	s.buf = append(s.buf, topic[:]...)
	s.number(revision)
	s.end()
}

func (s *Sum) begin(kind byte) { s.buf = append(s.buf[:0], kind) }

func (s *Sum) number(n int64) { s.buf = binary.AppendVarint(s.buf, n) }

func (s *Sum) bytes(b []byte) {
	s.number(int64(len(b)))
	s.buf = append(s.buf, b...)
}

func (s *Sum) text(t string) {
	s.number(int64(len(t)))
	s.buf = append(s.buf, t...)
}

// end adds what was begun. A sum does not mind the order, and two of a kind do
// not cancel each other out.
func (s *Sum) end() { s.n += xxhash.Sum64(s.buf) }
