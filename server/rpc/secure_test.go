package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/pki"
)

// certificate returns a certificate for 127.0.0.1 and the authority that it is
// of.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	now := time.Now()
	a, err := pki.NewAuthority("test", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := a.Issue(pki.Request{Role: pki.RoleServer, ID: "s", Hosts: []string{"127.0.0.1"}, NotAfter: now.Add(time.Hour)}, now)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Cert)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, roots
}

// A server with TLS serves nobody without it over a network, and its own
// process as it is.
func TestOnlyTheOwnProcessDoesWithoutTLS(t *testing.T) {
	pair, roots := certificate(t)
	s, inside := serve(t, &scripted{}, Options{Credentials: credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}})})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	check := func(conn *grpc.ClientConn) error {
		_, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		return err
	}
	if err := check(inside); err != nil {
		t.Errorf("in process: %v", err)
	}
	for name, c := range map[string]struct {
		creds credentials.TransportCredentials
		want  codes.Code
	}{
		"with TLS":    {credentials.NewTLS(&tls.Config{RootCAs: roots}), codes.OK},
		"without TLS": {insecure.NewCredentials(), codes.Unavailable},
	} {
		conn, err := grpc.NewClient(l.Addr().String(), append(ClientOptions(), grpc.WithTransportCredentials(c.creds))...)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(conn); status.Code(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		_ = conn.Close()
	}
	s.Stop(t.Context())
}

// Authorize is asked before every call, whatever its service, and what it says
// is told as what a handler says.
func TestEveryCallIsAuthorized(t *testing.T) {
	var mu sync.Mutex // guards asked
	var asked []string
	svc := &scripted{
		get: func(context.Context, *pb.GetTopicRequest) (*pb.GetTopicResponse, error) {
			t.Error("a call that is not allowed was carried out")
			return nil, nil
		},
		read: func(*pb.ReadRequest, grpc.ServerStreamingServer[pb.ReadResponse]) error {
			t.Error("a stream that is not allowed was opened")
			return nil
		},
	}
	_, conn := serve(t, svc, Options{
		Logger: slog.New(slog.DiscardHandler),
		Authorize: func(_ context.Context, method string) error {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, method)
			return &Fault{Code: codes.PermissionDenied, Reason: pb.ErrorReason_ERROR_REASON_INVALID_FIELD, Message: "no"}
		},
	})
	denied := func(err error) {
		t.Helper()
		wantFault(t, err, codes.PermissionDenied, pb.ErrorReason_ERROR_REASON_INVALID_FIELD)
	}
	_, err := pb.NewTopicServiceClient(conn).GetTopic(t.Context(), &pb.GetTopicRequest{})
	denied(err)
	read, err := pb.NewBrokerServiceClient(conn).Read(t.Context(), &pb.ReadRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = read.Recv()
	denied(err)
	reflection, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = reflection.Recv()
	denied(err)
	_, err = grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	denied(err)
	want := []string{
		pb.TopicService_GetTopic_FullMethodName, pb.BrokerService_Read_FullMethodName,
		grpc_reflection_v1.ServerReflection_ServerReflectionInfo_FullMethodName, grpc_health_v1.Health_Check_FullMethodName,
	}
	if mu.Lock(); !slices.Equal(asked, want) {
		t.Errorf("asked for %q", asked)
	}
	mu.Unlock()
}
