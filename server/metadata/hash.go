package metadata

import (
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/metahash"
)

// resyncPause is how long a broker whose metadata differed is content with
// saying so before it asks for all of it again: if that did not help, more of it
// would not either.
const resyncPause = 10 * time.Minute

// compare looks whether a snapshot is what the controller has, if that says. It
// fails with *changeError when all is to be asked for anew.
func (m *Mirror) compare(s *Snapshot, f *controllerv1.WatchMetadataResponse) error {
	h := f.GetHash()
	if h == nil || h.GetForm() != metahash.Form || f.GetRevision() != s.Revision || f.GetClusterGeneration() != s.Generation {
		return nil
	}
	if s.hash() == h.GetValue() {
		return nil
	}
	m.differed.Add(1)
	now := time.Since(m.born)
	if m.resynced != 0 && now-m.resynced < resyncPause {
		m.opts.Logger.Error("the metadata still differs from the controller's", "revision", s.Revision)
		return nil
	}
	m.resynced = max(1, now)
	return &changeError{s.Revision, "what is known differs from what the controller has"}
}

// Differed returns how often the metadata was not what a controller had.
func (m *Mirror) Differed() uint64 { return m.differed.Load() }

// hash is of what the controller tells, as it is kept here.
func (s *Snapshot) hash() uint64 {
	var sum metahash.Sum
	sum.Cluster(s.ClusterID[:], s.FeatureLevel)
	for id, b := range s.brokers {
		sum.Broker(metahash.Broker{
			ID: id, Revision: b.Revision, Epoch: b.Epoch, Fenced: b.Fenced, Stopping: b.Stopping, Draining: b.Draining,
			InternalAddress: b.InternalAddress,
		})
	}
	for id, d := range s.deletions.all() {
		sum.Deletion(id, d.Revision)
	}
	var p metahash.Partition
	for id, t := range s.byID.all() {
		sum.Topic(id, t.Name, len(t.Partitions), t.Revision)
		for _, tp := range t.Partitions {
			p = metahash.Partition{
				Topic: id, ID: tp.ID, Revision: tp.Revision, Leader: tp.Leader, LeaderEpoch: tp.LeaderEpoch, Epoch: tp.Epoch,
				Replicas: tp.Replicas, InSync: tp.ISR, Eligible: tp.ELR,
			}
			sum.Partition(&p)
		}
	}
	return sum.Value()
}
