package reconcile_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/topicconfig"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/placement"
	"github.com/millstream-io/millstream/controller/reconcile"
	"github.com/millstream-io/millstream/controller/store"
)

func TestATopicIsCreatedOnce(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		b := c.broker(1)
		r := ask("orders", 3, "request 1")
		r.Config = map[string]string{"durability": "memory", "retention.ms": "1000"}
		first := c.create(r)
		if n := len(first.GetTopic().GetTopicId()); n != 16 || first.GetTopic().GetPartitionCount() != 3 {
			t.Fatalf("the topic is %v", first.GetTopic())
		}
		for n := range 3 {
			p := c.partition("orders", n)
			if p.GetLeader() != 1 || p.GetLeaderEpoch() != 1 || p.GetDisk() || string(p.GetDirectoryIds()[0]) != string(b.Directory) {
				t.Errorf("partition %d is %v", n, p)
			}
		}
		written := len(kv.Entries())
		if again := c.create(r); !proto.Equal(first, again) {
			t.Errorf("the request repeated is answered by %v, at first by %v", again, first)
		}
		for name, other := range map[string]*controllerv1.CreateTopicRequest{
			"without an id":            ask("orders", 3, ""),
			"of another id":            ask("orders", 3, "request 2"),
			"of the id but of another": ask("orders", 4, "request 1"),
		} {
			if _, err := within(c.CreateTopic, other); !is[*reconcile.TopicExistsError](err) {
				t.Errorf("a request %s: %v", name, err)
			}
		}
		if n := len(kv.Entries()); n != written {
			t.Errorf("the repetitions left %d keys, not %d", n, written)
		}
	})
}

func TestATopicIsDeletedOnceAndRemembered(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		c.broker(1)
		old := c.create(ask("orders", 3, "")).GetTopic()
		if _, err := within(c.DeleteTopic, &controllerv1.DeleteTopicRequest{Topic: "orders", TopicId: make([]byte, 16)}); err == nil {
			t.Error("a topic of another identity is deleted")
		} else if e, ok := errors.AsType[*reconcile.UnknownTopicError](err); !ok || !e.Another {
			t.Errorf("another identity: %v", err)
		}
		r := &controllerv1.DeleteTopicRequest{Topic: "orders", TopicId: old.GetTopicId(), Now: true, RequestId: "request 1"}
		first, err := within(c.DeleteTopic, r)
		if err != nil {
			t.Fatal(err)
		}
		c.img.Read(func(v *image.View) {
			d := v.Deletions[store.TopicID(old.GetTopicId())]
			if d.GetTopic() != "orders" || d.GetRevision() != first.GetRevision() || !d.GetNow() || d.GetClusterGeneration() != 1 {
				t.Errorf("the deletion is remembered as %v", d)
			}
			if v.Partitions != 0 || len(v.Topics)+len(v.Names) != 0 {
				t.Errorf("something is left of the topic: %d partitions, %v", v.Partitions, v.Names)
			}
		})
		// The name may be taken again; the deletion repeated is not of that one.
		anew := c.create(ask("orders", 1, "")).GetTopic()
		if string(anew.GetTopicId()) == string(old.GetTopicId()) {
			t.Error("a topic has the identity of a deleted one")
		}
		if again, err := within(c.DeleteTopic, r); err != nil || !proto.Equal(first, again) {
			t.Errorf("the request repeated: %v, %v; at first %v", again, err, first)
		}
		if c.partition("orders", 0) == nil {
			t.Error("a deletion repeated deletes the next topic of that name")
		}
		if _, err := within(c.DeleteTopic, &controllerv1.DeleteTopicRequest{Topic: "unheard-of"}); !is[*reconcile.UnknownTopicError](err) {
			t.Errorf("a topic that is none: %v", err)
		}
	})
}

