package partition

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// sleeper counts how often it is woken.
type sleeper struct {
	mu    sync.Mutex
	times int
}

func (s *sleeper) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times++
}

func (s *sleeper) woken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times
}

// goroutines counts those that run code of this package.
func goroutines() int {
	b := make([]byte, 1<<20)
	return strings.Count(string(b[:runtime.Stack(b, true)]), "(*Partition).loop(")
}

// An idle partition has no goroutine and no open file; at MEMORY the file goes
// once what was only in the page cache is synced.
func TestAnIdlePartitionHoldsNothing(t *testing.T) {
	for _, d := range []replica.Durability{replica.Memory, replica.Disk} {
		t.Run(d.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *env) {
				e.lead(1, d)
				if goroutines() != 0 || e.mem.OpenFiles() != 0 {
					t.Fatal("leading alone costs something")
				}
				e.acked(batch("a", 1))
				if goroutines() != 1 || e.mem.OpenFiles() == 0 {
					t.Fatalf("%d goroutines", goroutines())
				}
				pass(900 * time.Millisecond)
				if goroutines() != 1 {
					t.Fatal("gone too soon")
				}
				pass(1500 * time.Millisecond)
				if d == replica.Memory {
					if s := e.p.State(); goroutines() != 0 || e.mem.OpenFiles() != 2 || s.SyncedEnd != 0 {
						t.Fatalf("%d goroutines, %d files, %+v", goroutines(), e.mem.OpenFiles(), s)
					}
					e.p.SyncInBackground()
					pass(1500 * time.Millisecond)
				}
				if goroutines() != 0 || e.mem.OpenFiles() != 0 {
					t.Fatalf("%d goroutines, %d files", goroutines(), e.mem.OpenFiles())
				}
				if s := e.p.State(); s.SyncedEnd != 1 {
					t.Fatalf("%+v", s)
				}
				e.acked(batch("b", 1))
				e.wantLog("a#0", "b#0")
			})
		})
	}
}

// Where more files are open than are meant to be, a log at MEMORY is synced when
// it rests, so that its file can be closed.
func TestAnIdlePartitionMakesRoomForOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.files = commitlog.NewFiles(1)
		e.lead(1, replica.Memory)
		e.acked(batch("a", 1))
		pass(3 * time.Second)
		if s := e.p.State(); s.SyncedEnd != 0 {
			t.Fatalf("synced though there is room: %+v", s)
		}
		other, _, err := commitlog.Open(commitlog.Options{FS: e.fs, Dir: "/d/q", ClusterID: [16]byte{2}, TopicID: record.TopicID{3}, Partition: 5, Files: e.files})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close() //nolint:errcheck // It is only in the way.
		b := batch("a", 1)
		if err := other.Append([]*commitlog.Batch{{Pieces: b.Batch, Summary: b.Summary}}, 1, 0); err != nil {
			t.Fatal(err)
		}
		e.acked(batch("b", 1))
		pass(3 * time.Second)
		if s := e.p.State(); s.SyncedEnd != 2 {
			t.Fatalf("not synced though there is no room: %+v", s)
		}
	})
}

// Appends at every moment around the end of the goroutine: each is answered.
func TestAppendsRaceWithIdleness(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Disk)
		rng := rand.New(rand.NewPCG(1, 2))
		n := 0
		for range 300 {
			// Now and then exactly at the deadline, so that the timer and the
			// append are due at the same time.
			wait := time.Second + time.Duration(rng.IntN(3)-1)*time.Duration(rng.IntN(2000))
			pass(wait)
			var senders sync.WaitGroup
			a := &answers{}
			for range 1 + rng.IntN(3) {
				senders.Go(func() {
					r := batch("x", 1)
					r.Done = a
					if err := e.p.Append(context.Background(), r); err != nil {
						t.Error(err)
					}
				})
				n++
			}
			senders.Wait()
			synctest.Wait()
			for _, r := range a.list() {
				if r.Err != nil {
					t.Fatal(r.Err)
				}
			}
		}
		if s := e.p.State(); int(s.HighWatermark) != n {
			t.Fatalf("%d records of %d", s.HighWatermark, n)
		}
	})
}

