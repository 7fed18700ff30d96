package servertest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/node"
	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/api"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// Cluster is several brokers that follow each other, with one controller.
type Cluster struct {
	// Members are the brokers, from broker 1 on.
	Members []*Member
	// Controller is theirs.
	Controller *controllertest.Controller

	t testing.TB
	o ClusterOptions
}

// ClusterOptions change how a Cluster is started.
type ClusterOptions struct {
	// Brokers is how many there are; 3 unless set.
	Brokers int
	// Session is how long a broker may be silent; 1 s unless set.
	Session time.Duration
	// MoveBytes is how fast replicas are filled for a move that does not say.
	MoveBytes uint64
	// Broker changes the options of each.
	Broker func(*broker.Options)
	// MayFail says that a broker may end with an error, as one does whose log
	// directory has failed.
	MayFail bool
	// Limits of the services.
	Limits api.Limits
}

// Member is one broker of a Cluster.
type Member struct {
	// ID is its identity.
	ID int32
	// FS holds its logs.
	FS *memfs.FS
	// Metadata, Node and the clients are those of the incarnation that runs.
	Metadata *metadata.Mirror
	Node     *broker.Broker
	Broker   pb.BrokerServiceClient
	Topic    pb.TopicServiceClient
	Cluster  pb.ClusterServiceClient

	c        *Cluster
	conn     *grpc.ClientConn
	epoch    int64
	boot     broker.ID16 // zero: the machine's
	stop     func()
	isolate  func()
	reunite  func()
	crash    func(func(*memfs.FS) *memfs.FS)
	mu       sync.Mutex // guards internal, public and client
	client   pb.BrokerServiceClient
	internal *rpc.InProcess // nil: it does not run
	inside   []net.Conn     // to the internal listener; guarded by mu
	public   *rpc.InProcess // as internal, for clients
}

// StartCluster starts brokers and their controller. It returns when all serve.
func StartCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	if o.Brokers == 0 {
		o.Brokers = 3
	}
	if o.Session == 0 {
		o.Session = time.Second
	}
	c := &Cluster{t: t, o: o}
	c.Controller = controllertest.Start(t, func(no *node.Options) {
		no.SessionTimeout, no.ReplicationFactor, no.MoveBytes = o.Session, min(3, o.Brokers), o.MoveBytes
	})
	for id := range o.Brokers {
		c.Add(int32(id) + 1)
	}
	return c
}

// Add starts another broker.
func (c *Cluster) Add(id int32) *Member {
	c.t.Helper()
	m := &Member{ID: id, FS: memfs.New(), c: c}
	c.Members = append(c.Members, m)
	m.Start()
	c.t.Cleanup(func() { m.Stop() })
	return m
}

// peers is the way of one incarnation to the other members.
type peers struct {
	c      *Cluster
	mu     sync.Mutex // guards what follows
	conns  map[int32]*grpc.ClientConn
	closed bool
	cut    bool // this broker is isolated
}

// isolate ends all connections, and lets no other begin.
func (p *peers) isolate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for id, conn := range p.conns {
		_ = conn.Close()
		delete(p.conns, id)
	}
}

// reunite lets connections begin again.
func (p *peers) reunite() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Conn returns a way to a member's internal listener, whoever runs there.
func (p *peers) Conn(id int32) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errors.New("this broker is gone")
	}
	if conn := p.conns[id]; conn != nil {
		return conn, nil
	}
	if p.cut {
		return nil, errGone
	}
	conn, err := rpc.ListenInProcess().Dial(grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		for _, m := range p.c.Members {
			if m.ID == id {
				return m.connect(ctx)
			}
		}
		return nil, fmt.Errorf("no broker %d", id)
	}))
	if err == nil {
		p.conns[id] = conn
	}
	return conn, err
}

// close ends all connections.
func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, conn := range p.conns {
		_ = conn.Close()
	}
}

// Lost is part of broker.Peers: nobody is ever lost.
func (*peers) Lost() <-chan struct{} { return nil }

// Unreachable is part of broker.Peers.
func (*peers) Unreachable() []*controllerv1.UnreachableBroker { return nil }

