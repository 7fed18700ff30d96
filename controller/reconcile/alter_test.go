package reconcile_test

import (
	"errors"
	"slices"
	"testing"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/reconcile"
	"github.com/millstream-io/millstream/controller/store"
)

// replicated creates a topic of one partition with three replicas, whose ISR
// may fall to that minimum.
func (c *controller) replicated(name, minISR string) *controllerv1.PartitionRecord { //nolint:unparam // its stories have one so far
	c.t.Helper()
	r := ask(name, 1, "")
	r.ReplicationFactor, r.Config = 3, map[string]string{"min.insync.replicas": minISR}
	c.create(r)
	return c.partition(name, 0)
}

// leads returns the broker that leads a partition, among those whose places
// are their identities less one, and the others in the order of the replicas.
func leads(p *controllerv1.PartitionRecord, bs []*controllertest.Broker) (leader *controllertest.Broker, others []*controllertest.Broker) {
	for _, id := range p.GetReplicas() {
		if id == p.GetLeader() {
			leader = bs[id-1]
		} else {
			others = append(others, bs[id-1])
		}
	}
	return leader, others
}

// proposal is what a leader says of a partition as it knows it.
func proposal(p *controllerv1.PartitionRecord, members ...*controllertest.Broker) *controllerv1.InSyncProposal {
	q := &controllerv1.InSyncProposal{
		TopicId: p.GetTopicId(), Partition: p.GetPartition(), LeaderEpoch: p.GetLeaderEpoch(), PartitionEpoch: p.GetPartitionEpoch(),
	}
	for _, b := range members {
		q.InSyncReplicas = append(q.InSyncReplicas, &controllerv1.InSyncReplica{BrokerId: b.ID, BrokerEpoch: b.Epoch})
	}
	return q
}

// propose has a leader propose, and returns the only result.
func (c *controller) propose(leader *controllertest.Broker, q *controllerv1.InSyncProposal) *controllerv1.InSyncResult {
	c.t.Helper()
	resp, err := within(c.AlterPartition, &controllerv1.AlterPartitionRequest{
		BrokerId: leader.ID, BrokerEpoch: leader.Epoch, Proposals: []*controllerv1.InSyncProposal{q},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.GetResults()[0]
}

func TestALeaderSaysWhoIsInSync(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		p := c.replicated("orders", "2")
		leader, others := leads(p, bs)

		// A follower is slow, another too. Below the minimum nothing is
		// acknowledged, so who leaves then stays eligible.
		res := c.propose(leader, proposal(p, leader, others[0]))
		now := c.partition("orders", 0)
		if res.GetOutcome() != controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_ALTERED || now.GetPartitionEpoch() != p.GetPartitionEpoch()+1 ||
			now.GetLeaderEpoch() != p.GetLeaderEpoch() || len(now.GetInSyncReplicas()) != 2 || len(now.GetEligibleLeaderReplicas()) != 0 {
			t.Fatalf("%v; the partition is %v", res, now)
		}
		if res.GetRecord().GetPartitionEpoch() != now.GetPartitionEpoch() {
			t.Errorf("the result has %v", res.GetRecord())
		}
		res = c.propose(leader, proposal(res.GetRecord(), leader))
		if now = res.GetRecord(); !slices.Equal(now.GetInSyncReplicas(), []int32{leader.ID}) || !slices.Equal(now.GetEligibleLeaderReplicas(), []int32{others[0].ID}) {
			t.Fatalf("below the minimum the partition is %v", now)
		}
		// Both catch up; the order does not matter.
		res = c.propose(leader, proposal(now, leader, others[1], others[0]))
		if now = res.GetRecord(); len(now.GetInSyncReplicas()) != 3 || len(now.GetEligibleLeaderReplicas()) != 0 {
			t.Errorf("with all in sync the partition is %v", now)
		}
	})
}

