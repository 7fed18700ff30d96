package reconcile_test

import (
	"slices"
	"testing"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/reconcile"
)

const done = controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_DONE

// reassign asks for one partition to be moved.
func (c *controller) reassign(topic string, n uint32, replicas ...int32) *controllerv1.ReassignmentResult {
	c.t.Helper()
	resp, err := within(c.ReassignPartitions, &controllerv1.ReassignPartitionsRequest{
		BytesPerSecond: 7, Reassignments: []*controllerv1.Reassignment{{Topic: topic, Partition: n, Replicas: replicas}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.GetResults()[0]
}

// members are the brokers of identities from 1.
func members(bs []*controllertest.Broker, ids ...int32) []*controllertest.Broker {
	var ms []*controllertest.Broker
	for _, id := range ids {
		ms = append(ms, bs[id-1])
	}
	return ms
}

// joined has everybody in sync that a partition is being moved to, as its
// leader would propose it.
func (c *controller) joined(bs []*controllertest.Broker, p *controllerv1.PartitionRecord) *controllerv1.InSyncResult { //nolint:unparam // its stories have one so far
	c.t.Helper()
	isr := slices.Concat(p.GetInSyncReplicas(), p.GetAddingReplicas())
	leader := bs[p.GetLeader()-1]
	res := c.propose(leader, proposal(p, members(bs, isr...)...))
	if res.GetRecord().Successor != nil {
		return c.propose(leader, handingOver(res.GetRecord()))
	}
	return res
}

func TestAPartitionMovesWithoutGivingAnythingUp(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(5)
		p := c.replicated("orders", "2")
		was := p.GetReplicas()
		to := []int32{}
		for id := int32(1); id <= 5; id++ {
			if !slices.Contains(was, id) {
				to = append(to, id)
			}
		}
		to = append(to, was[2]) // two of three are new, and the leader is left out
		if res := c.reassign("orders", 0, to...); res.GetOutcome() != done {
			t.Fatal(res)
		}
		p = c.partition("orders", 0)
		if !slices.Equal(p.GetReplicas(), append(slices.Clone(was), to[:2]...)) || !slices.Equal(p.GetTargetReplicas(), to) ||
			!slices.Equal(p.GetAddingReplicas(), to[:2]) || len(p.GetInSyncReplicas()) != 3 || p.GetMoveBytesPerSecond() != 7 || len(p.GetDirectoryIds()) != 5 {
			t.Fatalf("on its way the partition is %v", p)
		}
		list, err := c.Reassignments(t.Context())
		if err != nil || len(list) != 1 || list[0].GetTopic() != "orders" || !slices.Equal(list[0].GetAwaitedBrokerIds(), to[:2]) {
			t.Errorf("being moved are %v, %v", list, err)
		}
		// Another controller goes on.
		c.leader.Set(1, false)
		next := start(t, kv, 2, 2)
		<-next.Ready()
		c = next
		for i, b := range bs {
			bs[i] = reach(b, c)
		}
		leader := bs[p.GetLeader()-1]
		half := c.propose(leader, proposal(p, members(bs, append(slices.Clone(p.GetInSyncReplicas()), to[0])...)...)).GetRecord()
		if len(half.GetTargetReplicas()) == 0 || half.GetLeader() != p.GetLeader() {
			t.Fatalf("with one of two in sync the partition is %v", half)
		}
		res := c.propose(leader, proposal(half, members(bs, append(slices.Clone(half.GetInSyncReplicas()), to[1])...)...))
		if p := res.GetRecord(); p.Successor == nil || p.GetSuccessor() != to[0] || len(p.GetReplicas()) != 5 || p.GetLeader() != half.GetLeader() {
			t.Fatalf("before its leader has handed it over the partition is %v", p)
		}
		res = c.propose(leader, handingOver(res.GetRecord()))
		p = c.partition("orders", 0)
		if res.GetOutcome() != controllerv1.InSyncOutcome_IN_SYNC_OUTCOME_ALTERED || res.GetRecord().GetPartitionEpoch() != p.GetPartitionEpoch() {
			t.Errorf("the leader is told %v", res)
		}
		if !slices.Equal(p.GetReplicas(), to) || len(p.GetInSyncReplicas()) != 3 || p.GetLeader() != to[0] || p.GetLeaderEpoch() != half.GetLeaderEpoch()+1 ||
			len(p.GetTargetReplicas())+len(p.GetAddingReplicas()) != 0 || p.GetMoveBytesPerSecond() != 0 || len(p.GetDirectoryIds()) != 3 {
			t.Errorf("moved, the partition is %v", p)
		}
		for i, id := range p.GetReplicas() {
			if string(p.GetDirectoryIds()[i]) != string(bs[id-1].Directory) {
				t.Errorf("the directory of %d is %x", id, p.GetDirectoryIds()[i])
			}
		}
	})
}

// While a replica is being filled it does not raise the minimum: a partition
// with one replica takes writes all the way.
func TestAddingReplicasDoesNotRaiseTheMinimum(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(2)
		c.create(ask("orders", 1, ""))
		p := c.partition("orders", 0)
		other := 3 - p.GetLeader()
		c.reassign("orders", 0, other)
		p = c.partition("orders", 0)
		if p.GetMinInsyncReplicas() != 1 || len(p.GetReplicas()) != 2 {
			t.Fatalf("on its way the partition is %v", p)
		}
		// A change of settings does not either.
		if _, err := within(c.UpdateTopicConfig, &controllerv1.UpdateTopicConfigRequest{Topic: "orders", Set: map[string]string{"min.insync.replicas": "3"}}); err != nil {
			t.Fatal(err)
		}
		if p = c.partition("orders", 0); p.GetMinInsyncReplicas() != 1 {
			t.Errorf("with another minimum the partition is %v", p)
		}
		c.joined(bs, p)
		if p = c.partition("orders", 0); !slices.Equal(p.GetReplicas(), []int32{other}) || p.GetLeader() != other || p.GetMinInsyncReplicas() != 3 {
			t.Errorf("moved, the partition is %v", p)
		}
	})
}

