package reconcile_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/placement"
	"github.com/millstream-io/millstream/controller/reconcile"
	"github.com/millstream-io/millstream/controller/store"
)

func activeOf(c *controller) (id int32) {
	c.img.Read(func(v *image.View) { id = v.Active.ControllerID })
	return id
}

func TestOneControllerIsActive(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		one := active(t, kv)
		b := one.broker(1)
		one.create(ask("orders", 2, ""))
		two := start(t, kv, 2, 0)
		pass(time.Second)
		two.leader.Set(2, true)
		one.leader.Set(2, false)
		pass(time.Second)
		if one.Active() || !two.Active() || activeOf(one) != 2 {
			t.Fatalf("1 is active: %v, 2: %v", one.Active(), two.Active())
		}
		// The deposed one says who is active; so may anybody find it.
		for name, call := range map[string]func() error{
			"create":    func() error { _, err := within(one.CreateTopic, ask("more", 1, "")); return err },
			"heartbeat": func() error { _, err := b.Beat(t.Context()); return err },
		} {
			if e, ok := errors.AsType[*reconcile.NotActiveError](call()); !ok || e.Active != 2 {
				t.Errorf("%s is answered by %v", name, e)
			}
		}
		// The next one knows everything, and brokers go on in their epochs.
		moved := controllertest.NewBroker(two.client(), 1)
		moved.Epoch = b.Epoch
		if got := beat(t, moved); got.GetFenced() {
			t.Error("a change of the controller fences a broker")
		}
		if p := two.partition("orders", 1); p.GetLeader() != 1 || p.GetLeaderEpoch() != 1 {
			t.Errorf("a change of the controller changes a partition: %v", p)
		}
		if _, err := within(two.CreateTopic, ask("orders", 2, "")); !is[*reconcile.TopicExistsError](err) {
			t.Error(err)
		}
		two.create(ask("more", 1, ""))
	})
}

// A controller that was asleep while another was elected thinks that it is
// active. What it would do then, it does not.
func TestADeposedControllerThatDoesNotKnowWritesNothing(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		one := active(t, kv)
		one.broker(1)
		if _, err := store.Campaign(t.Context(), kv, 2, 2); err != nil {
			t.Fatal(err)
		}
		before := kv.Entries()
		if _, err := within(one.CreateTopic, ask("orders", 1, "")); !errors.Is(err, store.ErrDeposed) || errors.Is(err, store.ErrUnknownOutcome) {
			t.Errorf("a deposed controller answers %v", err)
		}
		pass(3 * session) // nor does it fence anybody, or win its election back
		if one.Active() {
			t.Error("it is active again")
		}
		same := func(a, b store.Entry) bool { return a.Key == b.Key && a.Revision == b.Revision }
		if after := kv.Entries(); !slices.EqualFunc(before, after, same) {
			t.Errorf("before\n%v\nafter\n%v", before, after)
		}
	})
}

// Just after an election the term is that of the entry before.
func TestTheTermMayMoveOnUnderTheSameLeader(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		c.broker(1)
		c.leader.Set(2, true)
		c.create(ask("orders", 1, ""))
		pass(time.Second)
		if !c.Active() {
			t.Error("it stood down")
		}
		var term uint64
		c.img.Read(func(v *image.View) { term = v.Active.Term })
		if term != 2 {
			t.Errorf("the election is of term %d", term)
		}
	})
}

func TestWhileNobodyLeadsCallsWait(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := start(t, kv, 1, 0)
		done := make(chan error, 1)
		go func() {
			_, err := within(c.CreateTopic, ask("orders", 1, ""))
			done <- err
		}()
		pass(time.Second)
		select {
		case err := <-done:
			t.Fatalf("answered by %v", err)
		default:
		}
		c.leader.Set(1, true)
		if err := <-done; !is[*placement.NotEnoughBrokersError](err) {
			t.Errorf("answered by %v", err)
		}
		c.leader.Set(1, false)
		pass(time.Second)
		if _, err := within(c.DeleteTopic, &controllerv1.DeleteTopicRequest{Topic: "x"}); !is[*reconcile.NotActiveError](err) {
			t.Errorf("when nobody comes to lead: %v", err)
		}
	})
}

// Silence counts from when somebody listens.
func TestANewControllerHearsEverybodyFirst(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		one := active(t, kv)
		one.broker(1)
		one.leader.Set(1, false)
		pass(5 * session)
		if one.record(1).GetFenced() {
			t.Fatal("fenced by nobody")
		}
		two := start(t, kv, 2, 2)
		pass(session / 2)
		if two.record(1).GetFenced() {
			t.Error("fenced without a chance")
		}
		pass(session)
		if !two.record(1).GetFenced() {
			t.Error("a broker that stays silent is not fenced")
		}
	})
}
