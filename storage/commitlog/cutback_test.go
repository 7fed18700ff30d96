package commitlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// long is a log of several segments, all of it on the disk, as a process that
// was killed leaves it.
func long(t *testing.T) *memfs.FS {
	t.Helper()
	u := newUser(t, 3, true)
	u.open()
	for u.log.Segments() < 5 || u.log.End() < u.log.LastBase()+5 {
		u.append()
	}
	if err := u.log.SyncCheckpoint(); err != nil {
		t.Fatal(err)
	}
	return u.fs.Clone()
}

// served is what a log shows its readers.
type served struct {
	start, end record.Offset
	bytes      []byte
}

func serve(t *testing.T, l *commitlog.Log) served {
	t.Helper()
	s := served{start: l.Start(), end: l.End()}
	r := l.NewReader()
	for off := s.start; off < s.end; {
		g, err := r.Read(off, s.end, 1<<20, func(n int) []byte { return make([]byte, n) })
		if err != nil {
			t.Fatal(err)
		}
		s.bytes, off = append(s.bytes, g.Bytes...), g.Next
	}
	return s
}

func (s served) String() string {
	return fmt.Sprintf("[%d, %d), %d bytes", s.start, s.end, len(s.bytes))
}

func (s served) equal(o served) bool {
	return s.start == o.start && s.end == o.end && bytes.Equal(s.bytes, o.bytes)
}

// syncFile is the system that writes back what it likes when it likes.
func syncFile(disk *memfs.FS, name string) {
	if f, err := disk.OpenFile(name, 0, 0); err == nil {
		_ = errors.Join(f.Sync(), f.Close())
	}
}

// written is a write that fails when some of its batches are in the file and, as
// the system goes, on the disk.
func written(disk *memfs.FS, fault *faultfs.FS, rule *faultfs.Rule) func(*commitlog.Log) error {
	return func(l *commitlog.Log) error {
		l.SetConfig(commitlog.Config{SegmentBytes: 4000}) // All of it has room.
		fault.Add(&faultfs.Rule{Op: faultfs.Write, Path: "*.log", Bytes: 400, Err: syscall.ENOSPC})
		if name := lastLog(l); rule.Op != faultfs.Truncate {
			fault.Add(&faultfs.Rule{Op: faultfs.Truncate, Path: "*.log", Hold: func(faultfs.Op, string) { syncFile(disk, name) }})
		}
		var batches []*commitlog.Batch
		for range 5 {
			batches = append(batches, storagetest.NewBatch("w", 1, storagetest.Sized(20)))
		}
		return l.Append(batches, 9, l.End())
	}
}

// change is what takes records out of a log, on a disk on which a rule lets a
// call fail.
type change func(*memfs.FS, *faultfs.FS, *faultfs.Rule) func(*commitlog.Log) error

// TestWhatWasTakenAwayStaysAway: a call to the disk fails while records are taken
// out of a log. The process ends, or closes the log, and whoever opens it next in
// the same boot finds them gone, or not, and serves what it found. That is then
// what a power loss leaves: what was cut does not come back.
func TestWhatWasTakenAwayStaysAway(t *testing.T) {
	start := long(t)
	of := func(call func(*commitlog.Log) error) change {
		return func(*memfs.FS, *faultfs.FS, *faultfs.Rule) func(*commitlog.Log) error { return call }
	}
	truncate := func(to func(*commitlog.Log) record.Offset) change {
		return of(func(l *commitlog.Log) error { _, err := l.TruncateTo(to(l)); return err })
	}
	remove := func(before func(*commitlog.Log) record.Offset) change {
		return of(func(l *commitlog.Log) error { _, err := l.DeleteBefore(before(l)); return err })
	}
	for name, c := range map[string]change{
		"the end of the last segment": truncate(func(l *commitlog.Log) record.Offset { return l.End() - 3 }),
		"all of the last segment":     truncate((*commitlog.Log).LastBase),
		"segments":                    truncate(func(l *commitlog.Log) record.Offset { return l.FirstBase() + 9 }),
		"all":                         truncate((*commitlog.Log).FirstBase),
		"all, to begin further on":    of(func(l *commitlog.Log) error { return l.ResetTo(l.End() + 7) }),
		"all, to begin somewhere":     of(func(l *commitlog.Log) error { return l.ResetTo(3) }),
		"all, to begin at 0": of(func(l *commitlog.Log) error {
			if _, err := l.DeleteBefore(l.LastBase() + 3); err != nil {
				return err
			}
			return l.ResetTo(0)
		}),
		"the first records":            remove(func(l *commitlog.Log) record.Offset { return l.Start() + 2 }),
		"the first segments":           remove(func(l *commitlog.Log) record.Offset { return l.LastBase() - 1 }),
		"all but the last records":     remove(func(l *commitlog.Log) record.Offset { return l.End() - 1 }),
		"all records, not the segment": remove((*commitlog.Log).End),
		"a failed write":               written,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failures := 0
			for _, op := range []faultfs.Op{faultfs.Sync, faultfs.SyncDir, faultfs.Truncate, faultfs.Remove, faultfs.Write} {
				for skip := 0; takenAway(t, start.Clone(), c, &faultfs.Rule{Op: op, Skip: skip}); skip++ {
					failures++
				}
			}
			if failures < 2 {
				t.Fatalf("it failed in %d ways", failures)
			}
		})
	}
}

