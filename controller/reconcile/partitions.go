package reconcile

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/topicconfig"

	"github.com/millstream-io/millstream/controller/election"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

// partitionsPerEdit bounds what one transaction changes.
const partitionsPerEdit = 120

// electable is a partition as elections see it, with the settings that stand
// in its record.
type electable struct {
	election.Partition
	record *controllerv1.PartitionRecord
	min    uint32
	disk   bool
}

func newElectable(r *controllerv1.PartitionRecord) electable {
	return electable{record: r, min: r.GetMinInsyncReplicas(), disk: r.GetDisk(), Partition: election.Partition{
		Leader: r.GetLeader(), LeaderEpoch: r.GetLeaderEpoch(), Replicas: r.GetReplicas(), ISR: r.GetInSyncReplicas(),
		ELR: r.GetEligibleLeaderReplicas(), LastKnown: r.GetLastKnown(),
		MinISR: max(1, min(int(r.GetMinInsyncReplicas()), len(r.GetReplicas()))),
	}}
}

// replica returns the place of a broker among the replicas; -1: it has none.
func (e electable) replica(id int32) int { return slices.Index(e.record.GetReplicas(), id) }

// directory returns the directory of a replica; empty: it is not known.
func (e electable) directory(i int) []byte {
	if ds := e.record.GetDirectoryIds(); i < len(ds) {
		return ds[i]
	}
	return nil
}

// standing says how far the brokers can be counted on for the partition. One
// whose directory is another than that of its replica has nothing of it.
func (e electable) standing(v *image.View) func(id int32) election.Standing {
	return func(id int32) election.Standing {
		b := v.Brokers[id].Record
		i := e.replica(id)
		switch {
		case b == nil || b.GetFenced() || i < 0:
			return election.Gone
		case len(e.directory(i)) > 0 && !bytes.Equal(e.directory(i), b.GetDirectoryId()):
			return election.Gone
		case b.GetStopping():
			return election.Leaving
		default:
			return election.Serving
		}
	}
}

// edited returns the record that the partition should have.
func (e electable) edited() *controllerv1.PartitionRecord {
	r := proto.CloneOf(e.record)
	r.Leader, r.LeaderEpoch, r.PartitionEpoch = e.Leader, e.LeaderEpoch, r.GetPartitionEpoch()+1
	r.InSyncReplicas, r.EligibleLeaderReplicas, r.LastKnown = e.ISR, e.ELR, e.LastKnown
	r.MinInsyncReplicas, r.Disk = e.min, e.disk
	return r
}

// planPartitions returns the partitions that should have another leader, other
// replicas in sync, or the settings that their topic has by now.
func (a *active) planPartitions(v *image.View) []*store.Edit {
	settings := map[store.TopicID]topicconfig.Config{}
	return a.eachPartition(v, func(e electable) (electable, bool) {
		id := store.TopicID(e.record.GetTopicId())
		c, ok := settings[id]
		if !ok {
			c = settingsOf(topicOf(v, id))
			settings[id] = c
		}
		var elected bool
		before := e
		e.Partition, elected = election.Next(e.Partition, e.standing(v))
		e.min, e.disk = uint32(c.MinInsyncReplicas), c.Durability == topicconfig.DurabilityDisk
		if e.LeaderEpoch != before.LeaderEpoch {
			a.elections.Add(1)
		}
		return e, elected || e.min != before.min || e.disk != before.disk
	})
}

// topicOf returns a topic or an intent.
func topicOf(v *image.View, id store.TopicID) *image.Topic {
	if t := v.Topics[id]; t != nil {
		return t
	}
	return v.Intents[id]
}

// settingsOf returns the settings in force for a topic.
func settingsOf(t *image.Topic) topicconfig.Config {
	c, err := topicconfig.Parse(t.Record.GetConfig())
	if err != nil { // of a later version that allows more
		return topicconfig.Default()
	}
	return c
}

// eachPartition returns the changes that f makes to partitions, those of
// unfinished topics included.
func (a *active) eachPartition(v *image.View, f func(electable) (electable, bool)) []*store.Edit {
	var edits []*store.Edit
	room := 0
	for _, topics := range []map[store.TopicID]*image.Topic{v.Topics, v.Intents} {
		for id, t := range topics {
			for n, p := range t.Partitions {
				if p.Record == nil {
					continue
				}
				e, changed := f(newElectable(p.Record))
				if !changed {
					continue
				}
				if room == 0 {
					edits, room = append(edits, new(store.Edit)), partitionsPerEdit
				}
				k := store.PartitionKey(id, uint32(n))
				edits[len(edits)-1].Expect(k, p.Revision).Put(k, e.edited())
				room--
			}
		}
	}
	return edits
}
