package image

import (
	"cmp"
	"maps"
	"slices"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/store"
)

// historyChanges bounds the changes that are remembered for watches that
// resume; a watch that stopped before them gets a snapshot. Whole revisions
// are forgotten, and the last is always kept.
const historyChanges = 50_000

// history is the changes since a revision, as brokers are told them.
type history struct {
	since int64 // every change after this revision is there
	steps []step
	size  int // changes in steps
}

// step is what a revision changed, perhaps nothing that brokers are told.
type step struct {
	revision int64
	changes  []*controllerv1.MetadataChange
}

func (h *history) reset(revision int64) { *h = history{since: revision} }

func (h *history) add(revision int64, changes []*controllerv1.MetadataChange) {
	h.steps = append(h.steps, step{revision: revision, changes: changes})
	h.size += len(changes)
	drop := 0
	for drop < len(h.steps)-1 && (h.size > historyChanges || len(h.steps)-drop > historyChanges) {
		h.since = h.steps[drop].revision
		h.size -= len(h.steps[drop].changes)
		h.steps[drop] = step{} // let go of the messages before the array is
		drop++
	}
	h.steps = h.steps[drop:]
}

// after returns the steps after a revision; false if some are forgotten.
func (h *history) after(revision int64) ([]step, bool) {
	if revision < h.since {
		return nil, false
	}
	n, _ := slices.BinarySearchFunc(h.steps, revision+1, func(s step, r int64) int { return cmp.Compare(s.revision, r) })
	return h.steps[n:], true
}

// telling collects what brokers are told of one revision. A topic is told of
// with all its partitions when it becomes visible, and not before.
type telling struct {
	view    *View
	changes []*controllerv1.MetadataChange
	new     map[store.TopicID]bool
}

func newTelling(v *View) *telling { return &telling{view: v} }

// before looks at a change that is about to be applied.
func (t *telling) before(c store.Change) {
	if c.Key.Kind == store.KindTopic && !c.Deleted() && t.view.Topics[c.Key.Topic] == nil {
		if t.new == nil {
			t.new = map[store.TopicID]bool{}
		}
		t.new[c.Key.Topic] = true
	}
}

// after looks at a change that has been applied.
func (t *telling) after(c store.Change) {
	id := c.Key.Topic
	switch m := c.Value.(type) {
	case *controllerv1.ClusterRecord:
		t.add(clusterChange(m, c.Revision))
	case *controllerv1.BrokerRecord:
		if c.Key.Kind == store.KindBroker {
			t.add(brokerChange(m, c.Revision))
		}
	case *controllerv1.TopicRecord:
		if c.Key.Kind == store.KindTopic && !t.new[id] {
			t.add(topicChange(m, c.Revision))
		}
	case *controllerv1.PartitionRecord:
		if t.view.Topics[id] != nil && !t.new[id] {
			t.add(partitionChange(m, c.Revision))
		}
	case *controllerv1.DeletionRecord:
		t.add(deletionChange(m))
	case nil:
		t.deleted(c)
	}
}

func (t *telling) deleted(c store.Change) {
	switch c.Key.Kind {
	case store.KindBroker:
		t.add(&controllerv1.MetadataChange{
			Change: &controllerv1.MetadataChange_RemovedBrokerId{RemovedBrokerId: c.Key.Broker}, Revision: c.Revision,
		})
	case store.KindDeletion:
		t.add(&controllerv1.MetadataChange{
			Change: &controllerv1.MetadataChange_ForgottenDeletion{ForgottenDeletion: c.Key.Topic[:]}, Revision: c.Revision,
		})
	default: // of no interest to brokers, or told of by the deletion
	}
}

func (t *telling) add(c *controllerv1.MetadataChange) { t.changes = append(t.changes, c) }

// done returns the changes of the revision.
func (t *telling) done() []*controllerv1.MetadataChange {
	for id := range t.new {
		if topic := t.view.Topics[id]; topic != nil {
			t.changes = appendTopic(t.changes, topic)
		}
	}
	return t.changes
}

func appendTopic(to []*controllerv1.MetadataChange, t *Topic) []*controllerv1.MetadataChange {
	to = append(to, topicChange(t.Record, t.Revision))
	for _, p := range t.Partitions {
		to = append(to, partitionChange(p.Record, p.Revision))
	}
	return to
}

func clusterChange(m *controllerv1.ClusterRecord, rev int64) *controllerv1.MetadataChange {
	return &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Cluster{Cluster: m}, Revision: rev}
}

func brokerChange(m *controllerv1.BrokerRecord, rev int64) *controllerv1.MetadataChange {
	return &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Broker{Broker: m}, Revision: rev}
}

func topicChange(m *controllerv1.TopicRecord, rev int64) *controllerv1.MetadataChange {
	return &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Topic{Topic: m}, Revision: rev}
}

func partitionChange(m *controllerv1.PartitionRecord, rev int64) *controllerv1.MetadataChange {
	return &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Partition{Partition: m}, Revision: rev}
}

func deletionChange(m *controllerv1.DeletionRecord) *controllerv1.MetadataChange {
	return &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Deletion{Deletion: m}, Revision: m.GetRevision()}
}

// Changes are changes in order of revision, up to and including Revision.
type Changes struct {
	// Snapshot says that they are everything there is, and replace whatever was
	// known.
	Snapshot bool
	// List has the changes; for a snapshot, everything.
	List []*controllerv1.MetadataChange
	// Revision up to which they are complete.
	Revision int64
	// Generation of the revision.
	Generation uint32
	// Active is the active controller; -1: none is known.
	Active int32
}

// After returns what changed after a revision of a generation, or a snapshot
// if that is not known any more, or not of this cluster.
func (i *Image) After(revision int64, generation uint32) Changes {
	i.mu.RLock()
	defer i.mu.RUnlock()
	v := &i.view
	c := Changes{Revision: v.Revision, Generation: v.Cluster.Record.GetGeneration(), Active: v.Active.ControllerID}
	steps, known := i.history.after(revision)
	if !known || generation != c.Generation || revision > c.Revision {
		c.Snapshot, c.List = true, v.everything()
		return c
	}
	for _, s := range steps {
		c.List = append(c.List, s.changes...)
	}
	return c
}

// everything returns the view as brokers are told it, in an order in which it
// can be applied.
func (v *View) everything() []*controllerv1.MetadataChange {
	all := make([]*controllerv1.MetadataChange, 0, 1+len(v.Brokers)+len(v.Deletions)+len(v.Topics)+v.Partitions)
	if v.Cluster.Record != nil {
		all = append(all, clusterChange(v.Cluster.Record, v.Cluster.Revision))
	}
	for _, id := range slices.Sorted(maps.Keys(v.Brokers)) {
		all = append(all, brokerChange(v.Brokers[id].Record, v.Brokers[id].Revision))
	}
	for _, d := range v.Deletions {
		all = append(all, deletionChange(d))
	}
	for _, t := range v.Topics {
		all = appendTopic(all, t)
	}
	return all
}