func TestAProposalThatIsStaleChangesNothing(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		p := c.replicated("orders", "2")
		leader, others := leads(p, bs)
		of := func(change func(*controllerv1.InSyncProposal)) *controllerv1.InSyncProposal {
			q := proposal(p, leader, others[0])
			change(q)
			return q
		}
		for name, s := range map[string]struct {
			by      *controllertest.Broker
			q       *controllerv1.InSyncProposal
			outcome controllerv1.InSyncOutcome
		}{
			"of another topic":                 {leader, of(func(q *controllerv1.InSyncProposal) { q.TopicId = make([]byte, 16) }), controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_UNKNOWN_PARTITION},
			"of a partition that is not there": {leader, of(func(q *controllerv1.InSyncProposal) { q.Partition = 1 }), controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_UNKNOWN_PARTITION},
			"of a follower":                    {others[0], of(func(*controllerv1.InSyncProposal) {}), controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_NOT_LEADER},
			"in an older epoch":                {leader, of(func(q *controllerv1.InSyncProposal) { q.LeaderEpoch-- }), controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_LEADER_EPOCH},
			"in a later epoch":                 {leader, of(func(q *controllerv1.InSyncProposal) { q.LeaderEpoch++ }), controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_LEADER_EPOCH},
			"of an older record":               {leader, of(func(q *controllerv1.InSyncProposal) { q.PartitionEpoch-- }), controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_PARTITION_EPOCH},
			"of a record to come":              {leader, of(func(q *controllerv1.InSyncProposal) { q.PartitionEpoch++ }), controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_PARTITION_EPOCH},
		} {
			res := c.propose(s.by, s.q)
			if res.GetOutcome() != s.outcome {
				t.Errorf("a proposal %s: %v", name, res)
			}
			if known := s.outcome != controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_UNKNOWN_PARTITION; known != (res.GetRecord() != nil) {
				t.Errorf("a proposal %s is answered with %v", name, res.GetRecord())
			}
		}
		if now := c.partition("orders", 0); now.GetPartitionEpoch() != p.GetPartitionEpoch() {
			t.Errorf("the partition is %v", now)
		}
		// The same again is stale, and the answer shows that it was carried out.
		c.propose(leader, proposal(p, leader, others[0]))
		res := c.propose(leader, proposal(p, leader, others[0]))
		if res.GetOutcome() != controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_PARTITION_EPOCH || len(res.GetRecord().GetInSyncReplicas()) != 2 {
			t.Errorf("repeated: %v", res)
		}
		// An incarnation that was says nothing any more.
		old := *leader
		if _, err := leader.Register(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := within(c.AlterPartition, &controllerv1.AlterPartitionRequest{BrokerId: old.ID, BrokerEpoch: old.Epoch}); !is[*reconcile.StaleBrokerEpochError](err) {
			t.Errorf("of an incarnation before: %v", err)
		}
	})
}

// KIP-903: what a follower acknowledged in one incarnation, the next may lack.
func TestOnlyWhoCanBeCountedOnJoinsTheISR(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(4)
		p := c.replicated("orders", "2")
		leader, others := leads(p, bs)
		slow := others[1]
		var stranger *controllertest.Broker
		for _, b := range bs {
			if !slices.Contains(p.GetReplicas(), b.ID) {
				stranger = b
			}
		}
		p = c.propose(leader, proposal(p, leader, others[0])).GetRecord()
		refused := func(name string, who *controllertest.Broker, want controllerv1.Ineligibility) {
			t.Helper()
			res := c.propose(leader, proposal(p, leader, others[0], who))
			if res.GetOutcome() != controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_INELIGIBLE || res.GetIneligibleBrokerId() != who.ID || res.GetIneligibility() != want {
				t.Errorf("with %s in sync: %v", name, res)
			}
		}
		refused("a broker that holds nothing", stranger, controllerv1.Ineligibility_INELIGIBILITY_NOT_A_REPLICA)
		old := *slow
		if _, err := slow.Register(t.Context()); err != nil {
			t.Fatal(err)
		}
		refused("an incarnation before", &old, controllerv1.Ineligibility_INELIGIBILITY_STALE_BROKER_EPOCH)
		refused("a broker that is not ready", slow, controllerv1.Ineligibility_INELIGIBILITY_FENCED)
		beat(t, slow)
		refused("an incarnation before", &old, controllerv1.Ineligibility_INELIGIBILITY_STALE_BROKER_EPOCH)
		beat(t, slow, stopping)
		refused("a broker that stops", slow, controllerv1.Ineligibility_INELIGIBILITY_STOPPING)
		if now := c.partition("orders", 0); now.GetPartitionEpoch() != p.GetPartitionEpoch() {
			t.Errorf("the partition is %v", now)
		}
		if _, err := slow.Register(t.Context()); err != nil {
			t.Fatal(err)
		}
		beat(t, slow)
		if res := c.propose(leader, proposal(p, leader, others[0], slow)); len(res.GetRecord().GetInSyncReplicas()) != 3 {
			t.Errorf("with the present incarnation in sync: %v", res)
		}
	})
}

