package api_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"

	"github.com/millstream-io/millstream/controller/api"
	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// mute is a store that can lose its quorum: nothing can be read of it then.
type mute struct {
	*controllertest.MemStore
	lost atomic.Bool
}

func (m *mute) Range(ctx context.Context, r store.Range) (store.Page, error) {
	if m.lost.Load() {
		return store.Page{}, errors.New("no quorum")
	}
	return m.MemStore.Range(ctx, r)
}

// watcher receives what a watch tells.
type watcher struct {
	grpc.ServerStreamingServer[controllerv1.WatchMetadataResponse]
	ctx context.Context

	mu   sync.Mutex // guards sent
	sent []*controllerv1.WatchMetadataResponse
}

func (w *watcher) frames() []*controllerv1.WatchMetadataResponse {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent)
}

func (w *watcher) Context() context.Context { return w.ctx }

func (w *watcher) Send(f *controllerv1.WatchMetadataResponse) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, f)
	return nil
}

// told runs f in a bubble with a service on a store in memory.
func told(t *testing.T, f func(t *testing.T, s *api.Service, kv *mute, w *store.Writer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		kv := &mute{MemStore: controllertest.NewMemStore()}
		w, err := store.Campaign(t.Context(), kv, 3, 1)
		if err != nil {
			t.Fatal(err)
		}
		img := image.New(kv, controllertest.Logger(t))
		go func() { _ = img.Run(t.Context()) }() // it ends with the test
		f(t, api.New(api.Options{
			Image: img, KV: kv, Logger: controllertest.Logger(t), Serving: func() []string { return []string{"c0:9653", "c1:9653"} },
		}), kv, w)
	})
}

// Brokers are told where the controllers are, whether something changes or not,
// and by nobody who has no quorum.
func TestAWatchTellsWhereTheControllersAre(t *testing.T) {
	told(t, func(t *testing.T, s *api.Service, kv *mute, w *store.Writer) {
		if _, err := w.Commit(t.Context(), new(store.Edit).Put(store.ClusterKey, &controllerv1.ClusterRecord{ClusterId: []byte("c")})); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		to := &watcher{ctx: ctx}
		ended := make(chan error, 1)
		go func() { ended <- s.WatchMetadata(&controllerv1.WatchMetadataRequest{}, to) }()
		defer func() {
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the watch ends with %v", err)
			}
		}()
		count := func() (n int) {
			synctest.Wait()
			for _, f := range to.frames() {
				switch got := f.GetControllers(); {
				case slices.Equal(got, []string{"c0:9653", "c1:9653"}):
					n++
				case len(got) > 0:
					t.Errorf("told of %v", got)
				}
			}
			return n
		}
		if n := count(); n != 1 {
			t.Errorf("told %d times at once", n)
		}
		<-time.After(10 * api.DefaultConfirmInterval)
		quiet := count()
		if quiet < 10 || quiet > 12 {
			t.Errorf("told %d times in ten seconds in which nothing changed", quiet)
		}
		for i := range 1000 { // a hundred times a second
			if _, err := w.Commit(t.Context(), new(store.Edit).Put(store.BrokerKey(int32(i)), &controllerv1.BrokerRecord{BrokerId: int32(i)})); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Millisecond)
		}
		if n := count() - quiet; n < 8 || n > 22 {
			t.Errorf("told %d times in ten seconds in which something changed all the time", n)
		}
		kv.lost.Store(true)
		before := count()
		<-time.After(10 * api.DefaultConfirmInterval)
		if n := count() - before; n > 1 {
			t.Errorf("told %d times without a quorum", n)
		}
	})
}

