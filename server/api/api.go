package api

import (
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
)

// Options are what the API is made of. Broker, Metadata, Controller and Logger
// are required.
type Options struct {
	Broker     Broker
	Metadata   *metadata.Mirror
	Controller controllerv1.ControllerServiceClient
	// Limits; zero values stand for defaults.
	Limits Limits
	Logger *slog.Logger
	// Registerer receives the metrics; nil: none are registered.
	Registerer prometheus.Registerer
	// Version is that of the software.
	Version string
}

// Service is the public services of a broker.
type Service struct {
	broker  *BrokerService
	topic   *TopicService
	cluster *ClusterService
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
	b, err := newBrokerService(o)
	if err != nil {
		return nil, err
	}
	return &Service{
		broker:  b,
		topic:   &TopicService{broker: o.Broker, metadata: o.Metadata, controller: o.Controller, limits: o.Limits},
		cluster: &ClusterService{broker: o.Broker, metadata: o.Metadata, controller: o.Controller, version: o.Version},
	}, nil
}

// Register registers the services.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	pb.RegisterBrokerServiceServer(r, s.broker)
	pb.RegisterTopicServiceServer(r, s.topic)
	pb.RegisterClusterServiceServer(r, s.cluster)
}

// Drain tells long streams to end. It does not wait.
func (s *Service) Drain() { s.broker.Drain() }

// Wait waits for what streams started; call it when the server has stopped.
func (s *Service) Wait() { s.broker.Wait() }
