package reconcile

import (
	"bytes"
	"context"
	"log/slog"
	"slices"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/election"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

// AlterPartition changes which replicas are in sync, as leaders propose, or who
// leads, as leaders ask that hand over. It
// fails with *StaleBrokerEpochError; what is the matter with one proposal is in
// its result. REQUIRES: topic ids have 16 bytes, and no partition is there
// twice.
func (l *Loop) AlterPartition(ctx context.Context, r *controllerv1.AlterPartitionRequest) (*controllerv1.AlterPartitionResponse, error) {
	return ask(ctx, l, func(ctx context.Context, a *active) (*controllerv1.AlterPartitionResponse, error) {
		return a.alterPartitions(ctx, r)
	})
}

func (a *active) alterPartitions(ctx context.Context, r *controllerv1.AlterPartitionRequest) (*controllerv1.AlterPartitionResponse, error) {
	if _, err := a.broker(r.GetBrokerId(), r.GetBrokerEpoch()); err != nil {
		return nil, err
	}
	resp := &controllerv1.AlterPartitionResponse{Results: make([]*controllerv1.InSyncResult, len(r.GetProposals()))}
	edits := newBatch()
	filled := false // somebody who was added for a move may have joined
	a.o.Image.Read(func(v *image.View) {
		resp.Revision = v.Revision
		for i, p := range r.GetProposals() {
			res, e := a.propose(v, r.GetBrokerId(), p)
			resp.Results[i] = res
			filled = filled || len(res.GetRecord().GetAddingReplicas()) > 0
			if res.GetOutcome() == controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_ALTERED {
				res.Record = e.edited()
				id := store.TopicID(p.GetTopicId())
				edits.put(store.PartitionKey(id, p.GetPartition()), partitionOf(v, id, p.GetPartition()).Revision, res.GetRecord())
			}
		}
	})
	if len(edits.edits) == 0 {
		return resp, nil
	}
	var err error
	if resp.Revision, err = a.commit(ctx, edits.edits...); err != nil {
		return nil, err
	}
	for i, res := range resp.GetResults() {
		switch {
		case res.GetOutcome() != controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_ALTERED:
		case r.GetProposals()[i].GetHandOver():
			a.handedOver(ctx, res)
		default:
			a.o.Logger.InfoContext(ctx, "replicas in sync changed",
				slog.String("topic_id", store.TopicID(res.GetTopicId()).String()), slog.Int("partition", int(res.GetPartition())),
				slog.Any("in_sync", res.GetRecord().GetInSyncReplicas()), slog.Any("eligible", res.GetRecord().GetEligibleLeaderReplicas()))
		}
	}
	if a.scan || filled { // there is room for others
		return resp, a.settle(ctx)
	}
	return resp, nil
}

// partitionOf returns a partition, without a record if there is none.
func partitionOf(v *image.View, id store.TopicID, n uint32) image.Partition {
	if t := v.Topics[id]; t != nil && int64(n) < int64(len(t.Partitions)) {
		return t.Partitions[n]
	}
	return image.Partition{}
}

// propose returns what becomes of a proposal, and the partition after it.
func (a *active) propose(v *image.View, broker int32, p *controllerv1.InSyncProposal) (*controllerv1.InSyncResult, electable) {
	rec := partitionOf(v, store.TopicID(p.GetTopicId()), p.GetPartition()).Record
	res := &controllerv1.InSyncResult{TopicId: p.GetTopicId(), Partition: p.GetPartition(), Record: rec}
	switch {
	case rec == nil:
		res.Outcome = controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_UNKNOWN_PARTITION
	case rec.GetLeader() != broker:
		res.Outcome = controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_NOT_LEADER
	case rec.GetLeaderEpoch() != p.GetLeaderEpoch():
		res.Outcome = controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_LEADER_EPOCH
	case rec.GetPartitionEpoch() != p.GetPartitionEpoch():
		res.Outcome = controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_PARTITION_EPOCH
	case p.GetHandOver():
		return a.succeed(v, res)
	default:
		return a.join(v, p, res)
	}
	return res, electable{}
}

// join carries out a proposal that is not stale, unless somebody in it cannot
// be in sync: an incarnation that is not the current one may lack what the
// proposer saw it acknowledge (KIP-903).
func (a *active) join(v *image.View, p *controllerv1.InSyncProposal, res *controllerv1.InSyncResult) (*controllerv1.InSyncResult, electable) {
	e := newElectable(res.GetRecord())
	var isr []int32
	for _, m := range p.GetInSyncReplicas() {
		if why := ineligible(v, e, m); why != controllerv1.Ineligibility_INELIGIBILITY_UNSPECIFIED {
			res.Outcome = controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_INELIGIBLE
			res.IneligibleBrokerId, res.Ineligibility = m.GetBrokerId(), why
			return res, electable{}
		}
		isr = append(isr, m.GetBrokerId())
	}
	// A replica that joins has everything on the directory that it has now,
	// which may be a new one.
	for _, id := range isr {
		if i := e.replica(id); !slices.Contains(e.ISR, id) {
			e.setDirectory(i, v.Brokers[id].Record.GetDirectoryId())
		}
	}
	e.Partition = election.LetGo(election.Propose(e.Partition, isr), e.standing(v))
	e, _ = e.arrive(v) // in the same put: the last who was awaited may have joined
	e = a.intend(v, e)
	res.Outcome = controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_ALTERED
	return res, e
}

// ineligible returns why a replica cannot be in sync; unspecified: it can.
func ineligible(v *image.View, e electable, m *controllerv1.InSyncReplica) controllerv1.Ineligibility {
	b := v.Brokers[m.GetBrokerId()].Record
	was := slices.Contains(e.ISR, m.GetBrokerId())
	switch i := e.replica(m.GetBrokerId()); {
	case i < 0:
		return controllerv1.Ineligibility_INELIGIBILITY_NOT_A_REPLICA
	case b != nil && b.GetBrokerEpoch() != m.GetBrokerEpoch():
		return controllerv1.Ineligibility_INELIGIBILITY_STALE_BROKER_EPOCH
	case b == nil || b.GetFenced():
		return controllerv1.Ineligibility_INELIGIBILITY_FENCED
	case b.GetStopping() && !was:
		return controllerv1.Ineligibility_INELIGIBILITY_STOPPING
	case isImpaired(b) && !was && election.Enough(e.Partition, e.standing(v)):
		return controllerv1.Ineligibility_INELIGIBILITY_IMPAIRED
	case was && !bytes.Equal(e.directory(i), b.GetDirectoryId()) && len(e.directory(i)) > 0:
		// It stands for the directory that it had.
		return controllerv1.Ineligibility_INELIGIBILITY_STALE_BROKER_EPOCH
	}
	return controllerv1.Ineligibility_INELIGIBILITY_UNSPECIFIED
}
