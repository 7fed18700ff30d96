package broker

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/follower"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/pusher"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

const (
	// tickEvery is how often partitions look at the clock whose followers are
	// behind, or have not been told of an end (rule P3).
	tickEvery = 100 * time.Millisecond
	// freshTicks is how many of them readers at the tail may wait without the
	// leader being sure of itself: a second's.
	freshTicks = 10
	// proposeTimeout bounds one call to the controller.
	proposeTimeout = 5 * time.Second
	// handOverLeast is how long a call for hand-overs takes at most that is worth
	// making before they are given up.
	handOverLeast = 50 * time.Millisecond
	// proposalsAtOnce is how many proposals one call has.
	proposalsAtOnce = 1000
)

// replicate makes the parts by which brokers follow each other.
func (b *Broker) replicate() {
	b.proposals, b.handOvers = newProposals(), newProposals()
	revision := func() int64 { return b.mirror.Current().Revision }
	b.followers = follower.New(follower.Options{
		Self: b.opts.ID, Dial: b.opts.Peers.Conn, Revision: revision, Logger: b.logger,
		Identity: func() follower.Identity {
			inc := b.identity.Load()
			return follower.Identity{ClusterID: inc.ClusterID, Generation: inc.Generation, BrokerEpoch: inc.BrokerEpoch}
		},
	})
	b.pusher = pusher.New(pusher.Options{
		Self: b.opts.ID, Revision: revision, Callers: b.opts.Callers, Logger: b.logger, Partition: b.replicaOf,
		Identity: func() pusher.Identity {
			inc := b.identity.Load()
			if inc == nil {
				return pusher.Identity{}
			}
			return pusher.Identity{ClusterID: inc.ClusterID, Generation: inc.Generation, BrokerEpoch: inc.BrokerEpoch}
		},
		Epoch: func(id int32) int64 {
			if other := b.mirror.Current().Broker(id); other != nil {
				return other.Epoch
			}
			return 0
		},
	})
}

// Replication returns the service that other brokers follow this one by.
func (b *Broker) Replication() *pusher.Service { return b.pusher }

// replicaOf returns a partition that this broker holds, whoever leads it, and
// opens it if needed; nil: it holds none, or it cannot be opened.
func (b *Broker) replicaOf(topic record.TopicID, number record.PartitionID) *partition.Partition {
	if !b.serving.Load() {
		return nil
	}
	l := b.log(logKey{topic: topic, partition: number})
	if l == nil {
		return nil
	}
	p, err := l.partition()
	if err != nil {
		return nil // it is logged and counted there
	}
	return p
}

// carryOut leads, goes on leading, follows, or resigns. It returns false if what
// is wanted is for another incarnation of this broker.
//
// REQUIRES: carrying is held.
func (l *localLog) carryOut(p *partition.Partition, w *wanted) bool {
	self, leader := l.b.opts.ID, w.part.Leader
	a := w.assignment()
	switch {
	case leader == self && l.b.replaced():
		l.retire(p, a.Epoch)
		l.unlink(a.Epoch)
		return false
	case leader == self:
		if !p.Lead(a) {
			p.Confirm(a)
		}
		l.unlink(a.Epoch)
	case leader == metadata.NoLeader || !slices.Contains(w.part.Replicas, self):
		p.Resign(replica.ID(leader), a.Epoch)
		l.unlink(a.Epoch)
	default:
		next, before := l.link, l.link
		if next == nil || next.Leader() != leader {
			next = l.b.followers.Follow(l.key.topic, l.key.partition, leader, p)
		}
		p.Follow(a, replica.ID(leader), next)
		if next != before {
			l.unlink(a.Epoch)
			l.link = next
			l.b.followers.Start(next)
		} else {
			l.b.followers.Connect(next)
		}
	}
	return true
}

// unlink ends the link to a leader, in a newer leader epoch; -1: in the one in
// which it was followed.
//
// REQUIRES: carrying is held.
func (l *localLog) unlink(newer record.LeaderEpoch) {
	if l.link != nil {
		l.b.followers.Stop(l.link, newer)
		l.link = nil
	}
}

// assignment is what a replica decides by.
func (w *wanted) assignment() replica.Assignment {
	a := replica.Assignment{
		Epoch: record.LeaderEpoch(w.part.LeaderEpoch), PartitionEpoch: w.part.Epoch,
		Replicas: ids(w.part.Replicas), InSync: ids(w.part.ISR), MinInSync: w.part.MinISR, Durability: replica.Memory,
		Adding: ids(w.part.Adding), AddingRate: w.part.MoveBytesPerSecond,
		HandsOver: w.part.Successor != metadata.NoLeader, Successor: replica.ID(w.part.Successor),
	}
	if w.part.Disk {
		a.Durability = replica.Disk
	}
	return a
}

// tick has partitions look at the clock, until ctx ends.
func (b *Broker) tick(ctx context.Context) error {
	n := 0
	return every(ctx, tickEvery, nil, func() {
		n++
		look := n%freshTicks == 0
		for _, p := range b.open(ctx) {
			if p.Restless() {
				p.Tick()
			}
			if look {
				p.LookFresh()
			}
		}
	})
}

