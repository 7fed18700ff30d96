package metadata

import (
	"fmt"
	"maps"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/topicconfig"
)

// changeError says that the controller sent something that cannot be applied.
type changeError struct {
	revision int64
	why      string
}

func (e *changeError) Error() string {
	return fmt.Sprintf("metadata change at revision %d cannot be applied: %s", e.revision, e.why)
}

// builder makes the next snapshot of the one before, or of nothing. One
// goroutine.
type builder struct {
	next      *Snapshot
	byID      *cowEdit[TopicID, *Topic]
	byName    *cowEdit[string, *Topic]
	deletions *cowEdit[TopicID, *Deletion]
	brokers   map[int32]*Broker // nil until changed
	owned     map[TopicID]bool  // topics copied by this builder, which it may write
}

func build(from *Snapshot) *builder {
	n := newSnapshot()
	n.Revision, n.Generation, n.ClusterID = from.Revision, from.Generation, from.ClusterID
	n.FeatureLevel, n.ActiveController = from.FeatureLevel, from.ActiveController
	n.brokers = from.brokers
	return &builder{
		next:      n,
		byID:      edit(from.byID, hashTopicID),
		byName:    edit(from.byName, hashString),
		deletions: edit(from.deletions, hashTopicID),
		owned:     map[TopicID]bool{},
	}
}

// finish returns the snapshot, or says what is missing in it.
func (b *builder) finish() (*Snapshot, error) {
	for id := range b.owned {
		t, ok := b.byID.lookup(id)
		if !ok {
			continue
		}
		for i, p := range t.Partitions {
			if p == nil {
				return nil, &changeError{b.next.Revision, fmt.Sprintf("topic %q has no partition %d", t.Name, i)}
			}
		}
	}
	b.next.byID, b.next.byName, b.next.deletions = b.byID.done(), b.byName.done(), b.deletions.done()
	if b.brokers != nil {
		b.next.brokers = b.brokers
	}
	return b.next, nil
}

func (b *builder) apply(c *controllerv1.MetadataChange) error {
	rev := c.GetRevision()
	switch c := c.GetChange().(type) {
	case *controllerv1.MetadataChange_Cluster:
		var err error
		b.next.FeatureLevel = c.Cluster.GetFeatureLevel()
		b.next.ClusterID, err = id16(c.Cluster.GetClusterId(), rev)
		return err
	case *controllerv1.MetadataChange_Broker:
		return b.broker(c.Broker, rev)
	case *controllerv1.MetadataChange_RemovedBrokerId:
		delete(b.writableBrokers(), c.RemovedBrokerId)
		return nil
	case *controllerv1.MetadataChange_Topic:
		return b.topic(c.Topic, rev)
	case *controllerv1.MetadataChange_Partition:
		return b.partition(c.Partition, rev)
	case *controllerv1.MetadataChange_Deletion:
		return b.deletion(c.Deletion, rev)
	case *controllerv1.MetadataChange_ForgottenDeletion:
		id, err := id16(c.ForgottenDeletion, rev)
		if err != nil {
			return err
		}
		b.deletions.remove(id)
		return nil
	default: // of a newer controller: nothing that this version knows to need
		return nil
	}
}

func (b *builder) topic(r *controllerv1.TopicRecord, rev int64) error {
	id, err := id16(r.GetTopicId(), rev)
	if err != nil {
		return err
	}
	t := &Topic{
		ID: id, Name: r.GetTopic(), Set: r.GetConfig(), ReplicationFactor: int(r.GetReplicationFactor()),
		PartitioningEpoch: r.GetPartitioningEpoch(), CreateTimeMs: r.GetCreateTimeMs(), Revision: rev,
		Config: inForce(r.GetConfig()),
	}
	if n := r.GetPartitionCount(); n == 0 || n > topicconfig.MaxPartitions {
		return &changeError{rev, fmt.Sprintf("topic %q has %d partitions", t.Name, n)}
	}
	t.Partitions = make([]*Partition, r.GetPartitionCount())
	if old, ok := b.byID.lookup(t.ID); ok {
		copy(t.Partitions, old.Partitions)
	}
	b.own(t)
	return nil
}

