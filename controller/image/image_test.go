package image_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait: what a test waits for takes milliseconds.
const patience = 20 * time.Second

// follower runs an image until stop.
type follower struct {
	*image.Image
	stop func()
}

// see waits until the follower has seen a revision.
func (f *follower) see(t rapid.TB, rev int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Wait(ctx, rev); err != nil {
		t.Fatal(err)
	}
}

// follow starts a follower. What is written after it has seen a revision, it
// is told of as changes; what was before, it may load.
func follow(kv store.KV) *follower {
	img := image.New(kv, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = img.Run(ctx) // it ends with ctx
	}()
	return &follower{Image: img, stop: func() { cancel(); <-ended }}
}

// world writes what controllers write.
type world struct {
	t   rapid.TB
	kv  *controllertest.MemStore
	w   *store.Writer
	rev map[store.Key]int64 // of topics and names
}

func newWorld(t rapid.TB) *world {
	kv := controllertest.NewMemStore()
	w, err := store.Campaign(context.Background(), kv, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, kv: kv, w: w, rev: map[store.Key]int64{}}
}

func (w *world) commit(e *store.Edit) int64 {
	w.t.Helper()
	rev, err := w.w.Commit(context.Background(), e)
	if err != nil {
		w.t.Fatal(err)
	}
	return rev
}

func topicID(n int) store.TopicID { return store.TopicID{0: 0xaa, 15: byte(n)} }

func (w *world) intent(n, partitions int) int64 {
	id := topicID(n)
	return w.commit(new(store.Edit).
		Put(store.NameKey(fmt.Sprint("t", n)), &controllerv1.TopicRecord{TopicId: id[:]}).
		Put(store.IntentKey(id), &controllerv1.TopicRecord{TopicId: id[:], Topic: fmt.Sprint("t", n), PartitionCount: uint32(partitions)}))
}

func (w *world) partition(n, p int, epoch int32) int64 {
	id := topicID(n)
	return w.commit(new(store.Edit).Put(store.PartitionKey(id, uint32(p)),
		&controllerv1.PartitionRecord{TopicId: id[:], Partition: uint32(p), LeaderEpoch: epoch}))
}

func (w *world) finish(n, partitions int) int64 {
	id := topicID(n)
	return w.commit(new(store.Edit).
		Put(store.TopicKey(id), &controllerv1.TopicRecord{TopicId: id[:], Topic: fmt.Sprint("t", n), PartitionCount: uint32(partitions)}).
		Delete(store.IntentKey(id)))
}

func (w *world) create(n, partitions int) int64 {
	w.intent(n, partitions)
	for p := range partitions {
		w.partition(n, p, 1)
	}
	return w.finish(n, partitions)
}

func (w *world) remove(n int) int64 {
	id := topicID(n)
	return w.commit(new(store.Edit).Delete(store.TopicKey(id)).Delete(store.NameKey(fmt.Sprint("t", n))).DeletePartitions(id).
		Put(store.DeletionKey(id), &controllerv1.DeletionRecord{TopicId: id[:]}))
}

// told is what a broker makes of what it is told: the slow, obvious way.
type told struct {
	state      map[string]string
	revision   int64
	generation uint32
	snapshots  int
}

func (b *told) take(c image.Changes) {
	if c.Snapshot {
		b.state = map[string]string{}
		b.snapshots++
	}
	for _, m := range c.List {
		switch c := m.GetChange().(type) {
		case *controllerv1.MetadataChange_Topic:
			b.state[fmt.Sprintf("topic %x", c.Topic.GetTopicId())] = line(m)
		case *controllerv1.MetadataChange_Partition:
			b.state[fmt.Sprintf("topic %x %05d", c.Partition.GetTopicId(), c.Partition.GetPartition())] = line(m)
		case *controllerv1.MetadataChange_Deletion:
			topic := fmt.Sprintf("topic %x", c.Deletion.GetTopicId())
			maps.DeleteFunc(b.state, func(k, _ string) bool { return strings.HasPrefix(k, topic) })
			b.state[fmt.Sprintf("deletion %x", c.Deletion.GetTopicId())] = line(m)
		case *controllerv1.MetadataChange_ForgottenDeletion:
			delete(b.state, fmt.Sprintf("deletion %x", c.ForgottenDeletion))
		case *controllerv1.MetadataChange_Broker:
			b.state[fmt.Sprintf("broker %d", c.Broker.GetBrokerId())] = line(m)
		case *controllerv1.MetadataChange_RemovedBrokerId:
			delete(b.state, fmt.Sprintf("broker %d", c.RemovedBrokerId))
		case *controllerv1.MetadataChange_Cluster:
			b.state["cluster"] = line(m)
		}
	}
	b.revision, b.generation = c.Revision, c.Generation
}

