package tlsfile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/millstream-io/millstream/server/pki"
)

// listen returns a listener on loopback. The test closes it.
func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// shake lets a server and a client shake hands over a connection to host, and
// returns what became of it on both sides. The client reads, since a server
// that refuses it says so only then.
func shake(t *testing.T, server, client credentials.TransportCredentials, host string) (serverErr, clientErr error) {
	t.Helper()
	l := listen(t)
	served := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		conn, _, err := server.ServerHandshake(raw)
		if err == nil {
			_, err = conn.Write([]byte("x"))
			_ = conn.Close()
		}
		_ = raw.Close()
		served <- err
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	conn, _, clientErr := client.ClientHandshake(t.Context(), host+":9653", raw)
	if clientErr == nil {
		_, clientErr = io.ReadFull(conn, make([]byte, 1))
		clientErr = Explain(clientErr, host+":9653", time.Time{})
	}
	_ = raw.Close()
	return <-served, clientErr
}

// Two processes of a cluster accept each other when everything is right, and
// otherwise both say what is wrong.
func TestProcessesAcceptOnlyTheirCluster(t *testing.T) {
	const host = "c0.test"
	for _, c := range []struct {
		name           string
		spoil          func(e *env, a *pki.Authority)
		host           string
		server, client Problem // "": it did not notice
		says           []string
	}{
		{name: "all is right"},
		{name: "other host", host: "elsewhere.test", server: Refused, client: WrongHost, says: []string{"is for c0.test, not for elsewhere.test", "--host elsewhere.test"}},
		{
			name: "server of another authority", server: Refused, client: UnknownAuthority,
			spoil: func(e *env, _ *pki.Authority) {
				e.issue(e.authority("a2", "prod"), "c", pki.RoleController, "0", e.clock(), host)
			},
			says: []string{"millstream://prod/controller/0", "--internal-tls-ca"},
		},
		{
			name: "server is a broker", client: WrongRole, server: other,
			spoil: func(e *env, a *pki.Authority) { e.issue(a, "c", pki.RoleBroker, "0", e.clock(), host) },
			says:  []string{"millstream://prod/broker/0", "not a controller"},
		},
		{
			name: "server of another cluster", client: WrongCluster, server: other,
			spoil: func(e *env, a *pki.Authority) {
				// An authority that signs for two clusters.
				test, err := pki.NewAuthority("test", e.clock(), 1000*day)
				e.check(err)
				e.issue(test, "c", pki.RoleController, "0", e.clock(), host)
				e.write("trusted.ca", append(pki.EncodeCertificate(a.Cert), pki.EncodeCertificate(test.Cert)...))
			},
			says: []string{"millstream://test/controller/0", "another cluster"},
		},
		{
			name: "server for clients only", client: WrongUse, server: Refused,
			spoil: func(e *env, a *pki.Authority) { e.issue(a, "c", pki.RoleClient, "x", e.clock(), host) },
			says:  []string{"cannot be used"},
		},
		{
			name: "server has expired", client: Expired, server: Refused,
			spoil: func(e *env, a *pki.Authority) {
				e.issue(a, "c", pki.RoleController, "0", e.clock().Add(-9*day), host)
			},
			says: []string{"expired at 2026-11-26", "cert issue"},
		},
		{
			name: "client of another authority", server: UnknownAuthority, client: Refused,
			spoil: func(e *env, a *pki.Authority) {
				a2 := e.authority("a2", "prod")
				e.issue(a2, "b", pki.RoleBroker, "1", e.clock())
				e.write("b.ca", append(pki.EncodeCertificate(a.Cert), pki.EncodeCertificate(a2.Cert)...))
			},
			says: []string{"did not accept this side"},
		},
		{
			name: "client has expired", server: Expired, client: Refused,
			spoil: func(e *env, a *pki.Authority) { e.issue(a, "b", pki.RoleBroker, "1", e.clock().Add(-9*day)) },
			says:  []string{"did not accept this side"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			a := e.authority("trusted", "prod")
			e.write("b.ca", e.read("trusted.ca"))
			e.issue(a, "c", pki.RoleController, "0", e.clock(), host)
			e.issue(a, "b", pki.RoleBroker, "1", e.clock())
			if c.spoil != nil {
				c.spoil(e, a)
			}
			if c.host == "" {
				c.host = host
			}
			// The sources do not check their own files as those of a role would:
			// it is the other side that is asked.
			reg := prometheus.NewRegistry()
			so := e.options("c", "trusted", "", "")
			so.Registerer = reg
			server, err := Open(so)
			e.check(err)
			if c.name == "server of another cluster" {
				e.write("b.ca", e.read("trusted.ca"))
			}
			co := e.options("b", "b", "", "")
			client, err := Open(co)
			e.check(err)
			client.o.Role = pki.RoleBroker
			if strings.HasSuffix(c.name, "has expired") {
				e.pass(2 * day)
			}
			serverErr, clientErr := shake(t, server.ServerCredentials(slog.LevelWarn), client.ClientCredentials(pki.RoleController), c.host)
			check := func(side string, err error, want Problem) {
				t.Helper()
				if want == "" && err != nil || want != "" && want != other && ProblemOf(err) != want {
					t.Errorf("%s: got %v, want %s", side, err, want)
				}
			}
			check("server", serverErr, c.server)
			check("client", clientErr, c.client)
			for _, s := range c.says {
				if clientErr == nil || !strings.Contains(clientErr.Error(), s) {
					t.Errorf("the client does not say %q: %v", s, clientErr)
				}
			}
			if _, ok := errors.AsType[*PeerError](clientErr); c.client != "" && !ok {
				t.Errorf("the client's error is %T", clientErr)
			}
			if c.server != "" && c.server != other {
				if e.metric(reg, "refused_handshakes_total") != 1 || e.logged("connection refused") == 0 {
					t.Errorf("the refusal is not told\n%s", e.log.String())
				}
			}
		})
	}
}

