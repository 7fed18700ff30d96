package rpc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"
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