// severed is the way to the controller, until the broker is gone.
type severed struct {
	controllerv1.ControllerServiceClient
	gone atomic.Bool
	cut  context.Context //nolint:containedctx // ends the watch of metadata
}

func (s *severed) WatchMetadata(ctx context.Context, r *controllerv1.WatchMetadataRequest, o ...grpc.CallOption) (grpc.ServerStreamingClient[controllerv1.WatchMetadataResponse], error) {
	if s.cut.Err() != nil {
		return nil, errGone
	}
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(s.cut, cancel)
	return s.ControllerServiceClient.WatchMetadata(ctx, r, o...)
}

var errGone = status.Error(codes.Unavailable, "this broker is gone")

func (s *severed) Heartbeat(ctx context.Context, r *controllerv1.HeartbeatRequest, o ...grpc.CallOption) (*controllerv1.HeartbeatResponse, error) {
	if s.gone.Load() {
		return nil, errGone
	}
	return s.ControllerServiceClient.Heartbeat(ctx, r, o...)
}

func (s *severed) RegisterBroker(ctx context.Context, r *controllerv1.RegisterBrokerRequest, o ...grpc.CallOption) (*controllerv1.RegisterBrokerResponse, error) {
	if s.gone.Load() {
		return nil, errGone
	}
	return s.ControllerServiceClient.RegisterBroker(ctx, r, o...)
}

func (s *severed) AlterPartition(ctx context.Context, r *controllerv1.AlterPartitionRequest, o ...grpc.CallOption) (*controllerv1.AlterPartitionResponse, error) {
	if s.gone.Load() {
		return nil, errGone
	}
	return s.ControllerServiceClient.AlterPartition(ctx, r, o...)
}

func (m *Member) connect(ctx context.Context) (net.Conn, error) {
	m.mu.Lock()
	l := m.internal
	m.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("broker %d does not run", m.ID)
	}
	conn, err := l.DialContext(ctx)
	if err == nil {
		m.mu.Lock()
		m.inside = append(m.inside, conn)
		m.mu.Unlock()
	}
	return conn, err
}

// Start starts the broker, on the logs that it has, and waits until it serves.
func (m *Member) Start() {
	m.c.t.Helper()
	m.Launch()
	wait, done := context.WithTimeout(context.Background(), time.Minute)
	defer done()
	if _, err := m.Metadata.WaitFor(wait, func(s *metadata.Snapshot) bool {
		own := s.Broker(m.ID)
		return own != nil && own.Epoch > m.epoch && !own.Fenced
	}); err != nil {
		m.c.t.Fatal(err)
	}
	m.epoch = m.Metadata.Current().Broker(m.ID).Epoch
}

