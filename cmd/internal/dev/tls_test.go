package dev

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	controllerconfig "github.com/millstream-io/millstream/controller/config"
	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/config"
	"github.com/millstream-io/millstream/server/pki"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/tlsfile"
)

// certs is an authority with a directory of what it has issued.
type certs struct {
	t         *testing.T
	dir       string
	authority *pki.Authority
}

func newCerts(t *testing.T, cluster string) *certs { //nolint:unparam // its stories have one so far
	t.Helper()
	a, err := pki.NewAuthority(cluster, time.Now(), 48*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c := &certs{t, t.TempDir(), a}
	c.write("ca.crt", pki.EncodeCertificate(a.Cert))
	return c
}

func (c *certs) write(name string, text []byte) {
	c.t.Helper()
	if err := os.WriteFile(c.path(name), text, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *certs) path(name string) string { return filepath.Join(c.dir, name) }

// issue issues a certificate for 127.0.0.1 into NAME.crt and NAME.key and
// returns the files.
func (c *certs) issue(name string, role pki.Role, id string) tlsfile.Files {
	c.t.Helper()
	now := time.Now()
	cert, key, err := c.authority.Issue(pki.Request{Role: role, ID: id, Hosts: []string{"127.0.0.1"}, NotAfter: now.Add(24 * time.Hour)}, now)
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := pki.EncodeKey(key)
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(name+".crt", pki.EncodeCertificate(cert))
	c.write(name+".key", text)
	return tlsfile.Files{Cert: c.path(name + ".crt"), Key: c.path(name + ".key"), CA: c.path("ca.crt")}
}

// config returns what a client needs that trusts the authority.
func (c *certs) config() *tls.Config {
	c.t.Helper()
	roots, err := tlsfile.Roots(c.path("ca.crt"), time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	return &tls.Config{RootCAs: roots}
}

func dialTLS(t *testing.T, addr string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// get sends a request over HTTP, or HTTPS.
func get(t *testing.T, c *tls.Config, url string) (int, string, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode, string(body), err
}

// With a certificate both public listeners speak TLS and nothing else; what
// REST does inside the process goes on without.
func TestDevSpeaksTLS(t *testing.T) {
	cs := newCerts(t, "prod")
	files := cs.issue("s", pki.RoleServer, "s")
	c := testConfig(t.TempDir())
	c.TLSCert, c.TLSKey, c.Topics = files.Cert, files.Key, []string{"a"}
	r := launchDev(t, c)
	if !r.TLS {
		t.Error("the banner does not know")
	}
	if err := appendOne(t, dialTLS(t, r.GRPCAddr, credentials.NewTLS(cs.config())), "a"); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{
		"/readyz": "ready", "/healthz": "ok", "/v1/topics/a/partitions/0/records": `"text":"x"`,
		"/metrics": `millstream_tls_certificate_expiry_seconds{use="public"} 8`, // 86,4xx s
	} {
		code, body, err := get(t, cs.config(), "https://"+r.HTTPAddr+path)
		if err != nil || code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, %v, %s", path, code, err, body)
		}
	}
	if err := appendOne(t, dial(t, r.GRPCAddr), "a"); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: %v", err)
	}
	if code, _, err := get(t, nil, "http://"+r.HTTPAddr+"/readyz"); err == nil && code != http.StatusBadRequest {
		t.Errorf("HTTP without TLS: %d", code)
	}
	stranger := newCerts(t, "prod")
	if err := appendOne(t, dialTLS(t, r.GRPCAddr, credentials.NewTLS(stranger.config())), "a"); status.Code(err) != codes.Unavailable {
		t.Errorf("by who does not trust it: %v", err)
	}
	if _, _, err := get(t, stranger.config(), "https://"+r.HTTPAddr+"/readyz"); err == nil {
		t.Error("HTTP by who does not trust it")
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

// What is wrong with certificates is said at the start, with the flags that
// name them.
func TestWrongCertificatesStopTheStart(t *testing.T) {
	cs := newCerts(t, "prod")
	broker, other := cs.issue("b", pki.RoleBroker, "1"), cs.issue("o", pki.RoleBroker, "2")
	public := testConfig(t.TempDir())
	public.TLSCert, public.TLSKey = broker.Cert, other.Key
	bc := config.Default()
	bc.DataDir, bc.GRPCAddr, bc.HTTPAddr, bc.InternalAddr = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	bc.BrokerID, bc.InternalTLSCert, bc.InternalTLSKey, bc.InternalTLSCA = 1, other.Cert, other.Key, other.CA
	cc := controllerconfig.Default()
	cc.DataDir, cc.ControllerAddr = t.TempDir(), "127.0.0.1:0"
	cc.InternalTLSCert, cc.InternalTLSKey, cc.InternalTLSCA = broker.Cert, broker.Key, broker.CA
	for _, c := range []struct {
		run  func(context.Context, Options) error
		want tlsfile.Problem
		says []string
	}{
		{func(ctx context.Context, o Options) error { return RunDev(ctx, public, o) }, tlsfile.KeyOfOther, []string{"--tls-cert", "o.key"}},
		{func(ctx context.Context, o Options) error { return RunBroker(ctx, bc, o) }, tlsfile.WrongID, []string{"--internal-tls-cert", "o.crt", "--id 1"}},
		{func(ctx context.Context, o Options) error { return RunController(ctx, cc, o) }, tlsfile.WrongRole, []string{"--internal-tls-cert", "b.crt", "--role controller"}},
	} {
		_, err := launch(t, c.run)
		if tlsfile.ProblemOf(err) != c.want {
			t.Errorf("got %v", err)
			continue
		}
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q does not say %q", err, s)
			}
		}
	}
}

// secure is a controller and what its brokers need, all with certificates.
type secure struct {
	*certs
	controller *running
}

func launchSecure(t *testing.T) *secure {
	t.Helper()
	cs := newCerts(t, "prod")
	files := cs.issue("c", pki.RoleController, "0")
	cc := controllerconfig.Default()
	cc.DataDir, cc.ControllerAddr = t.TempDir(), "127.0.0.1:0"
	cc.InternalTLSCert, cc.InternalTLSKey, cc.InternalTLSCA = files.Cert, files.Key, files.CA
	r, err := launch(t, func(ctx context.Context, o Options) error { return RunController(ctx, cc, o) })
	if err != nil {
		t.Fatal(err)
	}
	return &secure{cs, r}
}

// broker returns the settings of a broker with certificates of its own.
func (s *secure) broker(id int32, files tlsfile.Files) config.Config {
	c := config.Default()
	c.DataDir, c.GRPCAddr, c.HTTPAddr, c.InternalAddr, c.Controllers = s.t.TempDir(), "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", []string{s.controller.GRPCAddr}
	c.BrokerID, c.InternalTLSCert, c.InternalTLSKey, c.InternalTLSCA = id, files.Cert, files.Key, files.CA
	return c
}

// A controller and a broker that know each other by certificates work as those
// without.
func TestControllerAndBrokerWithCertificates(t *testing.T) {
	s := launchSecure(t)
	bc := s.broker(1, s.issue("b", pki.RoleBroker, "1"))
	broker, err := launch(t, func(ctx context.Context, o Options) error { return RunBroker(ctx, bc, o) })
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, broker.GRPCAddr)
	if _, err := pb.NewTopicServiceClient(conn).CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "a", ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	if err := appendOne(t, conn, "a"); err != nil {
		t.Error(err)
	}
	if err := broker.stop(); err != nil {
		t.Error(err)
	}
}

// Whoever calls a controller is who its certificate says, whatever its request
// says; and it serves nobody but brokers and controllers of its cluster.
func TestControllersServeOnlyWhomTheCertificateNames(t *testing.T) {
	s := launchSecure(t)
	for _, c := range []struct {
		name    string
		role    pki.Role
		id      string
		as      int32  // the broker that its requests name
		says    string // "": it is served
		watches bool
	}{
		{"itself", pki.RoleBroker, "1", 1, "", true},
		{"another broker", pki.RoleBroker, "1", 2, "broker 2, and its caller is millstream://prod/broker/1", false},
		{"a controller", pki.RoleController, "1", 1, "its caller is millstream://prod/controller/1", true},
		{"a client", pki.RoleClient, "1", 1, "only brokers and controllers are served, and the caller is millstream://prod/client/1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := s.issue("x", c.role, c.id)
			pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
			if err != nil {
				t.Fatal(err)
			}
			cfg := s.config()
			cfg.Certificates = []tls.Certificate{pair}
			conn := dialTLS(t, s.controller.GRPCAddr, credentials.NewTLS(cfg))
			client := controllerv1.NewControllerServiceClient(conn)
			check := func(call string, err error, served bool) {
				t.Helper()
				if served {
					if err != nil {
						t.Errorf("%s: %v", call, err)
					}
					return
				}
				if status.Code(err) != codes.PermissionDenied || rpc.RequestErrorOf(err).GetReason() != pb.ErrorReason_ERROR_REASON_WRONG_IDENTITY || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: got %v", call, err)
				}
			}
			registered, err := client.RegisterBroker(t.Context(), &controllerv1.RegisterBrokerRequest{
				BrokerId: c.as, DirectoryId: make([]byte, 16), IncarnationId: make([]byte, 16), Address: "127.0.0.1:1",
			})
			check("RegisterBroker", err, c.says == "")
			_, err = client.Heartbeat(t.Context(), &controllerv1.HeartbeatRequest{BrokerId: c.as, BrokerEpoch: max(registered.GetBrokerEpoch(), 1)})
			check("Heartbeat", err, c.says == "")
			watch, err := client.WatchMetadata(t.Context(), &controllerv1.WatchMetadataRequest{BrokerId: c.as})
			if err == nil {
				_, err = watch.Recv()
			}
			check("WatchMetadata", err, c.watches)
			if c.role == pki.RoleClient {
				_, err = grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
				check("health", err, false)
				_, err = client.DeleteTopic(t.Context(), &controllerv1.DeleteTopicRequest{Topic: "a"})
				check("DeleteTopic", err, false)
			}
		})
	}
	if err := appendOne(t, dial(t, s.controller.GRPCAddr), "a"); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: %v", err)
	}
	if err := appendOne(t, dialTLS(t, s.controller.GRPCAddr, credentials.NewTLS(s.config())), "a"); status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v", err)
	}
}

