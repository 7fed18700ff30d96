package partition

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// ledger is the model: which record was acknowledged at which offset, and what
// a reader may have seen.
type ledger struct {
	mu       sync.Mutex
	acked    map[record.Offset]string
	readable record.Offset
}

// note takes an acknowledgement.
func (l *ledger) note(r *Request, texts []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, text := range texts {
		l.acked[r.Base+record.Offset(i)] = text
	}
}

// copy returns the ledger as it is now.
func (l *ledger) copy() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &ledger{acked: make(map[record.Offset]string, len(l.acked)), readable: l.readable}
	for off, text := range l.acked {
		c.acked[off] = text
	}
	return c
}

// entry is a request that carries its texts.
type entry struct {
	Request
	texts  []string
	ledger *ledger
}

func (e *entry) Complete(*Request) {
	if e.Err == nil {
		e.ledger.note(&e.Request, e.texts)
	}
}

// load appends from several senders at random for a while, with idle times,
// retention of nothing, and changes of epoch.
func load(e *env, l *ledger, d replica.Durability, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	epoch := e.p.State().LeaderEpoch
	for step := range 25 {
		switch rng.IntN(8) {
		case 0:
			pass(time.Duration(rng.IntN(1500)) * time.Millisecond)
		case 1:
			epoch++
			e.p.Lead(alone(epoch, d))
		case 2:
			_ = e.p.SyncCheckpoint() // an error shows as a refused append
		default:
			for i := range 1 + rng.IntN(4) {
				text := fmt.Sprintf("seed %d step %d.%d %s", seed, step, i, string(make([]byte, rng.IntN(300))))
				n := 1 + rng.IntN(3)
				en := &entry{Request: *batch(text, n), ledger: l}
				for k := range n {
					en.texts = append(en.texts, fmt.Sprintf("%s#%d", text, k))
				}
				en.Done = en
				if err := e.p.Append(context.Background(), &en.Request); err != nil {
					return
				}
			}
			if rng.IntN(2) == 0 {
				synctest.Wait()
			}
		}
		l.mu.Lock()
		l.readable = e.p.State().HighWatermark
		l.mu.Unlock()
	}
	synctest.Wait()
}

// check opens what a crash left and compares it with the ledger: every
// acknowledged record is at its offset with its bytes, what could be read can
// be read, offsets have no holes, and appending goes on.
func check(t *testing.T, e *env, l *ledger, d replica.Durability, what string) {
	t.Helper()
	e.openOn(e.fs)
	defer func() {
		_ = e.p.Close()
		e.flusher.running.Wait()
	}()
	if e.rec.Damaged != nil {
		t.Fatalf("%s: taken for damage: %v", what, e.rec.Damaged)
	}
	if !e.p.Lead(alone(1000, d)) {
		t.Fatalf("%s: does not lead", what)
	}
	synctest.Wait()
	got, err := e.texts(0)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	end := e.p.State().HighWatermark
	for off, text := range l.acked {
		if got[off] != text {
			t.Fatalf("%s: acknowledged record %d is %q, want %q; recovery %+v", what, off, got[off], text, e.rec)
		}
	}
	if end < l.readable || record.Offset(len(got)) != end {
		t.Fatalf("%s: %d records up to %d; %d could be read before", what, len(got), end, l.readable)
	}
	if r := e.acked(batch("after", 1)); r.Base != end || r.Epoch != 1000 {
		t.Fatalf("%s: appended at %d in epoch %d, want %d", what, r.Base, r.Epoch, end)
	}
}

// crashPoint is a file system and what was promised, between two operations.
type crashPoint struct {
	mem    *memfs.FS
	ledger *ledger
	op     memfs.Op
}

