package peers

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// env is broker 1, which knows the brokers that it is told of.
type env struct {
	t        *testing.T
	mirror   *metadata.Mirror
	revision int64
	peers    *Peers
}

func newEnv(t *testing.T) *env {
	t.Helper()
	e := &env{t: t, mirror: metadata.New(metadata.Options{})}
	o := Options{Self: 1, Metadata: e.mirror, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}
	p, err := New(o)
	e.check(err)
	e.peers = p
	t.Cleanup(func() { e.check(p.Close()) })
	return e
}

func (e *env) check(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) apply(c *controllerv1.MetadataChange) {
	e.t.Helper()
	e.revision++
	c.Revision = e.revision
	e.check(e.mirror.Apply(&controllerv1.WatchMetadataResponse{
		Changes: []*controllerv1.MetadataChange{c}, Revision: e.revision, ClusterGeneration: 1,
	}))
}

// registered tells of an incarnation of a broker.
func (e *env) registered(id int32, epoch int64, addr string, fenced bool) {
	e.t.Helper()
	e.apply(&controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Broker{Broker: &controllerv1.BrokerRecord{
		BrokerId: id, BrokerEpoch: epoch, Address: "public:1", InternalAddress: addr, Fenced: fenced,
	}}})
}

func (e *env) removed(id int32) {
	e.t.Helper()
	e.apply(&controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_RemovedBrokerId{RemovedBrokerId: id}})
}

func (e *env) conn(id int32) *grpc.ClientConn {
	e.t.Helper()
	c, err := e.peers.Conn(id)
	e.check(err)
	return c
}

// awaitLost waits until somebody is lost, and returns who.
func (e *env) awaitLost() []*controllerv1.UnreachableBroker {
	e.t.Helper()
	select {
	case <-e.peers.Lost():
		return e.peers.Unreachable()
	case <-time.After(10 * time.Second):
		e.t.Fatal("nobody was lost")
		return nil
	}
}

// process is a broker's internal listener.
type process struct {
	addr     string
	server   *rpc.Server
	listener *recalling
	served   chan error
}

// recalling is a listener that knows whom it let in.
type recalling struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *recalling) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

func (e *env) process(addr string, creds credentials.TransportCredentials) *process {
	e.t.Helper()
	l, err := net.Listen("tcp", addr)
	e.check(err)
	server, err := rpc.NewServer(rpc.Options{
		Name: "internal", Logger: slog.New(slog.DiscardHandler), Credentials: creds, StopTimeout: time.Nanosecond,
	})
	e.check(err)
	server.SetServing("", true)
	p := &process{addr: l.Addr().String(), server: server, listener: &recalling{Listener: l}, served: make(chan error, 1)}
	go func() { p.served <- server.Serve(p.listener) }()
	e.t.Cleanup(p.die)
	return p
}

// die ends the process and its connections as the system does when it is
// killed: no word is said before.
func (p *process) die() {
	_ = p.listener.Close()
	p.listener.mu.Lock()
	for _, c := range p.listener.conns {
		_ = c.Close()
	}
	p.listener.mu.Unlock()
	p.server.Stop(context.Background())
}

// ask has a broker answer.
func ask(t *testing.T, c *grpc.ClientConn) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	return err
}

func TestOneConnectionToEachBrokerIsShared(t *testing.T) {
	e := newEnv(t)
	e.registered(2, 20, e.process("127.0.0.1:0", nil).addr, false)
	first := e.conn(2)
	e.check(ask(t, first))
	if e.conn(2) != first {
		t.Error("there is another connection to the same broker")
	}
	if got := e.peers.Unreachable(); len(got) != 0 {
		t.Errorf("unreachable are %v, and it answered", got)
	}
}

