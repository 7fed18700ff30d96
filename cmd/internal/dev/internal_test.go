package dev

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/config"
	"github.com/millstream-io/millstream/server/pki"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/tlsfile"
)

// as returns the credentials of somebody with these certificates.
func (c *certs) as(files tlsfile.Files) credentials.TransportCredentials {
	c.t.Helper()
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := c.config()
	cfg.Certificates = []tls.Certificate{pair}
	return credentials.NewTLS(cfg)
}

// The internal listener of a broker is where the metadata says, and serves
// brokers and controllers of its cluster alone.
func TestTheInternalListenerServesTheClusterAlone(t *testing.T) {
	s := launchSecure(t)
	bc := s.broker(1, s.issue("b", pki.RoleBroker, "1"))
	broker, err := launch(t, func(ctx context.Context, o Options) error { return RunBroker(ctx, bc, o) })
	if err != nil {
		t.Fatal(err)
	}
	controller := s.as(s.issue("c2", pki.RoleController, "2"))
	watch, err := controllerv1.NewControllerServiceClient(dialTLS(t, s.controller.GRPCAddr, controller)).WatchMetadata(t.Context(), &controllerv1.WatchMetadataRequest{BrokerId: 1})
	if err != nil {
		t.Fatal(err)
	}
	frame, err := watch.Recv()
	if err != nil {
		t.Fatal(err)
	}
	addr := ""
	for _, c := range frame.GetChanges() {
		if b := c.GetBroker(); b != nil {
			addr = b.GetInternalAddress()
		}
	}
	if addr != broker.InternalAddr || addr == broker.GRPCAddr {
		t.Fatalf("the metadata has it at %q, it is at %s", addr, broker.InternalAddr)
	}
	ask := func(creds credentials.TransportCredentials) error {
		_, err := grpc_health_v1.NewHealthClient(dialTLS(t, addr, creds)).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		return err
	}
	for _, c := range []struct {
		name  string
		creds credentials.TransportCredentials
		want  codes.Code
	}{
		{"another broker", s.as(s.issue("b2", pki.RoleBroker, "2")), codes.OK},
		{"a controller", controller, codes.OK},
		{"a client", s.as(s.issue("x", pki.RoleClient, "1")), codes.PermissionDenied},
		{"somebody without a certificate", credentials.NewTLS(s.config()), codes.Unavailable},
	} {
		if err := ask(c.creds); status.Code(err) != c.want {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	// What brokers forward is of brokers alone.
	for _, c := range []struct {
		name  string
		creds credentials.TransportCredentials
		want  codes.Code
	}{
		{"another broker", s.as(s.issue("b3", pki.RoleBroker, "3")), codes.NotFound},
		{"a controller", controller, codes.PermissionDenied},
	} {
		_, err := pb.NewTopicServiceClient(dialTLS(t, addr, c.creds)).GetTopic(t.Context(), &pb.GetTopicRequest{Topic: "nowhere"})
		if status.Code(err) != c.want {
			t.Errorf("%s that forwards: got %v, want %s", c.name, err, c.want)
		}
	}
	if _, err := grpc_health_v1.NewHealthClient(dial(t, addr)).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: %v", err)
	}
	if err := broker.stop(); err != nil {
		t.Error(err)
	}
}

func TestWhereOthersReachTheInternalListener(t *testing.T) {
	at := func(ip string) net.Listener { return &fixed{addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 7}} }
	inside := rpc.ListenInProcess()
	defer func() { _ = inside.Close() }()
	for name, c := range map[string]struct {
		advertised, internal string
		l                    net.Listener
		want                 string
	}{
		"an address of its own is taken":           {"b1.example.org:9650", "", at("10.0.0.1"), "10.0.0.1:7"},
		"without one, the host that clients use":   {"b1.example.org:9650", "", at("0.0.0.0"), "b1.example.org:7"},
		"and on both kinds of networks":            {"b1.example.org:9650", "", at("::"), "b1.example.org:7"},
		"what is set comes first":                  {"b1.example.org:9650", "b1.internal:9", at("10.0.0.1"), "b1.internal:9"},
		"nobody reaches what is in the process":    {"127.0.0.1:9650", "", inside, ""},
		"an address for IPv6 gets its parentheses": {"b1.example.org:9650", "", at("::1"), "[::1]:7"},
	} {
		t.Run(name, func(t *testing.T) {
			var cfg config.Config
			cfg.AdvertisedAddr, cfg.InternalAdvertisedAddr = c.advertised, c.internal
			if got := internalAddress(&cfg, c.l); got != c.want {
				t.Errorf("it is %q, want %q", got, c.want)
			}
		})
	}
}

// fixed is a listener of which only the address counts.
type fixed struct {
	net.Listener
	addr net.Addr
}

func (f *fixed) Addr() net.Addr { return f.addr }