// TestCrashesLoseNothingAcknowledged runs loads and dies after every
// operation, by a power loss of each kind (DISK) or by a kill (both).
func TestCrashesLoseNothingAcknowledged(t *testing.T) {
	policies := func(seed uint64) []memfs.Policy {
		return []memfs.Policy{
			memfs.LoseUnsynced(), memfs.LoseEntries(), memfs.LoseWrites(), memfs.TearLast(100), memfs.KeepRandom(seed), memfs.KeepRandom(seed + 1),
		}
	}
	seeds := uint64(6)
	if testing.Short() {
		seeds = 1
	}
	for _, d := range []replica.Durability{replica.Disk, replica.Memory} {
		for seed := range seeds {
			t.Run(fmt.Sprintf("%v/%d", d, seed), func(t *testing.T) {
				var mu sync.Mutex // guards points: the writer and the flusher operate
				var points []crashPoint
				synctest.Test(t, func(t *testing.T) {
					e := newEnv(t)
					e.config = commitlog.Config{SegmentBytes: 4000}
					l := &ledger{acked: map[record.Offset]string{}}
					e.lead(1, d)
					e.mem.SetHook(func(op memfs.Op) {
						// The ledger first: what is acknowledged later may be there too.
						promised := l.copy()
						mu.Lock()
						defer mu.Unlock()
						points = append(points, crashPoint{e.mem.Clone(), promised, op})
					})
					load(e, l, d, seed)
					e.mem.SetHook(nil)
					if err := e.p.Close(); err != nil {
						t.Fatal(err)
					}
					e.flusher.running.Wait()
					points = append(points, crashPoint{e.mem.Clone(), l.copy(), memfs.Op{Kind: "close"}})
				})
				if len(points) < 20 {
					t.Fatalf("only %d operations", len(points))
				}
				for i, p := range points {
					synctest.Test(t, func(t *testing.T) {
						what := fmt.Sprintf("killed after operation %d (%v)", i, p.op)
						check(t, newEnv(t).on(p.mem.Clone()), p.ledger, d, what)
						if d == replica.Memory {
							return // a power loss may take what is only in memory
						}
						for _, policy := range policies(seed + uint64(i)) {
							what := fmt.Sprintf("power lost after operation %d (%v), %v", i, p.op, policy)
							e := newEnv(t).on(p.mem.Crash(policy))
							e.bootID = [16]byte{9}
							check(t, e, p.ledger, d, what)
						}
					})
				}
			})
		}
	}
}

// TestCrashAfterCrash goes on from what each crash left, so that recovery runs
// over the remains of recovery.
func TestCrashAfterCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 4))
		e := newEnv(t)
		e.config = commitlog.Config{SegmentBytes: 8000}
		l := &ledger{acked: map[record.Offset]string{}}
		epoch := record.LeaderEpoch(0)
		for round := range 40 {
			epoch += 100
			e.openOn(e.fs)
			if e.rec.Damaged != nil {
				t.Fatalf("round %d: %v", round, e.rec.Damaged)
			}
			e.p.Lead(alone(epoch, replica.Disk))
			synctest.Wait()
			got, err := e.texts(0)
			if err != nil {
				t.Fatal(err)
			}
			for off, text := range l.acked {
				if got[off] != text {
					t.Fatalf("round %d: record %d is %q, want %q", round, off, got[off], text)
				}
			}
			var mu sync.Mutex // guards left and at
			var left crashPoint
			at := rng.IntN(60)
			e.mem.SetHook(func(op memfs.Op) {
				promised := l.copy()
				mu.Lock()
				defer mu.Unlock()
				if at--; at == 0 {
					left = crashPoint{e.mem.Crash(memfs.KeepRandom(uint64(round))), promised, op}
				}
			})
			load(e, l, replica.Disk, rng.Uint64())
			e.mem.SetHook(nil)
			_ = e.p.Close()
			e.flusher.running.Wait()
			if left.mem != nil {
				e, l = e.on(left.mem), left.ledger
				e.bootID[0]++
			} else {
				e = e.on(e.mem.Clone())
			}
		}
	})
}