func TestWhoDoesNotSpeakTLSIsNamed(t *testing.T) {
	e := newEnv(t)
	a := e.authority("a", "prod")
	e.issue(a, "b", pki.RoleBroker, "1", e.clock())
	s := e.open("b", "a", pki.RoleBroker, "1")
	l := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	e.check(err)
	_, _, err = s.ClientCredentials(pki.RoleController).ClientHandshake(t.Context(), l.Addr().String(), raw)
	_ = raw.Close()
	if ProblemOf(err) != NotTLS || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v", err)
	}
	<-done
}

// Of many refused connections the log shows one in a while, the metrics all.
func TestRefusalsDoNotFloodTheLog(t *testing.T) {
	e := newEnv(t)
	a := e.authority("a", "prod")
	e.issue(a, "b", pki.RoleBroker, "1", e.clock())
	o := e.options("b", "a", pki.RoleBroker, "1")
	reg := prometheus.NewRegistry()
	o.Registerer = reg
	s, err := Open(o)
	e.check(err)
	for range 2 {
		for range 5 {
			s.refused(&PeerError{Problem: Expired, Why: "it is over"}, slog.LevelWarn, "peer")
		}
		e.pass(refusalLogInterval)
	}
	if n, total := e.logged("connection refused"), e.metric(reg, "refused_handshakes_total"); n != 2 || total != 10 {
		t.Errorf("%d lines, %v counted", n, total)
	}
}

