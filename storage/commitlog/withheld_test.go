package commitlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// contents are the names and bytes of all files of the log.
func contents(t *testing.T, fsys vfs.FS) (all string) {
	t.Helper()
	files, err := storagetest.Files(fsys, "/data/p")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := storagetest.ReadFile(fsys, f.Path)
		if err != nil {
			t.Fatal(err)
		}
		all += fmt.Sprintf("%s %q\n", path.Base(f.Path), b)
	}
	return all
}

// readOnly opens a log on a disk that cannot be written to, and on a copy of it
// that can. Both show the same. What the first refuses to do it refuses for good,
// and whoever opens the log next does it.
func readOnly(t *testing.T, disk *memfs.FS, u *user, boot byte) *commitlog.WriteError {
	t.Helper()
	writable, rec, err := commitlog.Open(options(disk.Clone(), &u.clock, boot))
	if err != nil {
		t.Fatal(err)
	}
	defer writable.Close() //nolint:errcheck // It has been read.
	frozen := faultfs.Wrap(disk)
	frozen.SetReadOnly(true)
	l, r, err := commitlog.Open(options(frozen, &u.clock, boot))
	if err != nil {
		t.Fatalf("not opened: %v (%+v)", err, rec)
	}
	if (r.Damaged == nil) != (rec.Damaged == nil) || r.DurableEnd > rec.DurableEnd || l.RecoveredEnd() > writable.RecoveredEnd() ||
		l.SyncedEnd() > writable.SyncedEnd() {
		t.Errorf("%+v, and where it can be written to %+v", r, rec)
	}
	if rec.Damaged != nil {
		return nil // It cannot be written to anywhere.
	}
	want := serve(t, writable)
	if got := serve(t, l); !got.equal(want) {
		t.Fatalf("%v, and where it can be written to %v: %+v, %+v", got, want, r, rec)
	}
	if rec.TailCut && rec.CutCause != nil && r.Withheld == nil {
		t.Errorf("a torn tail was left, and is written behind: %+v", r)
	}
	if r.Withheld == nil {
		_ = l.Close()
		return nil
	}
	frozen.SetReadOnly(false)
	before := contents(t, disk)
	start, end := l.Start(), l.End()
	for name, call := range map[string]func() error{
		"append":     func() error { return l.Append([]*commitlog.Batch{storagetest.NewBatch("x", 1)}, 99, 0) },
		"follow":     func() error { return l.AppendFollowed(nil) },
		"truncate":   func() error { _, err := l.TruncateTo(start); return err },
		"reset":      func() error { return l.ResetTo(0) },
		"delete":     func() error { _, err := l.DeleteBefore(end); return err },
		"retain":     func() error { _, err := l.Retain(time.UnixMilli(1<<40), end); return err },
		"checkpoint": l.StoreCheckpoint,
	} {
		var write *commitlog.WriteError
		if err := call(); !errors.As(err, &write) || write.Kind != commitlog.ReadOnly || errors.As(err, new(*commitlog.FailedError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	synced := l.SyncedEnd()
	if _, err := l.Sync(); (err == nil) != (synced == end) || l.SyncedEnd() != synced {
		t.Errorf("sync: %v, to %d, before it %d of %d", err, l.SyncedEnd(), synced, end)
	}
	l.Idle()
	l.RemoveWaste()
	if err := errors.Join(l.SyncCheckpoint(), l.Close()); err != nil {
		t.Error(err)
	}
	if after := contents(t, disk); after != before {
		t.Errorf("it was written to:\n%s\nwas\n%s", after, before)
	}
	next, rec, err := commitlog.Open(options(disk, &u.clock, boot))
	if err != nil {
		t.Fatal(err)
	}
	if got := serve(t, next); !got.equal(want) || rec.Withheld != nil {
		t.Errorf("opened again: %v, not %v: %+v", got, want, rec)
	}
	err = errors.Join(next.Append([]*commitlog.Batch{storagetest.NewBatch("x", 1)}, 99, 0), next.Close())
	last, again, err2 := commitlog.Open(options(disk, &u.clock, boot))
	if err = errors.Join(err, err2); err != nil || again.TailCut || again.End != end+1 {
		t.Fatalf("written to: %v, %+v", err, again)
	}
	_ = last.Close()
	return r.Withheld
}

// TestALogOnAReadOnlyDisk: whatever a crash leaves, a log that can be recovered can
// be read also where recovery cannot write.
func TestALogOnAReadOnlyDisk(t *testing.T) {
	withheld := map[string]int{} // by what was to be done
	for seed := range crashSeeds(3) {
		u := newUser(t, seed, seed%2 == 0)
		u.open()
		rec := storagetest.Record(u.fs, 4, func() int { return 0 })
		for range 12 {
			u.step()
		}
		u.fs.SetHook(nil)
		rng := rand.New(rand.NewPCG(seed, 1))
		for i := range rec.Moments {
			m := &rec.Moments[i]
			policies := storagetest.Policies(seed)
			for boot, disk := range map[byte]*memfs.FS{1: m.Disk.Clone(), 2: m.Disk.Crash(policies[rng.IntN(len(policies))])} {
				if _, err := disk.Stat("/data/p"); err != nil {
					continue // There is no log yet.
				}
				if w := readOnly(t, disk, u, boot); w != nil {
					withheld[w.Doing]++
				}
				if t.Failed() {
					t.Fatalf("seed %d, %v, boot %d", seed, m, boot)
				}
			}
		}
	}
	if withheld["cut a torn tail"] == 0 || withheld["write the end of the log again"] == 0 {
		t.Errorf("nothing was left undone: %v", withheld)
	}
}

// TestWhatAReadOnlyDiskLeavesUndone: each thing that recovery has to do.
func TestWhatAReadOnlyDiskLeavesUndone(t *testing.T) {
	for doing, spoil := range map[string]func(disk *memfs.FS, u *user) error{
		"cut a torn tail": func(disk *memfs.FS, u *user) error {
			size := fileSize(t, disk, u.log)
			return storagetest.Overwrite(disk, lastLog(u.log), bytes.Repeat([]byte("torn"), 100), size)
		},
		"remove an index that does not fit": func(disk *memfs.FS, u *user) error {
			return storagetest.WriteFile(disk, "/data/p/"+segment.Name(u.log.LastBase(), segment.IndexSuffix), []byte("index"))
		},
		"remove an index without a log": func(disk *memfs.FS, u *user) error {
			return storagetest.WriteFile(disk, "/data/p/"+segment.Name(u.log.End()+5, segment.IndexSuffix), []byte("index"))
		},
		"make a segment again": func(disk *memfs.FS, u *user) error {
			return storagetest.WriteFile(disk, "/data/p/"+segment.Name(u.log.End(), segment.LogSuffix), []byte("begun"))
		},
	} {
		t.Run(doing, func(t *testing.T) {
			for boot := byte(1); boot <= 2; boot++ {
				u := newUser(t, 3, true)
				u.open()
				for u.log.Segments() < 3 || u.log.End() < u.log.LastBase()+5 {
					u.append()
				}
				if err := u.log.SyncCheckpoint(); err != nil {
					t.Fatal(err)
				}
				disk := u.fs.Clone()
				if err := spoil(disk, u); err != nil {
					t.Fatal(err)
				}
				w := readOnly(t, disk, u, boot)
				if w == nil || w.Doing != doing {
					t.Errorf("boot %d: %v", boot, w)
				}
			}
		})
	}
}
