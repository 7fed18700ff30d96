package dev

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/api"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/caller"
	"github.com/millstream-io/millstream/server/config"
	"github.com/millstream-io/millstream/server/gateway"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/peers"
	"github.com/millstream-io/millstream/server/pki"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/tlsfile"
)

const (
	// httpStop is how long HTTP requests get once gRPC has stopped: they have
	// nothing to wait for any more.
	httpStop = 500 * time.Millisecond
	// handOverStop is how long others get to take over what a broker leads.
	handOverStop = 5 * time.Second
	// readyPoll is how often a broker that starts is asked whether it is
	// ready, healthPoll how often one that was.
	readyPoll, healthPoll = 2 * time.Millisecond, 250 * time.Millisecond
)

// listeners are those of a broker.
type listeners struct {
	grpc, http net.Listener    // http has TLS already
	tls        *tlsfile.Source // nil: there is none

	internal    net.Listener    // for brokers and controllers; in dev in process
	internalTLS *tlsfile.Source // nil: there is none
}

// openListeners opens the public ones, both or none, after the certificates
// that they need.
func openListeners(s *config.Serving, logger *slog.Logger, reg *prometheus.Registry) (*listeners, error) {
	l := &listeners{}
	if s.TLSCert != "" {
		var err error
		l.tls, err = tlsfile.Open(tlsfile.Options{
			Use: "public", Files: tlsfile.Files{Cert: s.TLSCert, Key: s.TLSKey}, Logger: logger, Registerer: reg,
		})
		if err != nil {
			return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
	}
	g, err := listen("grpc-addr", s.GRPCAddr)
	if err != nil {
		return nil, err
	}
	h, err := listen("http-addr", s.HTTPAddr)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	l.grpc, l.http = g, h
	if l.tls != nil {
		// HTTP/1.1 as without TLS: one way to serve, with the same limits.
		l.http = tls.NewListener(h, l.tls.ServerConfig("http/1.1"))
	}
	return l, nil
}

// close closes all; it is for a process that did not come to serve them, or
// has.
func (l *listeners) close() {
	_ = l.grpc.Close() // nothing was written
	_ = l.http.Close()
	if l.internal != nil {
		_ = l.internal.Close()
	}
}

// brokerRole is the parts of a broker. They are built by newBrokerRole and run
// as stages.
type brokerRole struct {
	logger  *slog.Logger
	lis     *listeners
	inside  *rpc.InProcess
	conn    *grpc.ClientConn // to inside
	mirror  *metadata.Mirror
	broker  *broker.Broker
	service *api.Service
	server  *rpc.Server
	gateway *gateway.Gateway

	// peers are the connections to the other brokers, internal the server that
	// they and the controllers call, and callers says who does.
	peers    *peers.Peers
	internal *rpc.Server
	callers  caller.Func // nil: there are no certificates
	audit    *audit      // nil: no history is kept

	// waiting says why the process is not ready although its broker is; nil:
	// nothing more is waited for.
	waiting atomic.Pointer[string]
	ready   chan struct{} // closed by health when the broker is first ready
}

// follow returns what follows the controllers that are named, and has those that
// were not configured known at the next start.
func (r *brokerRole) follow(cs *controllers, configured []string) func(addresses []string) {
	return func(addresses []string) {
		if named := cs.Follow(addresses); named != nil && len(configured) > 0 {
			r.broker.KeepControllers(configured, named)
		}
	}
}

// newBrokerRole builds the parts. Who calls it closes the controllers.
func newBrokerRole(cfg config.Config, version string, lis *listeners, controllers *controllers, logger *slog.Logger, reg *prometheus.Registry) (*brokerRole, error) {
	if cfg.AdvertisedAddr == "" {
		cfg.AdvertisedAddr = reachable(lis.grpc.Addr().String())
	}
	cfg.InternalAdvertisedAddr = internalAddress(&cfg, lis.internal)
	r := &brokerRole{logger: logger, lis: lis, inside: rpc.ListenInProcess(), ready: make(chan struct{})}
	mo := metadata.Options{
		Controllers: []controllerv1.ControllerServiceClient{controllers.Client()}, Found: r.follow(controllers, cfg.Controllers), BrokerID: cfg.BrokerID, Logger: logger,
	}
	var err error
	if cfg.AuditDir != "" {
		if r.audit, err = openAudit(cfg.AuditDir, cfg.BrokerID, logger); err != nil {
			return nil, err
		}
		mo.Told = r.audit.told
	}
	r.mirror = metadata.New(mo)
	po := peers.Options{Self: cfg.BrokerID, Metadata: r.mirror, Logger: logger, Registerer: reg}
	if lis.internalTLS != nil {
		r.callers = lis.internalTLS.Peer
		po.Credentials = func(id int32) credentials.TransportCredentials {
			return lis.internalTLS.ClientCredentialsOf(pki.RoleBroker, id)
		}
	}
	if r.peers, err = peers.New(po); err != nil {
		return nil, err
	}
	bo := cfg.Broker()
	bo.Controller, bo.Metadata, bo.Version, bo.Logger, bo.Registerer = controllers.Client(), r.mirror, version, logger, reg
	bo.Peers, bo.Callers = r.peers, r.callers
	if r.audit != nil {
		bo.Audit, bo.AuditGone = r.audit.of, r.audit.gone
	}
	if r.broker, err = broker.New(bo); err != nil {
		return nil, err
	}
	if r.service, err = api.New(api.Options{
		Broker: r.broker, Metadata: r.mirror, Controller: controllers.Client(), Peers: r.peers, Limits: cfg.API(), Version: version, Logger: logger, Registerer: reg,
	}); err != nil {
		return nil, err
	}
	so := cfg.Server()
	so.Logger, so.Registerer, so.FaultOf = logger, reg, api.FaultOf
	if lis.tls != nil {
		// Anybody may connect, and knows what it was told; so it is no warning.
		so.Credentials = lis.tls.ServerCredentials(slog.LevelDebug)
	}
	if r.server, err = rpc.NewServer(so); err != nil {
		return nil, err
	}
	r.service.Register(r.server)
	r.server.OnDrain(r.service.Drain)
	if r.internal, err = newInternalServer(&cfg, lis.internalTLS, logger, reg); err != nil {
		return nil, err
	}
	r.registerInternal()
	if r.conn, err = r.inside.Dial(); err != nil {
		return nil, err
	}
	r.gateway, err = gateway.New(gateway.Options{
		Conn: r.conn, Ready: r.notReady, Logger: logger, Registerer: reg, Limits: cfg.Gateway(),
		Metrics: promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}),
	})
	if err != nil {
		return nil, errors.Join(err, r.conn.Close())
	}
	return r, nil
}