// A disk is replaced: the replica is in sync again on the new directory, and
// the old one, should it come back, stands for nothing.
func TestAReplicaJoinsOnTheDirectoryThatItHas(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		p := c.replicated("orders", "2")
		leader, others := leads(p, bs)
		who := others[1]
		home := who.Directory
		who.Directory = []byte("a new directory!")
		outlive(t, leader, others[0])
		if _, err := who.Register(t.Context(), func(r *controllerv1.RegisterBrokerRequest) { r.PreviousBrokerEpoch = 0 }); err != nil {
			t.Fatal(err)
		}
		beat(t, who)
		if p = c.partition("orders", 0); slices.Contains(p.GetInSyncReplicas(), who.ID) {
			t.Fatalf("on a new directory it is in sync: %v", p)
		}
		p = c.propose(leader, proposal(p, leader, others[0], who)).GetRecord()
		i := slices.Index(p.GetReplicas(), who.ID)
		if len(p.GetInSyncReplicas()) != 3 || string(p.GetDirectoryIds()[i]) != string(who.Directory) {
			t.Fatalf("it has caught up, and the partition is %v", p)
		}
		who.Directory = home
		outlive(t, leader, others[0])
		if _, err := who.Register(t.Context()); err != nil {
			t.Fatal(err)
		}
		beat(t, who)
		if p = c.partition("orders", 0); slices.Contains(p.GetInSyncReplicas(), who.ID) {
			t.Errorf("the directory of the past is in sync: %v", p)
		}
	})
}

// A lower minimum lets records be acknowledged without those that are
// eligible, so they are no longer, in the same change (rule H3).
func TestALowerMinimumClearsTheEligible(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		p := c.replicated("orders", "3")
		leader, others := leads(p, bs)
		p = c.propose(leader, proposal(p, leader, others[0])).GetRecord()
		if !slices.Equal(p.GetEligibleLeaderReplicas(), []int32{others[1].ID}) {
			t.Fatalf("below the minimum the partition is %v", p)
		}
		set := func(value string) *controllerv1.PartitionRecord {
			t.Helper()
			if _, err := within(c.UpdateTopicConfig, &controllerv1.UpdateTopicConfigRequest{Topic: "orders", Set: map[string]string{"min.insync.replicas": value}}); err != nil {
				t.Fatal(err)
			}
			return c.partition("orders", 0)
		}
		if low := set("2"); len(low.GetEligibleLeaderReplicas()) != 0 || low.GetMinInsyncReplicas() != 2 || low.GetPartitionEpoch() != p.GetPartitionEpoch()+1 {
			t.Errorf("with a lower minimum the partition is %v", low)
		}
		if high := set("3"); len(high.GetEligibleLeaderReplicas()) != 0 || high.GetMinInsyncReplicas() != 3 {
			t.Errorf("with the old minimum the partition is %v", high)
		}
	})
}

func TestManyProposalsAreCarriedOutTogether(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		r := ask("many", 600, "")
		r.ReplicationFactor = 3
		c.create(r)
		req := &controllerv1.AlterPartitionRequest{BrokerId: 1, BrokerEpoch: bs[0].Epoch}
		for n := range 600 {
			if p := c.partition("many", n); p.GetLeader() == 1 {
				req.Proposals = append(req.Proposals, proposal(p, bs[0], bs[1]))
			}
		}
		req.Proposals[7].LeaderEpoch++ // one of them is stale, which is no matter to the others
		before := c.img.Revision()
		resp, err := within(c.AlterPartition, req)
		if err != nil || len(resp.GetResults()) != len(req.GetProposals()) {
			t.Fatal(resp, err)
		}
		for i, res := range resp.GetResults() {
			want := controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_ALTERED
			if i == 7 {
				want = controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_LEADER_EPOCH
			}
			now := c.partition("many", int(res.GetPartition()))
			if res.GetOutcome() != want || now.GetPartitionEpoch() != res.GetRecord().GetPartitionEpoch() {
				t.Fatalf("%d: %v, and the partition is %v", i, res, now)
			}
		}
		if txns := resp.GetRevision() - before; txns != 2 { // of 120 each, for about 200
			t.Errorf("%d transactions for %d proposals", txns, len(req.GetProposals()))
		}
	})
}

// Whoever asks is not told that a change was refused when it may be carried out.
func TestAProposalOfUnknownOutcomeIsSaidToBe(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		p := c.replicated("orders", "2")
		leader, others := leads(p, bs)
		q := proposal(p, leader, others[0])
		kv.Inject(func(txn int) controllertest.Fault {
			if txn == 0 {
				return controllertest.Unheard
			}
			return controllertest.None
		})
		_, err := within(c.AlterPartition, &controllerv1.AlterPartitionRequest{
			BrokerId: leader.ID, BrokerEpoch: leader.Epoch, Proposals: []*controllerv1.InSyncProposal{q},
		})
		if !errors.Is(err, store.ErrUnknownOutcome) {
			t.Fatalf("a transaction whose answer is lost: %v", err)
		}
		kv.Inject(nil)
		res := c.propose(leader, q)
		if res.GetOutcome() != controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_PARTITION_EPOCH || len(res.GetRecord().GetInSyncReplicas()) != 2 {
			t.Errorf("asked again: %v", res)
		}
	})
}
