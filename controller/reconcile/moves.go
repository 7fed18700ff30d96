package reconcile

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/election"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/placement"
	"github.com/millstream-io/millstream/controller/store"
)

// A partition is moved in two puts. The first adds the new replicas to those
// that it has, and says which it shall have in the end. When all that were
// added are in sync, the second leaves the others out, in the put of the ISR
// change that brought the last of them in; or, where the leader is left out, in
// that by which it hands over. In between nothing is given up: the minimum in
// force is that of the replicas that were there before.

// minInForce returns min.insync.replicas as it is to be in the record: replicas
// that are being filled do not raise it.
func (e electable) minInForce(set uint32) uint32 {
	if len(e.adding) == 0 {
		return set
	}
	return min(set, uint32(len(e.Replicas)-len(e.adding)))
}

// reshape gives the partition other replicas; those that are new are on the
// directories that their brokers have.
func (e *electable) reshape(v *image.View, replicas []int32) {
	dirs := make([][]byte, len(replicas))
	for n, id := range replicas {
		if i := e.replica(id); i >= 0 {
			dirs[n] = e.directory(i)
		} else {
			dirs[n] = v.Brokers[id].Record.GetDirectoryId()
		}
	}
	e.Replicas, e.directories = replicas, dirs
}

// begin returns the partition on its way to other replicas.
func (e electable) begin(v *image.View, target []int32, rate uint64) electable {
	base := e.Replicas
	e.target, e.rate = slices.Clone(target), rate
	e.adding = slices.DeleteFunc(slices.Clone(target), func(id int32) bool { return slices.Contains(base, id) })
	e.reshape(v, slices.Concat(base, e.adding))
	e.min = e.minInForce(setMin(v, e))
	e.MinISR = effectiveMin(e.min, e.Replicas)
	e, _ = e.arrive(v) // another order alone takes no time
	return e
}

// setMin returns min.insync.replicas as the topic has it.
func setMin(v *image.View, e electable) uint32 {
	return uint32(settingsOf(topicOf(v, store.TopicID(e.record.GetTopicId()))).MinInsyncReplicas)
}

// arrive returns the partition at the end of its way, and whether it is there:
// everybody who was added is in sync, and enough of those that stay.
func (e electable) arrive(v *image.View) (electable, bool) {
	if !e.filled() || e.leaderIsLeftOut(v) {
		return e, false
	}
	return e.narrow(v, e.target)
}

// filled tells whether the partition is being moved and everybody who was added
// is in sync.
func (e electable) filled() bool {
	return len(e.target) > 0 && !slices.ContainsFunc(e.adding, func(id int32) bool { return !slices.Contains(e.ISR, id) })
}

// leaderIsLeftOut tells whether a move could end but that the leader is none of
// those that stay: it has to hand over first.
func (e electable) leaderIsLeftOut(v *image.View) bool {
	if e.Leader == election.NoLeader || !e.filled() || slices.Contains(e.target, e.Leader) {
		return false
	}
	_, safe := e.narrow(v, e.target)
	return safe
}

// narrow ends a move with those replicas, if that is safe.
func (e electable) narrow(v *image.View, replicas []int32) (electable, bool) {
	set := setMin(v, e)
	p, safe := election.Narrow(e.Partition, replicas, effectiveMin(set, replicas), e.standing(v))
	if !safe {
		return e, false
	}
	e.reshape(v, replicas)
	e.Partition, e.min = p, set
	e.target, e.adding, e.rate = nil, nil, 0
	return e, true
}

// ReassignPartitions begins to move partitions. What is the matter with one is
// in its result. REQUIRES: no partition is there twice.
func (l *Loop) ReassignPartitions(ctx context.Context, r *controllerv1.ReassignPartitionsRequest) (*controllerv1.ReassignPartitionsResponse, error) {
	resp := new(controllerv1.ReassignPartitionsResponse)
	var err error
	resp.Results, resp.Revision, err = l.reassign(ctx, r.GetReassignments(), r.GetValidateOnly(), func(v *image.View, t *image.Topic, m *controllerv1.Reassignment, e electable, res *controllerv1.ReassignmentResult) electable {
		return move(v, t, m, e, rates{asked: r.GetBytesPerSecond(), unless: l.o.MoveBytes}, res)
	})
	return resp, err
}

