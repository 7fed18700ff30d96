package servertest

import (
	"context"
	"slices"
	"sync"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"

	"github.com/millstream-io/millstream/controller/controllertest"
)

// peerBeat is how often a peer says that it is alive: often enough for the
// session of controllertest on a busy machine.
const peerBeat = time.Second

// Peer is another broker of the cluster as the controller sees it: it
// registers, is alive, and says who is in sync. It has no logs.
type Peer struct {
	*controllertest.Broker

	s    *Server
	mu   sync.Mutex // held by a beat, and while the incarnation changes
	mute bool
}

// StartPeers adds peers of those identities, and has everything that is created
// from now on placed on them alone: the server itself is drained. It returns
// when the server knows of all that.
func (s *Server) StartPeers(ids ...int32) map[int32]*Peer {
	s.t.Helper()
	peers := make(map[int32]*Peer)
	for _, id := range ids {
		peers[id] = s.StartPeer(id)
	}
	_, err := s.Cluster.DrainBroker(s.t.Context(), &pb.DrainBrokerRequest{BrokerId: 1})
	s.check(err)
	return peers
}

// StartPeer adds a peer. It returns when the server knows that the peer serves.
func (s *Server) StartPeer(id int32) *Peer {
	s.t.Helper()
	p := &Peer{Broker: controllertest.StartBroker(s.t, s.controller.Client, id), s: s}
	_, err := s.Metadata.WaitFor(s.t.Context(), func(m *metadata.Snapshot) bool { return m.Broker(id) != nil && !m.Broker(id).Fenced })
	s.check(err)
	ctx, cancel := context.WithCancel(context.Background())
	var life sync.WaitGroup
	life.Go(func() { p.beats(ctx) })
	life.Go(func() { p.obeys(ctx) })
	s.t.Cleanup(func() {
		cancel()
		life.Wait()
	})
	return p
}

// obeys hands over what the peer is asked to.
func (p *Peer) obeys(ctx context.Context) {
	for m := p.s.Metadata.Current(); ; m = p.s.Metadata.Current() {
		req := &controllerv1.AlterPartitionRequest{BrokerId: p.ID}
		for _, t := range m.Topics() {
			for _, part := range t.Partitions {
				if part.Leader == p.ID && part.Successor != metadata.NoLeader {
					req.Proposals = append(req.Proposals, &controllerv1.InSyncProposal{
						TopicId: t.ID[:], Partition: part.ID, LeaderEpoch: part.LeaderEpoch, PartitionEpoch: part.Epoch, HandOver: true,
					})
				}
			}
		}
		p.mu.Lock()
		req.BrokerEpoch = p.Epoch
		if len(req.GetProposals()) > 0 && !p.mute {
			_, _ = p.s.controller.Client.AlterPartition(ctx, req) // one that fails is like one that is lost
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-m.Superseded():
		}
	}
}

func (p *Peer) beats(ctx context.Context) {
	tick := time.NewTicker(peerBeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		if !p.mute {
			_, _ = p.Beat(ctx) // one that fails is like one that is lost
		}
		p.mu.Unlock()
	}
}

// Fail has the peer lose its disk. It returns when the server knows what came of
// that.
func (p *Peer) Fail() {
	p.s.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
	answer, err := p.Beat(p.s.t.Context(), func(r *controllerv1.HeartbeatRequest) { r.FailedDirectoryIds = [][]byte{p.Directory} })
	p.s.check(err)
	p.s.awaitRevision(answer.GetRevision())
}

// Return has a peer that failed come back on an empty disk. It returns when the
// server knows that it serves.
func (p *Peer) Return() {
	p.s.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Directory = slices.Clone(p.Directory)
	p.Directory[1]++
	p.Epoch = 0
	_, err := p.Register(p.s.t.Context())
	p.s.check(err)
	answer, err := p.Beat(p.s.t.Context())
	p.s.check(err)
	p.s.awaitRevision(answer.GetRevision())
	p.mute = false
}

// CatchUp has everybody in sync, on all partitions that peers lead, as those
// leaders would propose it. It returns when the server knows, and knows that
// what was to be handed over then is.
func (s *Server) CatchUp(peers map[int32]*Peer) {
	s.t.Helper()
	m := s.Metadata.Current()
	var revision int64
	for _, t := range m.Topics() {
		for _, p := range t.Partitions {
			leader := peers[p.Leader]
			if leader == nil || len(p.ISR) == len(p.Replicas) {
				continue
			}
			proposal := &controllerv1.InSyncProposal{TopicId: t.ID[:], Partition: p.ID, LeaderEpoch: p.LeaderEpoch, PartitionEpoch: p.Epoch}
			for _, id := range p.Replicas {
				if b := m.Broker(id); b != nil && !b.Fenced {
					proposal.InSyncReplicas = append(proposal.InSyncReplicas, &controllerv1.InSyncReplica{BrokerId: id, BrokerEpoch: b.Epoch})
				}
			}
			resp, err := s.controller.Client.AlterPartition(s.t.Context(), &controllerv1.AlterPartitionRequest{
				BrokerId: leader.ID, BrokerEpoch: leader.Epoch, Proposals: []*controllerv1.InSyncProposal{proposal},
			})
			s.check(err)
			revision = max(revision, resp.GetRevision())
		}
	}
	s.awaitRevision(revision)
	_, err := s.Metadata.WaitFor(s.t.Context(), func(m *metadata.Snapshot) bool {
		for _, t := range m.Topics() {
			for _, p := range t.Partitions {
				if peers[p.Leader] != nil && p.Successor != metadata.NoLeader {
					return false
				}
			}
		}
		return true
	})
	s.check(err)
}

func (s *Server) awaitRevision(revision int64) {
	s.t.Helper()
	_, err := s.Metadata.Wait(s.t.Context(), revision)
	s.check(err)
}