func commit(t *testing.T, w *store.Writer, e *store.Edit) int64 {
	t.Helper()
	rev, err := w.Commit(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func cluster(t *testing.T, w *store.Writer) int64 {
	t.Helper()
	return commit(t, w, new(store.Edit).Put(store.ClusterKey, &controllerv1.ClusterRecord{ClusterId: make([]byte, 16), Generation: 1}))
}

// watching runs a watch until the bubble has nothing more to do, and stop.
func watching(t *testing.T, s *api.Service, r *controllerv1.WatchMetadataRequest) (*watcher, func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{ctx: ctx}
	ended := make(chan error, 1)
	go func() { ended <- s.WatchMetadata(r, w) }()
	synctest.Wait()
	return w, func() error {
		cancel()
		return <-ended
	}
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestAWatchWaitsForTheCluster(t *testing.T) {
	told(t, func(t *testing.T, s *api.Service, _ *mute, w *store.Writer) {
		got, stop := watching(t, s, &controllerv1.WatchMetadataRequest{})
		pass(time.Minute)
		if len(got.frames()) != 0 || s.Watchers() != 1 {
			t.Errorf("%d frames, %d watchers", len(got.frames()), s.Watchers())
		}
		rev := cluster(t, w)
		synctest.Wait()
		frames := got.frames()
		if len(frames) != 1 {
			t.Fatalf("told %v", frames)
		}
		if f := frames[0]; f.GetRevision() != rev || !f.GetSnapshotBegin() || !f.GetSnapshotEnd() || f.GetActiveControllerId() != 3 {
			t.Errorf("told %v", f)
		}
		if err := stop(); !errors.Is(err, context.Canceled) || s.Watchers() != 0 {
			t.Errorf("%v, %d watchers", err, s.Watchers())
		}
	})
}

func TestALargeSnapshotComesInFrames(t *testing.T) {
	const topics = 300
	told(t, func(t *testing.T, s *api.Service, _ *mute, w *store.Writer) {
		last := cluster(t, w)
		for n := range topics {
			id := store.TopicID{1, byte(n >> 8), byte(n)}
			last = commit(t, w, new(store.Edit).
				Put(store.TopicKey(id), &controllerv1.TopicRecord{TopicId: id[:], Topic: strings.Repeat("x", 20_000), PartitionCount: 1}).
				Put(store.PartitionKey(id, 0), &controllerv1.PartitionRecord{TopicId: id[:]}))
		}
		synctest.Wait()
		got, stop := watching(t, s, &controllerv1.WatchMetadataRequest{})
		defer func() { _ = stop() }()
		changes, frames := 0, got.frames()
		for n, f := range frames {
			first, final := n == 0, n == len(frames)-1
			if f.GetSnapshotBegin() != first || f.GetSnapshotEnd() != final || (f.GetRevision() == last) != final || (f.GetRevision() == 0) == final {
				t.Errorf("frame %d of %d: begins %v, ends %v, revision %d", n, len(frames), f.GetSnapshotBegin(), f.GetSnapshotEnd(), f.GetRevision())
			}
			if size := proto.Size(f); size > 2<<20 {
				t.Errorf("frame %d has %d bytes", n, size)
			}
			changes += len(f.GetChanges())
		}
		if len(frames) < 5 || changes != 2*topics+1 {
			t.Errorf("%d frames with %d changes", len(frames), changes)
		}
	})
}

// A controller cut off from the others must not say that what it knows is the
// newest.
func TestOnlyAQuorumConfirms(t *testing.T) {
	told(t, func(t *testing.T, s *api.Service, kv *mute, w *store.Writer) {
		rev := cluster(t, w)
		synctest.Wait()
		got, stop := watching(t, s, &controllerv1.WatchMetadataRequest{Revision: rev, ClusterGeneration: 1})
		defer func() { _ = stop() }()
		before := len(got.frames())
		pass(3*api.DefaultConfirmInterval + api.DefaultConfirmInterval/2)
		confirmations := got.frames()[before:]
		if len(confirmations) != 3 {
			t.Errorf("%d confirmations: %v", len(confirmations), confirmations)
		}
		for _, f := range confirmations {
			if f.GetRevision() != rev || len(f.GetChanges()) != 0 || f.GetSnapshotBegin() {
				t.Errorf("confirmed by %v", f)
			}
		}
		kv.lost.Store(true)
		before = len(got.frames())
		pass(10 * api.DefaultConfirmInterval)
		if n := len(got.frames()) - before; n != 0 {
			t.Errorf("%d confirmations without a quorum", n)
		}
		kv.lost.Store(false)
		pass(2 * api.DefaultConfirmInterval)
		if len(got.frames()) == before {
			t.Error("no confirmation with a quorum again")
		}
	})
}

func TestADrainedServiceEndsItsWatches(t *testing.T) {
	told(t, func(t *testing.T, s *api.Service, _ *mute, w *store.Writer) {
		before, stopBefore := watching(t, s, &controllerv1.WatchMetadataRequest{})
		cluster(t, w)
		_, stopAfter := watching(t, s, &controllerv1.WatchMetadataRequest{})
		s.Drain()
		s.Drain()
		synctest.Wait()
		for _, stop := range []func() error{stopBefore, stopAfter} {
			if err := stop(); !refusal(err, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN) {
				t.Errorf("a watch ends with %v", err)
			}
		}
		if _, stop := watching(t, s, &controllerv1.WatchMetadataRequest{}); !refusal(stop(), pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN) {
			t.Error("a watch begins at a controller that stops")
		}
		if len(before.frames()) == 0 {
			t.Error("a watch was not told of the cluster")
		}
	})
}

func TestThereAreOnlySoManyWatches(t *testing.T) {
	told(t, func(t *testing.T, s *api.Service, _ *mute, w *store.Writer) {
		cluster(t, w)
		open := 0
		for ; open < 10_000; open++ {
			_, stop := watching(t, s, &controllerv1.WatchMetadataRequest{})
			if s.Watchers() == int64(open) {
				if err := stop(); !refusal(err, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED) {
					t.Errorf("one too many ends with %v", err)
				}
				break
			}
		}
		if open != 2_000 || s.Watchers() != 2_000 {
			t.Errorf("%d watches are open, %d are counted", open, s.Watchers())
		}
	})
}

// refusal reports whether an error is told with that reason.
func refusal(err error, reason pb.ErrorReason) bool {
	f := api.FaultOf(err)
	return f != nil && f.Reason == reason
}

// Brokers are told what all comes to, of exactly what they were told, once a
// minute.
func TestAWatchTellsWhatAllComesTo(t *testing.T) {
	told(t, func(t *testing.T, s *api.Service, _ *mute, w *store.Writer) {
		cluster(t, w)
		synctest.Wait()
		got, stop := watching(t, s, &controllerv1.WatchMetadataRequest{})
		defer func() { _ = stop() }()
		id := store.TopicID{1}
		commit(t, w, new(store.Edit).Put(store.BrokerKey(1), &controllerv1.BrokerRecord{BrokerId: 1, InternalAddress: "b1:9652"}))
		commit(t, w, new(store.Edit).Put(store.BrokerKey(2), &controllerv1.BrokerRecord{BrokerId: 2, Fenced: true}))
		commit(t, w, new(store.Edit).
			Put(store.TopicKey(id), &controllerv1.TopicRecord{TopicId: id[:], Topic: "orders", PartitionCount: 2}).
			Put(store.PartitionKey(id, 0), &controllerv1.PartitionRecord{TopicId: id[:], Leader: 1, LeaderEpoch: 3, Replicas: []int32{1, 2}, InSyncReplicas: []int32{1}}).
			Put(store.PartitionKey(id, 1), &controllerv1.PartitionRecord{TopicId: id[:], Partition: 1, Replicas: []int32{2}, EligibleLeaderReplicas: []int32{2}}))
		pass(5 * time.Minute)
		commit(t, w, new(store.Edit).Delete(store.BrokerKey(2)))
		pass(5 * time.Minute)
		mirror := metadata.New(metadata.Options{Controllers: []controllerv1.ControllerServiceClient{nil}})
		compared := 0
		for _, f := range got.frames() {
			if err := mirror.Apply(f); err != nil {
				t.Fatal(err)
			}
			if f.GetHash() != nil {
				compared++
			}
		}
		if compared < 9 || compared > 11 || mirror.Differed() != 0 {
			t.Errorf("compared %d times, differed %d times", compared, mirror.Differed())
		}
	})
}
