package commitlog_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// grow appends until the log has so many bytes.
func grow(t *testing.T, l *commitlog.Log, bytes int64) {
	t.Helper()
	b := []*commitlog.Batch{storagetest.NewBatch("v", 4, storagetest.Sized(64<<10))}
	for l.Size() < bytes {
		if err := l.Append(b, 1, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func bigSegments(disk *faultfs.FS) commitlog.Options {
	o := options(disk, &clock{ms: 1}, 1)
	o.Config.SegmentBytes = 64 << 20
	return o
}

// TestRoomIsSetAsideAndGivenBack: a log that grows has room set aside ahead of
// its end, and after each of these none.
func TestRoomIsSetAsideAndGivenBack(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *faultfs.FS, *commitlog.Log) *commitlog.Log{
		"sealed": func(t *testing.T, _ *faultfs.FS, l *commitlog.Log) *commitlog.Log {
			if _, err := l.Sync(); err != nil {
				t.Fatal(err)
			}
			c := l.Config()
			c.SegmentBytes = 1
			l.SetConfig(c)
			n := l.Segments()
			grow(t, l, l.Size()+1)
			if l.Segments() != n+1 {
				t.Fatalf("%d segments", l.Segments())
			}
			c.SegmentBytes = 64 << 20
			l.SetConfig(c)
			return l
		},
		"idle": func(t *testing.T, _ *faultfs.FS, l *commitlog.Log) *commitlog.Log {
			if _, err := l.Sync(); err != nil {
				t.Fatal(err)
			}
			l.Idle()
			return l
		},
		"closed": func(t *testing.T, _ *faultfs.FS, l *commitlog.Log) *commitlog.Log {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return nil
		},
		"killed": func(t *testing.T, disk *faultfs.FS, _ *commitlog.Log) *commitlog.Log {
			l, _, err := commitlog.Open(bigSegments(disk))
			if err != nil {
				t.Fatal(err)
			}
			return l
		},
		"truncated": func(t *testing.T, _ *faultfs.FS, l *commitlog.Log) *commitlog.Log {
			if _, err := l.TruncateTo(l.End() - 4); err != nil {
				t.Fatal(err)
			}
			return l
		},
		"a write that failed": func(t *testing.T, disk *faultfs.FS, l *commitlog.Log) *commitlog.Log {
			disk.Add(&faultfs.Rule{Op: faultfs.Write, Path: "*.log", Bytes: 10, Err: syscall.ENOSPC})
			var full *commitlog.WriteError
			err := l.Append([]*commitlog.Batch{storagetest.NewBatch("v", 1)}, 1, 0)
			if !errors.As(err, &full) || full.Kind != commitlog.DiskFull {
				t.Fatalf("append: %v", err)
			}
			return l
		},
	} {
		t.Run(name, func(t *testing.T) {
			fsys := memfs.New()
			disk := faultfs.Wrap(fsys)
			l, _, err := commitlog.Open(bigSegments(disk))
			if err != nil {
				t.Fatal(err)
			}
			grow(t, l, 3<<20)
			if n := disk.Calls(faultfs.Reserve); n != 0 {
				t.Fatalf("%d times for a small segment", n)
			}
			for _, size := range []int64{6 << 20, 12 << 20} {
				grow(t, l, size)
				if len(fsys.Reserved()) != 1 {
					t.Fatalf("nothing is set aside at %d bytes", size)
				}
			}
			if n := disk.Calls(faultfs.Reserve); n > 8 {
				t.Errorf("%d times", n)
			}
			if l = end(t, disk, l); len(fsys.Reserved()) != 0 {
				t.Fatalf("set aside: %v", fsys.Reserved())
			}
			if l == nil {
				return
			}
			grow(t, l, l.Size()+12<<20)
			if len(fsys.Reserved()) == 0 {
				t.Error("nothing is set aside when it grows again")
			}
		})
	}
}

// TestWhoCannotSetRoomAsideGoesOn: no failure of it is seen by who appends.
func TestWhoCannotSetRoomAsideGoesOn(t *testing.T) {
	for _, errno := range []error{syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS} {
		for _, op := range []faultfs.Op{faultfs.Reserve, faultfs.Trim, faultfs.Reserve | faultfs.Trim, faultfs.FreeBytes} {
			disk := faultfs.Wrap(memfs.New(), &faultfs.Rule{Op: op, Err: errno, Times: -1})
			o := bigSegments(disk)
			o.Config.SegmentBytes = 10 << 20
			l, _, err := commitlog.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				grow(t, l, l.Size()+6<<20)
				if _, err := l.Sync(); err != nil {
					t.Fatal(err)
				}
				l.Idle()
			}
			if n := disk.Calls(faultfs.Reserve | faultfs.FreeBytes); n > 60 {
				t.Errorf("%v: asked %d times", errno, n)
			}
			if l.Segments() < 2 {
				t.Errorf("%v: %d segments", errno, l.Segments())
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			again, r, err := commitlog.Open(o)
			if err != nil || r.Damaged != nil || r.TailCut || again.End() != l.End() {
				t.Fatalf("%v: %+v, %v", errno, r, err)
			}
		}
	}
}

// TestADiskThatFillsUpIsFullOfRecords: little is set aside where little is
// free.
func TestADiskThatFillsUpIsFullOfRecords(t *testing.T) {
	fsys := memfs.New()
	fsys.SetCapacity(40 << 20)
	l, _, err := commitlog.Open(bigSegments(faultfs.Wrap(fsys)))
	if err != nil {
		t.Fatal(err)
	}
	b := []*commitlog.Batch{storagetest.NewBatch("v", 4, storagetest.Sized(64<<10))}
	for {
		err := l.Append(b, 1, 0)
		if err == nil {
			if r := fsys.Reserved(); len(r) != 0 {
				t.Fatalf("set aside at %d bytes: %v", l.Size(), r)
			}
			continue
		}
		var full *commitlog.WriteError
		if !errors.As(err, &full) || full.Kind != commitlog.DiskFull {
			t.Fatalf("append: %v", err)
		}
		break
	}
	if l.Size() < 39<<20 || l.Size() > 40<<20+segment.FirstPosition {
		t.Errorf("full at %d bytes", l.Size())
	}
}
