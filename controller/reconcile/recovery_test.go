package reconcile_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/reconcile"
)

// rebooted is a registration after a power cut.
func rebooted(r *controllerv1.RegisterBrokerRequest) { r.Clean, r.SameBoot = false, false }

// copied is a registration on a copy of the directory that was made while it was
// in use.
func copied(r *controllerv1.RegisterBrokerRequest) { r.Copied = true }

// ended is a heartbeat that says where the log of a partition ends.
func (c *controller) ended(p *controllerv1.PartitionRecord, epoch int32, end int64) func(*controllerv1.HeartbeatRequest) {
	return func(r *controllerv1.HeartbeatRequest) {
		r.Revision = c.img.Revision()
		r.RecoveredLogs = []*controllerv1.RecoveredLog{{TopicId: p.GetTopicId(), Partition: p.GetPartition(), LastLeaderEpoch: epoch, End: end}}
	}
}

// powerCut restarts brokers whose machine lost what was in memory.
func powerCut(t *testing.T, bs ...*controllertest.Broker) {
	t.Helper()
	for _, b := range bs {
		if _, err := b.Register(t.Context(), rebooted); err != nil {
			t.Fatal(err)
		}
		beat(t, b)
	}
}

// The copy of a directory has the epoch of the first, and not what that has
// acknowledged since. It is neither led nor counted on where others have more, and
// leads where there is nobody else, which is told as a loss.
func TestACopyLeadsWhereNobodyHasMore(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(2)
		r := ask("orders", 1, "")
		r.ReplicationFactor = 2
		c.create(r)
		for _, b := range bs {
			if resp, err := b.Register(t.Context(), copied); err != nil || resp.GetEligible() {
				t.Fatalf("broker %d: %v, %v", b.ID, resp, err)
			}
			beat(t, b)
		}
		p := c.partition("orders", 0)
		if p.GetLeader() != -1 || len(p.GetInSyncReplicas())+len(p.GetEligibleLeaderReplicas()) != 0 {
			t.Fatalf("both are copies, and the partition is %v", p)
		}
		beat(t, bs[0], c.ended(p, 1, 7))
		if now := c.partition("orders", 0); now.GetLeader() != -1 {
			t.Errorf("the other one may have more, and the partition is %v", now)
		}
		beat(t, bs[1], c.ended(p, 1, 10))
		if now := c.partition("orders", 0); now.GetLeader() != bs[1].ID || c.Losses() != 1 {
			t.Errorf("led by who has the most the partition is %v; %d losses were told", now, c.Losses())
		}
	})
}

// inMemory creates a topic of one partition whose records are in memory.
func (c *controller) inMemory(name string, replicas uint32) *controllerv1.PartitionRecord {
	c.t.Helper()
	r := ask(name, 1, "")
	r.ReplicationFactor, r.Config = replicas, map[string]string{"durability": "memory", "min.insync.replicas": "2"}
	c.create(r)
	return c.partition(name, 0)
}

// Records in memory survive the death of a process, not that of the machine;
// those on disk survive both (rule H4).
func TestWhoIsTrustedAfterAnUncleanStop(t *testing.T) {
	for name, s := range map[string]struct {
		change func(*controllerv1.RegisterBrokerRequest)
		disk   string
		led    bool
	}{
		"killed, in memory":               {func(*controllerv1.RegisterBrokerRequest) {}, "memory", true},
		"power cut, in memory":            {rebooted, "memory", false},
		"power cut, on disk":              {rebooted, "disk", true},
		"stopped in order, then rebooted": {func(r *controllerv1.RegisterBrokerRequest) { r.Clean, r.SameBoot = true, false }, "memory", true},
		"killed, on disk":                 {func(*controllerv1.RegisterBrokerRequest) {}, "disk", true},
		"on a copy, in memory":            {copied, "memory", false},
		"on a copy, on disk":              {copied, "disk", false},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(t *testing.T, kv *controllertest.MemStore) {
				c := active(t, kv)
				b := c.broker(1)
				r := ask("orders", 1, "")
				r.Config = map[string]string{"durability": s.disk}
				c.create(r)
				if _, err := b.Register(t.Context(), s.change); err != nil {
					t.Fatal(err)
				}
				resp := beat(t, b)
				p := c.partition("orders", 0)
				if led := p.GetLeader() == 1; led != s.led {
					t.Fatalf("the partition is %v", p)
				}
				if s.led != (len(resp.GetWantedLogs()) == 0) {
					t.Errorf("wanted are %v", resp.GetWantedLogs())
				}
				if s.led {
					return
				}
				// It is the only one that can have anything.
				if resp = beat(t, b, c.ended(p, 1, 10)); len(resp.GetWantedLogs()) != 0 {
					t.Errorf("wanted still are %v", resp.GetWantedLogs())
				}
				if now := c.partition("orders", 0); now.GetLeader() != 1 || now.GetLeaderEpoch() <= p.GetLeaderEpoch() || c.Losses() != 1 {
					t.Errorf("after its report the partition is %v, losses %d", now, c.Losses())
				}
			})
		})
	}
}

