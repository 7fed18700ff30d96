package commitlog_test

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// TestALogStartThatFailedIsNotTaken: a call to the disk fails while the log start
// is moved. Who was told that it failed, and the log goes on, finds the records
// after a kill or a power loss, be it at once or later; who was told that it is
// done does not.
func TestALogStartThatFailedIsNotTaken(t *testing.T) {
	young := memfs.New() // its checkpoint has no name that is durable
	if err := errors.Join(young.MkdirAll("/data", 0o755), young.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		start *memfs.FS
		move  func(*commitlog.Log) error
	}{
		"the first records":  {long(t), func(l *commitlog.Log) error { _, err := l.DeleteBefore(l.Start() + 2); return err }},
		"the first segments": {long(t), func(l *commitlog.Log) error { _, err := l.DeleteBefore(l.LastBase() - 1); return err }},
		"all records":        {long(t), func(l *commitlog.Log) error { _, err := l.DeleteBefore(l.End()); return err }},
		"a young log":        {young, func(l *commitlog.Log) error { _, err := l.DeleteBefore(l.Start() + 2); return err }},
		"what is too much": {long(t), func(l *commitlog.Log) error {
			l.SetConfig(commitlog.Config{SegmentBytes: 900, RetentionBytes: 1000})
			_, err := l.Retain(time.UnixMilli(2_000_000), l.End())
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outcomes := map[string]int{}
			for _, op := range []faultfs.Op{faultfs.Write, faultfs.Sync, faultfs.SyncDir, faultfs.Create} {
				for _, err := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EMFILE} {
					for _, times := range []int{1, -1} {
						for _, bytes := range []int{0, 30, 1 << 20} {
							if bytes > 0 && op != faultfs.Write || bytes > 30 && err != syscall.EIO {
								continue // what is full has not taken it all
							}
							for skip := 0; ; skip++ {
								rule := &faultfs.Rule{Op: op, Skip: skip, Times: times, Err: err, Bytes: bytes}
								outcome := moveStart(t, c.start.Clone(), c.move, rule)
								if outcome == "" {
									break
								}
								outcomes[outcome]++
							}
						}
					}
				}
			}
			t.Log(outcomes)
			if outcomes["refused"] < 10 || outcomes["failed"] < 3 {
				t.Errorf("it failed too seldom: %v", outcomes)
			}
		})
	}
}

// moveStart lets one call fail, or some, while the log start is moved, and returns
// what came of it: nothing if there are fewer calls.
func moveStart(t *testing.T, disk *memfs.FS, move func(*commitlog.Log) error, rule *faultfs.Rule) string {
	t.Helper()
	c := &clock{ms: 2_000_000}
	fault := faultfs.Wrap(disk)
	l, _, err := commitlog.Open(options(fault, c, 1))
	if err != nil {
		t.Fatal(err)
	}
	if l.End() == 0 {
		for i := range 5 {
			if err := l.Append([]*commitlog.Batch{storagetest.NewBatch(fmt.Sprint(i), 1)}, 1, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := serve(t, l)
	calls := fault.Calls(rule.Op)
	fault.Add(rule)
	err = move(l)
	if fault.Calls(rule.Op)-calls <= rule.Skip {
		return ""
	}
	outcome, want := "refused", []record.Offset{before.start}
	switch {
	case err == nil:
		outcome, want = "done", []record.Offset{l.Start()}
		if l.Start() == before.start {
			t.Fatalf("%+v: it is done, and begins at %d", rule, l.Start())
		}
	case l.Failed() != nil:
		outcome, want = "failed", append(want, l.Start())
		if l.Start() == before.start { // it may have been taken, and may not
			return outcome
		}
	case l.Start() != before.start:
		t.Fatalf("%+v (%v): begins at %d, after %d", rule, err, l.Start(), before.start)
	}
	check := func(when string) {
		t.Helper()
		for _, p := range []memfs.Policy{
			memfs.LoseUnsynced(), memfs.KeepUnsynced(), memfs.LoseEntries(), memfs.KeepRandom(uint64(rule.Skip)),
		} {
			lost, r, openErr := commitlog.Open(options(disk.Crash(p), c, 2))
			if openErr != nil || r.Damaged != nil || !slices.Contains(want, lost.Start()) {
				t.Fatalf("%+v (%v), %v, power lost (%v): begins at %d, want %v: %+v, %v", rule, err, when, p, lost.Start(), want, r, openErr)
			}
		}
		killed, r, openErr := commitlog.Open(options(disk.Clone(), c, 1))
		if openErr != nil || r.Damaged != nil || !slices.Contains(want, killed.Start()) {
			t.Fatalf("%+v (%v), %v, killed: begins at %d, want %v: %+v, %v", rule, err, when, killed.Start(), want, r, openErr)
		}
	}
	check("at once")
	fault.Clear()
	if l.Append([]*commitlog.Batch{storagetest.NewBatch("more", 1)}, 9, before.end) == nil && l.StoreCheckpoint() == nil {
		check("later")
	}
	if closed := l.Close(); closed != nil {
		t.Fatal(closed)
	}
	check("closed")
	return outcome
}