// Who moves a partition too slowly, or too fast, says so again: what was sent
// stays where it is.
func TestAMoveUnderWayGoesAtAnotherRate(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(4)
		was := c.replicated("orders", "2").GetReplicas()
		to := []int32{10 - was[0] - was[1] - was[2], was[2], was[1]}
		ask := func(rate uint64, dry bool) *controllerv1.ReassignmentResult {
			t.Helper()
			resp, err := within(c.ReassignPartitions, &controllerv1.ReassignPartitionsRequest{
				Reassignments: []*controllerv1.Reassignment{{Topic: "orders", Replicas: to}}, BytesPerSecond: rate, ValidateOnly: dry,
			})
			if err != nil {
				t.Fatal(err)
			}
			res := resp.GetResults()[0]
			if !slices.Equal(res.GetReplicasBefore(), was) || !slices.Equal(res.GetRecord().GetTargetReplicas(), to) {
				t.Errorf("at %d: it goes from %v: %v", rate, was, res)
			}
			return res
		}
		unchanged := controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNCHANGED
		for _, s := range []struct {
			rate    uint64
			dry     bool
			outcome controllerv1.ReassignmentOutcome
			now     uint64 // as the partition has it then
		}{
			{1000, false, done, 1000},
			{2000, true, done, 1000},
			{2000, false, done, 2000},
			{2000, false, unchanged, 2000},
			{0, false, unchanged, 2000},
		} {
			before := c.partition("orders", 0).GetPartitionEpoch()
			res, p := ask(s.rate, s.dry), c.partition("orders", 0)
			changed := p.GetPartitionEpoch() > before
			if res.GetOutcome() != s.outcome || p.GetMoveBytesPerSecond() != s.now || changed != (s.outcome == done && !s.dry) || !slices.Equal(p.GetAddingReplicas(), to[:1]) {
				t.Errorf("%v: %v; the partition is %v", s, res, p)
			}
		}
		c.joined(bs, c.partition("orders", 0))
		if p := c.partition("orders", 0); !slices.Equal(p.GetReplicas(), to) || p.GetMoveBytesPerSecond() != 0 {
			t.Errorf("moved, the partition is %v", p)
		}
		if res := c.reassign("orders", 0, to...); res.GetOutcome() != unchanged || !slices.Equal(res.GetReplicasBefore(), to) {
			t.Errorf("where it is already: %v", res)
		}
	})
}