func line(m *controllerv1.MetadataChange) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return fmt.Sprintf("%x %v", b, err)
}

func TestATopicIsToldOfWholeOrNotAtAll(t *testing.T) {
	w := newWorld(t)
	f := follow(w.kv)
	defer f.stop()
	see := func(rev int64) []*controllerv1.MetadataChange {
		t.Helper()
		f.see(t, rev)
		return f.After(rev-1, 0).List
	}
	if got := see(w.intent(1, 2)); len(got) != 0 {
		t.Errorf("an intent is told of: %v", got)
	}
	if got := see(w.partition(1, 1, 1)); len(got) != 0 {
		t.Errorf("a partition of an intent is told of: %v", got)
	}
	w.partition(1, 0, 1)
	got := see(w.finish(1, 2))
	if len(got) != 3 || got[0].GetTopic() == nil || got[1].GetPartition().GetPartition() != 0 || got[2].GetPartition().GetPartition() != 1 {
		t.Errorf("the topic is told of as %v", got)
	}
	if got := see(w.partition(1, 1, 2)); len(got) != 1 || got[0].GetPartition().GetLeaderEpoch() != 2 {
		t.Errorf("a change of a partition is told of as %v", got)
	}
	rev := w.remove(1)
	if got := see(rev); len(got) != 1 || got[0].GetDeletion() == nil || got[0].GetRevision() != rev {
		t.Errorf("the deletion is told of as %v", got)
	}
	f.Read(func(v *image.View) {
		if len(v.Topics)+len(v.Intents)+len(v.Names)+v.Partitions != 0 {
			t.Errorf("something is left: %+v", v)
		}
	})
}

// Whatever happens, a broker that follows, one that comes back after a while,
// one that begins now, and a controller that begins now, know the same.
func TestFollowersAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		f := follow(w.kv)
		defer f.stop()
		always, sometimes := &told{}, &told{}
		topics := map[int]int{}
		last, next := int64(0), 1
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0, 1:
				topics[next] = rapid.IntRange(1, 4).Draw(t, "partitions")
				last = w.create(next, topics[next])
				next++
			case 2:
				if len(topics) > 0 {
					n := rapid.SampledFrom(slices.Sorted(maps.Keys(topics))).Draw(t, "topic")
					delete(topics, n)
					last = w.remove(n)
				}
			case 3:
				if len(topics) > 0 {
					n := rapid.SampledFrom(slices.Sorted(maps.Keys(topics))).Draw(t, "topic")
					last = w.partition(n, rapid.IntRange(0, topics[n]-1).Draw(t, "p"), rapid.Int32Range(2, 9).Draw(t, "epoch"))
				}
			case 4:
				id := rapid.Int32Range(0, 3).Draw(t, "broker")
				last = w.commit(new(store.Edit).Put(store.BrokerKey(id), &controllerv1.BrokerRecord{BrokerId: id}))
			case 5:
				last = w.commit(new(store.Edit).Delete(store.BrokerKey(rapid.Int32Range(0, 3).Draw(t, "broker"))))
			case 6:
				last = w.commit(new(store.Edit).Delete(store.DeletionKey(topicID(rapid.IntRange(1, next).Draw(t, "n")))))
			case 7:
				if rapid.IntRange(0, 3).Draw(t, "compact") == 0 {
					w.kv.Compact()
				}
			}
			f.see(t, last)
			always.take(f.After(always.revision, always.generation))
			if rapid.Bool().Draw(t, "look") {
				sometimes.take(f.After(sometimes.revision, sometimes.generation))
			}
		}
		sometimes.take(f.After(sometimes.revision, sometimes.generation))
		anew, begun := &told{}, follow(w.kv)
		defer begun.stop()
		begun.see(t, max(last, 1))
		anew.take(begun.After(0, 0))
		for name, b := range map[string]*told{"the one that looks now and then": sometimes, "a new one": anew} {
			if !maps.Equal(b.state, always.state) {
				t.Fatalf("%s knows\n%s\nthe one that follows\n%s", name, dump(b), dump(always))
			}
		}
	})
}

func dump(b *told) string {
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(b.state)) {
		lines = append(lines, k+": "+b.state[k])
	}
	return strings.Join(lines, "\n")
}

func TestAWatchResumesWhatIsRemembered(t *testing.T) {
	w := newWorld(t)
	f := follow(w.kv)
	defer f.stop()
	at := w.create(1, 1)
	f.see(t, at)
	w.partition(1, 0, 2)
	last := w.partition(1, 0, 3)
	f.see(t, last)
	if c := f.After(at, 0); c.Snapshot || len(c.List) != 2 || c.Revision != last || c.Active != 3 {
		t.Errorf("after %d: %+v", at, c)
	}
	if c := f.After(last, 0); c.Snapshot || len(c.List) != 0 {
		t.Errorf("after the last: %+v", c)
	}
	if c := f.After(at, 9); !c.Snapshot {
		t.Error("a revision of another generation is resumed")
	}
	if c := f.After(last+1, 0); !c.Snapshot {
		t.Error("a revision that was never is resumed")
	}
}

