package broker

import (
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// opens counts the attempts to open logs, each of which lists a directory.
func (e *env) opens() *atomic.Int32 {
	n := new(atomic.Int32)
	e.fs.Add(&faultfs.Rule{Op: faultfs.ReadDir, Path: "*-0", Times: -1, Hold: func(faultfs.Op, string) { n.Add(1) }})
	return n
}

// A log that the disk refuses to open is tried again, but not by everybody who
// asks for it.
func TestALogIsNotOpenedByEachRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.fs.Add(&faultfs.Rule{Op: faultfs.ReadDir, Path: "*-0", Times: -1, Err: syscall.EMFILE})
		e.cluster.create(1, "flights", 1, nil)
		synctest.Wait()
		first := wantRefusal(t, e)
		for range 100 {
			if err := wantRefusal(t, e); !same(err, first) {
				t.Fatalf("opened again at once: %v", err)
			}
		}
		pass(reopenPause)
		second := wantRefusal(t, e)
		if same(second, first) {
			t.Fatal("not tried again")
		}
		pass(reopenPause)
		if err := wantRefusal(t, e); !same(err, second) {
			t.Fatal("the second pause is no longer than the first")
		}
		e.fs.Clear()
		pass(reopenPause)
		n := e.opens()
		e.mustProduce("flights", 0, "a")
		if n.Load() != 1 {
			t.Fatalf("opened %d times", n.Load())
		}
	})
}

// same tells whether two answers are of one attempt.
func same(a, b error) bool {
	return a == b //nolint:errorlint // the very value
}

func wantRefusal(t *testing.T, e *env) error {
	t.Helper()
	_, _, err := e.b.Partition("flights", 0)
	if err == nil {
		t.Fatal("opened")
	}
	return err
}

func TestPausesGrowAndEnd(t *testing.T) {
	under := circumstances{want: &wanted{}, identity: &Incarnation{}}
	at := time.Unix(1000, 0)
	var r *refusal
	if r.stands(under, at) {
		t.Fatal("nothing was refused")
	}
	full := &commitlog.WriteError{Kind: commitlog.DiskFull}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		r = r.again(full, under, at)
		if r.pause != want*time.Second {
			t.Fatalf("a pause of %v, want %d s", r.pause, want)
		}
	}
	if !r.stands(under, at) || !r.stands(under, at.Add(r.pause-1)) || r.stands(under, at.Add(r.pause)) {
		t.Fatal("not as long as its pause")
	}
	if r.stands(under, at.Add(-1)) {
		t.Fatal("a clock that was set back makes the pause longer")
	}
	other := circumstances{want: &wanted{}, identity: under.identity}
	if r.stands(other, at) || r.again(full, other, at).pause != reopenPause {
		t.Fatal("the metadata changed, and it stands")
	}
	for _, err := range []error{
		&partition.FailedError{Cause: &segment.CorruptError{}}, &partition.FailedError{Cause: &segment.MismatchError{}},
		&partition.FailedError{Cause: &MisplacedError{}},
	} {
		if r := r.again(err, under, at); !r.stands(under, at.Add(1e6*time.Hour)) || r.stands(other, at) {
			t.Errorf("%v does not last as long as the metadata", err)
		}
	}
}

// Checkpoints of many logs are synced some at once, fewer than the flusher may
// have, and each has its turn in a round; the records of others go on.
func TestCheckpointsAreSyncedSomeAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.opts.MaxSyncs, e.opts.IdleAfter = 12, time.Hour
		e.start()
		const n = 40
		e.cluster.create(1, "flights", n, nil)
		synctest.Wait()
		for i := range uint32(n) {
			e.mustProduce("flights", i, "a")
		}
		var mu sync.Mutex
		now, most, seen := 0, 0, 0
		let := make(chan struct{})
		e.fs.Add(&faultfs.Rule{Op: faultfs.Sync, Path: "checkpoint", Times: -1, Hold: func(faultfs.Op, string) {
			mu.Lock()
			now, seen = now+1, seen+1
			most = max(most, now)
			mu.Unlock()
			<-let
			mu.Lock()
			now--
			mu.Unlock()
		}})
		pass(3 * time.Second) // several intervals: the round is not begun anew
		synctest.Wait()
		if now != 3 || seen != 3 {
			t.Fatalf("%d at once, %d begun", now, seen)
		}
		e.mustProduce("flights", 7, "b") // which waits for no checkpoint's sync
		close(let)
		synctest.Wait()
		if most != 3 || seen < n {
			t.Fatalf("%d at once, %d of %d synced", most, seen, n)
		}
	})
}

