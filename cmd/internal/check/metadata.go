package check

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/millstream-io/millstream/cmd/internal/history"
)

// metadata is what anybody was told of the metadata: brokers by their watches,
// clients by their answers, and what leaders go by.
//
// Revisions of two generations do not compare. What clients were told, who do
// not know the generation, is judged while there is one.
type metadata struct {
	tally      *tally
	topics     map[topicKey]*topic
	partitions map[recordKey]*register[placement]
	watches    map[int32]*watch // by broker
	changes    map[opKey]*change
	generation uint32 // the first that was told; 0: none
	restored   bool   // there was another
}

// topicKey names a topic in a generation.
type topicKey struct {
	generation uint32
	topic      string
}

// recordKey names a partition in a generation; a topic by its identity.
type recordKey struct {
	generation uint32
	topic      string
	partition  uint32
}

// watch is what a broker was told since its start, and holds.
type watch struct {
	generation uint32
	revision   int64 // up to which it was told everything
	at         history.Location
	topics     map[string]*held // by name
}

// held is a topic as a broker holds it.
type held struct {
	id         string
	settings   *version[configuration]
	partitions map[uint32]*version[placement]
}

// placement is the record of a partition, as far as it is told.
type placement struct {
	leader, epoch int32
	isr           []int32 // by number
	replicas      []int32 // nil: not told
}

func (p placement) join(other placement) (placement, bool) {
	same := p.leader == other.leader && p.epoch == other.epoch && slices.Equal(p.isr, other.isr) &&
		(p.replicas == nil || other.replicas == nil || slices.Equal(p.replicas, other.replicas))
	if p.replicas == nil {
		p.replicas = other.replicas
	}
	return p, same
}

// String says it for people.
func (p placement) String() string {
	return fmt.Sprintf("led by %d in epoch %d, in sync %v, held by %v", p.leader, p.epoch, p.isr, p.replicas)
}

func newMetadata(t *tally) metadata {
	return metadata{
		tally: t, topics: map[topicKey]*topic{}, partitions: map[recordKey]*register[placement]{}, watches: map[int32]*watch{}, changes: map[opKey]*change{},
	}
}

// record returns the register of a partition.
func (m *metadata) record(k recordKey, name string) *register[placement] {
	r := m.partitions[k]
	if r == nil {
		r = &register[placement]{scribe: scribe{name, k.partition, m.tally}, versions: map[int64]*version[placement]{}}
		m.partitions[k] = r
	}
	return r
}

// generationOf notes a generation that was told.
func (m *metadata) generationOf(generation uint32) {
	if m.generation == 0 {
		m.generation = generation
	}
	m.restored = m.restored || generation != m.generation
}

// watched takes what a broker was told.
func (m *metadata) watched(e *history.Event, broker int32) {
	told := e.Metadata
	m.generationOf(told.Generation)
	w := m.watches[broker]
	if w != nil && w.generation != told.Generation {
		w.leave()
		w = nil
	}
	if w == nil {
		w = &watch{generation: told.Generation, topics: map[string]*held{}}
		m.watches[broker] = w
	}
	s := scribe{tally: m.tally}
	s.judged(R24)
	if told.Revision < w.revision {
		s.violated(R24, at(w.at, e.At), "broker %d was told of the metadata up to revision %d, and then up to %d", broker, w.revision, told.Revision)
	}
	for i := range told.Topics {
		m.watchedTopic(w, &told.Topics[i], e)
	}
	for _, name := range told.Gone {
		if t := w.topics[name]; t != nil {
			w.leaveTopic(t)
			delete(w.topics, name)
		}
	}
	if !told.More {
		w.revision, w.at = told.Revision, e.At
	}
}

// watchedTopic takes a topic of which a broker was told.
func (m *metadata) watchedTopic(w *watch, told *history.TopicState, e *history.Event) {
	t := w.topics[told.Topic]
	if t != nil && t.id != told.ID { // another one under its name
		w.leaveTopic(t)
		t = nil
	}
	if t == nil {
		t = &held{id: told.ID, partitions: map[uint32]*version[placement]{}}
		w.topics[told.Topic] = t
	}
	if told.Revision > 0 {
		x := m.topic(w.generation, told.Topic).told(told.Revision, told.Revision, configuration(told.Settings), e)
		if t.settings != x {
			leave(w, t.settings)
		}
		t.settings = x
		x.current.raise(e.Metadata.Revision, e.At)
	}
	for i := range told.Partitions {
		p := &told.Partitions[i]
		r := m.record(recordKey{w.generation, told.ID, p.Partition}, told.Topic)
		x := r.told(int64(p.Epoch), p.Revision, placed(p), e)
		if before := t.partitions[p.Partition]; before != x {
			leave(w, before)
		}
		t.partitions[p.Partition] = x
		x.current.raise(e.Metadata.Revision, e.At)
	}
}

