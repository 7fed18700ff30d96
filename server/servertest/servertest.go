// Package servertest runs a whole broker for tests: a controller with its
// metadata store on a temporary directory, a broker whose logs are in memory,
// and the public services on a listener that only the process can reach.
//
// Test support: only tests and test support import it. What a test starts
// ends with the test.
package servertest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/node"
	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/api"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/telemetry"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// Options change how a Server is started.
type Options struct {
	// FS holds the logs; in memory unless set.
	FS vfs.FS
	// Limits of the services.
	Limits api.Limits
	// Broker changes the broker's options.
	Broker func(*broker.Options)
	// MayFail lets the broker end with an error, as it does after a failed sync.
	MayFail bool
	// RPC changes those of the gRPC server.
	RPC func(*rpc.Options)

	// Those of a Cluster.
	id         int32 // 1 unless set
	controller *controllertest.Controller
	peers      forward.Peers
}

// Server is a broker that runs, with its controller.
type Server struct {
	// Conn is a connection to the public services.
	Conn *grpc.ClientConn
	// Broker, Topic and Cluster call them.
	Broker  pb.BrokerServiceClient
	Topic   pb.TopicServiceClient
	Cluster pb.ClusterServiceClient
	// Metadata is the broker's.
	Metadata *metadata.Mirror
	// Metrics has everything that was registered.
	Metrics *telemetry.Catalogue
	// FS holds the logs.
	FS vfs.FS

	t          testing.TB
	o          Options
	controller *controllertest.Controller
	listener   atomic.Pointer[rpc.InProcess] // replaced by Restart
	internal   atomic.Pointer[rpc.InProcess] // for other brokers
	stop       func()
	epoch      int64 // of the last incarnation of the broker
}

// Start starts a controller and a broker. It returns when both are ready.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.FS == nil {
		o.FS = memfs.New()
	}
	if o.id == 0 {
		o.id = 1
	}
	s := &Server{t: t, o: o, FS: o.FS, controller: o.controller}
	s.Metrics = telemetry.NewCatalogue(prometheus.NewRegistry())
	if s.controller == nil {
		s.controller = controllertest.Start(t, func(no *node.Options) { no.Registerer = s.Metrics })
	}
	s.start(s.Metrics)
	t.Cleanup(s.Stop)
	return s
}

// Restart stops the broker in order and starts it again on the same logs.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.start(nil) // the metrics are registered already
}

// StopController stops the controller, as when a majority of several is lost.
func (s *Server) StopController() {
	s.t.Helper()
	s.controller.Halt(s.t)
}

// Stop stops the broker in order, and waits. It does nothing if that is done.
func (s *Server) Stop() {
	s.stop()
}

