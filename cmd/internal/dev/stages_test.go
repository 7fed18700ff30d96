package dev

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal remembers what happened.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) write(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) stage(s *stages, name string) {
	up := make(chan struct{})
	s.start(name, func(ctx context.Context) error {
		j.write("+" + name)
		close(up)
		<-ctx.Done()
		j.write("-" + name)
		return ctx.Err()
	})
	<-up
}

func TestStagesStopInReverse(t *testing.T) {
	var j journal
	s := newStages()
	for _, name := range []string{"controller", "mirror", "broker", "http", "grpc"} {
		j.stage(s, name)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	want := "+controller +mirror +broker +http +grpc -grpc -http -broker -mirror -controller"
	if got := strings.Join(j.lines, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAStageThatFailsIsNamed(t *testing.T) {
	var j journal
	s := newStages()
	j.stage(s, "controller")
	broken := errors.New("disk on fire")
	s.start("broker", func(context.Context) error { return broken })
	err := s.wait(t.Context(), nil)
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "broker:") {
		t.Errorf("got %v", err)
	}
	if err := s.stop(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if !slices.Contains(j.lines, "-controller") {
		t.Error("the stage before was not stopped")
	}
}

func TestAStageMustNotEndByItself(t *testing.T) {
	s := newStages()
	s.start("mirror", func(context.Context) error { return nil })
	if err := s.wait(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "mirror ended by itself") {
		t.Errorf("got %v", err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	s := newStages()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("SIGTERM")
	cancel(why)
	if err := s.wait(ctx, nil); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	ready := make(chan struct{})
	close(ready)
	if err := s.wait(t.Context(), ready); err != nil {
		t.Error(err)
	}
}
