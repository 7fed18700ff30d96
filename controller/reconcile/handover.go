package reconcile

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/election"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

// Who leads is changed at once when a leader is gone. When the change is planned
// (its broker is about to stop, or its disk is in trouble, the partition is moved
// away from it, another is preferred), the leader is asked to hand over first:
// its successor is put into the partition's record, the leader takes no more
// records, and says when all that it has is committed (AlterPartition). Then the
// successor leads, with nothing in flight before it.
//
// INVARIANT: a successor is in sync and not the leader; any change of the leader
// and any that takes the successor out of the ISR takes the wish back, in the
// same put.
// INVARIANT: a record with a successor stays for handOverPatience at most, after
// which the leader is left in peace for a while: so a wish that cannot be fulfilled
// does not hold up a partition.
//
// Nothing of it is stored but the successor. A controller that takes over counts
// each wish as just made.

const (
	// handOverPatience is as long as a leader tries (server/replica), which takes no
	// records for longer: so the end of the patience, too, leaves none in flight.
	handOverPatience = 1500 * time.Millisecond
	// handOverPause is how long a leader that could not hand over is left in
	// peace.
	handOverPause = 10 * time.Second
	// handOversAtOnce bounds the partitions that take no records at a time: all
	// of them wait for the same few writes of the store.
	handOversAtOnce = 64
	// preferredWait bounds how long ElectPreferredLeaders waits for leaders.
	preferredWait = 10 * time.Second
)

// handOver is a wish that a partition is handed over, or one that was given up.
type handOver struct {
	since  time.Time // of the successor in the record; zero: there is none
	failed time.Time // when the last one was given up; zero: none was
}

// handOvers are the wishes of this active controller. The loop owns it.
type handOvers struct {
	byKey map[store.Key]*handOver
	// short says that some have to wait until there are fewer.
	short bool
	// prefer says which topics shall be led by the first of their replicas, until
	// each of them was asked.
	prefer map[store.TopicID]bool
	all    bool // shall be
	// stuck says when each broker last could not hand over. No more than there
	// are brokers.
	stuck map[int32]time.Time
}

func newHandOvers() handOvers {
	return handOvers{byKey: map[store.Key]*handOver{}, prefer: map[store.TopicID]bool{}, stuck: map[int32]time.Time{}}
}

// room tells whether another may be asked.
func (h *handOvers) room() bool {
	n := 0
	for _, o := range h.byKey {
		if !o.since.IsZero() {
			n++
		}
	}
	return n < handOversAtOnce
}

// due tells whether there is something to do though nothing has changed.
func (h *handOvers) due(now time.Time) bool {
	for _, o := range h.byKey {
		switch {
		case !o.since.IsZero() && now.Sub(o.since) >= handOverPatience:
			return true
		case o.since.IsZero() && now.Sub(o.failed) >= handOverPause:
			return true
		}
	}
	return h.short && h.room()
}

// scanned takes that all partitions were looked at and nothing was left to do.
func (h *handOvers) scanned(v *image.View) {
	for k := range h.byKey {
		if topicOf(v, k.Topic) == nil {
			delete(h.byKey, k)
		}
	}
	for id := range h.stuck {
		if v.Brokers[id].Record == nil {
			delete(h.stuck, id)
		}
	}
	if !h.short {
		clear(h.prefer)
		h.all = false
	}
}

// key is where the partition is.
func (e electable) key() store.Key {
	return store.PartitionKey(store.TopicID(e.record.GetTopicId()), e.record.GetPartition())
}

// canSucceed tells whether a broker can lead instead of who does. One whose disk
// is in trouble can only if the other is about to stop.
func (e electable) canSucceed(v *image.View, id int32) bool {
	if id == election.NoLeader || id == e.Leader || !slices.Contains(e.ISR, id) {
		return false
	}
	of := e.standing(v)
	return of(id) == election.Serving || of(id) == election.Impaired && of(e.Leader) == election.Leaving
}

// ledAway tells whether somebody else is to lead than a broker of that standing.
func ledAway(s election.Standing) bool { return s == election.Leaving || s == election.Impaired }

// successorFor returns whom the partition should be handed over to, by plan;
// NoLeader: to nobody. Whom the record names already stays, if that is still
// right: the leader may be about to say that it is ready.
func (a *active) successorFor(v *image.View, e electable) int32 {
	if e.Leader == election.NoLeader {
		return election.NoLeader
	}
	named := election.NoLeader
	if e.canSucceed(v, e.successor) {
		named = e.successor
	}
	of := e.standing(v)
	leaving, out := ledAway(of(e.Leader)), e.leaderIsLeftOut(v)
	if leaving || out {
		among := e.target
		if leaving {
			among = slices.Concat(e.target, e.Replicas)
		}
		for _, as := range []election.Standing{election.Serving, election.Impaired} {
			can := func(id int32) bool { return e.canSucceed(v, id) && of(id) == as }
			if slices.Contains(among, named) && can(named) {
				return named
			}
			if i := slices.IndexFunc(among, can); i >= 0 {
				return among[i]
			}
		}
		return election.NoLeader
	}
	first := e.Replicas[0]
	if named == first || a.handOvers.prefers(e) && e.canSucceed(v, first) {
		return first
	}
	return election.NoLeader
}

