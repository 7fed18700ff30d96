package reconcile_test

import (
	"context"
	"slices"
	"testing"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/image"
)

const altered = controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_ALTERED

// handingOver is what a leader says that has nothing in flight, of a partition
// as it knows it.
func handingOver(p *controllerv1.PartitionRecord) *controllerv1.InSyncProposal {
	q := proposal(p)
	q.HandOver = true
	return q
}

// obeying has all leaders hand over what they are asked to, until the function
// that it returns is called.
func (c *controller) obeying(bs []*controllertest.Broker) func() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			changed := c.img.Changed()
			var asked []*controllerv1.PartitionRecord
			c.img.Read(func(v *image.View) {
				for _, t := range v.Topics {
					for _, p := range t.Partitions {
						if p.Record.Successor != nil {
							asked = append(asked, p.Record)
						}
					}
				}
			})
			for _, p := range asked {
				leader := bs[p.GetLeader()-1]
				_, _ = c.AlterPartition(ctx, &controllerv1.AlterPartitionRequest{
					BrokerId: leader.ID, BrokerEpoch: leader.Epoch, Proposals: []*controllerv1.InSyncProposal{handingOver(p)},
				})
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// moving returns a partition whose leader, broker 1, is asked to hand over, and
// the brokers.
func moving(t *testing.T, c *controller) (*controllerv1.PartitionRecord, []*controllertest.Broker) {
	t.Helper()
	bs := c.brokers(4)
	p := c.replicated("orders", "2")
	fresh := 10 - p.GetReplicas()[0] - p.GetReplicas()[1] - p.GetReplicas()[2]
	if res := c.reassign("orders", 0, fresh, p.GetReplicas()[1], p.GetReplicas()[2]); res.GetOutcome() != done {
		t.Fatal(res)
	}
	p = c.partition("orders", 0)
	res := c.propose(bs[p.GetLeader()-1], proposal(p, members(bs, slices.Concat(p.GetInSyncReplicas(), p.GetAddingReplicas())...)...))
	if p = res.GetRecord(); p.Successor == nil || p.GetSuccessor() != fresh || len(p.GetTargetReplicas()) != 3 {
		t.Fatalf("with all in sync the partition is %v", p)
	}
	return p, bs
}

// Whom the leader is asked to hand over to leads only at its word, of that very
// record.
func TestOnlyTheLeaderHandsOver(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		p, bs := moving(t, c)
		leader, next := bs[p.GetLeader()-1], bs[p.GetSuccessor()-1]
		for name, s := range map[string]struct {
			by      *controllertest.Broker
			change  func(*controllerv1.InSyncProposal)
			outcome controllerv1.InSyncOutcome
		}{
			"another": {next, func(*controllerv1.InSyncProposal) {}, controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_NOT_LEADER},
			"it in another epoch": {leader, func(q *controllerv1.InSyncProposal) { q.LeaderEpoch-- },
				controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_LEADER_EPOCH},
			"it of a record before": {leader, func(q *controllerv1.InSyncProposal) { q.PartitionEpoch-- },
				controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_STALE_PARTITION_EPOCH},
		} {
			q := handingOver(p)
			s.change(q)
			if res := c.propose(s.by, q); res.GetOutcome() != s.outcome {
				t.Errorf("handed over by %s: %v", name, res)
			}
		}
		res := c.propose(leader, handingOver(p))
		now := c.partition("orders", 0)
		if res.GetOutcome() != altered || now.GetLeader() != next.ID || now.GetLeaderEpoch() != p.GetLeaderEpoch()+1 || now.Successor != nil ||
			slices.Contains(now.GetReplicas(), leader.ID) || len(now.GetTargetReplicas()) != 0 {
			t.Errorf("%v; the partition is %v", res, now)
		}
		if res := c.propose(leader, handingOver(p)); res.GetOutcome() != controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_NOT_LEADER {
			t.Errorf("handed over twice: %v", res)
		}
		if res := c.propose(next, handingOver(now)); res.GetOutcome() != controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_NO_SUCCESSOR {
			t.Errorf("handed over to nobody: %v", res)
		}
	})
}

// A leader that does not answer is left in peace for a while, and asked again.
func TestAWishThatIsNotFulfilledIsTakenBack(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		p, bs := moving(t, c)
		asked, taken := 1, 0
		for range 120 { // a minute
			pass(500 * time.Millisecond)
			for _, b := range bs {
				beat(t, b)
			}
			switch now := c.partition("orders", 0); {
			case now.GetLeader() != p.GetLeader() || now.GetLeaderEpoch() != p.GetLeaderEpoch():
				t.Fatalf("the partition is %v", now)
			case now.Successor == nil && asked > taken:
				taken++
			case now.Successor != nil && asked == taken:
				asked++
			}
		}
		if asked < 4 || asked > 7 {
			t.Errorf("asked %d times in a minute", asked)
		}
		for c.partition("orders", 0).Successor == nil {
			pass(time.Second)
			for _, b := range bs {
				beat(t, b)
			}
		}
		p = c.partition("orders", 0)
		if res := c.propose(bs[p.GetLeader()-1], handingOver(p)); res.GetOutcome() != altered || len(c.partition("orders", 0).GetTargetReplicas()) != 0 {
			t.Errorf("%v; the partition is %v", res, c.partition("orders", 0))
		}
	})
}

