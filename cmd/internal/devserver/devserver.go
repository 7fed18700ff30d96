// Package devserver runs `millstream dev` as a process of its own, for programs
// that look at it from outside: the demo, the crash test.
//
// It owns the process: Stop or Kill ends it, and no goroutine of this package
// outlives the process. The data directory is the caller's.
package devserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/server/ports"
)

// Server is a running `millstream dev`.
type Server struct {
	// GRPCAddr and HTTPAddr are where it listens, on loopback.
	GRPCAddr, HTTPAddr string

	cmd    *exec.Cmd
	output bytes.Buffer  // what it prints; read only after exited is closed
	exited chan struct{} // closed by the goroutine that waits for the process
	err    error         // how the process ended; read only after exited is closed
}

// Start starts the binary on free ports and waits until it is ready.
func Start(ctx context.Context, binary, dataDir string, args ...string) (*Server, error) {
	s := &Server{exited: make(chan struct{})}
	var err error
	if s.GRPCAddr, err = ports.Loopback(); err != nil {
		return nil, err
	}
	if s.HTTPAddr, err = ports.Loopback(s.GRPCAddr); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(binary, append([]string{"dev", "--data-dir", dataDir, "--grpc-addr", s.GRPCAddr, "--http-addr", s.HTTPAddr}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	if err := s.waitReady(ctx); err != nil {
		s.Kill()
		return nil, err
	}
	return s, nil
}

// PID is the number of the process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// waitReady asks /readyz until it answers 200, for at most 30 s.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTPAddr+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close() // nothing is read from it
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.exited:
			return fmt.Errorf("the server stopped before it was ready (%w):\n%s", s.exitError(), s.output.String())
		case <-ctx.Done():
			return fmt.Errorf("the server did not become ready: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// Stop asks the server to stop and waits until it has, with exit status 0.
func (s *Server) Stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.exited:
		if s.err != nil {
			return fmt.Errorf("the server ended with %w:\n%s", s.err, s.output.String())
		}
		return nil
	case <-time.After(10 * time.Second):
		s.Kill()
		return errors.New("the server did not stop within 10 s of SIGTERM")
	}
}

// Wait waits until the server has ended by itself, and returns how.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-s.exited:
		return s.exitError()
	case <-ctx.Done():
		return fmt.Errorf("the server goes on: %w", ctx.Err())
	}
}

// Kill ends the server with SIGKILL and waits until it is gone; after Stop it
// does nothing.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it may be gone already
	<-s.exited
}

// exitError says how the process ended. REQUIRES: it has.
func (s *Server) exitError() error {
	if s.err == nil {
		return errors.New("exit status 0")
	}
	return s.err
}

// Output returns what the server has printed. REQUIRES: it has ended.
func (s *Server) Output() string {
	<-s.exited
	return s.output.String()
}