func TestUnknownBrokersAreTyped(t *testing.T) {
	e := newEnv(t)
	e.registered(3, 30, "", false)
	for id, known := range map[int32]bool{2: false, 3: true} {
		_, err := e.peers.Conn(id)
		got, ok := errors.AsType[*UnknownError](err)
		if !ok || got.Broker != id || got.Known != known || got.Revision != 1 {
			t.Errorf("of broker %d it says %v", id, err)
		}
	}
	e.check(e.peers.Close())
	if _, err := e.peers.Conn(3); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close it says %v", err)
	}
}

func TestABrokerThatMovedIsFollowed(t *testing.T) {
	e := newEnv(t)
	e.registered(2, 20, e.process("127.0.0.1:0", nil).addr, false)
	old := e.conn(2)
	e.check(ask(t, old))
	e.registered(2, 21, e.process("127.0.0.1:0", nil).addr, false)
	moved := e.conn(2)
	if moved == old {
		t.Fatal("the connection is that to the old address")
	}
	e.check(ask(t, moved))
	if err := ask(t, old); status.Code(err) != codes.Canceled {
		t.Errorf("the old connection says %v, want that it is closed", err)
	}
	e.removed(2)
	if _, err := e.peers.Conn(2); err == nil {
		t.Error("there is a connection to a broker that is gone")
	}
	if err := ask(t, moved); status.Code(err) != codes.Canceled {
		t.Errorf("the connection to the one that is gone says %v", err)
	}
}

// A process that is killed and comes back at its address keeps its connection:
// it is reported with the epoch that is known, and again in the next one.
func TestADeadBrokerIsReportedAndReachedWhenItIsBack(t *testing.T) {
	e := newEnv(t)
	p := e.process("127.0.0.1:0", nil)
	e.registered(2, 20, p.addr, false)
	conn := e.conn(2)
	e.check(ask(t, conn))
	p.die()
	if got := e.awaitLost(); len(got) != 1 || got[0].GetBrokerId() != 2 || got[0].GetBrokerEpoch() != 20 {
		t.Fatalf("lost are %v, want broker 2 in epoch 20", got)
	}
	// Whoever calls it now is refused at its port, which is told too. A call that
	// comes before gRPC has noticed ends with the old connection.
	for conn.GetState() != connectivity.TransientFailure {
		_, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("a dead broker says %v", err)
		}
	}
	if got := e.awaitLost(); len(got) != 1 || got[0].GetBrokerEpoch() != 20 {
		t.Fatalf("refused are %v", got)
	}
	e.process(p.addr, nil)
	e.registered(2, 21, p.addr, false)
	if e.conn(2) != conn {
		t.Error("the connection to the same address was given up")
	}
	e.check(ask(t, conn))
}

// Nobody counts on a fenced broker: that it is away is no news.
func TestAFencedBrokerIsNotReported(t *testing.T) {
	e := newEnv(t)
	p := e.process("127.0.0.1:0", nil)
	p.die()
	e.registered(2, 20, p.addr, true)
	_, err := grpc_health_v1.NewHealthClient(e.conn(2)).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Fatalf("a dead broker says %v", err)
	}
	if got := e.peers.Unreachable(); len(got) != 0 {
		t.Errorf("unreachable are %v", got)
	}
}

// What this side ends, and a network that is silent, say nothing of the process
// on the other.
func TestOnlyWhatTheOtherSideDidIsReported(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want problem
	}{
		"nobody listens there":           {&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, refused},
		"its process was killed":         {&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, cut},
		"its process ended":              {io.EOF, cut},
		"it was written to too late":     {&net.OpError{Op: "write", Err: os.NewSyscallError("write", syscall.EPIPE)}, cut},
		"the connection was closed here": {net.ErrClosed, ""},
		"the dial took too long":         {context.DeadlineExceeded, ""},
		"the system gave up waiting":     {&net.OpError{Op: "read", Err: errTimeout{}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := problemOf(c.err); got != c.want {
				t.Errorf("it is %q, want %q", got, c.want)
			}
		})
	}
}

type errTimeout struct{}

func (errTimeout) Error() string { return "connection timed out" }