// proposals are what partitions want the controller to make of their ISR, or of
// their leader: the last of each. WHY hand-overs apart: they hold up producers,
// and wait for nothing.
type proposals struct {
	mu    sync.Mutex // guards byLog
	byLog map[*localLog]replica.Proposal
	more  chan struct{} // capacity 1; never closed
}

func newProposals() *proposals {
	return &proposals{byLog: make(map[*localLog]replica.Proposal), more: make(chan struct{}, 1)}
}

// want takes a proposal of a partition.
func (b *Broker) want(l *localLog, p replica.Proposal) {
	if p.HandOver {
		b.handOvers.put(l, p)
		return
	}
	b.proposals.put(l, p)
}

func (s *proposals) put(l *localLog, p replica.Proposal) {
	s.mu.Lock()
	s.byLog[l] = p
	s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// take takes some of them.
func (s *proposals) take() (logs []*localLog, ps []replica.Proposal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l, p := range s.byLog {
		if len(logs) == proposalsAtOnce {
			break
		}
		logs, ps = append(logs, l), append(ps, p)
		delete(s.byLog, l)
	}
	return logs, ps
}

// propose brings proposals to the controller, until ctx ends. What becomes of
// one comes with the metadata, but for a refusal.
func (b *Broker) propose(ctx context.Context, from *proposals) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-from.more:
		}
		for {
			logs, ps := from.take()
			if len(logs) == 0 {
				break
			}
			b.proposeSome(ctx, logs, ps)
		}
	}
}

func (b *Broker) proposeSome(ctx context.Context, logs []*localLog, ps []replica.Proposal) {
	logs, ps, timeout := inTime(logs, ps, partition.Uptime())
	if len(ps) == 0 {
		return
	}
	inc, seen := b.identity.Load(), b.mirror.Current()
	req := &controllerv1.AlterPartitionRequest{BrokerId: b.opts.ID, BrokerEpoch: inc.BrokerEpoch}
	for i, l := range logs {
		req.Proposals = append(req.Proposals, b.proposalOf(l, &ps[i], inc.BrokerEpoch, seen))
	}
	call, cancel := context.WithTimeout(ctx, timeout)
	resp, err := b.opts.Controller.AlterPartition(call, req)
	cancel()
	if err != nil || len(resp.GetResults()) != len(logs) {
		// Nobody knows what became of them: the partitions propose again until a
		// newer record comes.
		b.metrics.proposals.WithLabelValues("unknown").Add(float64(len(logs)))
		b.logger.Warn("proposals of who is in sync not answered", "proposals", len(logs), "err", err)
		return
	}
	for i, res := range resp.GetResults() {
		if res.GetOutcome() == controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_ALTERED {
			b.metrics.proposals.WithLabelValues("altered").Inc()
			continue
		}
		b.metrics.proposals.WithLabelValues("refused").Inc()
		level := slog.LevelInfo
		if res.GetOutcome() == controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_PARTITION_EPOCH {
			level = slog.LevelDebug // a newer record is on its way, of as many partitions as have a new leader
		}
		b.logger.Log(ctx, level, "proposal of who is in sync refused", "log", logs[i].key.String(), "outcome", res.GetOutcome().String(),
			"broker", res.GetIneligibleBrokerId(), "why", res.GetIneligibility().String())
		if p := logs[i].opened.Load(); p != nil && !ps[i].HandOver {
			p.Refused(ps[i].PartitionEpoch)
		}
	}
}

// inTime returns the proposals that are worth making, and how long the call may
// take: when a leader has given up to hand over, and takes records again, nobody
// is to do what it asked for.
func inTime(logs []*localLog, ps []replica.Proposal, now time.Duration) ([]*localLog, []replica.Proposal, time.Duration) {
	timeout := proposeTimeout
	for i := len(ps) - 1; i >= 0; i-- {
		switch left := ps[i].Until - now; {
		case !ps[i].HandOver:
		case left < handOverLeast:
			logs, ps = slices.Delete(logs, i, i+1), slices.Delete(ps, i, i+1)
		default:
			timeout = min(timeout, left)
		}
	}
	return logs, ps, timeout
}

// proposalOf puts a proposal into words. A member that has had no session in
// this epoch was in sync before: its incarnation is the one that the metadata
// has; the controller refuses if there is another by now.
func (b *Broker) proposalOf(l *localLog, p *replica.Proposal, self int64, seen *metadata.Snapshot) *controllerv1.InSyncProposal {
	topic := l.key.topic
	out := &controllerv1.InSyncProposal{
		TopicId: topic[:], Partition: uint32(l.key.partition), LeaderEpoch: int32(p.Epoch), PartitionEpoch: p.PartitionEpoch,
		HandOver: p.HandOver,
	}
	for _, m := range p.InSync {
		epoch := m.BrokerEpoch
		switch other := seen.Broker(int32(m.ID)); {
		case int32(m.ID) == b.opts.ID:
			epoch = self
		case epoch == 0 && other != nil:
			epoch = other.Epoch
		}
		out.InSyncReplicas = append(out.InSyncReplicas, &controllerv1.InSyncReplica{BrokerId: int32(m.ID), BrokerEpoch: epoch})
	}
	return out
}
