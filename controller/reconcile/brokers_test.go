package reconcile_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/reconcile"
)

// beat sends a heartbeat that has to be answered.
func beat(t *testing.T, b *controllertest.Broker, change ...func(*controllerv1.HeartbeatRequest)) *controllerv1.HeartbeatResponse {
	t.Helper()
	resp, err := b.Beat(t.Context(), change...)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// outlive has all but these brokers fall silent.
func outlive(t *testing.T, bs ...*controllertest.Broker) {
	t.Helper()
	for range 2 {
		pass(session / 2)
		for _, b := range bs {
			beat(t, b)
		}
	}
}

// Every incarnation leads in an epoch of its own, so that nothing that the
// last one has in flight can pass for the next one's.
func TestARestartedBrokerLeadsInANewEpoch(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		b := c.broker(1)
		c.create(ask("orders", 2, ""))
		last := c.partition("orders", 1)
		for range 3 {
			old := *b
			if _, err := b.Register(t.Context()); err != nil {
				t.Fatal(err)
			}
			if b.Epoch <= old.Epoch || b.Registered.GetRevision() != b.Epoch || !b.Registered.GetEligible() {
				t.Fatalf("registered as %v, before as %v", b.Registered, old.Registered)
			}
			p := c.partition("orders", 1)
			if p.GetLeader() != -1 || p.GetLeaderEpoch() <= last.GetLeaderEpoch() {
				t.Errorf("before it is ready the partition is %v", p)
			}
			if got := beat(t, b, func(r *controllerv1.HeartbeatRequest) { r.Ready = false }); !got.GetFenced() {
				t.Error("it is unfenced before it is ready")
			}
			if got := beat(t, b, func(r *controllerv1.HeartbeatRequest) { r.Revision = b.Epoch - 1 }); !got.GetFenced() {
				t.Error("it is unfenced before it has seen its registration")
			}
			if got := beat(t, b); got.GetFenced() {
				t.Error("it is ready and fenced")
			}
			p = c.partition("orders", 1)
			if p.GetLeader() != 1 || p.GetLeaderEpoch() <= last.GetLeaderEpoch()+1 || p.GetPartitionEpoch() <= last.GetPartitionEpoch() || !slices.Equal(p.GetInSyncReplicas(), []int32{1}) {
				t.Errorf("the partition is %v, before it was %v", p, last)
			}
			last = p
			// The incarnation before is not heard any more.
			if _, err := old.Beat(t.Context()); !is[*reconcile.StaleBrokerEpochError](err) {
				t.Errorf("a heartbeat of an incarnation before: %v", err)
			}
			if c.record(1).GetFenced() {
				t.Error("a heartbeat of an incarnation before has an effect")
			}
		}
	})
}

func TestARegistrationRepeatedGivesOneEpoch(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		b := controllertest.NewBroker(c.client(), 1)
		same := func(r *controllerv1.RegisterBrokerRequest) { r.IncarnationId, r.PreviousBrokerEpoch = []byte("one"), 0 }
		first, err := b.Register(t.Context(), same)
		if err != nil {
			t.Fatal(err)
		}
		beat(t, b)
		again, err := b.Register(t.Context(), same)
		if err != nil || again.GetBrokerEpoch() != first.GetBrokerEpoch() || c.record(1).GetFenced() {
			t.Errorf("repeated: %v, %v; at first %v", again, err, first)
		}
		if _, err := controllertest.NewBroker(c.client(), 2).Beat(t.Context()); !is[*reconcile.StaleBrokerEpochError](err) {
			t.Errorf("a broker that never registered: %v", err)
		}
	})
}

func TestOnlyBrokersOfTheClusterRegister(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		b := c.broker(1)
		cluster := b.Registered.GetCluster()
		for name, change := range map[string]func(*controllerv1.RegisterBrokerRequest){
			"of another cluster": func(r *controllerv1.RegisterBrokerRequest) { r.ClusterId, r.ClusterGeneration = make([]byte, 16), 1 },
			"of a generation of the past": func(r *controllerv1.RegisterBrokerRequest) {
				r.ClusterId, r.ClusterGeneration = cluster.GetClusterId(), cluster.GetGeneration()+1
			},
		} {
			if _, err := b.Register(t.Context(), change); !is[*reconcile.WrongClusterError](err) {
				t.Errorf("a directory %s: %v", name, err)
			}
		}
		if _, err := b.Register(t.Context(), func(r *controllerv1.RegisterBrokerRequest) { r.FeatureLevelMin, r.FeatureLevelMax = 2, 3 }); !is[*reconcile.FeatureLevelError](err) {
			t.Errorf("a broker of the future: %v", err)
		}
		if c.record(1).GetBrokerEpoch() != b.Epoch || c.record(1).GetFenced() {
			t.Error("a registration that was refused has an effect")
		}
		if _, err := b.Register(t.Context(), func(r *controllerv1.RegisterBrokerRequest) {
			r.ClusterId, r.ClusterGeneration = cluster.GetClusterId(), cluster.GetGeneration()
		}); err != nil {
			t.Error(err)
		}
	})
}