// A power cut of all machines: nobody leads before everybody has said what is
// left, then who has the most.
func TestAfterAPowerCutOfAllTheOneWithTheMostLeads(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		c.inMemory("orders", 3)
		pass(2 * session) // none is heard any more
		powerCut(t, bs...)
		p := c.partition("orders", 0)
		if p.GetLeader() != -1 || len(p.GetInSyncReplicas())+len(p.GetEligibleLeaderReplicas()) != 0 || len(p.GetLastKnown()) != 3 {
			t.Fatalf("the partition is %v", p)
		}
		beat(t, bs[0], c.ended(p, 1, 70))
		beat(t, bs[2], c.ended(p, 1, 90))
		if got := c.partition("orders", 0); got.GetLeader() != -1 {
			t.Fatalf("before broker 2 has said what it has, the partition is %v", got)
		}
		off, err := c.OfflinePartitions(t.Context())
		if err != nil || len(off) != 1 || off[0].Name != "orders" || !slices.Equal(off[0].Awaited, []int32{2}) {
			t.Errorf("offline are %v, %v", off, err)
		}
		// Another controller takes over: what was reported to this one is asked
		// for again.
		c.leader.Set(1, false)
		next := start(t, kv, 2, 2)
		<-next.Ready()
		for _, b := range bs {
			*b = *reach(b, next)
		}
		if got := beat(t, bs[0]).GetWantedLogs(); len(got) != 1 {
			t.Errorf("the next controller wants %v", got)
		}
		beat(t, bs[0], next.ended(p, 1, 70))
		beat(t, bs[2], next.ended(p, 1, 90))
		if got := next.partition("orders", 0); got.GetLeader() != -1 {
			t.Fatalf("before broker 2 has said what it has, the partition is %v", got)
		}
		beat(t, bs[1], next.ended(p, 1, 80))
		got := next.partition("orders", 0)
		if got.GetLeader() != 3 || got.GetLeaderEpoch() <= p.GetLeaderEpoch() || !slices.Equal(got.GetInSyncReplicas(), []int32{3}) {
			t.Errorf("the partition is %v", got)
		}
		if off, _ := next.OfflinePartitions(t.Context()); len(off) != 0 {
			t.Errorf("offline are %v", off)
		}
	})
}

// reach returns a broker in the same incarnation that speaks to a controller.
func reach(b *controllertest.Broker, c *controller) *controllertest.Broker {
	n := controllertest.NewBroker(c.client(), b.ID)
	n.Directory, n.Epoch, n.Registered = b.Directory, b.Epoch, b.Registered
	return n
}

func TestAnEndThatMayBeWrittenBeyondDoesNotCount(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		b := c.broker(1)
		p := c.inMemory("orders", 1)
		// While it leads, what it says of its end is of no use later.
		beat(t, b, c.ended(p, 1, 5))
		powerCut(t, b)
		if got := c.partition("orders", 0); got.GetLeader() != -1 {
			t.Fatalf("the partition is %v", got)
		}
		// It has not seen yet that nobody leads.
		beat(t, b, func(r *controllerv1.HeartbeatRequest) {
			c.ended(p, 1, 5)(r)
			r.Revision = b.Epoch - 3
		})
		if got := c.partition("orders", 0); got.GetLeader() != -1 {
			t.Fatalf("the partition is %v", got)
		}
		beat(t, b, c.ended(p, 1, 5))
		if got := c.partition("orders", 0); got.GetLeader() != 1 {
			t.Errorf("the partition is %v", got)
		}
	})
}