// placed is a record as it is told.
func placed(p *history.PartitionState) placement {
	return placement{leader: p.Leader, epoch: p.LeaderEpoch, isr: slices.Sorted(slices.Values(p.ISR)), replicas: p.Replicas}
}

// leave takes that a broker has held a version up to where it is.
func leave[V value[V]](w *watch, x *version[V]) {
	if x != nil {
		x.current.raise(w.revision, w.at)
	}
}

func (w *watch) leaveTopic(t *held) {
	leave(w, t.settings)
	for _, x := range t.partitions {
		leave(w, x)
	}
}

// leave takes that the broker has held all that it holds up to where it is.
func (w *watch) leave() {
	for _, t := range w.topics {
		w.leaveTopic(t)
	}
}

// restarted takes that a broker begins anew, and knows nothing.
func (m *metadata) restarted(broker int32) {
	if w := m.watches[broker]; w != nil {
		w.leave()
		delete(m.watches, broker)
	}
}

// goesBy takes what a leader goes by, which may be the answer to a proposal of
// its own.
func (m *metadata) goesBy(e *history.Event, broker int32) {
	w := m.watches[broker]
	if w == nil || e.Replica.PartitionEpoch == 0 || w.topics[e.Topic] == nil {
		return
	}
	r := m.record(recordKey{w.generation, w.topics[e.Topic].id, e.Partition}, e.Topic)
	r.told(int64(e.Replica.PartitionEpoch), 0, placement{leader: broker, epoch: e.Replica.Epoch, isr: slices.Sorted(slices.Values(e.Replica.ISR))}, e)
}

// read takes what a client was told of a topic.
func (m *metadata) read(e *history.Event) {
	told := e.Metadata
	s := scribe{topic: e.Topic, tally: m.tally}
	s.judged(R24)
	if told.Revision < told.Least {
		s.violated(R24, at(e.At), "a client asked for the metadata of at least revision %d, and was told that of %d", told.Least, told.Revision)
	}
	if m.restored {
		return
	}
	for i := range told.Topics {
		t := &told.Topics[i]
		if t.Revision > 0 {
			m.topic(m.generation, t.Topic).told(t.Revision, t.Revision, configuration(t.Settings), e).current.raise(told.Revision, e.At)
		}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			r := m.record(recordKey{m.generation, t.ID, p.Partition}, t.Topic)
			r.told(int64(p.Epoch), p.Revision, placed(p), e).current.raise(told.Revision, e.At)
		}
	}
}

// finish looks at what can be judged only at the end.
func (m *metadata) finish() {
	for _, w := range m.watches {
		w.leave()
	}
	for _, k := range slices.SortedFunc(maps.Keys(m.topics), func(a, b topicKey) int {
		return cmp.Or(cmp.Compare(a.generation, b.generation), cmp.Compare(a.topic, b.topic))
	}) {
		m.topics[k].finish(m.restored)
	}
	for _, k := range slices.SortedFunc(maps.Keys(m.partitions), func(a, b recordKey) int {
		return cmp.Or(cmp.Compare(a.generation, b.generation), cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	}) {
		finishRecord(m.partitions[k])
	}
}

// finishRecord looks that a partition had one leader in an epoch, and no older
// one after a newer one.
func finishRecord(r *register[placement]) {
	all := r.inOrder()
	r.finish(all)
	for i, x := range all {
		if i == 0 {
			continue
		}
		before := all[i-1]
		switch a, b := before.value, x.value; {
		case b.epoch < a.epoch:
			r.violated(R24, at(before.at, x.at), "leader epoch %d of partition epoch %d follows leader epoch %d", b.epoch, x.number, a.epoch)
		case b.epoch == a.epoch && b.leader != a.leader:
			r.violated(R24, at(before.at, x.at), "in leader epoch %d broker %d leads, and broker %d (-1: nobody)", b.epoch, a.leader, b.leader)
		}
	}
}