func TestHistoryIsBounded(t *testing.T) {
	w := newWorld(t)
	f := follow(w.kv)
	defer f.stop()
	first := w.create(1, 1)
	var last int64
	for i := range int32(60_000) {
		last = w.partition(1, 0, i)
		if i%1000 == 0 {
			f.see(t, last)
			w.kv.Compact() // keeps the store small; what is watched already is not lost
		}
	}
	f.see(t, last)
	if c := f.After(first, 0); !c.Snapshot {
		t.Errorf("%d changes are remembered", len(c.List))
	}
	if c := f.After(last-40_000, 0); c.Snapshot || len(c.List) != 40_000 {
		t.Errorf("the last 40,000 changes are not remembered: %d", len(c.List))
	}
}

func TestTheImageComesBackAfterCompaction(t *testing.T) {
	w := newWorld(t)
	w.create(1, 1)
	stuck := &stuckKV{MemStore: w.kv, open: make(chan struct{})}
	f := follow(stuck)
	defer f.stop()
	f.see(t, 1)
	// The image hangs while the world goes on and forgets.
	w.create(2, 2)
	last := w.remove(1)
	w.kv.Compact()
	close(stuck.open)
	f.see(t, last)
	f.Read(func(v *image.View) {
		if len(v.Topics) != 1 || v.TopicByName("t2") == nil || v.Partitions != 2 {
			t.Errorf("after the compaction: %+v", v)
		}
	})
}

// stuckKV begins its first watch late.
type stuckKV struct {
	*controllertest.MemStore
	open chan struct{}
}

func (s *stuckKV) Watch(ctx context.Context, prefix string, from int64, apply func([]store.Event) error) error {
	select {
	case <-s.open:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return s.MemStore.Watch(ctx, prefix, from, apply)
}

func TestDamageEndsTheImage(t *testing.T) {
	id := topicID(1)
	for name, op := range map[string]store.Op{
		"a key that is none":           {Key: "/millstream/what"},
		"a value that does not decode": {Key: store.ClusterKey.String(), Value: []byte{0xff}},
		"a partition without a topic":  {Key: store.PartitionKey(id, 0).String()},
	} {
		t.Run(name, func(t *testing.T) {
			kv := controllertest.NewMemStore()
			if _, _, err := kv.Txn(t.Context(), store.Txn{Ops: []store.Op{op}}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := image.New(kv, slog.New(slog.DiscardHandler)).Run(ctx)
			if err == nil || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("Run = %v", err)
			}
		})
	}
}

func TestTheImageTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		last := w.create(1, 1)
		f := follow(&failingKV{MemStore: w.kv, until: time.Now().Add(3 * time.Second)})
		defer f.stop()
		f.see(t, last)
	})
}

// failingKV cannot be read for a while.
type failingKV struct {
	*controllertest.MemStore
	until time.Time
}

func (k *failingKV) Range(ctx context.Context, r store.Range) (store.Page, error) {
	if time.Now().Before(k.until) {
		return store.Page{}, errors.New("no leader")
	}
	return k.MemStore.Range(ctx, r)
}

func TestWaitEndsWithItsContext(t *testing.T) {
	img := image.New(controllertest.NewMemStore(), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if err := img.Wait(ctx, 5); !errors.Is(err, cause) {
		t.Errorf("Wait = %v", err)
	}
}

func TestEverythingCanBeAppliedInItsOrder(t *testing.T) {
	w := newWorld(t)
	for n := range 5 {
		w.create(n, 3)
	}
	last := w.remove(2)
	f := follow(w.kv)
	defer f.stop()
	f.see(t, last)
	seen := map[string]bool{}
	all := f.After(0, 0).List
	for _, c := range all {
		if topic := c.GetTopic(); topic != nil {
			seen[string(topic.GetTopicId())] = true
		}
		if p := c.GetPartition(); p != nil && !seen[string(p.GetTopicId())] {
			t.Error("a partition comes before its topic")
		}
		if c.GetRevision() <= 0 {
			t.Errorf("%v has no revision", c)
		}
	}
	if n := len(all); n != 4*(1+3)+1 {
		t.Errorf("a snapshot has %d changes: %v", n, slices.MaxFunc(all, func(a, b *controllerv1.MetadataChange) int { return cmp.Compare(a.GetRevision(), b.GetRevision()) }))
	}
}