func TestSettingsChangeIfTheTopicIsAsItWasSeen(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		c.broker(1)
		made := c.create(ask("orders", 2, ""))
		c.create(ask("others", 1, "")) // a revision of the metadata that is not of this topic
		r := &controllerv1.UpdateTopicConfigRequest{
			Topic: "orders", Set: map[string]string{"durability": "memory"}, ExpectedRevision: new(made.GetRevision()), RequestId: "request 1",
		}
		check := proto.CloneOf(r)
		check.ValidateOnly = true
		if resp, err := within(c.UpdateTopicConfig, check); err != nil || resp.GetTopic().GetConfig()["durability"] != "memory" || !c.partition("orders", 0).GetDisk() || resp.GetRevision() != made.GetRevision() {
			t.Errorf("a check alone: %v, %v", resp, err)
		}
		first, err := within(c.UpdateTopicConfig, r)
		if err != nil || first.GetRevision() <= made.GetRevision() {
			t.Fatalf("%v, %v", first, err)
		}
		for n := range 2 {
			if p := c.partition("orders", n); p.GetDisk() || p.GetLeaderEpoch() != 1 {
				t.Errorf("partition %d is %v", n, p)
			}
		}
		// The same request again is no conflict, though the topic has changed.
		if again, err := within(c.UpdateTopicConfig, r); err != nil || !proto.Equal(first, again) {
			t.Errorf("the request repeated: %v, %v; at first %v", again, err, first)
		}
		r.RequestId = "request 2"
		_, err = within(c.UpdateTopicConfig, r)
		if e, ok := errors.AsType[*reconcile.ConflictError](err); !ok || e.Current != first.GetRevision() || e.Expected != made.GetRevision() {
			t.Errorf("a change for a revision of the past: %v", err)
		}
		// What changes nothing makes no revision.
		same, err := within(c.UpdateTopicConfig, &controllerv1.UpdateTopicConfigRequest{Topic: "orders", Set: map[string]string{"durability": "memory"}})
		if err != nil || same.GetRevision() != first.GetRevision() {
			t.Errorf("a change to what is: %v, %v", same, err)
		}
		back, err := within(c.UpdateTopicConfig, &controllerv1.UpdateTopicConfigRequest{Topic: "orders", Reset_: []string{"durability"}})
		if err != nil || len(back.GetTopic().GetConfig()) != 0 || !c.partition("orders", 1).GetDisk() {
			t.Errorf("back to the default: %v, %v", back, err)
		}
		if _, err := within(c.UpdateTopicConfig, &controllerv1.UpdateTopicConfigRequest{Topic: "orders", Set: map[string]string{"colour": "red"}}); !is[*topicconfig.UnknownError](err) {
			t.Errorf("a setting that is none: %v", err)
		}
		if _, err := within(c.UpdateTopicConfig, &controllerv1.UpdateTopicConfigRequest{Topic: "unheard-of"}); !is[*reconcile.UnknownTopicError](err) {
			t.Errorf("a topic that is none: %v", err)
		}
	})
}

func TestWhatCannotBeCreatedLeavesNothing(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv, func(o *reconcile.Options) { o.MaxPartitions = 10 })
		if _, err := within(c.CreateTopic, ask("early", 1, "")); !is[*placement.NotEnoughBrokersError](err) {
			t.Errorf("without a broker: %v", err)
		}
		c.broker(1)
		c.create(ask("there", 8, ""))
		before := len(kv.Entries())
		if _, err := within(c.CreateTopic, ask("much", 3, "")); !is[*reconcile.LimitError](err) {
			t.Errorf("one partition too many: %v", err)
		}
		wide := ask("wide", 1, "")
		wide.ReplicationFactor = 2
		if _, err := within(c.CreateTopic, wide); !is[*placement.NotEnoughBrokersError](err) {
			t.Errorf("more replicas than brokers: %v", err)
		}
		check := ask("checked", 2, "request 1")
		check.ValidateOnly = true
		if resp, err := within(c.CreateTopic, check); err != nil || resp.GetTopic().GetPartitionCount() != 2 || resp.GetTopic().GetReplicationFactor() != 1 {
			t.Errorf("a check alone: %v, %v", resp, err)
		}
		if after := len(kv.Entries()); after != before {
			t.Errorf("%d keys, not %d", after, before)
		}
		kv.Inject(func(int) controllertest.Fault { return controllertest.Full })
		if _, err := within(c.CreateTopic, ask("last", 2, "")); !errors.Is(err, store.ErrFull) {
			t.Errorf("in a full store: %v", err)
		}
		kv.Inject(nil)
		c.create(ask("last", 2, "")) // a full store is no reason to stand down
	})
}

// Nobody has to say how many replicas: three, of which two have to be in sync,
// or as many as there are brokers.
func TestATopicHasAsManyReplicasAsThereAreBrokersForAtMostThree(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv, func(o *reconcile.Options) { o.ReplicationFactor = 0 })
		var bs []*controllertest.Broker
		made := func(name string, factor, least int) {
			t.Helper()
			first := c.create(ask(name, 1, name))
			p := c.partition(name, 0)
			if first.GetTopic().GetReplicationFactor() != uint32(factor) || len(p.GetReplicas()) != factor || min(int(p.GetMinInsyncReplicas()), factor) != least {
				t.Errorf("with %d brokers the topic is %v and its partition %v", len(bs), first.GetTopic(), p)
			}
		}
		for n, want := range []struct{ factor, least int }{{1, 1}, {2, 2}, {3, 2}, {3, 2}} {
			bs = append(bs, c.broker(int32(n+1)))
			made(fmt.Sprintf("with%d", n+1), want.factor, want.least)
		}
		// The request is the same, though it would give more by now.
		if again := c.create(ask("with1", 1, "with1")); again.GetTopic().GetReplicationFactor() != 1 {
			t.Errorf("repeated: %v", again)
		}
		other := ask("with1", 1, "with1")
		other.ReplicationFactor = 1
		if _, err := within(c.CreateTopic, other); !is[*reconcile.TopicExistsError](err) {
			t.Errorf("another request under its id: %v", err)
		}
		// Drained brokers are on their way out; those that are down come back.
		if _, err := within(c.DrainBroker, &controllerv1.DrainBrokerRequest{BrokerId: 3}); err != nil {
			t.Fatal(err)
		}
		made("one drained", 3, 2)
		beat(t, bs[0], func(r *controllerv1.HeartbeatRequest) { r.FailedDirectoryIds = [][]byte{bs[0].Directory} })
		var few *placement.NotEnoughBrokersError
		if _, err := within(c.CreateTopic, ask("one down", 1, "")); !errors.As(err, &few) || few.Wanted != 3 || few.Available != 2 {
			t.Errorf("with a broker down: %v", err)
		}
	})
}

