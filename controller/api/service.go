// Package api is ControllerService, as brokers call it: one file for each
// concern, errors.go the only place where an error becomes a gRPC status.
//
// It refuses to own decisions: it checks the fields of requests, hands them
// to the loop that decides, and tells brokers what the image shows.
//
// INVARIANT: nothing in a request reaches the loop unchecked.
//
// Goroutines: none of its own; each call has gRPC's. Drain ends the watches.
package api

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/caller"

	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/pace"
	"github.com/millstream-io/millstream/controller/reconcile"
	"github.com/millstream-io/millstream/controller/store"
)

const (
	// DefaultConfirmInterval is how often a watch is told that its revision is
	// still the newest.
	DefaultConfirmInterval = time.Second
	// maxWatchers bounds the watches of a controller: each broker has one.
	maxWatchers = 2_000
)

// Loop carries out what changes the metadata; *reconcile.Loop is one.
type Loop interface {
	AwaitActive(context.Context) error
	RegisterBroker(context.Context, *controllerv1.RegisterBrokerRequest) (*controllerv1.RegisterBrokerResponse, error)
	Heartbeat(context.Context, *controllerv1.HeartbeatRequest) (*controllerv1.HeartbeatResponse, error)
	AlterPartition(context.Context, *controllerv1.AlterPartitionRequest) (*controllerv1.AlterPartitionResponse, error)
	OfflinePartitions(context.Context) ([]reconcile.Offline, error)
	RecoverPartition(context.Context, *controllerv1.RecoverPartitionRequest) (*controllerv1.RecoverPartitionResponse, error)
	CreatePartitions(context.Context, *controllerv1.CreatePartitionsRequest) (*controllerv1.CreatePartitionsResponse, error)
	ReassignPartitions(context.Context, *controllerv1.ReassignPartitionsRequest) (*controllerv1.ReassignPartitionsResponse, error)
	CancelReassignments(context.Context, *controllerv1.CancelReassignmentsRequest) (*controllerv1.CancelReassignmentsResponse, error)
	Reassignments(context.Context) ([]*controllerv1.OngoingReassignment, error)
	SpreadReplicas(context.Context, *controllerv1.SpreadReplicasRequest) (*controllerv1.SpreadReplicasResponse, error)
	ElectPreferredLeaders(context.Context, *controllerv1.ElectPreferredLeadersRequest) (*controllerv1.ElectPreferredLeadersResponse, error)
	DrainBroker(context.Context, *controllerv1.DrainBrokerRequest) (*controllerv1.DrainBrokerResponse, error)
	UndrainBroker(context.Context, *controllerv1.UndrainBrokerRequest) (*controllerv1.UndrainBrokerResponse, error)
	RemoveBroker(context.Context, *controllerv1.RemoveBrokerRequest) (*controllerv1.RemoveBrokerResponse, error)
	CreateTopic(context.Context, *controllerv1.CreateTopicRequest) (*controllerv1.CreateTopicResponse, error)
	UpdateTopicConfig(context.Context, *controllerv1.UpdateTopicConfigRequest) (*controllerv1.UpdateTopicConfigResponse, error)
	DeleteTopic(context.Context, *controllerv1.DeleteTopicRequest) (*controllerv1.DeleteTopicResponse, error)
}

// Options are what a Service needs.
type Options struct {
	// Loop is required.
	Loop Loop
	// Image is required, and must run.
	Image *image.Image
	// KV is the store that the image follows.
	KV store.KV
	// Members are the controllers that keep the store.
	Members store.Members
	// Serving returns where controllers serve brokers, HOST:PORT; nil: brokers
	// are not told.
	Serving func() []string
	// Pace says who this controller is and how fast its disk is; nil: nobody knows.
	Pace func() pace.Standing
	// Callers says who calls; nil: nobody knows, and what requests say of
	// their broker is believed.
	Callers caller.Func
	// Version of the software, for backups.
	Version string
	// ConfirmInterval is how often watches are told that they are up to date;
	// 0: DefaultConfirmInterval.
	ConfirmInterval time.Duration
	// Logger is required.
	Logger *slog.Logger
}

// Service is ControllerService. Its methods may be called from any goroutine.
type Service struct {
	controllerv1.UnimplementedControllerServiceServer

	o        Options
	watchers atomic.Int64
	backups  atomic.Int64

	drain     chan struct{} // closed by Drain
	drainOnce sync.Once
}

// New returns a service. It starts nothing.
func New(o Options) *Service {
	if o.ConfirmInterval == 0 {
		o.ConfirmInterval = DefaultConfirmInterval
	}
	if o.Serving == nil {
		o.Serving = func() []string { return nil }
	}
	if o.Pace == nil {
		o.Pace = func() pace.Standing { return pace.Standing{ControllerID: -1, Slow: true} } // whom nobody hands over to
	}
	return &Service{o: o, drain: make(chan struct{})}
}

// Register makes the service known to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	controllerv1.RegisterControllerServiceServer(r, s)
}

// Drain ends the watches in an orderly way, now and from now on: a broker
// resumes at another controller, or at the next.
func (s *Service) Drain() { s.drainOnce.Do(func() { close(s.drain) }) }

// Watchers returns the number of open watches.
func (s *Service) Watchers() int64 { return s.watchers.Load() }
