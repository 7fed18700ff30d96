package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
)

// retryAfterStop is when a client may try a stopping server again.
const retryAfterStop = time.Second

// Server is a gRPC server with what all of ours have: the codec, limits, typed
// errors, health, reflection (v1 and v1alpha), channelz and a stop that ends.
//
// Its methods may be called from any goroutine, but register before Serve.
type Server struct {
	opts    Options
	grpc    *grpc.Server
	health  *health.Server
	metrics *serverMetrics
	conns   connections

	draining  chan struct{} // closed by Stop
	abandoned sync.WaitGroup

	mu      sync.Mutex // guards onDrain, stopped
	onDrain []func()
	stopped bool
}

// NewServer returns a server that serves nothing yet.
func NewServer(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Server{opts: o.withDefaults(), health: health.NewServer(), draining: make(chan struct{})}
	var err error
	if s.metrics, err = newServerMetrics(o.Registerer, o.Name, &s.conns); err != nil {
		return nil, fmt.Errorf("register the metrics of server %s: %w", o.Name, err)
	}
	s.grpc = grpc.NewServer(append(s.opts.transportOptions(),
		grpc.UnaryInterceptor(s.unary), grpc.StreamInterceptor(s.stream))...)
	grpc_health_v1.RegisterHealthServer(s, s.health)
	reflection.Register(s)
	channelz.RegisterChannelzServiceToServer(s)
	s.SetServing("", false)
	return s, nil
}

// RegisterService registers a service, whose methods answer MALFORMED_REQUEST
// to what does not decode.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.grpc.RegisterService(decodable(desc, s.opts.MaxRequestBytes, &sharedPool, &s.conns), impl)
}

// GetServiceInfo returns the registered services; reflection asks for it.
func (s *Server) GetServiceInfo() map[string]grpc.ServiceInfo { return s.grpc.GetServiceInfo() }

// SetServing says whether a service is healthy; the empty name stands for the
// whole server.
func (s *Server) SetServing(service string, serving bool) {
	st := grpc_health_v1.HealthCheckResponse_NOT_SERVING
	if serving {
		st = grpc_health_v1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus(service, st)
}

// OnDrain adds a function that Stop calls before it waits for calls: it tells
// long streams to end, and does not wait for them.
func (s *Server) OnDrain(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onDrain = append(s.onDrain, f)
}

// Serve serves a listener until Stop, which is no error, or until the listener
// fails. It closes the listener. It may be called for several listeners at a
// time.
func (s *Server) Serve(l net.Listener) error {
	if err := s.grpc.Serve(newListener(l, &s.conns, s.opts.MaxConnections)); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// Stop ends the server: health says NOT_SERVING, long streams are told to end,
// no connection is accepted any more, calls get Options.StopTimeout to finish,
// and what is left is cut. When ctx ends it is cut at once. Stop returns when
// every handler has returned; calling it again does nothing.
func (s *Server) Stop(ctx context.Context) {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return
	}
	s.stopped = true
	hooks := s.onDrain
	s.mu.Unlock()

	s.health.Shutdown()
	close(s.draining)
	for _, f := range hooks {
		f()
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.StopTimeout)
	defer cancel()
	// WHY: GracefulStop alone waits for ever behind data that a client does
	// not read. Stop makes it return.
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		s.grpc.GracefulStop()
	}()
	s.conns.cutSilent()
	select {
	case <-finished:
	case <-ctx.Done():
		s.opts.Logger.Info("calls cut at stop", slog.String("server", s.opts.Name))
		s.conns.cutAll()
		s.grpc.Stop()
		<-finished
	}
	s.abandoned.Wait()
}

// serverMetrics is what a server counts.
type serverMetrics struct {
	calls   *prometheus.CounterVec
	streams prometheus.Gauge
	panics  prometheus.Counter
}

func newServerMetrics(reg prometheus.Registerer, name string, conns *connections) (*serverMetrics, error) {
	labels := prometheus.Labels{"server": name}
	m := &serverMetrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millstream_rpc_calls_total", ConstLabels: labels,
			Help: "Calls that have ended, streams included, by method and gRPC code.",
		}, []string{"method", "code"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millstream_rpc_streams", ConstLabels: labels,
			Help: "Streams that are open.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "millstream_rpc_panics_total", ConstLabels: labels,
			Help: "Calls that ended in a panic; each is in the log.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millstream_rpc_connections", ConstLabels: labels,
		Help: "Connections that are open. When there are max-connections, more wait to be accepted.",
	}, func() float64 { return float64(conns.count()) })
	for _, c := range []prometheus.Collector{m.calls, m.streams, m.panics, open} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
