package reconcile_test

import (
	"testing"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/reconcile"
)

// minutes lets time go by with brokers that are alive, and has replicas that are
// added come in sync. It returns when the first was added, and how many were at
// once at most.
func (c *controller) minutes(bs []*controllertest.Broker, topic string, partitions, n int) (first time.Duration, most int) { //nolint:unparam // its stories have 30 so far
	c.t.Helper()
	for at := time.Duration(0); at < time.Duration(n)*time.Minute; at += time.Second {
		pass(time.Second)
		for _, b := range bs {
			beat(c.t, b)
		}
		var moving []*controllerv1.PartitionRecord
		for i := range partitions {
			if p := c.partition(topic, i); len(p.GetAddingReplicas()) > 0 {
				moving = append(moving, p)
			}
		}
		most = max(most, len(moving))
		if first == 0 && len(moving) > 0 {
			first = at
		}
		for _, p := range moving {
			c.joined(bs, p)
		}
	}
	return first, most
}

// held counts replicas by broker.
func (c *controller) held(topic string, partitions int) map[int32]int {
	n := map[int32]int{}
	for i := range partitions {
		for _, id := range c.partition(topic, i).GetReplicas() {
			n[id]++
		}
	}
	return n
}

// Nobody says that a broker was added: it gets its share, a few replicas at a
// time, when there was time to say something else.
func TestABrokerThatWasAddedGetsItsShareByItself(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv, func(o *reconcile.Options) { o.MoveBytes = 7 })
		bs := c.brokers(2)
		c.create(ask("orders", 30, ""))
		bs = append(bs, c.broker(3))
		first, most := c.minutes(bs, "orders", 30, 3)
		if first < time.Minute || first > 80*time.Second || most != 2 {
			t.Errorf("the first is moved after %v, %d at a time", first, most)
		}
		if n := c.held("orders", 30); n[1] != 10 || n[2] != 10 || n[3] != 10 {
			t.Errorf("held are %v", n)
		}
		// What somebody moves by hand stays, if it is not half of all.
		for i := range 30 {
			if p := c.partition("orders", i); p.GetReplicas()[0] == 3 && c.held("orders", 30)[3] > 6 {
				if res := c.reassign("orders", uint32(i), 1); res.GetOutcome() != done {
					t.Fatal(res)
				}
				c.joined(bs, c.partition("orders", i))
			}
		}
		if first, _ := c.minutes(bs, "orders", 30, 10); first != 0 {
			t.Errorf("moved back after %v", first)
		}
		if n := c.held("orders", 30); n[3] != 6 {
			t.Errorf("held are %v", n)
		}
	})
}

// Replicas are not moved about while some are missing.
func TestWhatIsMissingComesBeforeTheShares(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(2)
		r := ask("orders", 30, "")
		r.ReplicationFactor = 2
		c.create(r)
		p := c.partition("orders", 0)
		leader, _ := leads(p, bs)
		c.propose(leader, proposal(p, leader)) // the other lags
		bs = append(bs, c.broker(3))
		if first, _ := c.minutes(bs, "orders", 30, 5); first != 0 {
			t.Errorf("something is moved after %v", first)
		}
		c.propose(leader, proposal(c.partition("orders", 0), bs[:2]...))
		if first, _ := c.minutes(bs, "orders", 30, 2); first == 0 {
			t.Error("nothing is moved when all are in sync")
		}
	})
}

// Where there is a window, or a switch that is off, nothing is moved by itself
// outside it: neither replicas nor leaders.
func TestNothingMovesByItselfOutsideTheWindow(t *testing.T) {
	for name, s := range map[string]struct {
		balance reconcile.Balance
		later   time.Duration // of the time of day 00:00
		moves   bool
	}{
		"off":                      {reconcile.Balance{Off: true}, 0, false},
		"before":                   {reconcile.Balance{From: time.Hour, To: 2 * time.Hour}, 30 * time.Minute, false},
		"within":                   {reconcile.Balance{From: time.Hour, To: 2 * time.Hour}, time.Hour, true},
		"after":                    {reconcile.Balance{From: time.Hour, To: 2 * time.Hour}, 2 * time.Hour, false},
		"before one over midnight": {reconcile.Balance{From: 23 * time.Hour, To: time.Hour}, 22 * time.Hour, false},
		"in one over midnight":     {reconcile.Balance{From: 23 * time.Hour, To: time.Hour}, 23*time.Hour + 30*time.Minute, true},
		"the next day":             {reconcile.Balance{From: 23 * time.Hour, To: time.Hour}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, kv *controllertest.MemStore) {
				c := active(t, kv, func(o *reconcile.Options) { o.Balance = s.balance })
				c.later.Store(int64(s.later))
				bs := c.brokers(3)
				defer c.obeying(bs)()
				p := c.replicated("orders", "2")
				preferred := bs[p.GetReplicas()[0]-1]
				if _, err := preferred.Register(t.Context()); err != nil {
					t.Fatal(err)
				}
				beat(t, preferred)
				p = c.partition("orders", 0)
				c.propose(bs[p.GetLeader()-1], proposal(p, bs...))
				if p = c.partition("orders", 0); p.GetLeader() == preferred.ID {
					t.Fatalf("it leads still: %v", p)
				}
				c.create(ask("many", 30, ""))
				bs = append(bs, c.broker(4))
				c.minutes(bs, "many", 30, 8)
				if got := c.partition("orders", 0).GetLeader() == preferred.ID; got != s.moves {
					t.Errorf("the leader is back: %v", got)
				}
				onFourth := c.held("many", 30)[4] + c.held("orders", 1)[4]
				if moved := onFourth > 0; moved != s.moves {
					t.Errorf("on the broker that was added are %d", onFourth)
				}
			})
		})
	}
}