// takenAway lets one call fail while records are taken out of a log, and reports
// whether that was so.
func takenAway(t *testing.T, disk *memfs.FS, take change, rule *faultfs.Rule) bool {
	t.Helper()
	// The clock of long is at most here.
	c := &clock{ms: 2_000_000}
	open := func(disk *memfs.FS, boot byte) *commitlog.Log {
		t.Helper()
		l, r, err := commitlog.Open(options(disk, c, boot))
		if err != nil || r.Damaged != nil {
			t.Fatalf("%+v: %+v, %v", rule, r, err)
		}
		return l
	}
	if err := open(disk, 1).Close(); err != nil {
		t.Fatal(err)
	}
	fault := faultfs.Wrap(disk)
	l, _, err := commitlog.Open(options(fault, c, 1))
	if err != nil {
		t.Fatal(err)
	}
	call := take(disk, fault, rule)
	before := fault.Calls(rule.Op)
	fault.Add(rule)
	err = call(l)
	if fault.Calls(rule.Op)-before <= rule.Skip {
		return false // It makes fewer calls.
	}
	check := func(disk *memfs.FS, policies []memfs.Policy, want ...served) {
		t.Helper()
		for _, p := range policies {
			left := serve(t, open(disk.Crash(p), 2))
			if !slices.ContainsFunc(want, left.equal) {
				t.Fatalf("%+v (%v), %v: the log was %v, and is %v", rule, err, p, want, left)
			}
		}
	}
	lost := []memfs.Policy{memfs.LoseUnsynced()}
	seed := uint64(rule.Skip)
	same := disk.Clone()
	again := open(same, 1)
	found := serve(t, again)
	if again.SyncedEnd() != found.end {
		t.Fatalf("%+v: the log is %v, synced to %d", rule, found, again.SyncedEnd())
	}
	check(same, storagetest.Policies(seed), found)
	// And what comes next does not bring back what was before it.
	if err := again.Append([]*commitlog.Batch{storagetest.NewBatch("more", 2)}, 9, again.End()); err != nil {
		t.Fatal(err)
	}
	more := serve(t, again)
	check(same, []memfs.Policy{memfs.LoseUnsynced(), memfs.LoseEntries(), memfs.KeepRandom(seed)}, found, more)
	if _, err := again.Sync(); err != nil {
		t.Fatal(err)
	}
	check(same, lost, more)

	fault.Clear()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	check(disk, lost, serve(t, open(disk, 1)))
	return true
}

