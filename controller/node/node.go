// Package node is a whole controller: its member of the metadata store, the
// image of it, the loop that decides, and the service, put together and
// stopped in the right order.
//
// It refuses to own what any of them does.
//
// INVARIANT: what was started later is stopped earlier: calls first, then the
// loop, then the image, then the store.
//
// Goroutines: Run starts all of the controller's and returns when they have
// ended, but for those that wait for a store that is broken: they end with the
// process.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/caller"
	"github.com/millstream-io/millstream/server/rpc"

	"github.com/millstream-io/millstream/controller/api"
	"github.com/millstream-io/millstream/controller/etcd"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/pace"
	"github.com/millstream-io/millstream/controller/reconcile"
	"github.com/millstream-io/millstream/controller/store"
)

// DevTick is Options.Tick where the only member is in dev: an election takes
// 100 ms at most.
const DevTick = 10 * time.Millisecond

// Options are what a controller needs. The zero value of a field stands for
// its default, where there is one.
type Options struct {
	// ID is its identity, from 0.
	ID int32
	// DataDir holds its files and nothing else. Required.
	DataDir string
	// Listeners are where it serves ControllerService; Run closes them. At
	// least one; in dev it is rpc.ListenInProcess.
	Listeners []net.Listener
	// Peers are all controllers, this one included; none: it is alone.
	Peers []etcd.Peer
	// ListenPeers is where it listens for them.
	ListenPeers string
	// Serves is HOST:PORT where brokers reach it, which they are told by any
	// controller; empty: they know it by themselves.
	Serves string
	// PeerTLS is how they know each other; nil: they speak plain text.
	PeerTLS *etcd.TLS
	// Join says that the others are running and have been told of this one.
	Join bool
	// Tick is the heartbeat of raft, a tenth of the election timeout; 0: 100 ms.
	Tick time.Duration
	// SessionTimeout is how long a broker may be silent; 0: 2 s.
	SessionTimeout time.Duration
	// MoveBytes is how many bytes a second each replica is filled with that is
	// added for a move which names no rate; 0: as fast as can be.
	MoveBytes uint64
	// Balance says what is moved though nobody asks for it.
	Balance reconcile.Balance
	// ReplicationFactor is that of topics for which none is asked, where there
	// are as many brokers; 0: 3.
	ReplicationFactor int
	// MaxPartitions is the most of a cluster; 0: 200,000.
	MaxPartitions int
	// Recovery says what happens to partitions in memory that nobody can be
	// trusted to have all of.
	Recovery reconcile.Recovery
	// Server has further options of the gRPC server: credentials and limits.
	// Name, Logger, Registerer, FaultOf, Authorize and MinPingInterval are set
	// by the node.
	Server rpc.Options
	// Dial connects to other controllers where they serve; nil: over TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// PeerCredentials returns those for connections to another controller where it
	// serves, which must refuse everybody else; nil: plain text.
	PeerCredentials func(controller int32) credentials.TransportCredentials
	// DiskCalls returns the writes and syncs of the disk of the store so far; nil: as
	// the store counts them.
	DiskCalls func() (pace.Calls, error)
	// Callers says who calls; required with credentials. Then only brokers and
	// controllers are served, and brokers only in their own name.
	Callers caller.Func
	// Version of the software, for backups.
	Version string
	// Now is the time of day; nil: time.Now.
	Now func() time.Time
	// Random makes identities; nil: crypto/rand.
	Random io.Reader
	// Logger is required.
	Logger *slog.Logger
	// Registerer receives the metrics; nil: none are registered.
	Registerer prometheus.Registerer
}

func (o Options) validate() error {
	switch {
	case o.Logger == nil:
		return errors.New("controller: Logger is required")
	case o.DataDir == "":
		return errors.New("controller: DataDir is required")
	case len(o.Listeners) == 0:
		return errors.New("controller: a listener is required")
	case (o.Server.Credentials == nil) != (o.Callers == nil):
		return errors.New("controller: credentials and Callers need each other")
	case o.SessionTimeout < 0, o.ReplicationFactor < 0, o.MaxPartitions < 0, o.Tick < 0:
		return errors.New("controller: limits may not be negative")
	}
	return nil
}

// Node is a controller. Run it once.
type Node struct {
	o       Options
	server  *rpc.Server
	metrics *metrics

	ready     chan struct{} // closed by Run when calls are answered
	readyOnce sync.Once
}

// New returns a controller that does nothing yet.
func New(o Options) (*Node, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.Server.Name, o.Server.Logger, o.Server.Registerer, o.Server.FaultOf = "controller", o.Logger, o.Registerer, api.FaultOf
	o.Server.MinPingInterval = rpc.MemberMinPingInterval
	if o.Callers != nil {
		o.Server.Authorize = caller.Authorize(o.Callers)
	}
	server, err := rpc.NewServer(o.Server)
	if err != nil {
		return nil, err
	}
	n := &Node{o: o, server: server, metrics: newMetrics(), ready: make(chan struct{})}
	if o.Registerer != nil {
		if err := o.Registerer.Register(n.metrics); err != nil {
			return nil, fmt.Errorf("register the metrics of the controller: %w", err)
		}
	}
	return n, nil
}

