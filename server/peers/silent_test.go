package peers

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/millstream-io/millstream/server/metadata"
)

// network is one that can be cut: then packets vanish, and no end has an error.
type network struct {
	cut atomic.Bool
}

func (n *network) dial(ctx context.Context, address string) (net.Conn, error) {
	if n.cut.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	raw, err := dialTCP(ctx, address)
	if err != nil {
		return nil, err
	}
	return &wire{Conn: raw, n: n, closed: make(chan struct{})}, nil
}

type wire struct {
	net.Conn

	n      *network
	once   sync.Once
	closed chan struct{}
}

func (w *wire) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if w.n.cut.Load() {
		<-w.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (w *wire) Write(b []byte) (int, error) {
	if w.n.cut.Load() {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// onNetwork is an env whose peers look only when they are told to.
func onNetwork(t *testing.T) (*env, *network) {
	t.Helper()
	n := &network{}
	e := &env{t: t, mirror: metadata.New(metadata.Options{})}
	p, err := unwatched(Options{Self: 1, Metadata: e.mirror, Dial: n.dial, Logger: slog.New(slog.DiscardHandler)})
	e.check(err)
	e.peers = p
	t.Cleanup(func() { e.check(p.Close()) })
	return e, n
}

// waits begins a call that a broker does not answer, and returns how it ends.
func (e *env) waits(conn *grpc.ClientConn) <-chan error {
	e.t.Helper()
	s, err := grpc_health_v1.NewHealthClient(conn).Watch(e.t.Context(), &grpc_health_v1.HealthCheckRequest{})
	e.check(err)
	_, err = s.Recv() // how it is now
	e.check(err)
	ended := make(chan error, 1)
	go func() {
		_, err := s.Recv()
		ended <- err
	}()
	return ended
}

// settle waits until nothing comes any more that is on its way.
func (e *env) settle(id int32) {
	e.t.Helper()
	e.peers.mu.Lock()
	t := e.peers.conns[id].traffic
	e.peers.mu.Unlock()
	for was := uint64(0); was != t.heard.Load(); {
		was = t.heard.Load()
		<-time.After(100 * time.Millisecond)
	}
	e.peers.look()
}

// heard waits until something has come since the last look, and looks.
func (e *env) heard(id int32) {
	e.t.Helper()
	e.peers.mu.Lock()
	t := e.peers.conns[id].traffic
	seen := t.seen
	e.peers.mu.Unlock()
	for begun := time.Now(); t.heard.Load() == seen; <-time.After(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			e.t.Fatal("a broker that is there does not answer")
		}
	}
	e.settle(id)
}

func (e *env) looks(n int) {
	for range n {
		e.peers.look()
	}
}

func TestTheCallsToABrokerThatIsSilentEnd(t *testing.T) {
	for _, c := range []struct {
		name   string
		fenced bool
		after  int
	}{{"and not known to be away", false, endAfter}, {"and fenced", true, endFencedAfter}} {
		t.Run(c.name, func(t *testing.T) {
			e, n := onNetwork(t)
			p := e.process("127.0.0.1:0", nil)
			e.registered(2, 20, p.addr, c.fenced)
			conn := e.conn(2)
			ended := e.waits(conn)
			e.settle(2)
			n.cut.Store(true)
			e.looks(c.after - 1)
			if e.conn(2) != conn {
				t.Error("the connection was given up early")
			}
			e.looks(1)
			select {
			case err := <-ended:
				if status.Code(err) != codes.Canceled {
					t.Errorf("the call ends with %v", err)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("the call waits for a broker that says nothing")
			}
			n.cut.Store(false)
			again := e.conn(2)
			if again == conn {
				t.Fatal("the connection is that which says nothing")
			}
			e.check(ask(t, again))
			if got := e.peers.Unreachable(); len(got) != 0 {
				t.Errorf("unreachable are %v: silence says nothing of a process", got)
			}
		})
	}
}

// However long it takes to answer a call: who is there says so when asked.
func TestACallMayWaitAtABrokerThatIsThere(t *testing.T) {
	e, _ := onNetwork(t)
	e.registered(2, 20, e.process("127.0.0.1:0", nil).addr, true)
	conn := e.conn(2)
	ended := e.waits(conn)
	e.settle(2)
	for range 3 {
		e.looks(askAfter)
		e.heard(2) // the answer comes
	}
	e.looks(endFencedAfter - 1)
	select {
	case err := <-ended:
		t.Errorf("the call ended: %v", err)
	default:
	}
	if e.conn(2) != conn {
		t.Error("the connection was given up")
	}
}

// Where nobody waits for anything, silence means nothing.
func TestAnIdleConnectionIsLeftAlone(t *testing.T) {
	e, n := onNetwork(t)
	e.registered(2, 20, e.process("127.0.0.1:0", nil).addr, false)
	conn := e.conn(2)
	e.check(ask(t, conn))
	ctx, cancel := context.WithCancel(t.Context())
	s, err := grpc_health_v1.NewHealthClient(conn).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	e.check(err)
	cancel()
	for err == nil {
		_, err = s.Recv()
	}
	e.settle(2)
	n.cut.Store(true)
	e.looks(3 * endAfter)
	if e.conn(2) != conn {
		t.Error("the connection was given up")
	}
}
