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

	stop  context.CancelFunc
	ended chan error
	done  bool
}

// Start runs a controller with the quick ticks of dev until the test ends or
// Stop. It returns when calls are answered. Replication factor 1 and a session
// of 10 s unless changed.
func Start(t testing.TB, change ...func(*node.Options)) *Controller {
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
		Client: controllerv1.NewControllerServiceClient(conn), Conn: conn, Dir: o.DataDir, stop: cancel, ended: make(chan error, 1),
	}
	go func() { c.ended <- n.Run(ctx) }()
	t.Cleanup(func() { c.Stop(t) })
	select {
	case <-n.Ready():
	case err := <-c.ended:
		c.done = true
		cancel()
		t.Fatalf("the controller ended: %v", errors.Join(err, conn.Close()))
	case <-time.After(patience):
		t.Fatal("the controller does not get ready")
	}
	return c
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
	c.stop()
	select {
	case err := <-c.ended:
		if err != nil {
			t.Errorf("the controller ended: %v", err)
		}
	case <-time.After(patience):
		t.Error("the controller does not stop")
	}
	if err := c.Conn.Close(); err != nil {
		t.Error(err)
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
