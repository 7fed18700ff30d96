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
	waiting []func()
	more    chan struct{} // capacity 1; never closed
}

func newErrands() *errands { return &errands{more: make(chan struct{}, 1)} }

func (e *errands) add(fn func()) {
	e.mu.Lock()
	e.waiting = append(e.waiting, fn)
	e.mu.Unlock()
	select {
	case e.more <- struct{}{}:
	default:
	}
}

// run does errands until ctx ends.
func (e *errands) run(ctx context.Context) error {
	for {
		e.mu.Lock()
		todo := e.waiting
		e.waiting = nil
		e.mu.Unlock()
		for _, fn := range todo {
			if ctx.Err() != nil {
				break
			}
			fn()
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