func (b *builder) partition(r *controllerv1.PartitionRecord, rev int64) error {
	raw, err := id16(r.GetTopicId(), rev)
	if err != nil {
		return err
	}
	id := TopicID(raw)
	t, ok := b.byID.lookup(id)
	if !ok || int64(r.GetPartition()) >= int64(len(t.Partitions)) {
		return &changeError{rev, fmt.Sprintf("partition %s-%d has no topic", id, r.GetPartition())}
	}
	p := &Partition{
		ID: r.GetPartition(), Leader: r.GetLeader(), LeaderEpoch: r.GetLeaderEpoch(), Epoch: r.GetPartitionEpoch(),
		Replicas: r.GetReplicas(), ISR: r.GetInSyncReplicas(), MinISR: int(r.GetMinInsyncReplicas()), Disk: r.GetDisk(),
		ELR: r.GetEligibleLeaderReplicas(), LastKnown: r.GetLastKnown(),
		Target: r.GetTargetReplicas(), Adding: r.GetAddingReplicas(), MoveBytesPerSecond: r.GetMoveBytesPerSecond(), FromBackup: r.GetFromBackup(),
		Directories: make([]DirectoryID, len(r.GetDirectoryIds())), Revision: rev,
		Successor: NoLeader,
	}
	if r.Successor != nil {
		p.Successor = r.GetSuccessor()
	}
	for i, d := range r.GetDirectoryIds() {
		if p.Directories[i], err = directory(d, rev); err != nil {
			return err
		}
	}
	if !b.owned[id] {
		c := *t
		c.Partitions = append([]*Partition(nil), t.Partitions...)
		t = &c
		b.own(t)
	}
	t.Partitions[p.ID] = p
	return nil
}

// own puts a topic that this builder made, and may go on writing, in place.
func (b *builder) own(t *Topic) {
	b.byID.put(t.ID, t)
	b.byName.put(t.Name, t)
	b.owned[t.ID] = true
}

func (b *builder) broker(r *controllerv1.BrokerRecord, rev int64) error {
	dir, err := directory(r.GetDirectoryId(), rev)
	if err != nil {
		return err
	}
	k := &Broker{
		ID: r.GetBrokerId(), Epoch: r.GetBrokerEpoch(), Address: r.GetAddress(), InternalAddress: r.GetInternalAddress(),
		Rack: r.GetRack(), Version: r.GetVersion(), Fenced: r.GetFenced(), Stopping: r.GetStopping(),
		Draining: r.GetDraining(), DrainBytesPerSecond: r.GetDrainBytesPerSecond(), Impairment: r.GetImpairment(),
		RegisterTimeMs: r.GetRegisterTimeMs(), Revision: rev,
		Directory: dir,
	}
	b.writableBrokers()[k.ID] = k
	return nil
}

func (b *builder) writableBrokers() map[int32]*Broker {
	if b.brokers == nil {
		if b.brokers = maps.Clone(b.next.brokers); b.brokers == nil {
			b.brokers = map[int32]*Broker{}
		}
	}
	return b.brokers
}

func (b *builder) deletion(r *controllerv1.DeletionRecord, rev int64) error {
	id, err := id16(r.GetTopicId(), rev)
	if err != nil {
		return err
	}
	d := &Deletion{
		ID: id, Name: r.GetTopic(), TimeMs: r.GetDeleteTimeMs(), Now: r.GetNow(),
		Generation: r.GetClusterGeneration(), Revision: rev,
	}
	if t, ok := b.byID.lookup(d.ID); ok {
		b.byID.remove(d.ID)
		if named, ok := b.byName.lookup(t.Name); ok && named.ID == d.ID { // the name may be another topic's by now
			b.byName.remove(t.Name)
		}
	}
	b.deletions.put(d.ID, d)
	return nil
}

// inForce parses settings that the controller has accepted. One that this
// version does not know, or not with that value, is left at its default.
func inForce(set map[string]string) topicconfig.Config {
	if c, err := topicconfig.Parse(set); err == nil {
		return c
	}
	known := maps.Clone(set)
	maps.DeleteFunc(known, func(name, value string) bool {
		_, err := topicconfig.Parse(map[string]string{name: value})
		return err != nil
	})
	if c, err := topicconfig.Parse(known); err == nil {
		return c
	}
	return topicconfig.Default()
}

// id16 returns the identity that b has.
func id16(b []byte, rev int64) ([16]byte, error) {
	if len(b) != 16 {
		return [16]byte{}, &changeError{rev, fmt.Sprintf("an identity of %d bytes", len(b))}
	}
	return [16]byte(b), nil
}

// directory returns the identity that b has; it is empty while no directory is
// known.
func directory(b []byte, rev int64) (DirectoryID, error) {
	if len(b) == 0 {
		return DirectoryID{}, nil
	}
	id, err := id16(b, rev)
	return DirectoryID(id), err
}
