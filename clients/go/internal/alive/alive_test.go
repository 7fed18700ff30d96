package alive

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/millstream-io/millstream/clients/go/internal/alive/alivetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is a connection that is looked at when the test says so.
type env struct {
	t    *testing.T
	net  alivetest.Network
	line *Line
	conn *grpc.ClientConn
	asks sync.WaitGroup
	ctx  context.Context
}

func newEnv(t *testing.T, o ...grpc.ServerOption) *env {
	t.Helper()
	server := grpc.NewServer(o...)
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	e := &env{t: t}
	var lines Lines
	conn, end, err := lines.Dial(insecure.NewCredentials(), func(o ...grpc.DialOption) (*grpc.ClientConn, error) {
		return grpc.NewClient("passthrough:///"+listener.Addr().String(), append(o, grpc.WithContextDialer(e.dial))...)
	})
	if err != nil {
		t.Fatal(err)
	}
	for l := range lines.all {
		e.line = l
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.conn, e.ctx = conn, ctx
	t.Cleanup(func() {
		cancel()
		e.asks.Wait()
		if err := end(); err != nil {
			t.Error(err)
		}
		if len(lines.all) != 0 {
			t.Error("it is looked at for ever")
		}
		server.Stop()
		<-served //nolint:errcheck // how it ended does not matter here
	})
	return e
}

func (e *env) dial(ctx context.Context, address string) (net.Conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return e.net.Conn(raw), nil
}

// waits begins a call that is not answered, and returns how it ends.
func (e *env) waits() <-chan error {
	e.t.Helper()
	s, err := grpc_health_v1.NewHealthClient(e.conn).Watch(e.ctx, &grpc_health_v1.HealthCheckRequest{})
	if err == nil {
		_, err = s.Recv() // how it is now
	}
	if err != nil {
		e.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := s.Recv()
		ended <- err
	}()
	return ended
}

func (e *env) looks(n int) {
	for range n {
		e.line.look(e.ctx, &e.asks)
	}
}

// settle waits until nothing comes any more that is on its way, and looks.
func (e *env) settle() {
	for was := uint64(0); was != e.line.heard.Load(); {
		was = e.line.heard.Load()
		<-time.After(100 * time.Millisecond)
	}
	e.looks(1)
}

func (e *env) await(what string, cond func() bool) {
	e.t.Helper()
	for begun := time.Now(); !cond(); <-time.After(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			e.t.Fatal("in vain: " + what)
		}
	}
}

func TestTheCallsEndWhenTheOtherSideIsSilent(t *testing.T) {
	e := newEnv(t)
	ended := e.waits()
	e.settle()
	e.net.Cut(true)
	e.looks(askAfter)
	a := e.line.ask
	if a == nil {
		t.Fatal("it is not asked")
	}
	e.await("an ask", a.sent.Load)
	e.looks(endAfter - 1)
	if !e.line.connected() {
		t.Fatal("it was given up early")
	}
	e.looks(1)
	select {
	case err := <-ended:
		if status.Code(err) != codes.Unavailable {
			t.Errorf("the call ends with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the call waits for ever")
	}
	e.net.Cut(false)
	e.looks(1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := grpc_health_v1.NewHealthClient(e.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true)); err != nil {
		t.Errorf("when the network is there again: %v", err)
	}
}

// However long it takes to answer a call: who is there says so when asked.
func TestACallMayWaitAtABrokerThatIsThere(t *testing.T) {
	e := newEnv(t)
	ended := e.waits()
	e.settle()
	for range 3 {
		e.looks(askAfter)
		e.await("an answer", func() bool { return e.line.heard.Load() != e.line.seen })
		e.settle()
	}
	e.looks(askAfter - 1)
	select {
	case err := <-ended:
		t.Errorf("the call ended: %v", err)
	default:
	}
}

// A server that takes no more calls was not asked: that it does not answer says
// nothing.
func TestWhoCannotBeAskedIsNotGivenUp(t *testing.T) {
	e := newEnv(t, grpc.MaxConcurrentStreams(1))
	ended := e.waits()
	e.settle()
	e.looks(10 * (askAfter + endAfter))
	select {
	case err := <-ended:
		t.Errorf("the call ended: %v", err)
	default:
	}
	if !e.line.connected() {
		t.Error("it was given up")
	}
}

func TestAnIdleConnectionIsLeftAlone(t *testing.T) {
	e := newEnv(t)
	if _, err := grpc_health_v1.NewHealthClient(e.conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	e.settle()
	e.net.Cut(true)
	e.looks(10 * (askAfter + endAfter))
	if !e.line.connected() || e.line.ask != nil {
		t.Error("it was asked, or given up")
	}
}