// A leader that stops and does not answer is not waited for.
func TestALeaderThatStopsAndDoesNotHandOverIsFollowed(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		p := c.replicated("orders", "2")
		leader, others := leads(p, bs)
		if got := beat(t, leader, stopping); got.GetMayStop() {
			t.Errorf("it leads still, and is answered %v", got)
		}
		begun := time.Now()
		for c.partition("orders", 0).GetLeader() == leader.ID {
			if time.Since(begun) > 4*time.Second {
				t.Fatalf("the partition is %v", c.partition("orders", 0))
			}
			pass(100 * time.Millisecond)
			beat(t, leader, stopping)
			for _, b := range others {
				beat(t, b)
			}
		}
		if got := beat(t, leader, stopping); !got.GetMayStop() {
			t.Errorf("it leads nothing any more, and is answered %v", got)
		}
	})
}

// The wish goes with who is asked, and with whom it names.
func TestAWishGoesWithTheLeaderAndTheSuccessor(t *testing.T) {
	failed := func(r *controllerv1.HeartbeatRequest) { r.FailedDirectoryIds = [][]byte{make([]byte, 16)} }
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		p, bs := moving(t, c)
		beat(t, bs[p.GetSuccessor()-1], failed)
		now := c.partition("orders", 0)
		if now.Successor != nil && now.GetSuccessor() == p.GetSuccessor() || now.GetLeader() != p.GetLeader() || now.GetLeaderEpoch() != p.GetLeaderEpoch() {
			t.Errorf("without its successor the partition is %v", now)
		}
		if res := c.propose(bs[p.GetLeader()-1], handingOver(p)); res.GetOutcome() == altered {
			t.Errorf("handed over to a broker that is gone: %v", res)
		}
	})
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		p, bs := moving(t, c)
		beat(t, bs[p.GetSuccessor()-1], stopping)
		now := c.partition("orders", 0)
		if now.Successor != nil && now.GetSuccessor() == p.GetSuccessor() || now.GetLeader() != p.GetLeader() {
			t.Errorf("with its successor about to stop the partition is %v", now)
		}
	})
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		p, bs := moving(t, c)
		beat(t, bs[p.GetLeader()-1], failed)
		now := c.partition("orders", 0)
		if now.GetLeader() == p.GetLeader() || now.GetLeader() < 0 {
			t.Fatalf("without its leader the partition is %v", now)
		}
		if res := c.propose(bs[p.GetLeader()-1], handingOver(p)); res.GetOutcome() == altered {
			t.Errorf("a leader that was deposed hands over: %v", res)
		}
	})
}

// Another controller takes the wish for one just made, and so does a leader
// that is still about to fulfil it.
func TestAnotherControllerGoesOnWithAWish(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		p, bs := moving(t, c)
		c.leader.Set(1, false)
		c = start(t, kv, 2, 2)
		<-c.Ready()
		for i, b := range bs {
			bs[i] = reach(b, c)
		}
		now := c.partition("orders", 0)
		if now.GetPartitionEpoch() != p.GetPartitionEpoch() || now.GetSuccessor() != p.GetSuccessor() {
			t.Fatalf("the partition is %v", now)
		}
		if res := c.propose(bs[p.GetLeader()-1], handingOver(p)); res.GetOutcome() != altered {
			t.Error(res)
		}
	})
}

// Only so many are asked at a time; the others follow as these have answered.
func TestOnlySoManyPartitionsAreHandedOverAtATime(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(2)
		r := ask("orders", 300, "")
		r.ReplicationFactor = 2
		c.create(r)
		asked := func() (ps []*controllerv1.PartitionRecord) {
			for n := range 300 {
				if p := c.partition("orders", n); p.Successor != nil {
					ps = append(ps, p)
				}
			}
			return ps
		}
		beat(t, bs[0], stopping)
		rounds := 0
		for ps := asked(); len(ps) > 0; ps = asked() {
			if rounds++; len(ps) > 64 {
				t.Fatalf("%d are asked at a time", len(ps))
			}
			req := &controllerv1.AlterPartitionRequest{BrokerId: 1, BrokerEpoch: bs[0].Epoch}
			for _, p := range ps {
				req.Proposals = append(req.Proposals, handingOver(p))
			}
			if _, err := within(c.AlterPartition, req); err != nil {
				t.Fatal(err)
			}
		}
		if got := beat(t, bs[0], stopping); !got.GetMayStop() || rounds != 3 {
			t.Errorf("after %d rounds it is answered %v", rounds, got)
		}
	})
}
