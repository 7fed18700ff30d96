package reconcile

import (
	"slices"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/topicconfig"

	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/placement"
	"github.com/millstream-io/millstream/controller/store"
)

// firstLeaderEpoch is the epoch in which the first leader of a partition
// leads; 0 would look as if none were set.
const firstLeaderEpoch = 1

// placer returns a placer on the brokers that take replicas.
func placer(v *image.View, rec *controllerv1.TopicRecord) (*placement.Placer, error) {
	return placement.NewPlacer(takers(v), int(rec.GetReplicationFactor()))
}

// takes reports whether new replicas may be placed on a broker.
func takes(b *controllerv1.BrokerRecord) bool {
	return b != nil && !b.GetFenced() && !b.GetStopping() && !b.GetDraining()
}

// takers returns the brokers that take replicas, with what they hold. What is
// being moved counts where it will be.
func takers(v *image.View) []placement.Broker {
	bs := make([]placement.Broker, 0, len(v.Brokers))
	at := map[int32]int{}
	for id, b := range v.Brokers {
		if takes(b.Record) {
			at[id] = len(bs)
			bs = append(bs, placement.Broker{ID: id, Rack: b.Record.GetRack()})
		}
	}
	for _, topics := range []map[store.TopicID]*image.Topic{v.Topics, v.Intents} {
		for _, t := range topics {
			for _, p := range t.Partitions {
				for n, id := range placed(p.Record) {
					if i, ok := at[id]; ok {
						bs[i].Replicas++
						if n == 0 {
							bs[i].Leaders++
						}
					}
				}
			}
		}
	}
	return bs
}

// placed returns where a partition is, or will be.
func placed(p *controllerv1.PartitionRecord) []int32 {
	if t := p.GetTargetReplicas(); len(t) > 0 {
		return t
	}
	return p.GetReplicas()
}

// settled returns where a partition is: with the replicas that it has but for
// those that are added, in their order.
func settled(p *controllerv1.PartitionRecord) []int32 {
	return slices.DeleteFunc(slices.Clone(p.GetReplicas()), func(id int32) bool { return slices.Contains(p.GetAddingReplicas(), id) })
}

// planIntents returns what brings the topics that are being created to their
// end: their partitions in several edits, and with the last of them the topic
// itself, so that nobody ever sees a part of one.
func planIntents(v *image.View) []*store.Edit {
	var edits []*store.Edit
	for id, t := range v.Intents {
		p, err := placer(v, t.Record)
		if err != nil {
			continue // until there are enough brokers again
		}
		for _, there := range t.Partitions {
			if there.Record != nil {
				p.Placed(there.Record.GetReplicas())
			}
		}
		edits = append(edits, finish(v, id, t, p)...)
	}
	return edits
}

func finish(v *image.View, id store.TopicID, t *image.Topic, p *placement.Placer) []*store.Edit {
	c := settingsOf(t)
	// The topic comes first in its edit: its partitions are nothing without.
	last := new(store.Edit).Expect(store.TopicKey(id), 0).Put(store.TopicKey(id), t.Record).
		Expect(store.IntentKey(id), t.Revision).Delete(store.IntentKey(id))
	if t.Record.GetRequestId() != "" {
		last.Put(store.RequestKey(createDigest(t.Record)), &controllerv1.CreateTopicResponse{Topic: t.Record})
	}
	var (
		edits []*store.Edit
		e     = last
		room  = partitionsPerEdit
	)
	for n, there := range t.Partitions {
		if there.Record != nil {
			continue
		}
		if room == 0 {
			e, room = new(store.Edit), partitionsPerEdit
			edits = append(edits, e)
		}
		k := store.PartitionKey(id, uint32(n))
		e.Expect(k, 0).Put(k, newPartition(v, t.Record, c, uint32(n), p.Next()))
		room--
	}
	return append(edits, last)
}

// firstLeader returns who leads a partition that is new: the first of its
// replicas, if its disk is well.
func firstLeader(v *image.View, replicas []int32) int32 {
	for _, id := range replicas {
		if !isImpaired(v.Brokers[id].Record) {
			return id
		}
	}
	return replicas[0]
}

func newPartition(v *image.View, t *controllerv1.TopicRecord, c topicconfig.Config, n uint32, replicas []int32) *controllerv1.PartitionRecord {
	r := &controllerv1.PartitionRecord{
		TopicId: t.GetTopicId(), Partition: n, Leader: firstLeader(v, replicas), LeaderEpoch: firstLeaderEpoch, PartitionEpoch: 1,
		Replicas: replicas, InSyncReplicas: replicas,
		MinInsyncReplicas: uint32(c.MinInsyncReplicas), Disk: c.Durability == topicconfig.DurabilityDisk,
	}
	for _, id := range replicas {
		r.DirectoryIds = append(r.DirectoryIds, v.Brokers[id].Record.GetDirectoryId())
	}
	return r
}
