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
	record      *controllerv1.PartitionRecord
	min         uint32
	disk        bool
	directories [][]byte
	// Of a partition that is being moved: where to, who was added for it, and
	// how fast.
	target, adding []int32
	rate           uint64
	// successor is whom its leader is asked to hand it over to, or NoLeader.
	successor int32
	// Of one that comes from a backup and was not led since: how many brokers
	// must hold a log of it.
	fromBackup  bool
	awaitedLogs uint32
}

func newElectable(r *controllerv1.PartitionRecord) electable {
	e := electable{record: r, min: r.GetMinInsyncReplicas(), disk: r.GetDisk(), directories: r.GetDirectoryIds(),
		target: r.GetTargetReplicas(), adding: r.GetAddingReplicas(), rate: r.GetMoveBytesPerSecond(),
		fromBackup: r.GetFromBackup(), awaitedLogs: r.GetAwaitedLogs(), Partition: election.Partition{
			Leader: r.GetLeader(), LeaderEpoch: r.GetLeaderEpoch(), Replicas: r.GetReplicas(), ISR: r.GetInSyncReplicas(),
			ELR: r.GetEligibleLeaderReplicas(), LastKnown: r.GetLastKnown(),
			MinISR: effectiveMin(r.GetMinInsyncReplicas(), r.GetReplicas()),
		}, successor: election.NoLeader}
	if r.Successor != nil {
		e.successor = r.GetSuccessor()
	}
	return e
}

// effectiveMin is the min.insync.replicas that a partition can have (rule H2).
func effectiveMin(set uint32, replicas []int32) int {
	return max(1, min(int(set), len(replicas)))
}

// replica returns the place of a broker among the replicas; -1: it has none.
func (e electable) replica(id int32) int { return slices.Index(e.Replicas, id) }

// directory returns the directory of a replica; empty: it is not known.
func (e electable) directory(i int) []byte {
	if i < len(e.directories) {
		return e.directories[i]
	}
	return nil
}

// setDirectory makes a directory that of a replica.
func (e *electable) setDirectory(i int, id []byte) {
	if bytes.Equal(e.directory(i), id) {
		return
	}
	e.directories = slices.Clone(e.directories)
	for len(e.directories) <= i {
		e.directories = append(e.directories, nil)
	}
	e.directories[i] = id
}

// standing says how far the brokers can be counted on for the partition. One
// whose directory is another than that of its replica has nothing of it.
func (e electable) standing(v *image.View) func(id int32) election.Standing {
	return func(id int32) election.Standing {
		b := v.Brokers[id].Record
		switch {
		case b == nil || b.GetFenced() || !e.holds(b):
			return election.Gone
		default:
			return standingOf(b)
		}
	}
}

// standingOf is the standing of a broker that is registered and not fenced.
func standingOf(b *controllerv1.BrokerRecord) election.Standing {
	switch {
	case b.GetStopping():
		return election.Leaving
	case isImpaired(b):
		return election.Impaired
	default:
		return election.Serving
	}
}

// anywhere is standing without regard to directories: a broker whose directory
// is lost can lead on another, with nothing.
func (e electable) anywhere(v *image.View) func(id int32) election.Standing {
	return func(id int32) election.Standing {
		switch b := v.Brokers[id].Record; {
		case b == nil || b.GetFenced() || e.replica(id) < 0:
			return election.Gone
		default:
			return standingOf(b)
		}
	}
}

// holds reports whether a broker has a replica on the directory that it has.
func (e electable) holds(b *controllerv1.BrokerRecord) bool {
	i := e.replica(b.GetBrokerId())
	return b != nil && i >= 0 && (len(e.directory(i)) == 0 || bytes.Equal(e.directory(i), b.GetDirectoryId()))
}

// edited returns the record that the partition should have.
func (e electable) edited() *controllerv1.PartitionRecord {
	r := proto.CloneOf(e.record)
	r.Leader, r.LeaderEpoch, r.PartitionEpoch = e.Leader, e.LeaderEpoch, r.GetPartitionEpoch()+1
	r.InSyncReplicas, r.EligibleLeaderReplicas, r.LastKnown = e.ISR, e.ELR, e.LastKnown
	r.Replicas, r.MinInsyncReplicas, r.Disk, r.DirectoryIds = e.Replicas, e.min, e.disk, e.directories
	r.TargetReplicas, r.AddingReplicas, r.MoveBytesPerSecond = e.target, e.adding, e.rate
	e.setSuccessor(r)
	if e.Leader != election.NoLeader {
		r.FromBackup, r.AwaitedLogs = false, 0
	}
	return r
}

// planPartitions returns the partitions that should have another leader, or be
// handed over to one, other replicas in sync, or the settings that their topic
// has by now.
func (a *active) planPartitions(v *image.View) []*store.Edit {
	settings := map[store.TopicID]topicconfig.Config{}
	var off offlines
	a.handOvers.short = false
	edits := a.eachPartition(v, func(e electable) (electable, bool) {
		id := store.TopicID(e.record.GetTopicId())
		c, ok := settings[id]
		if !ok {
			c = settingsOf(topicOf(v, id))
			settings[id] = c
		}
		var elected bool
		before := e
		e.min, e.disk = e.minInForce(uint32(c.MinInsyncReplicas)), c.Durability == topicconfig.DurabilityDisk
		// In the same put (rule H3): who was eligible under the old minimum may
		// not be under the new one.
		e.MinISR = effectiveMin(e.min, e.Replicas)
		e.Partition, elected = election.Next(e.Partition, a.patient(v, e))
		e, recovered := a.recover(v, e)
		e, arrived := e.arrive(v)
		e = a.intend(v, e)
		if e.Leader == election.NoLeader {
			off.add(a, v, e)
		}
		if e.LeaderEpoch != before.LeaderEpoch {
			a.elections.Add(1)
		}
		return e, elected || recovered || arrived || e.min != before.min || e.disk != before.disk || e.successor != before.successor
	})
	if len(edits) == 0 { // else it is looked at again
		a.handOvers.scanned(v)
		a.recoveries.publish(off.list, off.wanted)
	}
	return edits
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
	b := newBatch()
	for _, topics := range []map[store.TopicID]*image.Topic{v.Topics, v.Intents} {
		for id, t := range topics {
			for n, p := range t.Partitions {
				if p.Record == nil {
					continue
				}
				if e, changed := f(newElectable(p.Record)); changed {
					b.put(store.PartitionKey(id, uint32(n)), p.Revision, e.edited())
				}
			}
		}
	}
	return b.edits
}

// batch is changes of partitions, in as few edits as they fit in.
type batch struct {
	edits []*store.Edit
	room  int // in the last
}

func newBatch() *batch { return new(batch) }

// put replaces the record of a partition that was last changed at a revision.
func (b *batch) put(k store.Key, revision int64, r *controllerv1.PartitionRecord) {
	if b.room == 0 {
		b.edits, b.room = append(b.edits, new(store.Edit)), partitionsPerEdit
	}
	b.edits[len(b.edits)-1].Expect(k, revision).Put(k, r)
	b.room--
}
