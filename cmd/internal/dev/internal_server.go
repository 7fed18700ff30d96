package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	"github.com/millstream-io/millstream/server/api"
	"github.com/millstream-io/millstream/server/caller"
	"github.com/millstream-io/millstream/server/config"
	"github.com/millstream-io/millstream/server/pki"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/tlsfile"
)

// newInternalServer returns the server for the other brokers and the
// controllers; with certificates it serves nobody else.
func newInternalServer(cfg *config.Config, certs *tlsfile.Source, logger *slog.Logger, reg *prometheus.Registry) (*rpc.Server, error) {
	so := cfg.InternalServer()
	so.Logger, so.Registerer, so.FaultOf = logger, reg, internalFaultOf
	if certs != nil {
		so.Credentials, so.Authorize = certs.ServerCredentials(slog.LevelWarn), authorizeInternal(certs.Peer)
	}
	return rpc.NewServer(so)
}

// internalFaultOf says how an error of an internal service is told to who
// called it.
func internalFaultOf(err error) *rpc.Fault {
	if e, ok := errors.AsType[*caller.Error](err); ok {
		return e.Fault()
	}
	return api.FaultOf(err)
}

// registerInternal registers the services that brokers and controllers call.
// Each asks r.callers who calls, and has long streams end by r.internal.OnDrain.
func (r *brokerRole) registerInternal() {
	replicationv1.RegisterReplicationServiceServer(r.internal, r.broker.Replication())
	r.service.RegisterInternal(r.internal)
	r.internal.OnDrain(r.service.DrainInternal)
}

// forwardedServices are those for what brokers forward, which nobody but
// brokers may.
const forwardedServices = "/millstream.v1."

// authorizeInternal lets in brokers and controllers, and brokers alone to the
// services for what they forward.
func authorizeInternal(f caller.Func) func(context.Context, string) error {
	return func(ctx context.Context, method string) error {
		i, err := caller.Member(ctx, f)
		if err != nil {
			return err
		}
		if strings.HasPrefix(method, forwardedServices) && i.Role != pki.RoleBroker {
			return &caller.Error{Why: fmt.Sprintf("only brokers forward, and the caller is %s", i)}
		}
		return nil
	}
}

// serveInternal serves brokers and controllers until ctx ends, then stops in
// bounded time.
func (r *brokerRole) serveInternal(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- r.internal.Serve(r.lis.internal) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	r.internal.Stop(context.WithoutCancel(ctx))
	r.service.WaitInternal()
	return <-served
}

// internalAddress returns where other processes reach the listener for them;
// empty: none does, since it is in process. cfg has its advertised address.
func internalAddress(cfg *config.Config, l net.Listener) string {
	if cfg.InternalAdvertisedAddr != "" {
		return cfg.InternalAdvertisedAddr
	}
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return ""
	}
	if !tcp.IP.IsUnspecified() {
		return tcp.String()
	}
	host, _, err := net.SplitHostPort(cfg.AdvertisedAddr)
	if err != nil {
		return tcp.String()
	}
	_, port, _ := net.SplitHostPort(tcp.String()) // the address of a listener has one
	return net.JoinHostPort(host, port)
}