// What topics at MEMORY have only in memory is synced within the interval, and
// not that of all partitions at once.
func TestSyncsInTheBackgroundAreSpread(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.opts.CheckpointInterval = time.Hour
		e.start()
		const n = 40
		e.cluster.create(1, "cache", n, map[string]string{"durability": "memory"})
		synctest.Wait()
		var syncs atomic.Int32
		e.fs.Add(&faultfs.Rule{Op: faultfs.Sync, Path: "*.log", Times: -1, Hold: func(faultfs.Op, string) { syncs.Add(1) }})
		for i := range uint32(n) {
			e.mustProduce("cache", i, "a")
		}
		was := syncs.Load()
		for range syncTurns {
			pass(e.b.opts.MemorySyncInterval / syncTurns)
			synctest.Wait()
			now := syncs.Load()
			if now-was != n/syncTurns {
				t.Fatalf("%d in a turn", now-was)
			}
			was = now
		}
		for i := range uint32(n) {
			if p, _, err := e.b.Partition("cache", i); err != nil || p.Unsynced() {
				t.Fatalf("partition %d is not synced (%v)", i, err)
			}
		}
		pass(2 * e.b.opts.IdleAfter)
		if open := e.b.files.Counts().Open; open != 0 {
			t.Fatalf("%d files are open at rest", open)
		}
	})
}

// Gigabytes in the trash that take their time delay no checkpoint, no
// retention and no log that is to be opened; and a stop does not wait for all
// of them.
func TestASlowRemovalDelaysNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "huge", 1, nil)
		e.cluster.create(2, "flights", 1, map[string]string{"retention.ms": "60000"})
		e.mustProduce("huge", 0, "a")
		e.mustProduce("flights", 0, "b")
		removing, let := make(chan struct{}, 100), make(chan struct{})
		e.fs.Add(&faultfs.Rule{Op: faultfs.Remove, Path: "*", Times: -1, Hold: func(_ faultfs.Op, name string) {
			if strings.Contains(name, "/trash/") {
				removing <- struct{}{}
				<-let
			}
		}})
		e.cluster.remove(1, true)
		<-removing
		e.cluster.create(3, "next", 1, nil)
		synctest.Wait()
		if l := e.b.log(keyOf([16]byte(topicID(3)), 0)); l == nil || l.opened.Load() == nil {
			t.Fatal("a log is not opened while another is removed")
		}
		p, _, err := e.b.Partition("flights", 0)
		if err != nil {
			t.Fatal(err)
		}
		pass(2 * e.b.opts.CheckpointInterval)
		synctest.Wait()
		if p.CheckpointDue() {
			t.Fatal("the checkpoint waits for the trash")
		}
		pass(4 * e.b.opts.RetentionInterval)
		synctest.Wait()
		if s := p.State(); s.LogStart != 1 {
			t.Fatalf("retention waits for the trash: %+v", s)
		}
		e.stop()
		let <- struct{}{} // the file that is being removed
		if err := <-e.ended; err != nil {
			t.Fatal(err)
		}
		if trash := e.names("trash"); len(trash) != 1 || len(removing) != 0 {
			t.Fatalf("the stop waited for all of it: trash %q, %d more removed", trash, len(removing))
		}
	})
}
