package broker

import (
	"context"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// Budget bounds the bytes of produce requests that the process holds at once.
// They are acquired before a request is queued and released when it has been
// answered. Those who wait are served in order.
type Budget struct {
	limit int64
	sem   *semaphore.Weighted
	used  atomic.Int64
	waits atomic.Int64 // that are under way
	begun atomic.Int64 // waits, since the process began
}

// BudgetError says that one request is larger than the whole budget.
type BudgetError struct {
	// Bytes asked for, and the Limit.
	Bytes, Limit int64
}

// Error says it for people.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("request of %d bytes is larger than the budget of %d bytes for requests in flight", e.Bytes, e.Limit)
}

// NewBudget returns a budget of that many bytes.
func NewBudget(limit int64) *Budget {
	return &Budget{limit: limit, sem: semaphore.NewWeighted(limit)}
}

// Acquire takes bytes, and waits for them if it must. It fails with
// *BudgetError or the cause of ctx.
func (b *Budget) Acquire(ctx context.Context, bytes int) error {
	n := int64(bytes)
	if n > b.limit {
		return &BudgetError{Bytes: n, Limit: b.limit}
	}
	if !b.sem.TryAcquire(n) {
		b.begun.Add(1)
		b.waits.Add(1)
		defer b.waits.Add(-1)
		if err := b.sem.Acquire(ctx, n); err != nil {
			return context.Cause(ctx)
		}
	}
	b.used.Add(n)
	return nil
}

// TryAcquire takes bytes if they are there at once.
func (b *Budget) TryAcquire(bytes int) bool {
	if !b.sem.TryAcquire(int64(bytes)) {
		return false
	}
	b.used.Add(int64(bytes))
	return true
}

// Release gives bytes back.
func (b *Budget) Release(bytes int) {
	b.used.Add(-int64(bytes))
	b.sem.Release(int64(bytes))
}

// Limit returns the budget in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Used returns the bytes that are taken.
func (b *Budget) Used() int64 { return b.used.Load() }

// Waiting returns how many wait for bytes.
func (b *Budget) Waiting() int64 { return b.waits.Load() }

// Waits returns how often somebody has had to wait.
func (b *Budget) Waits() int64 { return b.begun.Load() }