// start starts a broker.
func (s *Server) start(reg prometheus.Registerer) {
	s.t.Helper()
	logger := controllertest.Logger(s.t)
	s.Metadata = metadata.New(metadata.Options{
		Controllers: []controllerv1.ControllerServiceClient{s.controller.Client}, BrokerID: s.o.id, Logger: logger,
	})
	bo := broker.Options{
		ID: s.o.id, DataDir: "/data", FS: s.FS, Controller: s.controller.Client, Metadata: s.Metadata,
		Address: s.Address(), InternalAddress: fmt.Sprintf("broker-%d.test:9652", s.o.id), Version: "test", Logger: logger, Registerer: reg,
	}
	if s.o.Broker != nil {
		s.o.Broker(&bo)
	}
	b, err := broker.New(bo)
	s.check(err)
	services, err := api.New(api.Options{
		Broker: b, Metadata: s.Metadata, Controller: s.controller.Client, Peers: s.o.peers, Limits: s.o.Limits, Logger: logger, Registerer: reg, Version: "test",
	})
	s.check(err)
	ro := rpc.Options{Name: "public", Logger: logger, Registerer: reg, FaultOf: api.FaultOf}
	if s.o.RPC != nil {
		s.o.RPC(&ro)
	}
	server, err := rpc.NewServer(ro)
	s.check(err)
	services.Register(server)
	server.OnDrain(services.Drain)
	inside, err := rpc.NewServer(rpc.Options{Name: "internal", Logger: logger, Registerer: reg, FaultOf: api.FaultOf})
	s.check(err)
	services.RegisterInternal(inside)
	inside.OnDrain(services.DrainInternal)
	listener, internal := rpc.ListenInProcess(), rpc.ListenInProcess()
	s.listener.Store(listener)
	s.internal.Store(internal)
	s.Conn = s.Dial()

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 4) // one from each goroutine
	go func() { ended <- ignore(s.Metadata.Run(ctx), context.Canceled) }()
	go func() { ended <- b.Run(ctx) }()
	go func() { ended <- server.Serve(listener) }()
	go func() { ended <- inside.Serve(internal) }()
	s.stop = sync.OnceFunc(func() {
		server.Stop(context.Background())
		inside.Stop(context.Background())
		_ = s.Conn.Close()
		services.Wait()
		services.WaitInternal()
		cancel()
		for range cap(ended) {
			if err := <-ended; err != nil && !s.o.MayFail {
				s.t.Errorf("a part of the broker failed: %v", err)
			}
		}
	})
	s.Broker, s.Topic, s.Cluster = pb.NewBrokerServiceClient(s.Conn), pb.NewTopicServiceClient(s.Conn), pb.NewClusterServiceClient(s.Conn)
	s.await(ended)
}

// await waits until the broker is ready: then its registration is unfenced.
func (s *Server) await(ended chan error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := s.Metadata.WaitFor(ctx, func(m *metadata.Snapshot) bool {
		own := m.Broker(s.o.id)
		// Of this incarnation, and unfenced: its heartbeat said that it serves.
		return own != nil && own.Epoch > s.epoch && !own.Fenced && s.leads(m)
	}); err != nil {
		select {
		case ended := <-ended:
			s.t.Fatalf("the broker ended: %v", ended)
		default:
			s.t.Fatal(err)
		}
	}
	s.epoch = s.Metadata.Current().Broker(s.o.id).Epoch
}

// Address is where the broker says that clients reach it.
func (s *Server) Address() string { return fmt.Sprintf("broker-%d.test:9650", s.o.id) }

// Dial returns another connection; it is closed with the test.
func (s *Server) Dial(opts ...grpc.DialOption) *grpc.ClientConn {
	s.t.Helper()
	conn, err := s.listener.Load().Dial(opts...)
	s.check(err)
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Dialer lets a client of its own making connect, whatever its address, also
// after a Restart.
func (s *Server) Dialer() grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return s.listener.Load().DialContext(ctx)
	})
}

// CreateTopic creates a topic with settings given as name, value, name, value.
func (s *Server) CreateTopic(name string, partitions uint32, settings ...string) *pb.Topic {
	s.t.Helper()
	config := make(map[string]string)
	for i := 0; i < len(settings); i += 2 {
		config[settings[i]] = settings[i+1]
	}
	made, err := s.Topic.CreateTopic(s.t.Context(), &pb.CreateTopicRequest{Topic: name, PartitionCount: partitions, Config: config})
	if err != nil {
		s.t.Fatal(fmt.Errorf("create topic %s: %w", name, err))
	}
	return made.GetTopic()
}

// leads tells whether every partition of the broker has its leader back.
func (s *Server) leads(m *metadata.Snapshot) bool {
	for _, t := range m.Topics() {
		for _, p := range t.Partitions {
			if p.Leader == metadata.NoLeader && slices.Contains(p.Replicas, s.o.id) {
				return false
			}
		}
	}
	return true
}

func (s *Server) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func ignore(err, expected error) error {
	if err == expected { //nolint:errorlint // the cause of a cancelled context is the sentinel itself
		return nil
	}
	return err
}