func TestADoubtfulReplicaIsNotTrusted(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		p := c.replicated("orders", "2")
		leader, others := leads(p, bs)
		doubtful := func(r *controllerv1.HeartbeatRequest) {
			c.ended(p, 1, 5)(r)
			r.RecoveredLogs[0].Doubtful = true
		}
		if _, err := leader.Register(t.Context()); err != nil {
			t.Fatal(err)
		}
		// In the same heartbeat as it is ready: it is never trusted again.
		beat(t, leader, doubtful)
		now := c.partition("orders", 0)
		if now.GetLeader() != others[0].ID || slices.Contains(now.GetInSyncReplicas(), leader.ID) || slices.Contains(now.GetEligibleLeaderReplicas(), leader.ID) {
			t.Errorf("the partition is %v", now)
		}
		// Followed by its last holders it goes the way of the last known.
		for _, b := range others {
			beat(t, b, doubtful)
		}
		if now = c.partition("orders", 0); now.GetLeader() != -1 || len(now.GetInSyncReplicas()) != 0 {
			t.Errorf("with all of them doubtful the partition is %v", now)
		}
	})
}

// Nobody knows where a log ends that cannot be opened: it may have the most.
func TestALogThatCannotBeOpenedIsNotTakenForEmpty(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		bs := c.brokers(3)
		c.inMemory("orders", 3)
		pass(2 * session)
		powerCut(t, bs...)
		p := c.partition("orders", 0)
		beat(t, bs[0], c.ended(p, 1, 70))
		beat(t, bs[2], c.ended(p, 1, 80))
		beat(t, bs[1], func(r *controllerv1.HeartbeatRequest) {
			c.ended(p, 0, 0)(r)
			r.RecoveredLogs[0].Doubtful, r.RecoveredLogs[0].Unreadable = true, true
		})
		if got := c.partition("orders", 0); got.GetLeader() != -1 {
			t.Fatalf("before broker 2 can open its log, the partition is %v", got)
		}
		if off, err := c.OfflinePartitions(t.Context()); err != nil || len(off) != 1 || !slices.Equal(off[0].Awaited, []int32{2}) {
			t.Errorf("offline are %v, %v", off, err)
		}
		if got := beat(t, bs[1]).GetWantedLogs(); len(got) != 1 {
			t.Errorf("broker 2 is asked for %v", got)
		}
		beat(t, bs[1], c.ended(p, 1, 90))
		if got := c.partition("orders", 0); got.GetLeader() != 2 {
			t.Errorf("the partition is %v", got)
		}
	})
}

func TestAnOldDirectoryLeadsOnlyIfTheLossIsAccepted(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		b := c.broker(1)
		c.create(ask("orders", 1, ""))
		epochs := []int64{b.Epoch}
		askFor := func(accept bool) (*controllerv1.RecoverPartitionResponse, error) {
			return within(c.RecoverPartition, &controllerv1.RecoverPartitionRequest{Topic: "orders", AcceptLoss: accept})
		}
		if _, err := askFor(true); !is[*reconcile.NotOfflineError](err) {
			t.Errorf("of a partition that is led: %v", err)
		}
		// A copy of the directory from before; then the same, restarted.
		for range 2 {
			if _, err := b.Register(t.Context(), func(r *controllerv1.RegisterBrokerRequest) {
				if len(epochs) == 1 {
					r.PreviousBrokerEpoch--
				}
			}); err != nil {
				t.Fatal(err)
			}
			epochs = append(epochs, b.Epoch)
			beat(t, b)
			p := c.partition("orders", 0)
			beat(t, b, c.ended(p, 1, 3))
			if p = c.partition("orders", 0); p.GetLeader() != -1 {
				t.Fatalf("the partition is %v", p)
			}
		}
		if off, _ := c.OfflinePartitions(t.Context()); len(off) != 1 || !slices.Equal(off[0].Awaited, []int32{1}) {
			t.Errorf("offline are %v", off)
		}
		before := c.partition("orders", 0)
		dry, err := askFor(false)
		if err != nil || dry.GetRecord().GetLeader() != 1 || len(dry.GetEnds()) != 1 || dry.GetEnds()[0].GetEnd() != 3 || c.partition("orders", 0).GetPartitionEpoch() != before.GetPartitionEpoch() {
			t.Errorf("asked what would be: %v, %v", dry, err)
		}
		if resp, err := askFor(true); err != nil || resp.GetRecord().GetLeader() != 1 || c.Losses() != 1 {
			t.Errorf("with the loss accepted: %v, %v", resp, err)
		}
		if p := c.partition("orders", 0); p.GetLeader() != 1 || !slices.Equal(p.GetInSyncReplicas(), []int32{1}) {
			t.Errorf("the partition is %v", p)
		}
		for _, r := range []*controllerv1.RecoverPartitionRequest{{Topic: "none"}, {Topic: "orders", Partition: 1}} {
			if _, err := within(c.RecoverPartition, r); !is[*reconcile.UnknownTopicError](err) && !is[*reconcile.UnknownPartitionError](err) {
				t.Errorf("%v: %v", r, err)
			}
		}
	})
}