// Ready returns a channel that is closed once a controller is active, this one
// or another, and calls are answered.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Run opens the store and serves until ctx ends, which is no error, or until
// something fails. It fails with *etcd.InUseError when another process has
// the directory, and with *etcd.BrokenError when its disk takes nothing any more.
func (n *Node) Run(ctx context.Context) error {
	member, err := etcd.Open(etcd.Options{
		ID: n.o.ID, Dir: n.o.DataDir, Peers: n.o.Peers, ListenPeers: n.o.ListenPeers, Serves: n.o.Serves, TLS: n.o.PeerTLS, Join: n.o.Join, Tick: n.o.Tick, Logger: n.o.Logger,
	})
	if err != nil {
		for _, l := range n.o.Listeners {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	err = n.serve(ctx, member)
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, member.Close())
}

func (n *Node) serve(ctx context.Context, member *etcd.Member) error {
	img := image.New(member, n.o.Logger)
	loop := reconcile.New(reconcile.Options{
		ControllerID: n.o.ID, KV: member, Leadership: member, Image: img, SessionTimeout: n.o.SessionTimeout, MoveBytes: n.o.MoveBytes, Balance: n.o.Balance,
		ReplicationFactor: n.o.ReplicationFactor, MaxPartitions: n.o.MaxPartitions, Recovery: n.o.Recovery, Room: member.Room, Now: n.o.Now, Random: n.o.Random,
		Logger: n.o.Logger,
	})
	pacer := n.pacer(img, loop, member)
	service := api.New(api.Options{
		Loop: loop, Image: img, KV: member, Members: member, Serving: member.Serving, Pace: pacer.Standing,
		Callers: n.o.Callers, Version: n.o.Version, Logger: n.o.Logger,
	})
	service.Register(n.server)
	n.server.OnDrain(service.Drain)
	n.metrics.watch(img, loop, service, member, pacer)
	defer n.metrics.watch(nil, nil, nil, nil, nil)

	// Outer contexts end first: calls in flight find the loop still there, and
	// the loop the image.
	imageCtx, endImage := context.WithCancel(context.WithoutCancel(ctx))
	loopCtx, endLoop := context.WithCancel(imageCtx)
	g, failed := errgroup.WithContext(ctx)
	g.Go(func() error { return quiet(imageCtx, img.Run(imageCtx)) })
	g.Go(func() error { return quiet(loopCtx, loop.Run(loopCtx)) })
	g.Go(func() error { return quiet(imageCtx, member.Maintain(imageCtx)) })
	if len(n.o.Peers) > 0 { // else there is nobody to hand over to
		g.Go(func() error { return quiet(loopCtx, pacer.run(loopCtx)) })
	}
	for _, l := range n.o.Listeners {
		g.Go(func() error { return n.server.Serve(l) })
	}
	g.Go(func() error {
		select {
		case <-loop.Ready():
			n.server.SetServing("", true)
			n.readyOnce.Do(func() { close(n.ready) })
		case <-member.Failed(): // as of one that was taken out while it was away
			return member.Failure()
		case <-failed.Done():
			return nil
		}
		select {
		case <-member.Failed():
			return member.Failure()
		case <-failed.Done():
			return nil
		}
	})
	g.Go(func() error {
		<-failed.Done()
		n.server.Stop(context.WithoutCancel(ctx))
		endLoop()
		endImage()
		return nil
	})
	return wait(g, member)
}

// brokenStop is how long the parts of a controller get to end whose store is
// broken: the server cuts its calls after 3 s.
const brokenStop = 4 * time.Second

// wait waits until all parts have ended. Where the store is broken, whoever is in
// the midst of a call of it may not come back; the process ends without them.
func wait(g *errgroup.Group, member *etcd.Member) error {
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-member.Failed():
	}
	why := member.Failure()
	if _, broken := errors.AsType[*etcd.BrokenError](why); !broken {
		return <-ended
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(brokenStop):
		return why
	}
}

// pacer returns the one of this controller, which does not run yet.
func (n *Node) pacer(img *image.Image, loop *reconcile.Loop, member *etcd.Member) *pacer {
	p := &pacer{id: n.o.ID, judge: pace.NewJudge(), calls: n.o.DiskCalls, quorum: member, loop: loop, revision: img.Revision, ask: n.ask, logger: n.o.Logger}
	if p.calls == nil {
		p.calls = etcd.DiskCalls
	}
	return p
}

// ask asks another controller how it is. That is done seldom enough to connect
// anew each time.
func (n *Node) ask(ctx context.Context, m store.Member) (*controllerv1.DescribeControllerResponse, error) {
	creds := insecure.NewCredentials()
	if n.o.PeerCredentials != nil {
		creds = n.o.PeerCredentials(m.ID)
	}
	opts := append(rpc.MemberOptions(), grpc.WithTransportCredentials(creds))
	if n.o.Dial != nil {
		opts = append(opts, grpc.WithContextDialer(n.o.Dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+m.Serves, opts...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // it was only asked
	return controllerv1.NewControllerServiceClient(conn).DescribeController(ctx, &controllerv1.DescribeControllerRequest{})
}

// quiet makes an end that was asked for no error.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
