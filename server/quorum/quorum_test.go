package quorum

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// trio is three controllers, of which one is active or none, and who asks them.
type trio struct {
	*Quorum
	t           *testing.T
	controllers []*controller
	conns       []*grpc.ClientConn
	lines       []*rpc.InProcess

	mu     sync.Mutex // guards what follows
	active int32
	// elects is called by each that is asked and is not active.
	elects func()
}

// controller is one of them. Its identity is not its place in the list.
type controller struct {
	controllerv1.UnimplementedControllerServiceServer
	trio   *trio
	id     int32
	server *rpc.Server

	mu      sync.Mutex // guards what follows
	asked   int
	carried []string // topics that were deleted
	// hang, if not nil, is what the controller waits for before it answers.
	hang chan struct{}
	// got is told of each call that hangs.
	got chan struct{}
}

func newTrio(t *testing.T, active int32) *trio {
	t.Helper()
	tr := &trio{t: t, active: active}
	var conns []grpc.ClientConnInterface
	for i := range int32(3) {
		c := &controller{trio: tr, id: 10 + (i+1)%3, got: make(chan struct{}, 16)}
		server, err := rpc.NewServer(rpc.Options{
			Name: "controller", Logger: slog.New(slog.DiscardHandler), StopTimeout: time.Nanosecond,
		})
		if err != nil {
			t.Fatal(err)
		}
		c.server = server
		controllerv1.RegisterControllerServiceServer(server, c)
		l := rpc.ListenInProcess()
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		conn, err := l.Dial(rpc.MemberOptions()...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = conn.Close()
			c.kill()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
		tr.lines = append(tr.lines, l)
		tr.controllers, tr.conns, conns = append(tr.controllers, c), append(tr.conns, conn), append(conns, conn)
	}
	q, err := New(Options{Controllers: conns, Logger: slog.New(slog.DiscardHandler), Patience: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	tr.Quorum = q
	return tr
}

func (tr *trio) elect(id int32) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.active = id
}

func (tr *trio) of(id int32) *controller {
	for _, c := range tr.controllers {
		if c.id == id {
			return c
		}
	}
	tr.t.Fatalf("there is no controller %d", id)
	return nil
}

// kill ends a controller with all that it was doing.
func (c *controller) kill() { c.server.Stop(context.Background()) }

// killSeen kills a controller, and returns when its connection is known to be
// lost: a call that is sent before that may have been carried out, as far as
// anybody can tell, and is not made again.
func (tr *trio) killSeen(id int32) {
	tr.t.Helper()
	for i, c := range tr.controllers {
		if c.id != id {
			continue
		}
		c.kill()
		for tr.conns[i].GetState() == connectivity.Ready {
			if !tr.conns[i].WaitForStateChange(tr.t.Context(), connectivity.Ready) {
				tr.t.Fatalf("the connection to controller %d is still there", id)
			}
		}
	}
}

func (c *controller) DeleteTopic(ctx context.Context, r *controllerv1.DeleteTopicRequest) (*controllerv1.DeleteTopicResponse, error) {
	c.mu.Lock()
	c.asked++
	hang := c.hang
	c.mu.Unlock()
	c.trio.mu.Lock()
	active, elects := c.trio.active, c.trio.elects
	c.trio.mu.Unlock()
	if active != c.id {
		if elects != nil {
			elects()
		}
		return nil, &rpc.Fault{
			Code: codes.Unavailable, Reason: pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE, Message: "not active", Retryable: true,
			Metadata: map[string]string{"activeControllerId": strconv.Itoa(int(active)), "controllerId": strconv.Itoa(int(c.id))},
		}
	}
	c.mu.Lock()
	c.carried = append(c.carried, r.GetTopic())
	c.mu.Unlock()
	if hang != nil {
		c.got <- struct{}{}
		select {
		case <-hang:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if r.GetTopic() == "unknown" {
		return nil, &rpc.Fault{Code: codes.NotFound, Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION, Message: "no such topic"}
	}
	return &controllerv1.DeleteTopicResponse{Revision: int64(c.id)}, nil
}

func (c *controller) WatchMetadata(_ *controllerv1.WatchMetadataRequest, s grpc.ServerStreamingServer[controllerv1.WatchMetadataResponse]) error {
	return s.Send(&controllerv1.WatchMetadataResponse{ActiveControllerId: c.id})
}

func (c *controller) counts() (asked, carried int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked, len(c.carried)
}

// carried is how often any controller carried out a call.
func (tr *trio) carried() int {
	n := 0
	for _, c := range tr.controllers {
		_, carried := c.counts()
		n += carried
	}
	return n
}

// remove asks for a topic to be deleted and returns which controller did it.
func (tr *trio) remove(topic string) (int32, error) {
	resp, err := tr.Client().DeleteTopic(tr.t.Context(), &controllerv1.DeleteTopicRequest{Topic: topic})
	return int32(resp.GetRevision()), err
}

func (tr *trio) mustRemove(want int32) {
	tr.t.Helper()
	if got, err := tr.remove("a"); err != nil || got != want {
		tr.t.Fatalf("controller %d answered, want %d: %v", got, want, err)
	}
}

func TestTheActiveControllerIsFoundAndKept(t *testing.T) {
	for _, active := range []int32{10, 11, 12} {
		tr := newTrio(t, active)
		tr.mustRemove(active)
		before := make([]int, 3)
		for i, c := range tr.controllers {
			before[i], _ = c.counts()
		}
		tr.mustRemove(active)
		for i, c := range tr.controllers {
			if asked, _ := c.counts(); c.id != active && asked != before[i] {
				t.Errorf("controller %d was asked again, and %d is active", c.id, active)
			}
		}
		if tr.carried() != 2 {
			t.Errorf("two calls were carried out %d times", tr.carried())
		}
	}
}

// Once it is known whose addresses they are, what a controller says of another
// is taken at its word.
func TestHintsLeadToTheActiveController(t *testing.T) {
	tr := newTrio(t, 10)
	for _, id := range []int32{11, 12, 10} { // each is seen not to be active
		tr.elect(id)
		tr.mustRemove(id)
	}
	tr.elect(12)
	before, _ := tr.of(11).counts()
	tr.mustRemove(12)
	if asked, _ := tr.of(11).counts(); asked != before {
		t.Error("controller 11 was asked, though 10 has said that it is 12")
	}
}

func TestAKilledControllerCostsTheNextCallNothing(t *testing.T) {
	tr := newTrio(t, 10)
	tr.mustRemove(10)
	tr.killSeen(10)
	tr.elect(11)
	tr.mustRemove(11)
}

// An election is waited for; those that are not active say who was until then.
func TestAnElectionIsWaitedFor(t *testing.T) {
	tr := newTrio(t, 10)
	tr.mustRemove(10)
	tr.killSeen(10)
	asked := 0
	tr.elects = func() { // under no lock of the trio
		tr.mu.Lock()
		defer tr.mu.Unlock()
		if asked++; asked == 10 {
			tr.active = 12
		}
	}
	tr.mustRemove(12)
	if tr.carried() != 2 {
		t.Errorf("two calls were carried out %d times", tr.carried())
	}
}

// A controller that dies with a call in its hands may have carried it out: the
// caller is told, and nobody asks another.
func TestACallThatMayHaveBeenCarriedOutIsNotRepeated(t *testing.T) {
	tr := newTrio(t, 10)
	tr.mustRemove(10)
	dying := tr.of(10)
	dying.hang = make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		_, err := tr.remove("b")
		failed <- err
	}()
	<-dying.got
	tr.elect(11)
	dying.kill()
	if err := <-failed; status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
		t.Errorf("it failed with %v", err)
	}
	if tr.carried() != 2 {
		t.Errorf("two calls were carried out %d times", tr.carried())
	}
	tr.mustRemove(11)
}

// A controller that hangs is not asked again by the next call.
func TestADeadlineMovesOn(t *testing.T) {
	tr := newTrio(t, 10)
	tr.mustRemove(10)
	hanging := tr.of(10)
	hanging.hang = make(chan struct{})
	defer close(hanging.hang)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := tr.Client().DeleteTopic(ctx, &controllerv1.DeleteTopicRequest{Topic: "b"}); status.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("it failed with %v", err)
	}
	before, _ := hanging.counts()
	tr.elect(11)
	tr.mustRemove(11)
	if asked, _ := hanging.counts(); asked != before {
		t.Error("the one that hangs was asked again")
	}
}

func TestWhatTheActiveControllerRefusesIsTheCallers(t *testing.T) {
	tr := newTrio(t, 11)
	_, err := tr.remove("unknown")
	if rpc.RequestErrorOf(err).GetReason() != pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION {
		t.Errorf("it failed with %v", err)
	}
	if tr.carried() != 1 {
		t.Errorf("it was carried out %d times", tr.carried())
	}
}

func TestWithoutAQuorumTheCallerIsToldSo(t *testing.T) {
	tr := newTrio(t, -1)
	tr.o.Patience = 100 * time.Millisecond
	_, err := tr.remove("a")
	if rpc.RequestErrorOf(err).GetReason() != pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE {
		t.Errorf("it failed with %v", err)
	}
}

// When nobody is there at all, there is no election to wait for.
func TestWithoutAnyControllerTheCallFailsAtOnce(t *testing.T) {
	tr := newTrio(t, 10)
	tr.o.Patience = time.Hour
	for _, c := range tr.controllers {
		c.kill()
	}
	if _, err := tr.remove("a"); status.Code(err) != codes.Unavailable {
		t.Errorf("it failed with %v", err)
	}
}

func TestWatchesTakeTurns(t *testing.T) {
	tr := newTrio(t, 10)
	seen := map[int32]bool{}
	for range 3 {
		w, err := tr.Client().WatchMetadata(t.Context(), &controllerv1.WatchMetadataRequest{})
		if err != nil {
			t.Fatal(err)
		}
		f, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		seen[f.GetActiveControllerId()] = true
	}
	if len(seen) != 3 {
		t.Errorf("only %v were watched", seen)
	}
}