// Launch starts the broker, on the logs that it has.
func (m *Member) Launch() {
	m.c.t.Helper()
	c, t := m.c, m.c.t
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	logger := controllertest.Logger(t).With("self", m.ID)
	watching, blind := context.WithCancel(context.Background())
	controller := &severed{ControllerServiceClient: c.Controller.Client, cut: watching}
	m.Metadata = metadata.New(metadata.Options{
		Controllers: []controllerv1.ControllerServiceClient{controller}, BrokerID: m.ID, Logger: logger,
	})
	others := &peers{c: c, conns: make(map[int32]*grpc.ClientConn)}
	bo := broker.Options{
		ID: m.ID, DataDir: "/data", FS: m.FS, Controller: controller, Metadata: m.Metadata, Logger: logger,
		Address: m.Address(), InternalAddress: fmt.Sprintf("broker-%d.test:9652", m.ID),
		Version: "test", Peers: others,
	}
	if m.boot != (broker.ID16{}) {
		bo.BootID = func() broker.ID16 { return m.boot }
	}
	if c.o.Broker != nil {
		c.o.Broker(&bo)
	}
	var err error
	m.Node, err = broker.New(bo)
	check(err)
	services, err := api.New(api.Options{
		Broker: m.Node, Metadata: m.Metadata, Controller: c.Controller.Client, Peers: others, Limits: c.o.Limits, Logger: logger, Version: "test",
	})
	check(err)
	public, err := rpc.NewServer(rpc.Options{Name: "public", Logger: logger, FaultOf: api.FaultOf})
	check(err)
	services.Register(public)
	public.OnDrain(services.Drain)
	internal, err := rpc.NewServer(rpc.Options{Name: "internal", Logger: logger, FaultOf: api.FaultOf})
	check(err)
	replicationv1.RegisterReplicationServiceServer(internal, m.Node.Replication())
	services.RegisterInternal(internal)
	internal.OnDrain(services.DrainInternal)
	outside, inside := rpc.ListenInProcess(), rpc.ListenInProcess()
	m.conn, err = outside.Dial()
	check(err)
	m.Broker, m.Topic, m.Cluster = pb.NewBrokerServiceClient(m.conn), pb.NewTopicServiceClient(m.conn), pb.NewClusterServiceClient(m.conn)
	m.mu.Lock()
	m.internal, m.public, m.client = inside, outside, m.Broker
	m.mu.Unlock()

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 4) // one from each goroutine
	go func() { ended <- ignore(m.Metadata.Run(ctx), context.Canceled) }()
	go func() { ended <- m.Node.Run(ctx) }()
	go func() { ended <- public.Serve(outside) }()
	go func() { ended <- internal.Serve(inside) }()
	end := func() {
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil && !c.o.MayFail {
				t.Errorf("a part of broker %d failed: %v", m.ID, err)
			}
		}
		others.close()
		blind()
	}
	m.isolate = func() {
		controller.gone.Store(true)
		blind()
		others.isolate()
		m.mu.Lock()
		m.internal = nil
		for _, conn := range m.inside {
			_ = conn.Close()
		}
		m.inside = nil
		m.mu.Unlock()
	}
	m.reunite = func() {
		m.mu.Lock()
		m.internal = inside
		m.mu.Unlock()
		others.reunite()
	}
	m.stop = sync.OnceFunc(func() {
		leaving, left := context.WithTimeout(context.Background(), 5*time.Second)
		_ = m.Node.HandOver(leaving) // else others find out
		left()
		public.Stop(context.Background())
		_ = m.conn.Close()
		services.Wait()
		m.mu.Lock()
		m.internal, m.public = nil, nil
		m.mu.Unlock()
		internal.Stop(context.Background())
		end()
	})
	m.crash = func(left func(*memfs.FS) *memfs.FS) {
		controller.gone.Store(true)
		m.mu.Lock()
		m.internal, m.public = nil, nil
		m.mu.Unlock()
		now, done := context.WithCancel(context.Background())
		done()
		_ = m.conn.Close()
		others.close()
		public.Stop(now)
		internal.Stop(now)
		m.FS = left(m.FS) // from here on nobody hears of what is written
		services.Wait()
		m.stop = func() {} // what has crashed is not stopped
		end()
	}
}

// DialPublic connects to the public listener of whichever member has that
// address; it fails as if nobody listened while the member does not run.
func (c *Cluster) DialPublic(ctx context.Context, addr string) (net.Conn, error) {
	for _, m := range c.Members {
		if addr != m.Address() {
			continue
		}
		m.mu.Lock()
		l := m.public
		m.mu.Unlock()
		if l != nil {
			return l.DialContext(ctx)
		}
	}
	return nil, fmt.Errorf("nobody listens on %s", addr)
}

// Address is where the member says that clients reach it.
func (m *Member) Address() string { return fmt.Sprintf("broker-%d.test:9650", m.ID) }

// Client is Broker for who runs beside Start.
func (m *Member) Client() pb.BrokerServiceClient {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.client
}

// Kill ends the broker at once, as kill -9 does: the page cache stays.
func (m *Member) Kill() { m.crash((*memfs.FS).Clone) }

// LosePower ends the broker with its machine: what was not synced is there as
// far as the policy says.
func (m *Member) LosePower(left memfs.Policy) {
	m.crash(func(fs *memfs.FS) *memfs.FS { return fs.Crash(left) })
	_, _ = rand.Read(m.boot[:]) // never fails
}

// Isolate cuts the broker off from the others and the controller: it hears of
// nothing any more. Clients still reach it.
func (m *Member) Isolate() { m.isolate() }

// Reunite mends the way between an isolated broker and the others. The one to
// the controller stays cut.
func (m *Member) Reunite() { m.reunite() }

// Stop stops the broker in order. It does nothing if that is done.
func (m *Member) Stop() { m.stop() }