func TestAMoveCanBeCancelled(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(4)
		p := c.replicated("orders", "2")
		var fresh int32
		for id := int32(1); id <= 4; id++ {
			if !slices.Contains(p.GetReplicas(), id) {
				fresh = id
			}
		}
		ask := &controllerv1.CancelReassignmentsRequest{Reassignments: []*controllerv1.Reassignment{{Topic: "orders"}}}
		cancel := func() *controllerv1.ReassignmentResult {
			t.Helper()
			resp, err := within(c.CancelReassignments, ask)
			if err != nil {
				t.Fatal(err)
			}
			return resp.GetResults()[0]
		}
		if res := cancel(); res.GetOutcome() != controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNCHANGED {
			t.Errorf("of a partition that stays: %v", res)
		}
		was := p.GetReplicas()
		c.reassign("orders", 0, fresh, was[1], was[2])
		ask.ValidateOnly = true
		if res := cancel(); res.GetOutcome() != done || !slices.Equal(res.GetRecord().GetReplicas(), was) || len(c.partition("orders", 0).GetTargetReplicas()) == 0 {
			t.Errorf("only asked: %v; the partition is %v", res, c.partition("orders", 0))
		}
		ask.ValidateOnly = false
		if res := cancel(); res.GetOutcome() != done || !slices.Equal(c.partition("orders", 0).GetReplicas(), was) || len(c.partition("orders", 0).GetTargetReplicas()) != 0 {
			t.Errorf("%v; the partition is %v", res, c.partition("orders", 0))
		}
		// Not when those that were there before have lost touch: the new one
		// alone may have everything.
		c.reassign("orders", 0, fresh, was[1], was[2])
		for _, id := range was[1:] {
			beat(t, bs[id-1], func(r *controllerv1.HeartbeatRequest) { r.FailedDirectoryIds = [][]byte{make([]byte, 16)} })
		}
		p = c.partition("orders", 0)
		c.propose(bs[p.GetLeader()-1], proposal(p, members(bs, was[0], fresh)...))
		if p = c.partition("orders", 0); len(p.GetTargetReplicas()) == 0 {
			t.Fatalf("with one of three in sync it has arrived: %v", p)
		}
		if res := cancel(); res.GetOutcome() != controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNSAFE {
			t.Errorf("cancelled all the same: %v", res)
		}
	})
}