func TestASilentBrokerIsFenced(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(2)
		c.create(ask("orders", 2, ""))
		led := func(id int32) *controllerv1.PartitionRecord {
			for n := range 2 {
				if p := c.partition("orders", n); p.GetReplicas()[0] == id {
					return p
				}
			}
			t.Fatalf("broker %d has no partition", id)
			return nil
		}
		before := led(2)
		// Broker 1 beats, 2 does not.
		interval := time.Duration(bs[0].Registered.GetHeartbeatIntervalMs()) * time.Millisecond
		for at := time.Duration(0); at < session-interval; at += interval {
			pass(interval)
			beat(t, bs[0])
			if c.record(2).GetFenced() {
				t.Fatalf("fenced %v after its last heartbeat", at+interval)
			}
		}
		for range 3 {
			pass(interval)
			beat(t, bs[0])
		}
		if c.record(1).GetFenced() || !c.record(2).GetFenced() {
			t.Fatalf("fenced: 1 %v, 2 %v", c.record(1).GetFenced(), c.record(2).GetFenced())
		}
		// The only replica stays in sync: it alone has everything.
		if p := led(2); p.GetLeader() != -1 || p.GetLeaderEpoch() != before.GetLeaderEpoch()+1 || !slices.Equal(p.GetInSyncReplicas(), []int32{2}) {
			t.Errorf("the partition of the silent broker is %v", p)
		}
		if p := led(1); p.GetLeader() != 1 || p.GetLeaderEpoch() != 1 {
			t.Errorf("the partition of the other is %v", p)
		}
		// It was only slow: its epoch is good still.
		if got := beat(t, bs[1]); got.GetFenced() {
			t.Error("it is heard and fenced still")
		}
		if p := led(2); p.GetLeader() != 2 || p.GetLeaderEpoch() != before.GetLeaderEpoch()+2 {
			t.Errorf("its partition is %v", p)
		}
	})
}

func TestABrokerWithAFailedDirectoryIsFenced(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		b := c.broker(1)
		c.create(ask("orders", 1, ""))
		failed := func(r *controllerv1.HeartbeatRequest) { r.FailedDirectoryIds = [][]byte{b.Directory} }
		for range 2 {
			if got := beat(t, b, failed); !got.GetFenced() || c.partition("orders", 0).GetLeader() != -1 {
				t.Errorf("%v, %v", got, c.partition("orders", 0))
			}
		}
	})
}

// A directory that was put back from an old copy lacks what was acknowledged
// since; one that is empty lacks everything.
func TestADirectoryThatIsNotWhatItWasIsNotTrusted(t *testing.T) {
	for name, change := range map[string]func(*controllerv1.RegisterBrokerRequest){
		"old":   func(r *controllerv1.RegisterBrokerRequest) { r.PreviousBrokerEpoch-- },
		"blank": func(r *controllerv1.RegisterBrokerRequest) { r.PreviousBrokerEpoch = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, kv *controllertest.MemStore) {
				c := active(t, kv)
				b := c.broker(1)
				c.create(ask("orders", 2, ""))
				if resp, err := b.Register(t.Context(), change); err != nil || resp.GetEligible() {
					t.Fatal(resp, err)
				}
				beat(t, b)
				for n := range 2 {
					p := c.partition("orders", n)
					if p.GetLeader() != -1 || len(p.GetInSyncReplicas()) != 0 || !slices.Equal(p.GetLastKnown(), []int32{1}) {
						t.Errorf("partition %d is %v", n, p)
					}
				}
				c.create(ask("next", 1, "")) // it serves what comes from now on
				if p := c.partition("next", 0); p.GetLeader() != 1 {
					t.Errorf("a new partition is %v", p)
				}
			})
		})
	}
	t.Run("another", func(t *testing.T) {
		story(t, func(t *testing.T, kv *controllertest.MemStore) {
			c := active(t, kv)
			b := c.broker(1)
			c.create(ask("orders", 1, ""))
			home := b.Directory
			b.Directory = []byte("a new directory!")
			pass(session) // it is not heard any more
			if _, err := b.Register(t.Context(), func(r *controllerv1.RegisterBrokerRequest) { r.PreviousBrokerEpoch = 0 }); err != nil {
				t.Fatal(err)
			}
			beat(t, b)
			if p := c.partition("orders", 0); p.GetLeader() != -1 || len(p.GetInSyncReplicas()) != 1 {
				t.Errorf("on another directory the partition is %v", p)
			}
			// The old directory is found again, just as it was left.
			b.Directory = home
			served := b.Epoch - 1
			pass(session)
			if resp, err := b.Register(t.Context(), func(r *controllerv1.RegisterBrokerRequest) { r.PreviousBrokerEpoch = served }); err != nil || !resp.GetEligible() {
				t.Fatal(resp, err)
			}
			beat(t, b)
			if p := c.partition("orders", 0); p.GetLeader() != 1 {
				t.Errorf("on its own directory the partition is %v", p)
			}
		})
	})
}

