package broker

import (
	"context"
	"sync"
)

// errands are done one after the other in the background: logs to open, logs
// to remove. There is at most one of each kind for each log, so what waits is
// bounded by the number of logs.
type errands struct {
	mu      sync.Mutex // guards waiting
	waiting []errand
	more    chan struct{} // capacity 1; never closed
}

// errand is something to do. One that must be done is done at the stop as well.
type errand struct {
	run  func()
	must bool
}

func newErrands() *errands { return &errands{more: make(chan struct{}, 1)} }

// add adds an errand that a stop may leave undone.
func (e *errands) add(fn func()) { e.put(errand{run: fn}) }

// addMust adds one that is done before run returns.
func (e *errands) addMust(fn func()) { e.put(errand{run: fn, must: true}) }

func (e *errands) put(next errand) {
	e.mu.Lock()
	e.waiting = append(e.waiting, next)
	e.mu.Unlock()
	select {
	case e.more <- struct{}{}:
	default:
	}
}

// run does errands until ctx ends, and then those that must be done.
func (e *errands) run(ctx context.Context) error {
	for {
		e.mu.Lock()
		todo := e.waiting
		e.waiting = nil
		e.mu.Unlock()
		for _, next := range todo {
			if next.must || ctx.Err() == nil {
				next.run()
			}
		}
		if len(todo) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-e.more:
		}
	}
}