// A broker believes nobody to be a controller who does not show it, and says
// why; when the controller is put right, it goes on by itself.
func TestBrokersWaitForARealController(t *testing.T) {
	cs := newCerts(t, "prod")
	right := cs.issue("c", pki.RoleController, "0")
	// Something at the controller's address that is a broker.
	wrong := cs.issue("w", pki.RoleBroker, "9")
	l, err := listen("addr", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	pair, err := tls.LoadX509KeyPair(wrong.Cert, wrong.Key)
	if err != nil {
		t.Fatal(err)
	}
	impostor := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}})), grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		t.Error("the broker has called it")
		return nil
	}))
	served := make(chan error, 1)
	go func() { served <- impostor.Serve(l) }()

	bc := config.Default()
	bc.DataDir, bc.GRPCAddr, bc.HTTPAddr, bc.InternalAddr, bc.Controllers = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", []string{addr}
	files := cs.issue("b", pki.RoleBroker, "1")
	bc.BrokerID, bc.InternalTLSCert, bc.InternalTLSKey, bc.InternalTLSCA = 1, files.Cert, files.Key, files.CA
	log := &watchedLog{text: "millstream://prod/broker/9, not a controller", seen: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- RunBroker(ctx, bc, Options{Version: "v0", Logger: slog.New(slog.NewTextHandler(log, nil)), OnReady: func(Banner) { close(ready) }})
	}()
	select {
	case <-log.seen:
	case err := <-ended:
		t.Fatalf("the broker ended: %v", err)
	}
	impostor.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}

	cc := controllerconfig.Default()
	cc.DataDir, cc.ControllerAddr = t.TempDir(), addr
	cc.InternalTLSCert, cc.InternalTLSKey, cc.InternalTLSCA = right.Cert, right.Key, right.CA
	if _, err := launch(t, func(ctx context.Context, o Options) error { return RunController(ctx, cc, o) }); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the broker ended: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// watchedLog is a log in which a text is waited for.
type watchedLog struct {
	text string
	seen chan struct{} // closed when the text has been written
	once sync.Once
}

func (l *watchedLog) Write(b []byte) (int, error) {
	if strings.Contains(string(b), l.text) {
		l.once.Do(func() { close(l.seen) })
	}
	return len(b), nil
}
