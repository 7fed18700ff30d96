// Package controllertest runs controllers for tests: a whole one with a real
// metadata store on a temporary directory, reached over gRPC in the process;
// and a store in memory, for several controllers that fail at will.
//
// Test support: only tests and test support import it. What a test starts
// ends with the test.
package controllertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/rpc"

	"github.com/millstream-io/millstream/controller/etcd"
	"github.com/millstream-io/millstream/controller/node"
)

// patience bounds every wait: starting and stopping take milliseconds.
const patience = 30 * time.Second

// Controller is a running controller.
type Controller struct {
	// Client speaks to it.
	Client controllerv1.ControllerServiceClient
	// Conn is what Client uses.
	Conn *grpc.ClientConn
	// Dir is its directory, for starting it again.
	Dir string

	node  *node.Node
	stop  context.CancelFunc
	ended chan error
	// halted says that it does not run any more, done that Conn is closed too.
	halted, done bool
}

// Start runs a controller with the quick ticks of dev until the test ends or
// Stop. It returns when calls are answered. Replication factor 1 and a session
// of 10 s unless changed.
func Start(t testing.TB, change ...func(*node.Options)) *Controller {
	t.Helper()
	c := begin(t, change)
	c.await(t)
	return c
}

// quorumTick is the tick of controllers that elect among each other: with the
// 10 ms of dev a busy machine deposes them all the time.
const quorumTick = 50 * time.Millisecond

// StartQuorum runs that many controllers of one cluster, as Start does, each
// with its place in the slice as its identity. REQUIRES: the working directory
// is the test's own, as after t.Chdir(t.TempDir()): they find each other by
// sockets in it, whose paths may not be long.
func StartQuorum(t testing.TB, n int, change ...func(*node.Options)) []*Controller {
	t.Helper()
	peers := make([]etcd.Peer, n)
	for i := range peers {
		peers[i] = etcd.Peer{ID: int32(i), URL: fmt.Sprintf("unix://c%d:1", i)}
	}
	cs := make([]*Controller, n)
	for i := range cs {
		cs[i] = begin(t, append([]func(*node.Options){func(o *node.Options) {
			o.ID, o.Peers, o.ListenPeers, o.Tick = int32(i), peers, peers[i].URL, quorumTick
		}}, change...))
	}
	for _, c := range cs {
		c.await(t)
	}
	return cs
}

// begin runs a controller and does not wait for it.
func begin(t testing.TB, change []func(*node.Options)) *Controller {
	t.Helper()
	l := rpc.ListenInProcess()
	o := node.Options{
		DataDir: t.TempDir(), Tick: node.DevTick, ReplicationFactor: 1, SessionTimeout: 10 * time.Second, Logger: Logger(t),
	}
	for _, f := range change {
		f(&o)
	}
	o.Listeners = append(o.Listeners, l)
	n, err := node.New(o)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Controller{
		Client: controllerv1.NewControllerServiceClient(conn), Conn: conn, Dir: o.DataDir, node: n, stop: cancel, ended: make(chan error, 1),
	}
	go func() { c.ended <- n.Run(ctx) }()
	t.Cleanup(func() { c.Stop(t) })
	return c
}

// await returns when calls are answered.
func (c *Controller) await(t testing.TB) {
	t.Helper()
	select {
	case <-c.node.Ready():
	case err := <-c.ended:
		c.done = true
		c.stop()
		t.Fatalf("the controller ended: %v", errors.Join(err, c.Conn.Close()))
	case <-time.After(patience):
		t.Fatal("the controller does not get ready")
	}
}

// In makes Start use a directory.
func In(dir string) func(*node.Options) {
	return func(o *node.Options) { o.DataDir = dir }
}

// Stop stops the controller, waits for its end and closes Conn. Calling it
// again does nothing.
func (c *Controller) Stop(t testing.TB) {
	t.Helper()
	if c.done {
		return
	}
	c.done = true
	c.Halt(t)
	if err := c.Conn.Close(); err != nil {
		t.Error(err)
	}
}

// Halt stops the controller and waits for its end: who calls it by Conn finds
// nobody. Calling it again does nothing.
func (c *Controller) Halt(t testing.TB) {
	t.Helper()
	if c.halted {
		return
	}
	c.halted = true
	c.stop()
	select {
	case err := <-c.ended:
		if err != nil {
			t.Errorf("the controller ended: %v", err)
		}
	case <-time.After(patience):
		t.Error("the controller does not stop")
	}
}

// Broker is a broker that says what a test has it say.
type Broker struct {
	// ID and Directory are its identities.
	ID        int32
	Directory []byte
	// Epoch and Registered are those of its last registration.
	Epoch      int64
	Registered *controllerv1.RegisterBrokerResponse

	client controllerv1.ControllerServiceClient
}

var incarnations atomic.Uint64

// NewBroker returns a broker with a directory of its own.
func NewBroker(client controllerv1.ControllerServiceClient, id int32) *Broker {
	dir := make([]byte, 16)
	dir[0], dir[15] = 0xd1, byte(id)
	return &Broker{ID: id, Directory: dir, client: client}
}

// Register registers a new incarnation, as after a crash.
func (b *Broker) Register(ctx context.Context, change ...func(*controllerv1.RegisterBrokerRequest)) (*controllerv1.RegisterBrokerResponse, error) {
	r := &controllerv1.RegisterBrokerRequest{
		BrokerId: b.ID, DirectoryId: b.Directory, PreviousBrokerEpoch: b.Epoch, Address: "127.0.0.1:1", SameBoot: true,
		FeatureLevelMin: 1, FeatureLevelMax: 1, IncarnationId: fmt.Append(nil, incarnations.Add(1)),
	}
	for _, f := range change {
		f(r)
	}
	resp, err := b.client.RegisterBroker(ctx, r)
	if err == nil {
		b.Epoch, b.Registered = resp.GetBrokerEpoch(), resp
	}
	return resp, err
}

// Beat sends a heartbeat that says that the broker is ready.
func (b *Broker) Beat(ctx context.Context, change ...func(*controllerv1.HeartbeatRequest)) (*controllerv1.HeartbeatResponse, error) {
	r := &controllerv1.HeartbeatRequest{BrokerId: b.ID, BrokerEpoch: b.Epoch, Revision: b.Epoch, Ready: true}
	for _, f := range change {
		f(r)
	}
	return b.client.Heartbeat(ctx, r)
}

// StartBroker returns a broker that is registered and unfenced.
func StartBroker(t testing.TB, client controllerv1.ControllerServiceClient, id int32) *Broker {
	t.Helper()
	b := NewBroker(client, id)
	if _, err := b.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	resp, err := b.Beat(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetFenced() {
		t.Fatalf("broker %d is still fenced", id)
	}
	return b
}

// Logger returns a logger that writes to the test's output, and no longer when
// the test has ended.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}
