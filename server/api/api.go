package api

import (
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
)

// Options are what the API is made of. Broker, Metadata, Controller and Logger
// are required.
type Options struct {
	Broker     Broker
	Metadata   *metadata.Mirror
	Controller controllerv1.ControllerServiceClient
	// Peers are the other brokers, to which what they lead is forwarded; nil:
	// the client is told to go there.
	Peers forward.Peers
	// Limits; zero values stand for defaults.
	Limits Limits
	Logger *slog.Logger
	// Registerer receives the metrics; nil: none are registered.
	Registerer prometheus.Registerer
	// Version is that of the software.
	Version string

	calls *forward.Calls // to Peers
}

// Service is the services of a broker: those for clients, and those for other
// brokers.
type Service struct {
	public, internal services
	cluster          *ClusterService
}

// services are those that both have.
type services struct {
	broker *BrokerService
	topic  *TopicService
}

// New returns the services. It starts nothing. The server that serves them is
// to map errors by FaultOf.
func New(o Options) (*Service, error) {
	if o.Broker == nil || o.Metadata == nil || o.Controller == nil || o.Logger == nil {
		return nil, errors.New("api: Broker, Metadata, Controller and Logger are required")
	}
	o.Limits = o.Limits.withDefaults()
	if err := o.Limits.validate(); err != nil {
		return nil, err
	}
	if o.Peers != nil {
		o.calls = forward.NewCalls(o.Peers, o.Limits.ForwardedCalls)
	}
	b, err := newBrokerService(o)
	if err != nil {
		return nil, err
	}
	in, err := b.forInternal(o)
	if err != nil {
		return nil, err
	}
	return &Service{
		public:   services{broker: b, topic: newTopicService(o, false)},
		internal: services{broker: in, topic: newTopicService(o, true)},
		cluster: &ClusterService{
			broker: o.Broker, metadata: o.Metadata, controller: o.Controller, version: o.Version, stall: b.limits.StallTimeout, streams: &b.streams,
		},
	}, nil
}

func newTopicService(o Options, internal bool) *TopicService {
	return &TopicService{
		broker: o.Broker, metadata: o.Metadata, controller: o.Controller, limits: o.Limits, forwarding: newForwarding(o, internal),
	}
}

// Register registers the services for clients.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	pb.RegisterBrokerServiceServer(r, s.public.broker)
	pb.RegisterTopicServiceServer(r, s.public.topic)
	pb.RegisterClusterServiceServer(r, s.cluster)
}

// RegisterInternal registers the services for what other brokers forward. It is
// done here or refused, never forwarded again, and has budgets of its own: so
// brokers that forward to each other do not wait for each other (rule W2).
// Whoever serves them lets in brokers alone.
func (s *Service) RegisterInternal(r grpc.ServiceRegistrar) {
	pb.RegisterBrokerServiceServer(r, s.internal.broker)
	pb.RegisterTopicServiceServer(r, s.internal.topic)
}

// Drain tells long streams of clients to end. It does not wait.
func (s *Service) Drain() { s.public.broker.Drain() }

// Wait waits for what streams of clients started; call it when the server has
// stopped.
func (s *Service) Wait() { s.public.broker.Wait() }

// DrainInternal is Drain for streams of brokers.
func (s *Service) DrainInternal() { s.internal.broker.Drain() }

// WaitInternal is Wait for streams of brokers.
func (s *Service) WaitInternal() { s.internal.broker.Wait() }

// forInternal returns the service for what other brokers forward. It counts
// where s does.
func (s *BrokerService) forInternal(o Options) (*BrokerService, error) {
	in := &BrokerService{
		broker: s.broker, metadata: s.metadata, limits: s.limits, logger: s.logger, metrics: s.metrics,
		budget: broker.NewBudget(s.budget.Limit()), receiving: broker.NewBudget(s.receiving.Limit()),
		reading: broker.NewBudget(s.reading.Limit()), passing: s.passing, draining: make(chan struct{}),
		forwarding: newForwarding(o, true), internal: true,
	}
	return in, registerInternal(o.Registerer, in)
}
