package reconcile

import (
	"cmp"
	"log/slog"
	"slices"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/election"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

// Of a partition that comes from a backup it is known who held it once. Since
// then it may have been led in later epochs, moved to other brokers, or
// deleted, and which replicas were in sync at the end is not known. What was
// acknowledged is on every member of that ISR, which is among the brokers that
// hold a log of it. So nobody leads before
//
//   - each broker that the metadata knows has said whether it holds a log, those
//     that hold one are replicas from then on, and each has said where it ends;
//   - as many hold one as the partition had replicas: if some of those that it
//     had hold none, it was moved to brokers that the metadata does not know, and
//     they are to come first. (Or it was deleted.)
//
// Then the one with the most leads: the greatest (last epoch, end) among logs
// of which at least one has everything has everything itself. Fewer would not
// do, even with min.insync.replicas 2 of three: two that report may be one that
// was empty after its disk was replaced, and one that was not in sync.
//
// It all comes about by itself when all brokers come back. When they do not,
// somebody has to accept the loss, as with any partition that nobody leads.

// found is what a broker says that it has of a partition.
type found struct {
	election.Recovered
	// absent says that it has no log of it.
	absent bool
}

// said returns what the present incarnation of a broker has said of a
// partition.
func (a *active) said(v *image.View, e electable, broker int32) (found, bool) {
	b, rs := v.Brokers[broker].Record, a.recoveries.byBroker[broker]
	if b == nil || b.GetBrokerEpoch() != rs.epoch {
		return found{}, false
	}
	f, ok := rs.ends[partitionID{store.TopicID(e.record.GetTopicId()), e.record.GetPartition()}]
	return f, ok
}

// silent returns the brokers that have no replica of a partition that comes
// from a backup, as far as is known, and have not said yet whether that is so.
// Partitions that were added to such a topic later are not held up by brokers
// that are not there.
func (a *active) silent(v *image.View, e electable) []int32 {
	if !e.fromBackup {
		return nil
	}
	var ids []int32
	for id, b := range v.Brokers {
		if e.replica(id) >= 0 || e.awaitedLogs == 0 && b.Record.GetFenced() {
			continue
		}
		if _, ok := a.said(v, e, id); !ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// complete reports whether enough brokers have said what they hold of a
// partition, if it comes from a backup.
func (a *active) complete(v *image.View, e electable) bool {
	if !e.fromBackup {
		return true
	}
	if len(a.silent(v, e)) > 0 {
		return false
	}
	logs := uint32(0)
	for _, id := range e.Replicas {
		if f, ok := a.said(v, e, id); ok && !f.absent {
			logs++
		}
	}
	return logs >= e.awaitedLogs
}

// adopt makes a broker a replica of a partition that comes from a backup, on
// the directory that it has now: it holds a log of it.
func (e *electable) adopt(b *controllerv1.BrokerRecord) {
	if e.replica(b.GetBrokerId()) < 0 {
		e.Replicas = append(slices.Clone(e.Replicas), b.GetBrokerId())
	}
	e.setDirectory(e.replica(b.GetBrokerId()), b.GetDirectoryId())
	if !slices.Contains(e.LastKnown, b.GetBrokerId()) {
		e.LastKnown = append(slices.Clone(e.LastKnown), b.GetBrokerId())
	}
}

// settled returns a partition from a backup that is led now. If more brokers
// held it than it is to have replicas, those that have the most stay, and the
// others go when enough of these are in sync.
func (a *active) settled(v *image.View, e electable) electable {
	t := topicOf(v, store.TopicID(e.record.GetTopicId())).Record
	want := int(t.GetReplicationFactor())
	if len(e.target) == 0 && len(e.Replicas) > want {
		most := slices.Clone(e.Replicas)
		slices.SortStableFunc(most, func(x, y int32) int {
			fx, _ := a.said(v, e, x)
			fy, _ := a.said(v, e, y)
			return fy.Compare(fx.Recovered)
		})
		slices.SortStableFunc(most, func(x, y int32) int { return cmp.Compare(rank(e, x), rank(e, y)) })
		e.target, e.adding = most[:want], nil
	}
	a.o.Logger.Info("a partition from the backup is led again", slog.String("topic", t.GetTopic()),
		slog.Int("partition", int(e.record.GetPartition())), slog.Int("leader", int(e.Leader)), slog.Int("leader_epoch", int(e.LeaderEpoch)))
	return e
}

// rank puts who leads before the others.
func rank(e electable, id int32) int {
	if id == e.Leader {
		return 0
	}
	return 1
}