// Rare operations run beside appends and after idleness alike.
func TestTasksRaceWithAppends(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Memory)
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for range 200 {
					if i == 0 {
						if _, err := e.p.Retain(time.Now()); err != nil {
							t.Error(err)
						}
						continue
					}
					a := &answers{}
					e.send(a, batch("x", 1))
				}
			})
		}
		all.Wait()
		synctest.Wait()
		if s := e.p.State(); s.HighWatermark != 600 {
			t.Fatalf("%+v", s)
		}
	})
}

// Leadership is lost with requests at every stage.
func TestLeadershipLostWhileRequestsWait(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.limits = Limits{Requests: 2}
		e.lead(1, replica.Disk)
		e.acked(batch("safe", 1))
		h := e.hold(faultfs.Sync)
		a := &answers{}
		e.send(a, batch("written", 1))
		e.send(a, batch("written too", 1))
		w := &sleeper{}
		e.p.Notify(w, 1)
		blocked := make(chan error, 1)
		go func() { blocked <- e.p.Append(context.Background(), batch("no room", 1)) }()
		synctest.Wait()
		e.p.Resign(7, 2)
		if lost := wantError[*NotLeaderError](t, <-blocked); lost.Leader != 7 || lost.Epoch != 2 {
			t.Fatalf("%+v", lost)
		}
		synctest.Wait()
		for _, r := range a.list() {
			if !errors.Is(r.Err, ErrUnknownOutcome) {
				t.Fatalf("answered %v", r.Err)
			}
		}
		if len(a.list()) != 2 || w.woken() != 1 {
			t.Fatalf("%d answers, woken %d times", len(a.list()), w.woken())
		}
		if err := e.p.Append(context.Background(), batch("late", 1)); wantError[*NotLeaderError](t, err).Epoch != 2 {
			t.Fatal(err)
		}
		if _, err := e.texts(0); wantError[*NotLeaderError](t, err) == nil {
			t.Fatal("read without leading")
		}
		h.letGo()
		synctest.Wait()
		// An old epoch is refused, a new one is led from where the log is.
		if e.p.Lead(alone(2, replica.Disk)) {
			t.Fatal("led in an epoch that is another's")
		}
		if !e.p.Lead(alone(3, replica.Disk)) {
			t.Fatal("does not lead")
		}
		if r := e.acked(batch("again", 1)); r.Base != 3 || r.Epoch != 3 {
			t.Fatalf("%+v", r)
		}
		e.wantLog("safe#0", "written#0", "written too#0", "again#0")
	})
}

// A log whose last epoch is newer than the metadata's is not appended to.
func TestOldMetadataDoesNotLead(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(5, replica.Memory)
		e.acked(batch("a", 1))
		if err := e.p.Close(); err != nil {
			t.Fatal(err)
		}
		e.openOn(e.fs)
		if e.p.Lead(alone(4, replica.Memory)) || e.p.State().Leading {
			t.Fatal("led in an epoch below the log's")
		}
		if !e.p.Lead(alone(6, replica.Memory)) {
			t.Fatal("does not lead")
		}
	})
}

// A full mailbox holds back, lets in in order, and lets go of who gives up.
func TestAFullMailbox(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.limits = Limits{Bytes: 1000}
		e.lead(1, replica.Disk)
		e.acked(batch("first of all", 1))
		h := e.hold(faultfs.Sync)
		a := &answers{}
		e.send(a, batch(strings.Repeat("x", 5000), 1)) // larger than the mailbox, taken alone
		order := make(chan string, 10)
		admit := func(ctx context.Context, name string, bytes int) {
			go func() {
				r := batch(strings.Repeat("y", bytes), 1)
				r.Done = a
				if err := e.p.Append(ctx, r); err != nil {
					order <- fmt.Sprintf("%s: %v", name, err)
					return
				}
				order <- name
			}()
			synctest.Wait()
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		admit(context.Background(), "first", 900)
		admit(ctx, "second", 10)
		admit(context.Background(), "third", 10)
		cancel(errors.New("gave up"))
		synctest.Wait()
		if got := <-order; got != "second: gave up" {
			t.Fatal(got)
		}
		if len(order) != 0 || e.p.Held() != 1 {
			t.Fatalf("%d got in, %d held", len(order), e.p.Held())
		}
		h.one()
		synctest.Wait()
		if got := <-order + ", " + <-order; got != "first, third" && got != "third, first" {
			t.Fatal(got)
		}
		h.letGo()
		synctest.Wait()
		if len(a.list()) != 3 || e.p.Held() != 0 {
			t.Fatalf("%d answers, %d held", len(a.list()), e.p.Held())
		}
	})
}

func TestReadersWaitAtTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Disk)
		const n = 5000
		tail, later := make([]sleeper, n), &sleeper{}
		for i := range tail {
			if !e.p.Notify(&tail[i], 0) {
				t.Fatal("not armed")
			}
		}
		e.p.Notify(later, 1)
		h := e.hold(faultfs.Sync)
		a := &answers{}
		e.send(a, batch("a", 1))
		synctest.Wait()
		if tail[0].woken() != 0 {
			t.Fatal("woken for what cannot be read yet")
		}
		e.p.Cancel(&tail[7])
		h.letGo()
		synctest.Wait()
		for i := range tail {
			if want := 1; (i == 7) != (tail[i].woken() != want) {
				t.Fatalf("waiter %d was woken %d times", i, tail[i].woken())
			}
		}
		if later.woken() != 0 || e.p.Waiting() != 1 {
			t.Fatalf("%d wait", e.p.Waiting())
		}
		if e.p.Notify(&tail[0], 0) {
			t.Fatal("armed for what is there")
		}
		e.acked(batch("b", 1))
		if later.woken() != 1 || tail[0].woken() != 1 {
			t.Fatal("woken at the wrong time")
		}
	})
}

// No wake is lost between a reader that finds nothing and a batch that comes.
func TestNotifyRacesWithAppends(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Memory)
		const n = 500
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				wake := make(waker, 1)
				for from := int64(0); from < n; from = int64(e.p.State().HighWatermark) {
					if e.p.Notify(wake, e.p.State().HighWatermark) {
						if e.p.State().HighWatermark == n {
							e.p.Cancel(wake)
							return
						}
						<-wake
					}
				}
			})
		}
		a := &answers{}
		for range n {
			e.send(a, batch("x", 1))
		}
		readers.Wait()
	})
}

// waker is a channel that a wake is put into.
type waker chan struct{}

func (w waker) Wake() {
	select {
	case w <- struct{}{}:
	default:
	}
}

// Close writes and acknowledges what it finds, and leaves a log that need not
// be read at the next start.
func TestClose(t *testing.T) {
	for _, d := range []replica.Durability{replica.Memory, replica.Disk} {
		t.Run(d.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *env) {
				e.lead(1, d)
				e.acked(batch("a", 1))
				h := e.hold(faultfs.Write)
				a := &answers{}
				for i := range 5 {
					e.send(a, batch(fmt.Sprint("b", i), 1))
				}
				w := &sleeper{}
				e.p.Notify(w, 100)
				closed := make(chan error, 1)
				go func() { closed <- e.p.Close() }()
				synctest.Wait()
				if err := e.p.Append(context.Background(), batch("late", 1)); !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
				h.letGo()
				if err := <-closed; err != nil {
					t.Fatal(err)
				}
				for _, r := range a.list() {
					if r.Err != nil {
						t.Fatal(r.Err)
					}
				}
				if len(a.list()) != 5 || w.woken() != 1 || goroutines() != 0 {
					t.Fatalf("%d answers, woken %d times, %d goroutines", len(a.list()), w.woken(), goroutines())
				}
				if err := e.p.Close(); !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
				if _, err := e.texts(0); !errors.Is(err, ErrClosed) {
					t.Fatal(err)
				}
				e.openOn(e.fs)
				if e.rec.Scanned != 0 || e.rec.End != 6 || e.rec.SyncedEnd != 6 {
					t.Fatalf("%+v", e.rec)
				}
				if e.p.Lead(alone(2, d)); e.p.State().HighWatermark != 6 {
					t.Fatalf("%+v", e.p.State())
				}
			})
		})
	}
}
