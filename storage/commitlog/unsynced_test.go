package commitlog_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// TestWhatASyncFailedToWriteIsWrittenAgain: a sync fails, the process dies
// before anybody is told, and the next one of the same boot finds the batches
// in the page cache, where they count as clean. Its sync alone would not write
// them; a power loss would take what it calls synced.
func TestWhatASyncFailedToWriteIsWrittenAgain(t *testing.T) {
	for name, appends := range map[string]int{"the first batches": 0, "a part of a page": 3, "many pages": 200} {
		for _, after := range []string{"at once", "after more was appended", "after it was sealed"} {
			t.Run(name+" "+after, func(t *testing.T) {
				fsys := memfs.New()
				if err := errors.Join(fsys.MkdirAll("/data", 0o755), fsys.SyncDir("/")); err != nil {
					t.Fatal(err)
				}
				disk := faultfs.Wrap(fsys)
				c := &clock{ms: 1000}
				o := options(disk, c, 1)
				o.Config.SegmentBytes = 1 << 20
				l, _, err := commitlog.Open(o)
				if err != nil {
					t.Fatal(err)
				}
				m := &storagetest.Model{}
				add := func(l *commitlog.Log) {
					b := []*commitlog.Batch{storagetest.NewBatch("v", 2, storagetest.Sized(90))}
					if err := l.Append(b, 1, l.SyncedEnd()); err != nil {
						t.Fatal(err)
					}
					m.Append(1, b...)
				}
				sync := func(l *commitlog.Log) {
					if _, err := l.Sync(); err != nil {
						t.Fatal(err)
					}
					if err := l.StoreCheckpoint(); err != nil {
						t.Fatal(err)
					}
				}
				for range appends {
					add(l)
				}
				if appends > 0 {
					sync(l)
				}
				for range appends + 2 {
					add(l)
				}
				disk.Add(&faultfs.Rule{Op: faultfs.Sync, Path: "*.log"})
				synced, err := l.Sync()
				var failed *commitlog.FailedError
				if !errors.As(err, &failed) || int(synced) != appends*2 {
					t.Fatalf("synced to %d: %v", synced, err)
				}

				killed := fsys.Clone()
				o.FS = killed
				l, r, err := commitlog.Open(o)
				if err != nil || r.End != m.End() || r.Rewritten == 0 {
					t.Fatalf("%+v, %v", r, err)
				}
				switch after {
				case "after more was appended":
					add(l)
					sync(l)
				case "after it was sealed":
					o.Config.SegmentBytes = 100
					l.SetConfig(o.Config)
					add(l)
					sync(l)
				}
				end := l.SyncedEnd()
				if end != m.End() {
					t.Fatalf("synced to %d, end %d", end, m.End())
				}
				o.FS, o.BootID = killed.Crash(memfs.LoseUnsynced()), [16]byte{2}
				l, r, err = commitlog.Open(o)
				if err != nil || r.Damaged != nil || r.TailCut {
					t.Fatalf("%+v, %v", r, err)
				}
				if err := m.Check(l, end); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// TestATailThatCannotBeWrittenAgainIsReadOnly: it is there to be read, and does
// not count as synced.
func TestATailThatCannotBeWrittenAgainIsReadOnly(t *testing.T) {
	u := newUser(t, 1, true)
	u.open()
	u.append()
	synced := u.log.SyncedEnd()
	b := []*commitlog.Batch{storagetest.NewBatch("v", 2)}
	if err := u.log.Append(b, u.epoch, 0); err != nil {
		t.Fatal(err)
	}
	disk := faultfs.Wrap(u.fs.Clone())
	disk.SetReadOnly(true)
	l, r, err := commitlog.Open(options(disk, &u.clock, 1))
	if err != nil {
		t.Fatal(err)
	}
	if r.End != u.log.End() || r.SyncedEnd != synced || l.SyncedEnd() != synced {
		t.Errorf("%+v; synced end was %d", r, synced)
	}
	var write *commitlog.WriteError
	if _, err := l.Sync(); !errors.As(err, &write) || write.Kind != commitlog.ReadOnly || l.SyncedEnd() != synced {
		t.Errorf("sync: %v", err)
	}
	if _, err := l.NewReader().Read(synced, l.End(), 1, func(n int) []byte { return make([]byte, n) }); err != nil {
		t.Errorf("read: %v", err)
	}
}

// TestAPageThatChangedSinceItWasCheckedIsNotWrittenAgain: the system may drop
// a page that it takes for clean, and read it from the disk as it was.
func TestAPageThatChangedSinceItWasCheckedIsNotWrittenAgain(t *testing.T) {
	u := newUser(t, 1, false)
	u.open()
	u.append()
	var corrupt *segment.CorruptError
	for skip := range 40 {
		disk := faultfs.Wrap(u.fs.Clone())
		disk.Add(&faultfs.Rule{Op: faultfs.Read, Path: "*.log", Skip: skip, Change: func(b []byte, off int64) {
			if off >= segment.FirstPosition {
				b[len(b)-1] ^= 1
			}
		}})
		writes := disk.Calls(faultfs.Write)
		l, _, err := commitlog.Open(options(disk, &u.clock, 1))
		if errors.As(err, &corrupt) && l == nil {
			if n := disk.Calls(faultfs.Write) - writes; n != 0 {
				t.Errorf("%d writes", n)
			}
			return
		}
	}
	t.Error("no read was the one for writing again")
}

// TestALogStartThatWasNotSyncedIsWrittenAgain: the checkpoint is subject to the
// same; what is removed because of it must not be missed.
func TestALogStartThatWasNotSyncedIsWrittenAgain(t *testing.T) {
	for name, change := range map[string]func(*commitlog.Log) error{
		"deleted": func(l *commitlog.Log) error { _, err := l.DeleteBefore(l.End() - 1); return err },
		"reset":   func(l *commitlog.Log) error { return l.ResetTo(l.End() + 7) },
		"back":    func(l *commitlog.Log) error { return l.ResetTo(3) },
	} {
		for skip := range 7 {
			t.Run(fmt.Sprintf("%s, sync %d", name, skip), func(t *testing.T) {
				u := newUser(t, 1, true)
				disk := faultfs.Wrap(u.fs)
				l, _, err := commitlog.Open(options(disk, &u.clock, 1))
				if err != nil {
					t.Fatal(err)
				}
				u.log = l
				for range 12 {
					u.append()
				}
				if err := u.log.SyncCheckpoint(); err != nil {
					t.Fatal(err)
				}
				disk.Add(&faultfs.Rule{Op: faultfs.Sync, Path: "checkpoint", Skip: skip})
				if err := change(u.log); err == nil {
					return // It needs fewer syncs.
				}
				u.open()
				start, end := u.log.Start(), u.log.End()
				b := []*commitlog.Batch{storagetest.NewBatch("v", 2)}
				if err := u.log.Append(b, u.epoch, end); err != nil {
					t.Fatal(err)
				}
				u.sync()
				l, r, err := commitlog.Open(options(u.fs.Crash(memfs.LoseUnsynced()), &u.clock, 2))
				if err != nil || r.Damaged != nil {
					t.Fatalf("%+v, %v", r, err)
				}
				if l.End() != end+2 || l.Start() > start {
					t.Fatalf("log was [%d, %d), is [%d, %d)", start, end+2, l.Start(), l.End())
				}
			})
		}
	}
}

// kill ends the process in the middle of things, perhaps just after a sync had
// failed of which it told nobody, and begins another in the same boot.
func (u *user) kill() {
	u.t.Helper()
	for _, name := range []string{segment.Name(u.log.LastBase(), segment.LogSuffix), "checkpoint"} {
		if u.rng.IntN(3) == 0 {
			continue
		}
		f, err := u.fs.OpenFile("/data/p/"+name, 0, 0)
		if err != nil {
			continue // There is none yet.
		}
		f.(interface{ FailSync() }).FailSync()
		if err := f.Close(); err != nil {
			u.t.Fatal(err)
		}
	}
	u.open()
	u.now.synced = max(u.now.synced, u.log.SyncedEnd())
}

// cutInVain takes records out of the log on a disk that fails meanwhile, and
// begins another process in the same boot. What that finds is the log.
func (u *user) cutInVain() {
	u.t.Helper()
	disk := faultfs.Wrap(u.fs)
	l, _, err := commitlog.Open(options(disk, &u.clock, 1))
	if err != nil {
		u.t.Fatal(err)
	}
	disk.Add(&faultfs.Rule{
		Op: faultfs.Sync | faultfs.SyncDir | faultfs.Truncate | faultfs.Remove, Skip: u.rng.IntN(8),
	})
	m := u.now.before
	off := m.Start + record.Offset(u.rng.Int64N(int64(m.End()-m.Start)+1))
	after := m.Clone()
	if u.rng.IntN(3) == 0 {
		after.StartAt(off)
		u.now.after = after
		_, err = l.DeleteBefore(off)
	} else {
		for _, e := range m.Entries {
			if e.Base <= off {
				after = m.Clone()
				after.TruncateTo(max(m.Start, e.Base))
			}
		}
		off, u.now.after, u.high = after.End(), after, min(u.high, after.End())
		u.now.synced, u.now.written = min(u.now.synced, off), min(u.now.written, off)
		_, err = l.TruncateTo(off)
	}
	var failed *commitlog.FailedError
	if err != nil && !errors.As(err, &failed) {
		u.t.Fatal(err)
	}
	u.epoch++
	u.open()
	left := m.Clone()
	left.TruncateTo(u.log.End())
	left.StartAt(u.log.Start())
	u.now.before, u.now.after, u.now.synced = left, left, u.log.SyncedEnd()
}

// TestNothingSyncedIsLostAfterFailedSyncs is TestNothingAcknowledgedIsLost in a
// world in which syncs fail and processes die.
func TestNothingSyncedIsLostAfterFailedSyncs(t *testing.T) {
	for seed := range crashSeeds(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			u := newUser(t, seed, seed%2 == 0)
			u.open()
			moments := storagetest.Record(u.fs, 3, func() expected { return u.now })
			rng := rand.New(rand.NewPCG(seed, 9))
			for range 36 {
				u.step()
				switch rng.IntN(12) {
				case 0, 1:
					u.append()
					u.kill()
				case 2:
					u.cutInVain()
				}
			}
			for i := range moments.Moments {
				checkMoment(t, u, &moments.Moments[i], seed+uint64(i))
			}
		})
	}
}

// The end of what is written counts only where it cannot be lost: a checkpoint
// that says nothing else that is new need not be synced.
func TestACheckpointIsSyncedForWhatOutlivesTheSystem(t *testing.T) {
	l, _, err := commitlog.Open(options(memfs.New(), &clock{}, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // Nothing depends on it.
	appended := func() error {
		return l.Append([]*commitlog.Batch{storagetest.NewBatch("v", 1)}, 1, 0)
	}
	synced := func() error {
		_, err := l.Sync()
		return err
	}
	deleted := func() error {
		_, err := l.DeleteBefore(1)
		return err
	}
	for _, step := range []struct {
		name string
		do   func() error
		due  bool
	}{
		{"the first checkpoint", appended, true},
		{"more is written", appended, false},
		{"it is synced", synced, true},
		{"nothing is new", func() error { return nil }, false},
		{"more is written again", appended, false},
		{"the log start moves, which syncs its own", deleted, false},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if err := l.StoreCheckpoint(); err != nil {
			t.Fatal(err)
		}
		if l.CheckpointDue() != step.due {
			t.Errorf("%s: due: %v", step.name, !step.due)
		}
		if err := l.SyncCheckpoint(); err != nil {
			t.Fatal(err)
		}
		if l.CheckpointDue() {
			t.Errorf("%s: due again after it was synced", step.name)
		}
	}
}

// A checkpoint is stored with each group of records.
func TestStoringACheckpointAllocatesNothing(t *testing.T) {
	o := options(vfs.OS(), &clock{}, 1)
	o.Dir = t.TempDir()
	l, _, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // Nothing depends on it.
	if err := l.Append([]*commitlog.Batch{storagetest.NewBatch("v", 1)}, 1, 0); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if err := l.StoreCheckpoint(); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