// Two processes of one number would take each other's place for ever: the second
// is refused while the first is alive. On the same directory there is no first.
func TestABrokerThatIsAliveIsNotReplaced(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		first := c.broker(1)
		second := *first
		second.Directory, second.Epoch = []byte("a new directory!"), 0
		for range 3 {
			pass(session * 3 / 4)
			beat(t, first)
			_, err := second.Register(t.Context())
			if !is[*reconcile.BrokerAliveError](err) {
				t.Fatalf("the second of its number is answered %v", err)
			}
			if c.record(1).GetFenced() || c.record(1).GetBrokerEpoch() != first.Epoch {
				t.Fatalf("the first of its number became %v", c.record(1))
			}
		}
		if _, err := first.Register(t.Context()); err != nil {
			t.Fatalf("a restart is answered %v", err)
		}
		pass(session)
		if _, err := second.Register(t.Context()); err != nil {
			t.Fatalf("when the first is silent the second is answered %v", err)
		}
		beat(t, &second)
		if _, err := first.Register(t.Context()); !is[*reconcile.BrokerAliveError](err) {
			t.Errorf("the first, which comes back, is answered %v", err)
		}
	})
}

// A copy of a data directory has the identity of the first, and not all that this
// acknowledges since: it must not take its place while it is alive, nor the first
// that of the copy when it comes back.
func TestACopyOfADirectoryDoesNotReplaceWhatIsAlive(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		at := func(address string) func(*controllerv1.RegisterBrokerRequest) {
			return func(r *controllerv1.RegisterBrokerRequest) { r.InternalAddress = address }
		}
		first := c.broker(1)
		pass(session)
		if _, err := first.Register(t.Context(), at("a:1")); err != nil {
			t.Fatal(err)
		}
		beat(t, first)
		c.create(ask("orders", 1, ""))
		second := *first
		for range 3 {
			pass(session * 3 / 4)
			beat(t, first)
			_, err := second.Register(t.Context(), at("b:1"))
			if e, ok := errors.AsType[*reconcile.BrokerAliveError](err); !ok || !e.SameDirectory {
				t.Fatalf("the copy is answered %v", err)
			}
			if p := c.partition("orders", 0); c.record(1).GetFenced() || c.record(1).GetBrokerEpoch() != first.Epoch || p.GetLeader() != 1 {
				t.Fatalf("the first became %v, its partition %v", c.record(1), p)
			}
		}
		if _, err := first.Register(t.Context(), at("a:1")); err != nil {
			t.Fatalf("a restart is answered %v", err)
		}
		beat(t, first, stopping)
		if _, err := first.Register(t.Context(), at("c:1")); err != nil {
			t.Fatalf("one that has stopped, and is reached elsewhere, is answered %v", err)
		}
		beat(t, first)
		pass(session)
		second.Epoch = first.Epoch
		if _, err := second.Register(t.Context(), at("b:1")); err != nil {
			t.Fatalf("when the first is silent the copy is answered %v", err)
		}
		beat(t, &second)
		if _, err := first.Register(t.Context(), at("c:1")); !is[*reconcile.BrokerAliveError](err) {
			t.Errorf("the first, which comes back, is answered %v", err)
		}
	})
}

func TestAStoppingBrokerHandsOverFirst(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		r := ask("orders", 6, "")
		r.ReplicationFactor = 3
		c.create(r)
		if got := beat(t, bs[0], stopping); got.GetMayStop() || got.GetFenced() {
			t.Errorf("it leads still, and is answered %v", got)
		}
		for n := range 6 {
			p := c.partition("orders", n)
			if p.GetLeader() == 1 && p.GetSuccessor() != 2 {
				t.Errorf("partition %d is %v", n, p)
			}
			if p.GetLeader() == 1 {
				c.propose(bs[0], handingOver(p))
			}
			if p = c.partition("orders", n); p.GetLeader() == 1 || p.GetLeader() == -1 || slices.Contains(p.GetInSyncReplicas(), 1) || p.Successor != nil {
				t.Errorf("handed over, partition %d is %v", n, p)
			}
		}
		if got := beat(t, bs[0], stopping); !got.GetMayStop() || got.GetFenced() {
			t.Errorf("it leads nothing any more, and is answered %v", got)
		}
		if _, err := within(c.CreateTopic, func() *controllerv1.CreateTopicRequest {
			r := ask("wide", 1, "")
			r.ReplicationFactor = 3
			return r
		}()); err == nil {
			t.Error("a topic is placed on a broker that is stopping")
		}
		// The last two may stop as well: nobody can take over what they lead.
		beat(t, bs[1], stopping)
		if got := beat(t, bs[2], stopping); !got.GetMayStop() {
			t.Errorf("the last broker is answered %v", got)
		}
	})
}