// answering serves a gRPC service that says who its caller is.
func answering(t *testing.T, s *Source) (addr string) {
	t.Helper()
	l := listen(t)
	server := grpc.NewServer(grpc.Creds(s.ServerCredentials(slog.LevelWarn)), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		i, err := PeerIdentity(stream.Context())
		if err == nil {
			_, err = s.Peer(stream.Context())
		}
		if err != nil {
			return status.Error(codes.PermissionDenied, err.Error())
		}
		stream.SetTrailer(metadata.Pairs("caller", i.String()))
		return nil
	}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// ask asks the service who is calling.
func ask(conn *grpc.ClientConn) (string, error) {
	var trailer metadata.MD
	err := conn.Invoke(context.Background(), "/x/Y", nil, nil, grpc.Trailer(&trailer), grpc.ForceCodecV2(nothing{}))
	if status.Code(err) == codes.Internal { // the handler answers nothing but its trailer
		err = nil
	}
	return strings.Join(trailer.Get("caller"), ","), err
}

// dial returns a connection that was not used yet. The test closes it.
func dial(t *testing.T, addr string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A server knows its callers by their certificates. When all certificates are
// replaced, down to the authority, connections that are open live on, and new
// ones use what is new; nothing is restarted.
func TestCertificatesAreReplacedUnderLiveConnections(t *testing.T) {
	e := newEnv(t)
	e.issueAll("prod")
	server := e.open("c", "trusted", pki.RoleController, "0")
	client := e.open("b", "trusted", pki.RoleBroker, "1")
	old := e.open("old", "old", pki.RoleBroker, "2")
	addr := answering(t, server)

	first := dial(t, addr, client.ClientCredentials(pki.RoleController))
	if who, err := ask(first); err != nil || who != "millstream://prod/broker/1" {
		t.Fatalf("got %q, %v", who, err)
	}
	e.issueAll("")
	e.pass(DefaultInterval)
	if who, err := ask(first); err != nil || who != "millstream://prod/broker/1" {
		t.Errorf("the open connection: %q, %v", who, err)
	}
	second := dial(t, addr, client.ClientCredentials(pki.RoleController))
	if who, err := ask(second); err != nil || who != "millstream://prod/broker/1" {
		t.Errorf("a new connection: %q, %v", who, err)
	}
	// Who still has what was before is refused, by both.
	third := dial(t, addr, old.ClientCredentials(pki.RoleController))
	if _, err := ask(third); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no authority that is trusted") {
		t.Errorf("who has the old certificates: %v", err)
	}
	if e.logged("certificate taken up") != 2 {
		t.Errorf("\n%s", e.log.String())
	}
}

// issueAll makes an authority and certificates of a controller and a broker;
// the first time also those that nobody replaces.
func (e *env) issueAll(first string) {
	e.t.Helper()
	a := e.authority("trusted", "prod")
	e.issue(a, "c", pki.RoleController, "0", e.clock(), "127.0.0.1")
	e.issue(a, "b", pki.RoleBroker, "1", e.clock())
	if first != "" {
		e.write("old.ca", e.read("trusted.ca"))
		e.issue(a, "old", pki.RoleBroker, "2", e.clock())
	}
}

// A caller without TLS has no identity, and one without a certificate does not
// come to ask.
func TestCallersWithoutCertificateAreNobody(t *testing.T) {
	if _, err := PeerIdentity(t.Context()); ProblemOf(err) != NoCertificate {
		t.Errorf("got %v", err)
	}
	if _, err := identityOf(nil); ProblemOf(err) != NoCertificate {
		t.Errorf("got %v", err)
	}
	// What was sent and not verified says nothing.
	e := newEnv(t)
	a := e.authority("a", "prod")
	e.issue(a, "b", pki.RoleBroker, "1", e.clock())
	s := e.open("b", "a", pki.RoleBroker, "1")
	unverified := credentials.TLSInfo{State: tls.ConnectionState{PeerCertificates: []*x509.Certificate{s.current().leaf}}}
	if _, err := identityOf(unverified); ProblemOf(err) != NoCertificate {
		t.Errorf("got %v", err)
	}

	e.issue(a, "c", pki.RoleController, "0", e.clock(), "127.0.0.1")
	addr := answering(t, e.open("c", "a", pki.RoleController, "0"))
	roots, err := Roots(e.path("a.ca"), e.clock())
	e.check(err)
	for name, creds := range map[string]credentials.TransportCredentials{
		"no certificate": credentials.NewTLS(&tls.Config{RootCAs: roots, Time: e.clock}),
		"no TLS":         insecure.NewCredentials(),
	} {
		if who, err := ask(dial(t, addr, creds)); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: got %q, %v", name, who, err)
		}
	}
}

// nothing is a codec of messages that are empty.
type nothing struct{}

func (nothing) Marshal(any) (mem.BufferSlice, error) { return nil, nil }
func (nothing) Unmarshal(mem.BufferSlice, any) error { return nil }
func (nothing) Name() string                         { return "proto" }