func (h *handOvers) prefers(e electable) bool {
	return h.all || h.prefer[store.TopicID(e.record.GetTopicId())]
}

// intend decides whom the leader is asked to hand over to, in the same put as
// all else that becomes of the partition.
func (a *active) intend(v *image.View, e electable) electable {
	if e.LeaderEpoch != e.record.GetLeaderEpoch() {
		e.successor = election.NoLeader // what was asked of another is void
	}
	k, now := e.key(), time.Now()
	h, want := a.handOvers.byKey[k], a.successorFor(v, e)
	switch {
	case want == election.NoLeader:
		delete(a.handOvers.byKey, k)
		e.successor = election.NoLeader
	case want == e.successor && (h == nil || h.since.IsZero()): // of the controller before
		a.handOvers.byKey[k] = &handOver{since: now}
	case want == e.successor && now.Sub(h.since) < handOverPatience:
	case want == e.successor:
		a.o.Logger.Warn("partition not handed over in time", slog.String("topic_id", k.Topic.String()), slog.Int("partition", int(k.Partition)),
			slog.Int("leader", int(e.Leader)), slog.Int("successor", int(want)))
		h.since, h.failed = time.Time{}, now
		a.handOvers.stuck[e.Leader] = now
		e.successor = election.NoLeader
	case h != nil && !h.failed.IsZero() && now.Sub(h.failed) < handOverPause:
		e.successor = election.NoLeader
	case e.successor == election.NoLeader && !a.handOvers.room():
		a.handOvers.short = true
	default:
		a.handOvers.byKey[k] = &handOver{since: now}
		e.successor = want
	}
	return e
}

// patient is standing, but that a leader which is leaving or impaired serves
// until it has handed over, or could not. If a disk that is in trouble has kept
// its broker from handing over one partition, it is not asked for the others.
func (a *active) patient(v *image.View, e electable) func(id int32) election.Standing {
	of := e.standing(v)
	if e.Leader == election.NoLeader || !ledAway(of(e.Leader)) || a.successorFor(v, e) == election.NoLeader {
		return of
	}
	if h := a.handOvers.byKey[e.key()]; h != nil && !h.failed.IsZero() {
		return of
	}
	if of(e.Leader) == election.Impaired && time.Since(a.handOvers.stuck[e.Leader]) < handOverPause {
		return of
	}
	leader := e.Leader
	return func(id int32) election.Standing {
		if id == leader {
			return election.Serving
		}
		return of(id)
	}
}

// succeed carries out what a leader asks that has nothing in flight: its
// successor leads, and what was waiting for that is done in the same put.
func (a *active) succeed(v *image.View, res *controllerv1.InSyncResult) (*controllerv1.InSyncResult, electable) {
	e := newElectable(res.GetRecord())
	next := e.successor
	switch {
	case next == election.NoLeader:
		res.Outcome = controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_NO_SUCCESSOR
		return res, electable{}
	case !e.canSucceed(v, next):
		b := v.Brokers[next].Record
		res.Outcome, res.IneligibleBrokerId = controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_INELIGIBLE, next
		switch {
		case e.replica(next) < 0:
			res.Ineligibility = controllerv1.Ineligibility_INELIGIBILITY_NOT_A_REPLICA
		case b == nil || b.GetFenced() || !b.GetStopping() && !isImpaired(b):
			res.Ineligibility = controllerv1.Ineligibility_INELIGIBILITY_FENCED
		case !b.GetStopping():
			res.Ineligibility = controllerv1.Ineligibility_INELIGIBILITY_IMPAIRED
		default:
			res.Ineligibility = controllerv1.Ineligibility_INELIGIBILITY_STOPPING
		}
		return res, electable{}
	}
	e.successor = election.NoLeader
	e.Partition = election.Succeed(e.Partition, next)
	e.Partition, _ = election.Next(e.Partition, e.standing(v)) // who is leaving is not waited for any more
	e, _ = e.arrive(v)
	res.Outcome = controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_ALTERED
	return res, e
}

// handedOver notes that a partition has another leader by its leader's wish.
func (a *active) handedOver(ctx context.Context, res *controllerv1.InSyncResult) {
	k := store.PartitionKey(store.TopicID(res.GetTopicId()), res.GetPartition())
	if h := a.handOvers.byKey[k]; h != nil {
		a.o.Logger.InfoContext(ctx, "partition handed over", slog.String("topic_id", k.Topic.String()), slog.Int("partition", int(k.Partition)),
			slog.Int("leader", int(res.GetRecord().GetLeader())), slog.Int("leader_epoch", int(res.GetRecord().GetLeaderEpoch())),
			slog.Duration("after", time.Since(h.since)))
	}
	delete(a.handOvers.byKey, k)
	a.elections.Add(1)
	a.scan = a.scan || a.handOvers.short
}

// setSuccessor writes who is asked for into a record.
func (e electable) setSuccessor(r *controllerv1.PartitionRecord) {
	r.Successor = nil
	if e.successor != election.NoLeader && e.LeaderEpoch == e.record.GetLeaderEpoch() && e.Leader != e.successor && slices.Contains(e.ISR, e.successor) {
		r.Successor = proto.Int32(e.successor)
	}
}