// Whichever transaction of a creation fails, and however: the request
// repeated ends with the one topic, whole.
func TestACreationSurvivesEveryFault(t *testing.T) {
	const partitions = 300 // several transactions
	for _, fault := range []controllertest.Fault{controllertest.Lost, controllertest.Unheard} {
		for at := 0; ; at++ {
			hit := false
			t.Run(fmt.Sprintf("fault %d of transaction %d", fault, at), func(t *testing.T) {
				story(t, func(t *testing.T, kv *controllertest.MemStore) {
					c := active(t, kv)
					c.broker(1)
					kv.Inject(func(txn int) controllertest.Fault {
						if txn != at {
							return controllertest.None
						}
						hit = true
						return fault
					})
					r := ask("orders", partitions, "request 1")
					resp, err := within(c.CreateTopic, r)
					switch {
					case hit && !errors.Is(err, store.ErrUnknownOutcome):
						t.Fatalf("a transaction without an outcome is answered by %v, %v", resp, err)
					case hit:
						resp = c.create(r)
					case err != nil:
						t.Fatal(err)
					}
					c.img.Read(func(v *image.View) {
						if len(v.Topics) != 1 || len(v.Intents) != 0 || len(v.Names) != 1 || v.Partitions != partitions {
							t.Errorf("%d topics, %d intents, %d names, %d partitions", len(v.Topics), len(v.Intents), len(v.Names), v.Partitions)
						}
						if v.Topics[store.TopicID(resp.GetTopic().GetTopicId())] == nil {
							t.Error("the answer is of another topic")
						}
					})
					for n := range partitions {
						if p := c.partition("orders", n); p.GetLeader() != 1 {
							t.Fatalf("partition %d is %v", n, p)
						}
					}
				})
			})
			if !hit {
				if at < 3 {
					t.Errorf("only %d transactions were tried", at)
				}
				break
			}
		}
	}
}

// A topic that a full store stopped half-way is finished by itself.
func TestATopicIsFinishedWhenItCanBe(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		c := active(t, kv)
		b := c.broker(1)
		kv.Inject(func(txn int) controllertest.Fault {
			if txn > 0 { // there is room for the intent and nothing else
				return controllertest.Full
			}
			return controllertest.None
		})
		r := ask("orders", 2, "request 1")
		for range 2 {
			if _, err := within(c.CreateTopic, r); !is[*reconcile.UnfinishedError](err) {
				t.Fatal(err)
			}
		}
		if c.partition("orders", 0) != nil {
			t.Error("half a topic is seen")
		}
		kv.Inject(nil)
		pass(session / 4)
		if p := c.partition("orders", 1); p.GetLeader() != 1 {
			t.Errorf("partition 1 is %v", p)
		}
		if _, err := b.Beat(t.Context()); err != nil {
			t.Error(err)
		}
		c.create(r)
	})
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// What can wait is refused while there is no room; what makes room is not.
func TestWithoutRoomNothingNewIsTaken(t *testing.T) {
	story(t, func(t *testing.T, kv *controllertest.MemStore) {
		var room atomic.Pointer[error]
		c := active(t, kv, func(o *reconcile.Options) {
			o.Room = func() error {
				if err := room.Load(); err != nil {
					return *err
				}
				return nil
			}
		})
		c.broker(1)
		c.create(ask("there", 2, "request 1"))
		before := len(kv.Entries())
		room.Store(&store.ErrDiskFull)
		if _, err := within(c.CreateTopic, ask("new", 2, "")); !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("a topic is created: %v", err)
		}
		set := &controllerv1.UpdateTopicConfigRequest{Topic: "there", Set: map[string]string{"durability": "memory"}}
		if _, err := within(c.UpdateTopicConfig, set); !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("settings are changed: %v", err)
		}
		if after := len(kv.Entries()); after != before {
			t.Errorf("%d keys, not %d", after, before)
		}
		c.create(ask("there", 2, "request 1")) // answered before it ran out
		if _, err := within(c.DeleteTopic, &controllerv1.DeleteTopicRequest{Topic: "there"}); err != nil {
			t.Errorf("a topic cannot be deleted: %v", err)
		}
	})
}