// diskLost is an active controller, and the broker that held the only replica of
// "orders" and is back on another directory.
func diskLost(t *testing.T, kv *controllertest.MemStore) (*controller, *controllertest.Broker) {
	t.Helper()
	c := active(t, kv)
	b := c.broker(1)
	c.create(ask("orders", 1, ""))
	b.Directory = []byte("a new directory!")
	pass(session) // it is not heard any more
	if _, err := b.Register(t.Context(), func(r *controllerv1.RegisterBrokerRequest) { r.PreviousBrokerEpoch = 0 }); err != nil {
		t.Fatal(err)
	}
	return c, b
}

// Whoever recovers many partitions has those left alone that may come back
// without a loss: they wait for somebody who was not said to be lost, or who is
// there.
func TestWhoMayReturnIsWaitedFor(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c, b := diskLost(t, kv)
		beat(t, b)
		for _, lost := range [][]int32{nil, {2}} {
			_, err := within(c.RecoverPartition, &controllerv1.RecoverPartitionRequest{Topic: "orders", AcceptLoss: true, OnlyIfLost: true, LostBrokerIds: lost})
			if e, ok := errors.AsType[*reconcile.MayReturnError](err); !ok || !slices.Equal(e.Awaited, []int32{1}) {
				t.Errorf("with %v lost: %v", lost, err)
			}
		}
		if p := c.partition("orders", 0); p.GetLeader() != -1 {
			t.Errorf("the partition is %v", p)
		}
		resp, err := within(c.RecoverPartition, &controllerv1.RecoverPartitionRequest{Topic: "orders", AcceptLoss: true, OnlyIfLost: true, LostBrokerIds: []int32{2, 1}})
		if err != nil || resp.GetRecord().GetLeader() != 1 {
			t.Errorf("%v, %v", resp, err)
		}
	})
}

// A broker that is there with its log is not lost, whoever says so: it has not
// said yet what it has.
func TestWhoIsThereIsNotLost(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		b := c.broker(1)
		p := c.inMemory("events", 1)
		powerCut(t, b)
		beat(t, b)
		ask := &controllerv1.RecoverPartitionRequest{Topic: "events", AcceptLoss: true, OnlyIfLost: true, LostBrokerIds: []int32{1}}
		if _, err := within(c.RecoverPartition, ask); !is[*reconcile.MayReturnError](err) {
			t.Errorf("before it has said where its log ends: %v", err)
		}
		beat(t, b, c.ended(p, 1, 3))
		if got := c.partition("events", 0); got.GetLeader() != 1 {
			t.Errorf("the partition is %v", got)
		}
	})
}

