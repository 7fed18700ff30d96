package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// connectRaw serves TCP and connects a client that sends hello and no more.
func connectRaw(t *testing.T, o Options, hello string) (s *Server, served <-chan error, client net.Conn) {
	t.Helper()
	o.Name, o.Logger = "test", slog.New(slog.DiscardHandler)
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if _, err := io.WriteString(client, hello); err != nil {
		t.Fatal(err)
	}
	return s, ended, client
}

// A client that connects and says nothing has no call to wait for; one that
// never ends its greeting is cut when calls are.
func TestStopDoesNotWaitForHandshakes(t *testing.T) {
	for name, c := range map[string]struct {
		hello string
		most  time.Duration
	}{
		"silent":     {"", time.Second},
		"half-heard": {"PRI * HTTP/2.0\r\n", 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s, served, client := connectRaw(t, Options{StopTimeout: 100 * time.Millisecond}, c.hello)
			began := time.Now()
			s.Stop(context.Background())
			if took := time.Since(began); took > c.most {
				t.Errorf("it took %s", took)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
			if _, err := io.Copy(io.Discard, client); err != nil && !isReset(err) {
				t.Errorf("the client was not cut off: %v", err)
			}
		})
	}
}

// isReset tells whether err is how a connection ends that was cut.
func isReset(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok
}

func TestConnectionsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, served, first := connectRaw(t, Options{MaxConnections: 1, Registerer: reg, StopTimeout: time.Millisecond}, "PRI * HTTP/2.0\r\n")
	second, err := net.Dial("tcp", first.RemoteAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	if _, err := io.WriteString(second, "not HTTP/2, so that it is cut off as soon as it is heard\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := second.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the second connection was heard though only one is allowed: %v", err)
	}
	if got := gaugeIn(t, reg, "millstream_rpc_connections"); got != 1 {
		t.Errorf("%v connections are open, not 1", got)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := second.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, second); err != nil && !isReset(err) {
		t.Errorf("the second connection was not heard: %v", err)
	}
	s.Stop(context.Background())
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// gaugeIn returns the value of a gauge.
func gaugeIn(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// An idle connection holds no read buffer: what gRPC holds for one is a
// quarter of a megabyte, and there may be 10,000.
func TestIdleConnectionsCostLittle(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("measured on Linux only")
	}
	const idle = 200
	s, err := NewServer(Options{Name: "test", Logger: slog.New(slog.DiscardHandler), StopTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	before := heap()
	for range idle {
		conn, err := grpc.NewClient(l.Addr().String(), append(ClientOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, err = grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
	}
	if each := (heap() - before) / idle; each > 100<<10 { // both ends of it
		t.Errorf("an idle connection holds %d bytes", each)
	}
	s.Stop(context.Background())
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func heap() int64 {
	for range 3 { // what is in pools goes with the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
