package image

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/store"
)

// orphanError says that a partition in the store has no topic.
type orphanError struct{ key store.Key }

func (e *orphanError) Error() string { return fmt.Sprintf("%s has no topic", e.key) }

// apply changes the view. Only while nobody reads it.
func (v *View) apply(c store.Change) error {
	k := c.Key
	switch k.Kind {
	case store.KindElection:
		v.Active = c.Active
	case store.KindCluster:
		v.Cluster, _ = versioned[*controllerv1.ClusterRecord](c)
	case store.KindBroker:
		set(v.Brokers, k.Broker, c)
	case store.KindServed:
		set(v.Served, k, c)
	case store.KindName:
		if v.Names[k.Name] = name(c); c.Deleted() {
			delete(v.Names, k.Name)
		}
	case store.KindTopic:
		v.topic(c)
	case store.KindIntent:
		v.intent(c)
	case store.KindPartition:
		return v.partition(c)
	case store.KindDeletion:
		if d, ok := c.Value.(*controllerv1.DeletionRecord); ok {
			v.Deletions[k.Topic] = d
		} else {
			delete(v.Deletions, k.Topic)
		}
	case store.KindRequest:
		set(v.Answers, k.Request, c)
	}
	return nil
}

func versioned[M proto.Message](c store.Change) (Versioned[M], bool) {
	m, ok := c.Value.(M)
	if !ok {
		return Versioned[M]{}, false
	}
	return Versioned[M]{Record: m, Revision: c.Revision}, true
}

func set[K comparable, M proto.Message](m map[K]Versioned[M], k K, c store.Change) {
	if r, ok := versioned[M](c); ok {
		m[k] = r
	} else {
		delete(m, k)
	}
}

func name(c store.Change) Name {
	r, _ := c.Value.(*controllerv1.TopicRecord)
	n := Name{Revision: c.Revision}
	copy(n.Topic[:], r.GetTopicId())
	return n
}

// topic makes, changes or removes a topic. A new one takes over the
// partitions of its intent.
func (v *View) topic(c store.Change) {
	id := c.Key.Topic
	old := v.Topics[id]
	r, ok := versioned[*controllerv1.TopicRecord](c)
	if !ok {
		if old != nil {
			v.Partitions -= len(old.Partitions)
		}
		delete(v.Topics, id)
		return
	}
	t := &Topic{Versioned: r}
	switch intent := v.Intents[id]; {
	case old != nil:
		t.Partitions = old.Partitions
	case intent != nil:
		t.Partitions = intent.Partitions
		delete(v.Intents, id)
	}
	v.resize(t)
	v.Topics[id] = t
}

func (v *View) intent(c store.Change) {
	id := c.Key.Topic
	old := v.Intents[id]
	r, ok := versioned[*controllerv1.TopicRecord](c)
	if !ok {
		if old != nil { // else it has become a topic
			v.Partitions -= len(old.Partitions)
		}
		delete(v.Intents, id)
		return
	}
	t := &Topic{Versioned: r}
	if old != nil {
		t.Partitions = old.Partitions
	}
	v.resize(t)
	v.Intents[id] = t
}

// resize gives a topic as many partitions as its record says.
func (v *View) resize(t *Topic) {
	n := int(t.Record.GetPartitionCount())
	v.Partitions += n - len(t.Partitions)
	if n > len(t.Partitions) {
		t.Partitions = append(make([]Partition, 0, n), t.Partitions...)
	}
	t.Partitions = t.Partitions[:n]
}

func (v *View) partition(c store.Change) error {
	t := v.Topics[c.Key.Topic]
	if t == nil {
		t = v.Intents[c.Key.Topic]
	}
	p, ok := versioned[*controllerv1.PartitionRecord](c)
	switch {
	case !ok: // it goes with its topic
		return nil
	case t == nil || int64(c.Key.Partition) >= int64(len(t.Partitions)):
		return &orphanError{c.Key}
	}
	t.Partitions[c.Key.Partition] = p
	return nil
}
