package dev

import (
	"context"
	"errors"
	"fmt"
)

// stage is a part of a process that runs until its context ends.
type stage struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned
	err    error         // what run returned; read only after done is closed
}

// stages are the parts of a process in the order of their start. It is for one
// goroutine.
//
// INVARIANT: a stage runs only while all those before it do.
type stages struct {
	all []*stage
	// ended takes the first stage that returns before it was stopped. Capacity
	// 1; every stage sends without waiting.
	ended chan *stage
}

func newStages() *stages { return &stages{ended: make(chan *stage, 1)} }

// start runs a stage in a goroutine of its own.
func (s *stages) start(name string, run func(context.Context) error) {
	// WHY: not the process's context: stages end one by one, in order.
	ctx, cancel := context.WithCancel(context.Background())
	st := &stage{name: name, cancel: cancel, done: make(chan struct{})}
	s.all = append(s.all, st)
	go func() {
		defer close(st.done)
		st.err = run(ctx)
		if ctx.Err() == nil {
			select {
			case s.ended <- st:
			default: // another one was first
			}
		}
	}()
}

// failure returns why a stage ended that should not have.
func (st *stage) failure() error {
	<-st.done
	if st.err == nil {
		return fmt.Errorf("%s ended by itself", st.name)
	}
	return fmt.Errorf("%s: %w", st.name, st.err)
}

// wait waits for accept, a condition that becomes true while the stages run;
// it returns early when ctx or a stage ends.
func (s *stages) wait(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case st := <-s.ended:
		return st.failure()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop ends the stages, the last one first, each when those after it have
// ended, and returns what went wrong.
func (s *stages) stop() error {
	var errs []error
	for i := len(s.all) - 1; i >= 0; i-- {
		st := s.all[i]
		st.cancel()
		<-st.done
		if st.err != nil && !errors.Is(st.err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s: %w", st.name, st.err))
		}
	}
	return errors.Join(errs...)
}