// CancelReassignments puts partitions back to the replicas that they had. What
// is the matter with one is in its result. REQUIRES: no partition is there
// twice.
func (l *Loop) CancelReassignments(ctx context.Context, r *controllerv1.CancelReassignmentsRequest) (*controllerv1.CancelReassignmentsResponse, error) {
	resp := new(controllerv1.CancelReassignmentsResponse)
	var err error
	resp.Results, resp.Revision, err = l.reassign(ctx, r.GetReassignments(), r.GetValidateOnly(), func(v *image.View, _ *image.Topic, _ *controllerv1.Reassignment, e electable, res *controllerv1.ReassignmentResult) electable {
		if len(e.target) == 0 {
			res.Outcome = controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNCHANGED
			return e
		}
		before := slices.DeleteFunc(slices.Clone(e.Replicas), func(id int32) bool { return slices.Contains(e.adding, id) })
		next, safe := e.narrow(v, before)
		if !safe {
			res.Outcome = controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNSAFE
			return e
		}
		if next.Leader != e.Leader { // it has to hand over first: the move is turned round
			next = e
			next.target, next.adding = before, nil
		}
		res.Outcome = controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_DONE
		return next
	})
	return resp, err
}

// reassignment decides what becomes of a partition, and sets the outcome.
type reassignment func(*image.View, *image.Topic, *controllerv1.Reassignment, electable, *controllerv1.ReassignmentResult) electable