// A lost disk at one replica: the broker leads on its new one, with nothing.
func TestALostDiskIsTheLossThatIsAccepted(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c, b := diskLost(t, kv)
		accept := &controllerv1.RecoverPartitionRequest{Topic: "orders", AcceptLoss: true}
		if _, err := within(c.RecoverPartition, accept); !is[*reconcile.NoReplicaServesError](err) {
			t.Errorf("while nobody serves: %v", err)
		}
		beat(t, b)
		resp, err := within(c.RecoverPartition, accept)
		if err != nil || resp.GetRecord().GetLeader() != 1 || string(resp.GetRecord().GetDirectoryIds()[0]) != string(b.Directory) {
			t.Errorf("%v, %v", resp, err)
		}
	})
}

func TestRecoveryCanWaitForSomebody(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv, func(o *reconcile.Options) { o.Recovery = reconcile.RecoveryManual })
		b := c.broker(1)
		p := c.inMemory("orders", 1)
		powerCut(t, b)
		beat(t, b, c.ended(p, 1, 3))
		if got := c.partition("orders", 0); got.GetLeader() != -1 {
			t.Errorf("the partition is %v", got)
		}
		if off, _ := c.OfflinePartitions(t.Context()); len(off) != 1 || len(off[0].Awaited) != 0 {
			t.Errorf("offline are %v", off)
		}
		if _, err := within(c.RecoverPartition, &controllerv1.RecoverPartitionRequest{Topic: "orders", AcceptLoss: true}); err != nil {
			t.Error(err)
		}
		if got := c.partition("orders", 0); got.GetLeader() != 1 {
			t.Errorf("the partition is %v", got)
		}
	})
}

// Whoever deletes the topic that nobody leads is not told of it any more.
func TestATopicThatIsDeletedIsNotOffline(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv, func(o *reconcile.Options) { o.Recovery = reconcile.RecoveryManual })
		b := c.broker(1)
		p := c.inMemory("orders", 1)
		powerCut(t, b)
		beat(t, b, c.ended(p, 1, 3))
		if off, err := c.OfflinePartitions(t.Context()); err != nil || len(off) != 1 || off[0].Name != "orders" {
			t.Errorf("offline are %v, %v", off, err)
		}
		if _, err := within(c.DeleteTopic, &controllerv1.DeleteTopicRequest{Topic: "orders"}); err != nil {
			t.Error(err)
		}
		if off, err := c.OfflinePartitions(t.Context()); err != nil || len(off) != 0 {
			t.Errorf("offline are %v, %v", off, err)
		}
	})
}

// A process that is gone is found out by its port, without waiting out its
// session; a network that is broken is not taken for it.
func TestABrokerThatRefusesConnectionsIsFencedAtOnce(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		var refused atomic.Bool
		c := active(t, kv, func(o *reconcile.Options) {
			o.Probe = func(_ context.Context, addr string) error {
				if addr != "b2:1" {
					t.Errorf("tried %q", addr)
				}
				if refused.Load() {
					return syscall.ECONNREFUSED
				}
				return syscall.ETIMEDOUT
			}
		})
		one := c.broker(1)
		two := controllertest.NewBroker(c.client(), 2)
		if _, err := two.Register(t.Context(), func(r *controllerv1.RegisterBrokerRequest) { r.InternalAddress = "b2:1" }); err != nil {
			t.Fatal(err)
		}
		beat(t, two)
		report := func(epoch int64) {
			beat(t, one, func(r *controllerv1.HeartbeatRequest) {
				r.UnreachableBrokers = []*controllerv1.UnreachableBroker{{BrokerId: 2, BrokerEpoch: epoch}}
			})
			synctest.Wait()
		}
		begun := time.Now()
		report(two.Epoch)
		if c.record(2).GetFenced() {
			t.Error("a broker that does not answer is fenced")
		}
		refused.Store(true)
		report(two.Epoch - 1)
		if c.record(2).GetFenced() {
			t.Error("a report of an incarnation before counts")
		}
		report(two.Epoch)
		if !c.record(2).GetFenced() || time.Since(begun) > 0 {
			t.Errorf("fenced %v after %v", c.record(2).GetFenced(), time.Since(begun))
		}
		if got := beat(t, two); got.GetFenced() {
			t.Error("it is heard and fenced still")
		}
		c.img.Read(func(v *image.View) {
			if v.Brokers[1].Record.GetFenced() {
				t.Error("who reported it is fenced")
			}
		})
	})
}
