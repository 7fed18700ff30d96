package metadata

import (
	"cmp"
	"hash/maphash"
	"iter"
	"maps"
	"slices"
	"sync"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// Snapshot is the metadata at one revision. It never changes; copying one
// costs nothing, as two share what did not change between them.
type Snapshot struct {
	// Revision up to which it has every change; 0: nothing is known yet.
	Revision int64
	// Generation of the cluster, which qualifies the revision.
	Generation uint32
	// ClusterID is the identity of the cluster.
	ClusterID [16]byte
	// FeatureLevel is the one in force.
	FeatureLevel uint32
	// ActiveController is the active controller; -1: none is known.
	ActiveController int32

	byID      cow[TopicID, *Topic]
	byName    cow[string, *Topic]
	deletions cow[TopicID, *Deletion]
	brokers   map[int32]*Broker

	superseded chan struct{} // closed by the mirror when a newer one is current

	sorted struct {
		once   sync.Once // filled by the first that asks
		topics []*Topic
	}
}

func newSnapshot() *Snapshot {
	return &Snapshot{ActiveController: -1, superseded: make(chan struct{})}
}

// Superseded returns a channel that is closed when the mirror has a newer
// snapshot.
func (s *Snapshot) Superseded() <-chan struct{} { return s.superseded }

// TopicByName returns the topic of that name, nil if there is none.
func (s *Snapshot) TopicByName(name string) *Topic {
	t, _ := s.byName.get(hashString(name), name)
	return t
}

// TopicByNameBytes is TopicByName without making a string of the name.
func (s *Snapshot) TopicByNameBytes(name []byte) *Topic {
	if s.byName.shards == nil {
		return nil
	}
	return s.byName.shards[maphash.Bytes(hashSeed, name)%shardCount][string(name)]
}

// TopicByID returns the topic of that identity, nil if there is none.
func (s *Snapshot) TopicByID(id TopicID) *Topic {
	t, _ := s.byID.get(hashTopicID(id), id)
	return t
}

// TopicCount returns the number of topics.
func (s *Snapshot) TopicCount() int { return s.byID.size }

// Topics returns the topics by name. The slice is shared: read only.
func (s *Snapshot) Topics() []*Topic {
	s.sorted.once.Do(func() {
		ts := make([]*Topic, 0, s.byID.size)
		for _, t := range s.byID.all() {
			ts = append(ts, t)
		}
		slices.SortFunc(ts, func(a, b *Topic) int { return cmp.Compare(a.Name, b.Name) })
		s.sorted.topics = ts
	})
	return s.sorted.topics
}

// Broker returns the broker of that identity, nil if there is none.
func (s *Snapshot) Broker(id int32) *Broker { return s.brokers[id] }

// Impaired tells whether something is the matter with the disk of a broker.
func (s *Snapshot) Impaired(id int32) bool {
	b := s.brokers[id]
	return b != nil && b.Impairment != controllerv1.Impairment_IMPAIRMENT_UNSPECIFIED
}

// Brokers returns the brokers by identity. The slice is the caller's.
func (s *Snapshot) Brokers() []*Broker {
	bs := make([]*Broker, 0, len(s.brokers))
	for _, id := range slices.Sorted(maps.Keys(s.brokers)) {
		bs = append(bs, s.brokers[id])
	}
	return bs
}

// Deletion returns the record of the deletion of a topic, nil if there is
// none.
func (s *Snapshot) Deletion(id TopicID) *Deletion {
	d, _ := s.deletions.get(hashTopicID(id), id)
	return d
}

// Deletions yields the deletions that are remembered, in no order.
func (s *Snapshot) Deletions() iter.Seq[*Deletion] {
	return func(yield func(*Deletion) bool) {
		for _, d := range s.deletions.all() {
			if !yield(d) {
				return
			}
		}
	}
}

// ChangedTopics yields each topic that differs between old and s, as it was
// and as it is: was is nil if it is new, is is nil if it is gone. It looks at
// nothing that the two share, so it costs what the change did. A nil old is an
// empty one.
func (s *Snapshot) ChangedTopics(old *Snapshot) iter.Seq2[*Topic, *Topic] {
	if old == nil {
		old = newSnapshot()
	}
	return func(yield func(was, is *Topic) bool) {
		for i := range shardCount {
			before, after := old.byID.shard(i), s.byID.shard(i)
			if sameMap(before, after) {
				continue
			}
			for id, is := range after {
				if was := before[id]; was != is && !yield(was, is) {
					return
				}
			}
			for id, was := range before {
				if _, kept := after[id]; !kept && !yield(was, nil) {
					return
				}
			}
		}
	}
}
