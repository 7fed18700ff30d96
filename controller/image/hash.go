package image

import (
	"github.com/millstream-io/millstream/server/metahash"
)

// hashed is the number that the view comes to.
type hashed struct {
	revision   int64
	generation uint32
	value      uint64
}

// Hash returns the number that all comes to which brokers are told, as of a
// revision; false if the image is not at that revision now.
func (i *Image) Hash(revision int64, generation uint32) (uint64, bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	v := &i.view
	if v.Revision != revision || v.Cluster.Record.GetGeneration() != generation {
		return 0, false
	}
	// Many brokers ask at about the same time.
	if h := i.hashed.Load(); h != nil && h.revision == revision && h.generation == generation {
		return h.value, true
	}
	h := &hashed{revision, generation, v.hash()}
	i.hashed.Store(h)
	return h.value, true
}

// hash is of what everything returns, as brokers keep it.
func (v *View) hash() uint64 {
	var s metahash.Sum
	if c := v.Cluster.Record; c != nil {
		s.Cluster(c.GetClusterId(), c.GetFeatureLevel())
	}
	for id, b := range v.Brokers {
		s.Broker(metahash.Broker{
			ID: id, Revision: b.Revision, Epoch: b.Record.GetBrokerEpoch(),
			Fenced: b.Record.GetFenced(), Stopping: b.Record.GetStopping(), Draining: b.Record.GetDraining(),
			InternalAddress: b.Record.GetInternalAddress(),
		})
	}
	for id, d := range v.Deletions {
		s.Deletion(id, d.GetRevision())
	}
	var p metahash.Partition
	for id, t := range v.Topics {
		s.Topic(id, t.Record.GetTopic(), len(t.Partitions), t.Revision)
		for _, vp := range t.Partitions {
			r := vp.Record
			p = metahash.Partition{
				Topic: id, ID: r.GetPartition(), Revision: vp.Revision,
				Leader: r.GetLeader(), LeaderEpoch: r.GetLeaderEpoch(), Epoch: r.GetPartitionEpoch(),
				Replicas: r.GetReplicas(), InSync: r.GetInSyncReplicas(), Eligible: r.GetEligibleLeaderReplicas(),
			}
			s.Partition(&p)
		}
	}
	return s.Value()
}