func TestMovesThatCannotBeAreRefused(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(5)
		p := c.replicated("orders", "2")
		was := p.GetReplicas()
		var fresh []int32
		for id := int32(1); id <= 5; id++ {
			if !slices.Contains(was, id) {
				fresh = append(fresh, id)
			}
		}
		beat(t, bs[fresh[1]-1], stopping)
		for name, s := range map[string]struct {
			topic    string
			n        uint32
			replicas []int32
			outcome  controllerv1.ReassignmentOutcome
			broker   int32
		}{
			"to nowhere":                 {"orders", 0, nil, controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_WRONG_COUNT, 0},
			"to fewer brokers":           {"orders", 0, was[:2], controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_WRONG_COUNT, 0},
			"to a broker nobody knows":   {"orders", 0, []int32{was[0], was[1], 99}, controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNKNOWN_BROKER, 99},
			"to a broker that stops":     {"orders", 0, []int32{was[0], was[1], fresh[1]}, controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_BROKER_NOT_SERVING, fresh[1]},
			"to one broker twice":        {"orders", 0, []int32{was[0], was[1], was[1]}, controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_BROKER_TWICE, was[1]},
			"to where it is":             {"orders", 0, was, controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNCHANGED, 0},
			"of a topic that is not":     {"none", 0, was, controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNKNOWN_PARTITION, 0},
			"of a partition that is not": {"orders", 1, was, controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_UNKNOWN_PARTITION, 0},
		} {
			if res := c.reassign(s.topic, s.n, s.replicas...); res.GetOutcome() != s.outcome || res.GetBrokerId() != s.broker {
				t.Errorf("%s: %v", name, res)
			}
		}
		req := &controllerv1.ReassignPartitionsRequest{Reassignments: []*controllerv1.Reassignment{{
			Topic: "orders", Replicas: []int32{was[0], was[1], fresh[0]}, PartitionEpoch: new(p.GetPartitionEpoch() - 1),
		}}}
		if resp, err := within(c.ReassignPartitions, req); err != nil || resp.GetResults()[0].GetOutcome() != controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_STALE_PARTITION_EPOCH {
			t.Errorf("meant for another epoch: %v, %v", resp, err)
		}
		req.ValidateOnly, req.Reassignments[0].PartitionEpoch = true, new(p.GetPartitionEpoch())
		if resp, err := within(c.ReassignPartitions, req); err != nil || resp.GetResults()[0].GetOutcome() != done || len(resp.GetResults()[0].GetRecord().GetReplicas()) != 4 {
			t.Errorf("only asked: %v, %v", resp, err)
		}
		if now := c.partition("orders", 0); now.GetPartitionEpoch() != p.GetPartitionEpoch() {
			t.Errorf("what was refused, or only asked, has an effect: %v", now)
		}
		c.reassign("orders", 0, was[0], was[1], fresh[0])
		if res := c.reassign("orders", 0, was[0], fresh[0], was[1]); res.GetOutcome() != controllerv1.ReassignmentOutcome_REASSIGNMENT_OUTCOME_IN_PROGRESS {
			t.Errorf("while it moves: %v", res)
		}
	})
}

func TestReplicasSpreadToABrokerThatWasAdded(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(2)
		c.create(ask("orders", 9, ""))
		bs = append(bs, c.broker(3))
		spread := func(dry bool) *controllerv1.SpreadReplicasResponse {
			t.Helper()
			resp, err := within(c.SpreadReplicas, &controllerv1.SpreadReplicasRequest{MostMoves: 100, ValidateOnly: dry})
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		if resp := spread(true); len(resp.GetResults()) != 3 || len(c.partition(resp.GetResults()[0].GetTopic(), int(resp.GetResults()[0].GetPartition())).GetTargetReplicas()) != 0 {
			t.Errorf("only asked: %v", resp)
		}
		for _, res := range spread(false).GetResults() {
			if !slices.Equal(res.GetRecord().GetTargetReplicas(), []int32{3}) {
				t.Errorf("moved is %v", res)
			}
			c.joined(bs, c.partition("orders", int(res.GetPartition())))
		}
		led := map[int32]int{}
		for n := range 9 {
			led[c.partition("orders", n).GetLeader()]++
		}
		if led[1] != 3 || led[2] != 3 || led[3] != 3 {
			t.Errorf("led are %v", led)
		}
		if resp := spread(false); len(resp.GetResults()) != 0 {
			t.Errorf("even, and moved is %v", resp)
		}
	})
}

