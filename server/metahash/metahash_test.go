package metahash_test

import (
	"testing"

	"github.com/millstream-io/millstream/server/metahash"
)

// things adds the same things, in that order or the other.
func things(backwards bool) uint64 {
	var s metahash.Sum
	steps := []func(){
		func() { s.Cluster([]byte("0123456789abcdef"), 1) },
		func() {
			s.Broker(metahash.Broker{ID: 1, Revision: 2, Epoch: 2, Fenced: true, InternalAddress: "b1:9652"})
		},
		func() { s.Topic([16]byte{1}, "orders", 3, 4) },
		func() {
			s.Partition(&metahash.Partition{Topic: [16]byte{1}, ID: 2, Revision: 5, Leader: 1, LeaderEpoch: 6, Epoch: 7, Replicas: []int32{1, 2}, InSync: []int32{1}, Eligible: []int32{2}})
		},
		func() { s.Deletion([16]byte{2}, 8) },
	}
	for i := range steps {
		if backwards {
			i = len(steps) - 1 - i
		}
		steps[i]()
	}
	return s.Value()
}

// Controllers and brokers of different versions compare numbers of one form: it
// never changes.
func TestAFormStaysWhatItIs(t *testing.T) {
	const want = 0x560a9c9f7d1f4405
	if got := things(false); got != want || things(true) != got {
		t.Errorf("it is %#x, backwards %#x, want %#x", got, things(true), want)
	}
}

func TestEverythingCounts(t *testing.T) {
	seen := map[uint64]string{0: "nothing"}
	add := func(name string, f func(s *metahash.Sum)) {
		var s metahash.Sum
		f(&s)
		if other, ok := seen[s.Value()]; ok {
			t.Errorf("%s is like %s", name, other)
		}
		seen[s.Value()] = name
	}
	add("cluster", func(s *metahash.Sum) { s.Cluster([]byte{1}, 1) })
	add("level", func(s *metahash.Sum) { s.Cluster([]byte{1}, 2) })
	for name, b := range map[string]metahash.Broker{
		"broker": {ID: 1}, "another": {ID: 2}, "its revision": {ID: 1, Revision: 1}, "its epoch": {ID: 1, Epoch: 1},
		"fenced": {ID: 1, Fenced: true}, "stopping": {ID: 1, Stopping: true}, "draining": {ID: 1, Draining: true}, "elsewhere": {ID: 1, InternalAddress: "x"},
	} {
		add(name, func(s *metahash.Sum) { s.Broker(b) })
	}
	add("topic", func(s *metahash.Sum) { s.Topic([16]byte{}, "a", 1, 1) })
	add("other topic", func(s *metahash.Sum) { s.Topic([16]byte{1}, "a", 1, 1) })
	add("other name", func(s *metahash.Sum) { s.Topic([16]byte{}, "b", 1, 1) })
	add("more partitions", func(s *metahash.Sum) { s.Topic([16]byte{}, "a", 2, 1) })
	add("topic later", func(s *metahash.Sum) { s.Topic([16]byte{}, "a", 1, 2) })
	for name, p := range map[string]metahash.Partition{
		"partition": {}, "of another topic": {Topic: [16]byte{1}}, "another partition": {ID: 1}, "partition later": {Revision: 1},
		"leader": {Leader: 1}, "leader epoch": {LeaderEpoch: 1}, "partition epoch": {Epoch: 1},
		"replicas": {Replicas: []int32{1}}, "in sync": {InSync: []int32{1}}, "eligible": {Eligible: []int32{1}}, "two in sync": {InSync: []int32{1, 2}},
	} {
		add(name, func(s *metahash.Sum) { s.Partition(&p) })
	}
	add("deletion", func(s *metahash.Sum) { s.Deletion([16]byte{}, 1) })
	add("deletion later", func(s *metahash.Sum) { s.Deletion([16]byte{}, 2) })
	add("twice", func(s *metahash.Sum) { s.Deletion([16]byte{}, 1); s.Deletion([16]byte{}, 1) })
}