// reassign carries out what is asked of each partition.
func (l *Loop) reassign(ctx context.Context, asked []*controllerv1.Reassignment, dry bool, decide reassignment) ([]*controllerv1.ReassignmentResult, int64, error) {
	results := make([]*controllerv1.ReassignmentResult, len(asked))
	var revision int64
	err := l.do(ctx, func(ctx context.Context, a *active) (err error) {
		edits := newBatch()
		a.o.Image.Read(func(v *image.View) {
			revision = v.Revision
			for i, m := range asked {
				results[i] = &controllerv1.ReassignmentResult{Topic: m.GetTopic(), Partition: m.GetPartition()}
				p, err := named(v, m.GetTopic(), m.GetPartition())
				if err != nil {
					results[i].Outcome = controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNKNOWN_PARTITION
					continue
				}
				e := decide(v, v.TopicByName(m.GetTopic()), m, newElectable(p.Record), results[i])
				results[i].Record, results[i].ReplicasBefore = p.Record, settled(p.Record)
				if results[i].GetOutcome() == controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_DONE {
					results[i].Record = e.edited()
					edits.put(store.PartitionKey(store.TopicID(p.Record.GetTopicId()), m.GetPartition()), p.Revision, results[i].GetRecord())
				}
			}
		})
		if dry || len(edits.edits) == 0 {
			return nil
		}
		a.scan = true
		if revision, err = a.commit(ctx, edits.edits...); err != nil {
			return err
		}
		a.o.Logger.InfoContext(ctx, "partitions reassigned", slog.Int("partitions", len(asked)))
		err = a.settle(ctx)
		revision = a.o.Image.Revision()
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return results, revision, nil
}

// rates are how fast replicas that are added may be filled, in bytes a second:
// as it was asked for, and unless it was.
type rates struct{ asked, unless uint64 }

// move begins to move a partition, or has the move that is under way go at
// another rate, or says why not.
func move(v *image.View, t *image.Topic, m *controllerv1.Reassignment, e electable, r rates, res *controllerv1.ReassignmentResult) electable {
	refuse := func(why controllerv1.ReassignmentOutcome, broker int32) electable {
		res.Outcome, res.BrokerId = why, broker
		return e
	}
	switch {
	case m.PartitionEpoch != nil && m.GetPartitionEpoch() != e.record.GetPartitionEpoch():
		return refuse(controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_STALE_PARTITION_EPOCH, 0)
	case slices.Equal(e.target, m.GetReplicas()) && len(e.adding) > 0 && r.asked != 0 && r.asked != e.rate:
		e.rate = r.asked
		res.Outcome = controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_DONE
		return e
	case slices.Equal(placed(e.record), m.GetReplicas()):
		return refuse(controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNCHANGED, 0)
	case len(e.target) > 0:
		return refuse(controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_IN_PROGRESS, 0)
	case len(m.GetReplicas()) != int(t.Record.GetReplicationFactor()):
		return refuse(controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_WRONG_COUNT, 0)
	}
	for i, id := range m.GetReplicas() {
		b := v.Brokers[id].Record
		switch {
		case slices.Contains(m.GetReplicas()[:i], id):
			return refuse(controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_BROKER_TWICE, id)
		case b == nil:
			return refuse(controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNKNOWN_BROKER, id)
		case e.replica(id) < 0 && !takes(b):
			return refuse(controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_BROKER_NOT_SERVING, id)
		}
	}
	res.Outcome = controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_DONE
	return e.begin(v, m.GetReplicas(), cmp.Or(r.asked, r.unless))
}

// Reassignments returns the partitions that are being moved, in the order of
// their names.
func (l *Loop) Reassignments(ctx context.Context) ([]*controllerv1.OngoingReassignment, error) {
	var list []*controllerv1.OngoingReassignment
	err := l.do(ctx, func(_ context.Context, a *active) error {
		a.o.Image.Read(func(v *image.View) {
			for _, t := range v.Topics {
				for _, p := range t.Partitions {
					if len(p.Record.GetTargetReplicas()) == 0 {
						continue
					}
					o := &controllerv1.OngoingReassignment{Topic: t.Record.GetTopic(), Record: p.Record}
					for _, id := range p.Record.GetAddingReplicas() {
						if !slices.Contains(p.Record.GetInSyncReplicas(), id) {
							o.AwaitedBrokerIds = append(o.AwaitedBrokerIds, id)
						}
					}
					list = append(list, o)
				}
			}
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(x, y *controllerv1.OngoingReassignment) int {
		return cmp.Or(cmp.Compare(x.GetTopic(), y.GetTopic()), cmp.Compare(x.GetRecord().GetPartition(), y.GetRecord().GetPartition()))
	})
	for _, o := range list {
		o.Progress = l.progress.of(o.GetRecord())
	}
	return list, nil
}

// racks returns where the brokers stand.
func racks(v *image.View) map[int32]string {
	m := make(map[int32]string, len(v.Brokers))
	for id, b := range v.Brokers {
		m[id] = b.Record.GetRack()
	}
	return m
}

// movables returns the partitions that can be moved, in an order that is the
// same each time: those that are led and not being moved.
func movables(v *image.View) []image.Partition {
	var ps []image.Partition
	for _, id := range slices.SortedFunc(maps.Keys(v.Topics), func(a, b store.TopicID) int { return slices.Compare(a[:], b[:]) }) {
		for _, p := range v.Topics[id].Partitions {
			if p.Record.GetLeader() != election.NoLeader && len(p.Record.GetTargetReplicas()) == 0 {
				ps = append(ps, p)
			}
		}
	}
	return ps
}

// SpreadReplicas begins to move replicas from brokers that hold many to those
// that hold few.
func (l *Loop) SpreadReplicas(ctx context.Context, r *controllerv1.SpreadReplicasRequest) (*controllerv1.SpreadReplicasResponse, error) {
	resp := new(controllerv1.SpreadReplicasResponse)
	err := l.do(ctx, func(ctx context.Context, a *active) (err error) {
		edits := newBatch()
		a.o.Image.Read(func(v *image.View) {
			resp.Revision = v.Revision
			ps := movables(v)
			replicas := make([][]int32, len(ps))
			for i, p := range ps {
				replicas[i] = p.Record.GetReplicas()
			}
			for _, m := range placement.NewMover(takers(v), racks(v)).Spread(replicas, int(r.GetMostMoves())) {
				p := ps[m.Partition]
				id := store.TopicID(p.Record.GetTopicId())
				rec := newElectable(p.Record).begin(v, m.Replicas, cmp.Or(r.GetBytesPerSecond(), l.o.MoveBytes)).edited()
				resp.Results = append(resp.Results, &controllerv1.ReassignmentResult{
					Topic: v.Topics[id].Record.GetTopic(), Partition: rec.GetPartition(), Record: rec, ReplicasBefore: settled(p.Record),
					Outcome: controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_DONE,
				})
				edits.put(store.PartitionKey(id, rec.GetPartition()), p.Revision, rec)
			}
		})
		if r.GetValidateOnly() || len(edits.edits) == 0 {
			return nil
		}
		resp.Revision, err = a.commit(ctx, edits.edits...)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ElectPreferredLeaders has partitions led by the first of their replicas, and
// waits until they are, for a while. It fails with *UnknownTopicError.
func (l *Loop) ElectPreferredLeaders(ctx context.Context, r *controllerv1.ElectPreferredLeadersRequest) (*controllerv1.ElectPreferredLeadersResponse, error) {
	resp := new(controllerv1.ElectPreferredLeadersResponse)
	var asked []store.Key
	err := l.do(ctx, func(ctx context.Context, a *active) (err error) {
		a.o.Image.Read(func(v *image.View) {
			resp.Revision = v.Revision
			var only *image.Topic
			if r.GetTopic() != "" {
				if only = v.TopicByName(r.GetTopic()); only == nil {
					err = &UnknownTopicError{Topic: r.GetTopic()}
					return
				}
			}
			asked, resp.NotPossible = unpreferred(v, only)
			if !r.GetValidateOnly() && len(asked) > 0 {
				a.handOvers.wish(only)
			}
		})
		if err != nil || r.GetValidateOnly() || len(asked) == 0 {
			return err
		}
		a.scan = true
		return a.settle(ctx)
	})
	if err != nil {
		return nil, err
	}
	resp.Elected = uint32(len(asked))
	if !r.GetValidateOnly() {
		l.awaitPreferred(ctx, asked, resp)
	}
	return resp, nil
}

// wish has a topic, or all, led by the first of their replicas.
func (h *handOvers) wish(only *image.Topic) {
	if only == nil {
		h.all = true
	} else {
		h.prefer[store.TopicID(only.Record.GetTopicId())] = true
	}
}

// unpreferred returns the partitions that could be led by the first of their
// replicas and are not, and counts those that cannot.
func unpreferred(v *image.View, only *image.Topic) (can []store.Key, not uint32) {
	for _, t := range v.Topics {
		if only != nil && t != only {
			continue
		}
		for _, p := range t.Partitions {
			switch e := newElectable(p.Record); {
			case e.Leader == e.Replicas[0] || e.Leader == election.NoLeader:
			case e.canSucceed(v, e.Replicas[0]):
				can = append(can, e.key())
			default:
				not++
			}
		}
	}
	return can, not
}

// awaitPreferred waits until partitions are led by the first of their replicas,
// or that has taken too long, and counts.
func (l *Loop) awaitPreferred(ctx context.Context, asked []store.Key, resp *controllerv1.ElectPreferredLeadersResponse) {
	ctx, cancel := context.WithTimeout(ctx, preferredWait)
	defer cancel()
	for {
		changed := l.o.Image.Changed()
		var left uint32
		l.o.Image.Read(func(v *image.View) {
			resp.Revision = v.Revision
			for _, k := range asked {
				if p := partitionOf(v, k.Topic, k.Partition).Record; p != nil && p.GetLeader() != p.GetReplicas()[0] {
					left++
				}
			}
		})
		if left > 0 {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
			}
		}
		resp.Elected -= left
		resp.NotPossible += left
		return
	}
}
