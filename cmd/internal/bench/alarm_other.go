//go:build !linux

package bench

import (
	"context"
	"time"
)

// alarm sleeps.
type alarm struct{}

func (*alarm) open() error { return nil }

// sleep returns after d.
func (*alarm) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (*alarm) close() {}