// Brokers are restarted one after the other, and nobody waits until the one before
// is in sync again: the next one does, so that its partitions have enough in sync
// without it.
func TestAStoppingBrokerWaitsForTheOneBefore(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		leader, others := leads(c.replicated("orders", "2"), bs)
		before, next := others[0], others[1]
		if got := beat(t, before, stopping); !got.GetMayStop() {
			t.Errorf("with two others in sync, the first is answered %v", got)
		}
		if _, err := before.Register(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := beat(t, next, stopping); !got.GetMayStop() {
			t.Errorf("while the first has not come back, the next is answered %v", got)
		}
		beat(t, before)
		for _, b := range []*controllertest.Broker{next, leader} {
			if got := beat(t, b, stopping); got.GetMayStop() {
				t.Errorf("while the first is not in sync, broker %d is answered %v", b.ID, got)
			}
		}
		p := c.partition("orders", 0)
		if p.GetLeader() != leader.ID || len(p.GetInSyncReplicas()) != 2 {
			t.Fatalf("the partition is %v", p)
		}
		c.propose(leader, proposal(p, leader, before, next))
		p = c.partition("orders", 0)
		if p.GetSuccessor() != before.ID {
			t.Fatalf("the partition is %v", p)
		}
		c.propose(leader, handingOver(p))
		for _, b := range []*controllertest.Broker{next, leader} {
			if got := beat(t, b, stopping); !got.GetMayStop() {
				t.Errorf("at the end broker %d is answered %v", b.ID, got)
			}
		}
	})
}

func TestReplicasThatCannotBeCountedOnLeaveTheISR(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		r := ask("orders", 1, "")
		r.ReplicationFactor = 3
		c.create(r)
		p := c.partition("orders", 0)
		leader, other := p.GetLeader(), p.GetReplicas()[1]
		failed := func(r *controllerv1.HeartbeatRequest) { r.FailedDirectoryIds = [][]byte{make([]byte, 16)} }
		beat(t, bs[leader-1], failed)
		if p = c.partition("orders", 0); p.GetLeader() != other || p.GetLeaderEpoch() != 2 || len(p.GetInSyncReplicas()) != 2 {
			t.Errorf("without its leader the partition is %v", p)
		}
		beat(t, bs[other-1], failed)
		p = c.partition("orders", 0)
		if len(p.GetInSyncReplicas()) != 1 || p.GetLeader() != p.GetInSyncReplicas()[0] {
			t.Errorf("with one replica left the partition is %v", p)
		}
	})
}

func TestThereAreOnlySoManyBrokers(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		for id := range int32(reconcile.MaxBrokers) {
			if _, err := controllertest.NewBroker(c.client(), id).Register(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := controllertest.NewBroker(c.client(), reconcile.MaxBrokers).Register(t.Context()); !is[*reconcile.LimitError](err) {
			t.Errorf("one more: %v", err)
		}
		if _, err := controllertest.NewBroker(c.client(), 3).Register(t.Context()); err != nil {
			t.Errorf("one that is known: %v", err)
		}
	})
}

func TestDeletionsAreForgottenAfterAWhile(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		c.broker(1)
		remembered := func() (n int) {
			c.img.Read(func(v *image.View) { n = len(v.Deletions) })
			return n
		}
		for n := range 3 {
			name := fmt.Sprint("t", n)
			c.create(ask(name, 1, ""))
			if _, err := within(c.DeleteTopic, &controllerv1.DeleteTopicRequest{Topic: name}); err != nil {
				t.Fatal(err)
			}
		}
		c.later.Store(int64(29 * 24 * time.Hour))
		pass(session)
		if n := remembered(); n != 3 {
			t.Errorf("after 29 days %d are remembered", n)
		}
		c.later.Store(int64(31 * 24 * time.Hour))
		pass(session)
		if n := remembered(); n != 0 {
			t.Errorf("after 31 days %d are remembered", n)
		}
	})
}