// TestACutOfRecoveryStays: recovery cuts a torn tail and meets a failed sync,
// and the next one of the same boot finds nothing to cut. It says all the same
// that there may have been something, as it must (rule S2).
func TestACutOfRecoveryStays(t *testing.T) {
	disk := long(t)
	u := &clock{ms: 2_000_000}
	l, _, err := commitlog.Open(options(disk, u, 1))
	if err != nil {
		t.Fatal(err)
	}
	name, found := lastLog(l), serve(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := storagetest.ReadFile(disk, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := storagetest.WriteFile(disk, name, append(bytes.Clone(b), b[len(b)-30:]...)); err != nil {
		t.Fatal(err)
	}
	syncFile(disk, name)
	fault := faultfs.Wrap(disk, &faultfs.Rule{Op: faultfs.Sync, Path: "*.log"})
	var unsynced *segment.SyncError
	if _, _, err := commitlog.Open(options(fault, u, 2)); !errors.As(err, &unsynced) {
		t.Fatalf("open: %v", err)
	}
	killed := disk.Clone()
	l, r, err := commitlog.Open(options(fault, u, 2))
	if err != nil || !serve(t, l).equal(found) {
		t.Fatalf("%+v, %v", r, err)
	}
	if !r.TailCut || r.SameBoot {
		t.Errorf("nobody is told of the cut: %+v", r)
	}
	left := disk.Crash(memfs.LoseUnsynced())
	if after, err := storagetest.ReadFile(left, name); err != nil || !bytes.Equal(after, b) {
		t.Errorf("the file has %d bytes, not %d: %v", len(after), len(b), err)
	}
	if _, r, err := commitlog.Open(options(disk.Clone(), u, 2)); err != nil || r.TailCut || r.Scanned > 0 {
		t.Errorf("the cut is done, and said: %+v, %v", r, err)
	}
	if _, r, err := commitlog.Open(options(killed.Crash(memfs.KeepUnsynced()), u, 3)); err != nil || !r.TailCut {
		t.Errorf("the next boot is not told of the cut: %+v, %v", r, err)
	}
}

// TestOpeningWhatIsSettledSyncsNothing: thousands of logs are opened at a start.
func TestOpeningWhatIsSettledSyncsNothing(t *testing.T) {
	start := long(t)
	nothing := func(*commitlog.Log) error { return nil }
	for name, change := range map[string]func(*commitlog.Log) error{
		"as it was":  nothing,
		"truncated":  func(l *commitlog.Log) error { _, err := l.TruncateTo(l.End() - 3); return err },
		"shortened":  func(l *commitlog.Log) error { _, err := l.TruncateTo(9); return err },
		"begun late": func(l *commitlog.Log) error { _, err := l.DeleteBefore(l.Start() + 2); return err },
	} {
		for _, ended := range []string{"closed", "killed", "after a power loss"} {
			t.Run(name+", "+ended, func(t *testing.T) {
				disk, c := start.Clone(), &clock{ms: 2_000_000}
				l, _, err := commitlog.Open(options(disk, c, 1))
				if err != nil {
					t.Fatal(err)
				}
				if err := change(l); err != nil {
					t.Fatal(err)
				}
				l.RemoveWaste()
				boot, left := byte(1), disk.Clone()
				switch ended {
				case "closed":
					if err := l.Close(); err != nil {
						t.Fatal(err)
					}
					left = disk.Clone()
				case "after a power loss":
					boot, left = 2, disk.Crash(memfs.LoseUnsynced())
				}
				fault := faultfs.Wrap(left)
				if _, r, err := commitlog.Open(options(fault, c, boot)); err != nil || r.Rewritten != 0 {
					t.Fatalf("%+v, %v", r, err)
				}
				if n := fault.Calls(faultfs.Sync | faultfs.SyncDir | faultfs.Truncate); n != 0 {
					t.Errorf("%d syncs and truncations", n)
				}
			})
		}
	}
}

// TestAFailedRollIsNoSeal: a roll fails when the index has its name already, and
// smaller batches still go into the segment. They are no part of what was sealed:
// a power loss may tear them, and the log is cut there and written to.
func TestAFailedRollIsNoSeal(t *testing.T) {
	for _, torn := range []int64{0, 1, 40, 1000} {
		disk, c := long(t), &clock{ms: 2_000_000}
		fault := faultfs.Wrap(disk)
		l, _, err := commitlog.Open(options(fault, c, 1))
		if err != nil {
			t.Fatal(err)
		}
		l.SetConfig(commitlog.Config{SegmentBytes: 2000})
		fault.Add(&faultfs.Rule{Op: faultfs.SyncDir, Err: syscall.EMFILE})
		last := l.LastBase()
		var write *commitlog.WriteError
		big := []*commitlog.Batch{storagetest.NewBatch("big", 1, storagetest.Sized(2000))}
		if err := l.Append(big, l.LastEpoch(), 0); !errors.As(err, &write) || l.Failed() != nil {
			t.Fatalf("append: %v", err)
		}
		sealed := l.End()
		small := []*commitlog.Batch{storagetest.NewBatch("s", 1)}
		if err := l.Append(small, l.LastEpoch(), 0); err != nil || l.LastBase() != last {
			t.Fatalf("append to segment %d, was %d: %v", l.LastBase(), last, err)
		}
		end := l.End()
		l, r, err := commitlog.Open(options(disk.Crash(memfs.TearLast(torn)), c, 2))
		if err != nil || r.Damaged != nil || l.End() != sealed && l.End() != end {
			t.Fatalf("torn at %d: %+v, %v", torn, r, err)
		}
		if r.TailCut != (torn > 0 && torn < 1000) {
			t.Errorf("torn at %d: %+v", torn, r)
		}
		if err := l.Append(big, l.LastEpoch(), 0); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
