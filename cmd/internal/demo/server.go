package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"syscall"
	"time"
)

// server is a `millstream dev` process.
type server struct {
	cmd      *exec.Cmd
	grpcAddr string
	httpAddr string
	stderr   bytes.Buffer
	exited   chan error // receives the result of Wait once; never closed
}

// startServer starts the binary on free ports and waits until it is ready.
func startServer(ctx context.Context, binary, dataDir string) (*server, error) {
	s := &server{exited: make(chan error, 1)}
	var err error
	if s.grpcAddr, err = freeAddr(); err != nil {
		return nil, err
	}
	if s.httpAddr, err = freeAddr(); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(binary, "dev", "--data-dir", dataDir, "--grpc-addr", s.grpcAddr, "--http-addr", s.httpAddr)
	s.cmd.Stdout, s.cmd.Stderr = &s.stderr, &s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.exited <- s.cmd.Wait() }()
	if err := s.waitReady(ctx); err != nil {
		s.kill()
		return nil, err
	}
	return s, nil
}

// freeAddr returns a loopback address that nothing listens on now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// waitReady asks /readyz until it answers 200, for at most 30 s.
func (s *server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.httpAddr+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-s.exited:
			s.exited <- err
			return fmt.Errorf("the server stopped: %w\n%s", errors.Join(err, errStopped), s.stderr.String())
		case <-ctx.Done():
			return fmt.Errorf("the server did not become ready: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

var errStopped = errors.New("before it was ready")

// stop asks the server to stop and waits until it has.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-s.exited:
		s.exited <- err
		if err != nil {
			return fmt.Errorf("the server ended with %w\n%s", err, s.stderr.String())
		}
		return nil
	case <-time.After(10 * time.Second):
		s.kill()
		return errors.New("the server did not stop within 10 s of SIGTERM")
	}
}

// kill ends the server at once; it is a no-op after stop.
func (s *server) kill() {
	select {
	case err := <-s.exited:
		s.exited <- err
	default:
		_ = s.cmd.Process.Kill() // it may be gone already
		s.exited <- <-s.exited
	}
}