func TestLeadersGoBackToWhereTheyArePreferred(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		defer c.obeying(bs)()
		p := c.replicated("orders", "2")
		first := bs[p.GetReplicas()[0]-1]
		away := func() {
			t.Helper()
			if _, err := first.Register(t.Context()); err != nil {
				t.Fatal(err)
			}
			beat(t, first)
			p = c.partition("orders", 0)
			if p.GetLeader() == first.ID {
				t.Fatalf("it leads at once: %v", p)
			}
		}
		elect := func(dry bool) *controllerv1.ElectPreferredLeadersResponse {
			t.Helper()
			resp, err := within(c.ElectPreferredLeaders, &controllerv1.ElectPreferredLeadersRequest{Topic: "orders", ValidateOnly: dry})
			if err != nil {
				t.Fatal(err)
			}
			return resp
		}
		back := func() { c.propose(bs[p.GetLeader()-1], proposal(p, bs...)) }
		away()
		if got := elect(false); got.GetElected() != 0 || got.GetNotPossible() != 1 {
			t.Errorf("before it is in sync: %v", got)
		}
		back()
		if got := elect(true); got.GetElected() != 1 || c.partition("orders", 0).GetLeader() == first.ID {
			t.Errorf("only asked: %v", got)
		}
		epoch := c.partition("orders", 0).GetLeaderEpoch()
		if got := elect(false); got.GetElected() != 1 || c.partition("orders", 0).GetLeader() != first.ID || c.partition("orders", 0).GetLeaderEpoch() != epoch+1 {
			t.Errorf("%v; the partition is %v", got, c.partition("orders", 0))
		}
		if _, err := within(c.ElectPreferredLeaders, &controllerv1.ElectPreferredLeadersRequest{Topic: "none"}); !is[*reconcile.UnknownTopicError](err) {
			t.Error(err)
		}
		// And by itself, after a while.
		away()
		back()
		for range 60 {
			pass(6 * time.Second)
			for _, b := range bs {
				beat(t, b)
			}
		}
		if p = c.partition("orders", 0); p.GetLeader() != first.ID {
			t.Errorf("after six minutes the partition is %v", p)
		}
	})
}

func TestATopicGrows(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv, func(o *reconcile.Options) { o.MaxPartitions = 500 })
		c.brokers(3)
		made := c.create(ask("orders", 2, ""))
		grow := func(n uint32, dry bool) (*controllerv1.CreatePartitionsResponse, error) {
			return within(c.CreatePartitions, &controllerv1.CreatePartitionsRequest{Topic: "orders", PartitionCount: n, ValidateOnly: dry})
		}
		if resp, err := grow(300, true); err != nil || resp.GetTopic().GetPartitionCount() != 300 || c.partition("orders", 2) != nil {
			t.Errorf("only asked: %v, %v", resp, err)
		}
		before := c.img.Revision()
		resp, err := grow(300, false)
		if err != nil || resp.GetTopic().GetPartitionCount() != 300 || resp.GetTopic().GetPartitioningEpoch() == made.GetTopic().GetPartitioningEpoch() {
			t.Fatal(resp, err)
		}
		led := map[int32]int{}
		for n := range 300 {
			p := c.partition("orders", n)
			if p.GetLeader() < 1 || int(p.GetPartition()) != n {
				t.Fatalf("partition %d is %v", n, p)
			}
			led[p.GetLeader()]++
		}
		if led[1] != 100 || led[2] != 100 || led[3] != 100 {
			t.Errorf("led are %v", led)
		}
		// A watch that goes on from before hears of them, the topic first.
		var told uint32
		count := made.GetTopic().GetPartitionCount()
		for _, ch := range c.img.After(before, 1).List {
			if t := ch.GetTopic(); t != nil {
				count = t.GetPartitionCount()
			}
			if p := ch.GetPartition(); p != nil {
				told++
				if p.GetPartition() >= count {
					t.Fatalf("partition %d is told of in a topic of %d", p.GetPartition(), count)
				}
			}
		}
		if told != 298 || count != 300 {
			t.Errorf("told of %d partitions in a topic of %d", told, count)
		}
		if again, err := grow(300, false); err != nil || again.GetRevision() != resp.GetRevision() {
			t.Errorf("repeated: %v, %v", again, err)
		}
		if _, err := grow(299, false); !is[*reconcile.FewerPartitionsError](err) {
			t.Errorf("fewer: %v", err)
		}
		if _, err := grow(501, false); !is[*reconcile.LimitError](err) {
			t.Errorf("more than there may be: %v", err)
		}
		// Whoever loads the store anew sees the same.
		other := start(t, kv, 2, 0)
		pass(time.Second)
		other.img.Read(func(v *image.View) {
			if v.Partitions != 300 || len(v.TopicByName("orders").Partitions) != 300 {
				t.Errorf("loaded are %d partitions", v.Partitions)
			}
		})
	})
}
