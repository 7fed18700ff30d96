package metadata

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watched is a controller whose watches a test feeds.
type watched struct {
	controllerv1.ControllerServiceClient
	asked  chan *controllerv1.WatchMetadataRequest
	frames chan *controllerv1.WatchMetadataResponse // nil: the watch fails
}

func newWatched() *watched {
	return &watched{asked: make(chan *controllerv1.WatchMetadataRequest), frames: make(chan *controllerv1.WatchMetadataResponse)}
}

type frames struct {
	grpc.ClientStream
	ctx  context.Context
	from *watched
}

func (w *watched) WatchMetadata(ctx context.Context, r *controllerv1.WatchMetadataRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[controllerv1.WatchMetadataResponse], error) {
	select {
	case w.asked <- r:
		return &frames{ctx: ctx, from: w}, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (f *frames) Recv() (*controllerv1.WatchMetadataResponse, error) {
	select {
	case m := <-f.from.frames:
		if m == nil {
			return nil, errors.New("the connection is gone")
		}
		return m, nil
	case <-f.ctx.Done():
		return nil, f.ctx.Err()
	}
}

// following runs a mirror of so many controllers in a bubble.
func following(t *testing.T, n int, f func(t *testing.T, m *Mirror, cs []*watched)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var cs []*watched
		o := Options{BrokerID: 7}
		for range n {
			cs = append(cs, newWatched())
			o.Controllers = append(o.Controllers, cs[len(cs)-1])
		}
		m := New(o)
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		f(t, m, cs)
		cancel(enough)
		if err := <-ended; !errors.Is(err, enough) {
			t.Errorf("Run = %v", err)
		}
	})
}

func (w *watched) next(t *testing.T) *controllerv1.WatchMetadataRequest {
	t.Helper()
	select {
	case r := <-w.asked:
		return r
	case <-time.After(time.Minute):
		t.Fatal("nobody watches")
		return nil
	}
}

func TestAWatchResumesAtTheNextController(t *testing.T) {
	following(t, 2, func(t *testing.T, m *Mirror, cs []*watched) {
		if r := cs[0].next(t); r.GetRevision() != 0 || r.GetBrokerId() != 7 {
			t.Errorf("the first watch is %v", r)
		}
		if _, ok := m.Confirmed(); ok {
			t.Error("confirmed by nobody")
		}
		cs[0].frames <- snapshotOf(5, topicChange(1, "a", 1, 3), partitionChange(1, 0, 7, 1, 3))
		synctest.Wait()
		if age, ok := m.Confirmed(); !ok || age != 0 || m.Current().Revision != 5 {
			t.Errorf("revision %d, confirmed %v ago: %v", m.Current().Revision, age, ok)
		}
		// Half of the next revision has come when the controller goes.
		cs[0].frames <- delta(0, partitionChange(1, 0, 8, 2, 6))
		cs[0].frames <- nil
		if r := cs[1].next(t); r.GetRevision() != 5 || r.GetClusterGeneration() != 1 {
			t.Errorf("the watch goes on with %v", r)
		}
		cs[1].frames <- delta(6, partitionChange(1, 0, 9, 3, 6))
		synctest.Wait()
		if p := m.Current().TopicByName("a").Partition(0); p.Leader != 9 {
			t.Errorf("the partition is %+v", p)
		}
	})
}

func TestASilentControllerIsLeft(t *testing.T) {
	following(t, 2, func(t *testing.T, m *Mirror, cs []*watched) {
		cs[0].next(t)
		cs[0].frames <- snapshotOf(5)
		for range 5 { // confirmations keep a watch alive
			<-time.After(2 * time.Second)
			cs[0].frames <- delta(5)
		}
		synctest.Wait()
		start := time.Now()
		if r := cs[1].next(t); r.GetRevision() != 5 {
			t.Errorf("the watch goes on with %v", r)
		}
		if waited := time.Since(start); waited < 3*time.Second || waited > 4*time.Second {
			t.Errorf("a controller may be silent for %v", waited)
		}
		if age, _ := m.Confirmed(); age < 3*time.Second {
			t.Errorf("confirmed %v ago", age)
		}
	})
}

func TestWhatCannotBeAppliedIsAskedForInFull(t *testing.T) {
	following(t, 1, func(t *testing.T, m *Mirror, cs []*watched) {
		cs[0].next(t)
		cs[0].frames <- snapshotOf(5, topicChange(1, "a", 1, 3), partitionChange(1, 0, 7, 1, 3))
		cs[0].frames <- delta(6, partitionChange(2, 0, 7, 1, 6)) // of a topic that nobody knows
		if r := cs[0].next(t); r.GetRevision() != 0 {
			t.Errorf("the watch goes on with %v", r)
		}
		if s := m.Current(); s.Revision != 5 || s.TopicByName("a") == nil {
			t.Error("the snapshot is not kept meanwhile")
		}
		cs[0].frames <- snapshotOf(6, topicChange(2, "b", 1, 6), partitionChange(2, 0, 7, 1, 6))
		s, err := m.WaitFor(t.Context(), func(s *Snapshot) bool { return s.TopicByName("b") != nil })
		if err != nil || s.TopicByName("a") != nil {
			t.Errorf("%v, %v", s.Topics(), err)
		}
	})
}

// With every controller away, a broker tries again and again, but not often.
func TestRetriesSlowDown(t *testing.T) {
	following(t, 1, func(t *testing.T, _ *Mirror, cs []*watched) {
		start := time.Now()
		for range 20 {
			cs[0].next(t)
			cs[0].frames <- nil
		}
		if took := time.Since(start); took < 12*time.Second || took > 20*time.Second {
			t.Errorf("20 tries took %v", took)
		}
	})
}

// Where the controllers are is told by whichever is watched.
func TestWhereTheControllersAreIsTold(t *testing.T) {
	var found [][]string
	following(t, 1, func(t *testing.T, m *Mirror, cs []*watched) {
		m.opts.Found = func(a []string) { found = append(found, a) }
		<-cs[0].asked
		cs[0].frames <- &controllerv1.WatchMetadataResponse{SnapshotBegin: true, SnapshotEnd: true, Revision: 1, ClusterGeneration: 1, Controllers: []string{"a:1"}}
		cs[0].frames <- &controllerv1.WatchMetadataResponse{Revision: 1, ClusterGeneration: 1}
		cs[0].frames <- &controllerv1.WatchMetadataResponse{Revision: 1, ClusterGeneration: 1, Controllers: []string{"a:1", "b:1"}}
		synctest.Wait()
	})
	if len(found) != 2 || len(found[0]) != 1 || len(found[1]) != 2 {
		t.Errorf("found are %v", found)
	}
}