// wait makes the process not ready for a reason, or ready for "".
func (r *brokerRole) wait(why string) {
	if why == "" {
		r.waiting.Store(nil)
	} else {
		r.waiting.Store(&why)
	}
	r.tellHealth()
}

// tellHealth makes gRPC's health service say what readiness is.
func (r *brokerRole) tellHealth() {
	ready := r.notReady() == nil
	r.server.SetServing("", ready)
	r.internal.SetServing("", ready)
}

// notReady returns why produce would not work now, or nil.
func (r *brokerRole) notReady() error {
	if why := r.waiting.Load(); why != nil {
		return errors.New(*why)
	}
	if err := r.broker.Failure(); err != nil {
		return fmt.Errorf("the log directory has failed: %w", err)
	}
	if !r.broker.Ready() {
		return errors.New("the broker has not joined the cluster yet")
	}
	return nil
}

// start starts the stages of a broker.
func (r *brokerRole) start(s *stages) {
	s.start("metadata mirror", r.mirror.Run)
	s.start("broker", r.broker.Run)
	s.start("internal gRPC server", r.serveInternal)
	s.start("health", r.health)
	s.start("HTTP server", func(ctx context.Context) error { return r.gateway.Run(ctx, r.lis.http, httpStop) })
	s.start("gRPC server", r.serve)
}

// serve serves gRPC until ctx ends, then stops in bounded time.
func (r *brokerRole) serve(ctx context.Context) error {
	group, ended := errgroup.WithContext(ctx)
	for _, l := range []net.Listener{r.lis.grpc, r.inside} {
		group.Go(func() error { return r.server.Serve(l) })
	}
	<-ended.Done() // asked to stop, or a listener failed
	r.handOver(context.WithoutCancel(ctx))
	r.wait("the server is stopping")
	r.server.Stop(context.WithoutCancel(ctx))
	err := group.Wait()
	r.service.Wait()
	return err
}

// handOver has others lead what this broker leads, before its clients are sent
// away.
func (r *brokerRole) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverStop)
	defer cancel()
	if err := r.broker.HandOver(ctx); err != nil {
		r.logger.Warn("leaderships not handed over before the stop", "err", err)
	}
}

// health tells gRPC's health service what readiness is, until ctx ends.
func (r *brokerRole) health(ctx context.Context) error {
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	was := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !was && r.broker.Ready() {
			was = true
			close(r.ready)
			tick.Reset(healthPoll)
		}
		if was {
			r.tellHealth()
		}
	}
}

// close releases what the stages leave behind.
func (r *brokerRole) close() error {
	err := errors.Join(r.conn.Close(), r.peers.Close())
	if r.audit != nil {
		err = errors.Join(err, r.audit.close())
	}
	return err
}
