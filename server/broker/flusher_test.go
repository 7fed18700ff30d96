package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/segment"
)

// slowDisk is what test syncs wait for.
type slowDisk struct {
	mu    sync.Mutex
	order []int // of syncs begun
	now   int
	most  int
	gone  []int // abandoned
	let   chan error
}

type testSync struct {
	d *slowDisk
	n int
}

func (s testSync) Sync() error {
	s.d.mu.Lock()
	s.d.order = append(s.d.order, s.n)
	s.d.now++
	s.d.most = max(s.d.most, s.d.now)
	s.d.mu.Unlock()
	err := <-s.d.let
	s.d.mu.Lock()
	s.d.now--
	s.d.mu.Unlock()
	return err
}

func (s testSync) Abandon(error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.gone = append(s.d.gone, s.n)
}

func TestFlusherIsBoundedAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &slowDisk{let: make(chan error)}
		f := NewFlusher(1, nil)
		const n = 5000 // more than the queue keeps of what is done
		for i := range n {
			f.Submit(testSync{d, i})
		}
		synctest.Wait()
		if len(d.order) != 1 {
			t.Fatalf("%d syncs began", len(d.order))
		}
		close(d.let)
		f.Close()
		if len(d.order) != n || !slices.IsSorted(d.order) || d.most != 1 {
			t.Fatalf("%d syncs, at most %d at once, in order: %v", len(d.order), d.most, slices.IsSorted(d.order))
		}
	})
}

func TestFlusherRunsAsManyAsAllowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &slowDisk{let: make(chan error)}
		f := NewFlusher(3, nil)
		for i := range 10 {
			f.Submit(testSync{d, i})
		}
		synctest.Wait()
		if d.most != 3 {
			t.Fatalf("%d at once", d.most)
		}
		close(d.let)
		f.Close()
	})
}

func TestFlusherStopsAtAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &slowDisk{let: make(chan error)}
		var told []error
		f := NewFlusher(1, func(err error) { told = append(told, err) })
		for i := range 4 {
			f.Submit(testSync{d, i})
		}
		broken := errors.New("broken disk")
		d.let <- broken
		synctest.Wait()
		f.Submit(testSync{d, 4})
		f.Close()
		if !slices.Equal(d.order, []int{0}) || !slices.Equal(d.gone, []int{1, 2, 3, 4}) || len(told) != 1 || !errors.Is(told[0], broken) {
			t.Fatalf("syncs %v, abandoned %v, told %v", d.order, d.gone, told)
		}
	})
}

// A sync that could not be begun ends nothing, nor does a log that is closed or
// that has trouble of its own.
func TestOnlyAFailedSyncEndsTheFlusher(t *testing.T) {
	refused := &commitlog.WriteError{Kind: commitlog.TooManyFiles, Doing: "sync", Err: syscall.EMFILE}
	for _, err := range []error{
		refused, fmt.Errorf("log: %w", refused), commitlog.ErrClosed, &commitlog.FailedError{Cause: &segment.RollbackError{}},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &slowDisk{let: make(chan error)}
			f := NewFlusher(1, func(err error) { t.Errorf("failed: %v", err) })
			f.Submit(testSync{d, 0})
			f.Submit(testSync{d, 1})
			d.let <- err
			d.let <- nil
			f.Close()
			if !slices.Equal(d.order, []int{0, 1}) || len(d.gone) != 0 {
				t.Fatalf("after %v: syncs %v, abandoned %v", err, d.order, d.gone)
			}
		})
	}
	// What a failure is caused by makes no difference.
	for _, err := range []error{
		&commitlog.FailedError{Cause: &segment.SyncError{Err: syscall.EIO}}, &commitlog.FailedError{Cause: refused}, errors.New("unheard of"),
	} {
		if !endsDirectory(err) {
			t.Errorf("%v ends nothing", err)
		}
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100)
		ctx, cancel := context.WithCancel(t.Context())
		if err := b.Acquire(ctx, 101); wantError[*BudgetError](t, err).Limit != 100 {
			t.Fatal(err)
		}
		if err := b.Acquire(ctx, 80); err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, w := range []struct {
			name  string
			bytes int
		}{{"large", 96}, {"small", 5}} {
			go func() {
				if err := b.Acquire(ctx, w.bytes); err != nil {
					order = append(order, w.name+" gave up")
					return
				}
				order = append(order, w.name)
				b.Release(w.bytes)
			}()
			synctest.Wait()
		}
		if b.TryAcquire(5) || b.Waiting() != 2 || b.Used() != 80 {
			t.Fatalf("a small one overtook: %d wait, %d used", b.Waiting(), b.Used())
		}
		b.Release(80)
		synctest.Wait()
		if !slices.Equal(order, []string{"large", "small"}) || b.Used() != 0 {
			t.Fatalf("%v, %d used", order, b.Used())
		}
		if !b.TryAcquire(100) {
			t.Fatal("nothing is used")
		}
		go func() {
			if err := b.Acquire(ctx, 1); errors.Is(err, context.Canceled) {
				order = append(order, "cancelled")
			}
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if order[len(order)-1] != "cancelled" || b.Waiting() != 0 {
			t.Fatalf("%v", order)
		}
	})
}

func BenchmarkBudget(b *testing.B) {
	budget := NewBudget(1 << 20)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		_ = budget.Acquire(ctx, 1000)
		budget.Release(1000)
	}
}

// instant is a sync that costs nothing.
type instant struct{ done chan struct{} }

func (i instant) Sync() error   { i.done <- struct{}{}; return nil }
func (i instant) Abandon(error) {}

func BenchmarkFlusher(b *testing.B) {
	f := NewFlusher(64, nil)
	s := &instant{done: make(chan struct{}, 1)}
	b.ReportAllocs()
	for b.Loop() {
		f.Submit(s)
		<-s.done
	}
	f.Close()
}

func TestErrandsAreDoneInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newErrands()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var did []int
		for i := range 3 {
			e.add(func() {
				did = append(did, i)
				if i == 1 {
					e.add(func() { did = append(did, 9) })
				}
			})
		}
		if err := e.run(ctx); !errors.Is(err, context.DeadlineExceeded) || !slices.Equal(did, []int{0, 1, 2, 9}) {
			t.Fatalf("%v, %v", did, err)
		}
		// At the stop only what must be done is.
		e.add(func() { did = append(did, 10) })
		e.addMust(func() { did = append(did, 11) })
		if err := e.run(ctx); err == nil || !slices.Equal(did, []int{0, 1, 2, 9, 11}) {
			t.Fatalf("%v, %v", did, err)
		}
	})
}
