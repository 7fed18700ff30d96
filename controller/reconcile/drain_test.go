package reconcile_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/reconcile"
)

func TestABrokerIsDrainedAndRemoved(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(4)
		r := ask("orders", 12, "")
		r.ReplicationFactor = 3
		c.create(r)
		drain := func(id int32, dry bool) (*controllerv1.DrainBrokerResponse, error) {
			return within(c.DrainBroker, &controllerv1.DrainBrokerRequest{BrokerId: id, ValidateOnly: dry, BytesPerSecond: 9})
		}
		remove := &controllerv1.RemoveBrokerRequest{BrokerId: 2}
		if _, err := within(c.RemoveBroker, remove); !is[*reconcile.BrokerInUseError](err) {
			t.Errorf("a broker that holds replicas is removed: %v", err)
		}
		if resp, err := drain(2, true); err != nil || resp.GetReplicas() != 9 || c.record(2).GetDraining() {
			t.Errorf("only asked: %v, %v", resp, err)
		}
		if resp, err := drain(2, false); err != nil || resp.GetReplicas() != 9 {
			t.Fatal(resp, err)
		}
		// No more at a time than the brokers that take them are filled with; when
		// one is in sync, the next begins.
		moving := func() (moving []*controllerv1.PartitionRecord) {
			filling := map[int32]int{}
			for n := range 12 {
				p := c.partition("orders", n)
				if slices.Contains(p.GetTargetReplicas(), 2) || p.GetMoveBytesPerSecond() != 9 && len(p.GetTargetReplicas()) > 0 {
					t.Errorf("partition %d is %v", n, p)
				}
				if len(p.GetTargetReplicas()) > 0 {
					moving = append(moving, p)
					filling[p.GetAddingReplicas()[0]]++
				}
			}
			for id, n := range filling {
				if n > reconcile.FillsAtOnce {
					t.Errorf("broker %d is filled with %d replicas", id, n)
				}
			}
			return moving
		}
		for left := 9; left > 0; left-- {
			ps := moving()
			if want := min(left, 3*reconcile.FillsAtOnce); len(ps) != want {
				t.Fatalf("%d are left, and %d are being moved, want %d", left, len(ps), want)
			}
			c.joined(bs, ps[0])
		}
		for n := range 12 {
			if p := c.partition("orders", n); slices.Contains(p.GetReplicas(), 2) || p.GetLeader() == 2 || len(p.GetInSyncReplicas()) != 3 {
				t.Errorf("drained, partition %d is %v", n, p)
			}
		}
		// Three are left, as many as replicas: none of them can go.
		// Which topic is in the way is said, the first by name.
		narrow := ask("a", 1, "")
		narrow.ReplicationFactor = 3
		c.create(narrow)
		_, err := drain(3, false)
		if e, ok := errors.AsType[*reconcile.NoPlaceError](err); !ok || *e != (reconcile.NoPlaceError{Broker: 3, Topic: "a", Topics: 2, Wanted: 3, Available: 2}) {
			t.Errorf("one that is needed: %v", err)
		}
		if _, err := within(c.RemoveBroker, remove); !is[*reconcile.BrokerInUseError](err) {
			t.Errorf("a broker that runs is removed: %v", err)
		}
		c.create(ask("more", 8, ""))
		for n := range 8 {
			if p := c.partition("more", n); p.GetLeader() == 2 {
				t.Errorf("placed on a broker that is drained: %v", p)
			}
		}
		// One that was just stopped is silent before anybody takes it for that.
		beat(t, bs[1], stopping)
		began := time.Now()
		if _, err := within(c.RemoveBroker, &controllerv1.RemoveBrokerRequest{BrokerId: 2, ValidateOnly: true}); err != nil || c.record(2) == nil || time.Since(began) > session+time.Second {
			t.Errorf("only asked, %v after it said that it stops: %v", time.Since(began), err)
		}
		if _, err := within(c.RemoveBroker, remove); err != nil || c.record(2) != nil {
			t.Errorf("removed: %v; there is %v", err, c.record(2))
		}
		if _, err := within(c.RemoveBroker, remove); !is[*reconcile.UnknownBrokerError](err) {
			t.Errorf("removed twice: %v", err)
		}
		if _, err := drain(2, false); !is[*reconcile.UnknownBrokerError](err) {
			t.Errorf("drained after it was removed: %v", err)
		}
	})
}

func TestADrainedBrokerCanTakeReplicasAgain(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(2)
		if _, err := within(c.DrainBroker, &controllerv1.DrainBrokerRequest{BrokerId: 1, BytesPerSecond: 5}); err != nil {
			t.Fatal(err)
		}
		c.create(ask("a", 2, ""))
		if c.partition("a", 0).GetLeader() != 2 || c.partition("a", 1).GetLeader() != 2 {
			t.Error("placed on a broker that is drained")
		}
		if _, err := bs[0].Register(t.Context()); err != nil {
			t.Fatal(err)
		}
		beat(t, bs[0])
		if b := c.record(1); b.GetFenced() || !b.GetDraining() || b.GetDrainBytesPerSecond() != 5 {
			t.Errorf("after a restart the broker is %v", b)
		}
		if _, err := within(c.UndrainBroker, &controllerv1.UndrainBrokerRequest{BrokerId: 1, ValidateOnly: true}); err != nil || !c.record(1).GetDraining() {
			t.Errorf("only asked: %v; the broker is %v", err, c.record(1))
		}
		if _, err := within(c.UndrainBroker, &controllerv1.UndrainBrokerRequest{BrokerId: 1}); err != nil {
			t.Fatal(err)
		}
		c.create(ask("b", 1, ""))
		if c.partition("b", 0).GetLeader() != 1 {
			t.Errorf("the emptier broker is not taken: %v", c.partition("b", 0))
		}
		if _, err := within(c.UndrainBroker, &controllerv1.UndrainBrokerRequest{BrokerId: 9}); !is[*reconcile.UnknownBrokerError](err) {
			t.Error(err)
		}
	})
}
