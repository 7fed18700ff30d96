package faultfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// setUp returns a disk in memory under rules, with a directory on it.
func setUp(t *testing.T, rules ...*faultfs.Rule) (*memfs.FS, *faultfs.FS) {
	t.Helper()
	disk := memfs.New()
	if err := errors.Join(disk.MkdirAll("/d", 0o755), disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return disk, faultfs.Wrap(disk, rules...)
}

func create(t *testing.T, fsys vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, fsys vfs.FS, name string) string {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 1<<20)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestTheNthCallOfAKindFails(t *testing.T) {
	_, faulty := setUp(t, &faultfs.Rule{Op: faultfs.Write, Skip: 2})
	f := create(t, faulty, "/d/f")
	for n := range 5 {
		_, err := f.WriteAt([]byte("x"), int64(n))
		if failed := err != nil; failed != (n == 2) {
			t.Errorf("write %d: %v", n, err)
		}
		if n == 2 && (!errors.Is(err, syscall.EIO) || !errors.As(err, new(*fs.PathError))) {
			t.Errorf("write %d: %v", n, err)
		}
	}
	if n := faulty.Calls(faultfs.Write); n != 5 {
		t.Errorf("%d writes counted", n)
	}
	if n := faulty.Calls(faultfs.Write | faultfs.Create); n != 6 {
		t.Errorf("%d writes and creations counted", n)
	}
}

func TestRulesOfPathAndTimes(t *testing.T) {
	_, faulty := setUp(t,
		&faultfs.Rule{Op: faultfs.Sync, Path: "*.log", Times: 2, Err: syscall.ENOSPC},
		&faultfs.Rule{Op: faultfs.Sync, Path: "*.index", Times: -1})
	log, index, other := create(t, faulty, "/d/1.log"), create(t, faulty, "/d/1.index"), create(t, faulty, "/d/x")
	for n := range 4 {
		if err := log.Sync(); vfs.IsFull(err) != (n < 2) || vfs.IsSync(err) != (n < 2) {
			t.Errorf("sync %d of the log: %v", n, err)
		}
		if err := index.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("sync %d of the index: %v", n, err)
		}
		if err := other.Sync(); err != nil {
			t.Errorf("sync %d of the other: %v", n, err)
		}
	}
	faulty.Clear()
	if err := index.Sync(); err != nil {
		t.Errorf("without rules: %v", err)
	}
}

// TestEachKindCanFail lets every kind of call fail, and sees that it does
// nothing then.
func TestEachKindCanFail(t *testing.T) {
	calls := map[string]struct {
		op   faultfs.Op
		call func(fsys vfs.FS, f vfs.File) error
	}{
		"open": {faultfs.Open, func(fsys vfs.FS, _ vfs.File) error {
			_, err := fsys.OpenFile("/d/f", os.O_RDWR, 0)
			return err
		}},
		"create": {faultfs.Create, func(fsys vfs.FS, _ vfs.File) error {
			_, err := fsys.OpenFile("/d/g", os.O_RDWR|os.O_CREATE, 0o644)
			return err
		}},
		"read": {faultfs.Read, func(_ vfs.FS, f vfs.File) error {
			_, err := f.ReadAt(make([]byte, 3), 0)
			return err
		}},
		"write": {faultfs.Write, func(_ vfs.FS, f vfs.File) error {
			_, err := f.WriteAt([]byte("new"), 0)
			return err
		}},
		"writev": {faultfs.Write, func(_ vfs.FS, f vfs.File) error {
			_, err := f.Writev([][]byte{[]byte("new")}, 0)
			return err
		}},
		"sync":      {faultfs.Sync, func(_ vfs.FS, f vfs.File) error { return f.Sync() }},
		"truncate":  {faultfs.Truncate, func(_ vfs.FS, f vfs.File) error { return f.Truncate(1) }},
		"size":      {faultfs.Size, func(_ vfs.FS, f vfs.File) error { _, err := f.Size(); return err }},
		"close":     {faultfs.Close, func(_ vfs.FS, f vfs.File) error { return f.Close() }},
		"remove":    {faultfs.Remove, func(fsys vfs.FS, _ vfs.File) error { return fsys.Remove("/d/f") }},
		"removeall": {faultfs.Remove, func(fsys vfs.FS, _ vfs.File) error { return fsys.RemoveAll("/d") }},
		"rename":    {faultfs.Rename, func(fsys vfs.FS, _ vfs.File) error { return fsys.Rename("/d/f", "/d/g") }},
		"mkdir":     {faultfs.Mkdir, func(fsys vfs.FS, _ vfs.File) error { return fsys.MkdirAll("/d/e", 0o755) }},
		"readdir":   {faultfs.ReadDir, func(fsys vfs.FS, _ vfs.File) error { _, err := fsys.ReadDir("/d"); return err }},
		"stat":      {faultfs.Stat, func(fsys vfs.FS, _ vfs.File) error { _, err := fsys.Stat("/d"); return err }},
		"syncdir":   {faultfs.SyncDir, func(fsys vfs.FS, _ vfs.File) error { return fsys.SyncDir("/d") }},
		"lock":      {faultfs.Lock, func(fsys vfs.FS, _ vfs.File) error { _, err := fsys.Lock("/d/lock"); return err }},
		"free":      {faultfs.FreeBytes, func(fsys vfs.FS, _ vfs.File) error { _, _, err := fsys.FreeBytes("/d"); return err }},
	}
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			disk, faulty := setUp(t)
			f := create(t, faulty, "/d/f")
			if _, err := f.WriteAt([]byte("old bytes"), 0); err != nil {
				t.Fatal(err)
			}
			disk.StartLog()
			faulty.Add(&faultfs.Rule{Op: c.op, Err: syscall.EMFILE})
			if err := c.call(faulty, f); !vfs.IsTooManyFiles(err) {
				t.Errorf("error is %v", err)
			}
			if ops := disk.TakeLog(); len(ops) != 0 {
				t.Errorf("it failed and did %v", ops)
			}
			if c.op == faultfs.Close {
				if n := disk.OpenFiles(); n != 0 {
					t.Errorf("a close that fails closes: %d open", n)
				}
				return
			}
			if err := c.call(faulty, f); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

func TestShortWriteAndTornWrite(t *testing.T) {
	disk, faulty := setUp(t)
	f := create(t, faulty, "/d/f")
	faulty.Add(&faultfs.Rule{Op: faultfs.Write, Bytes: 4, Err: syscall.ENOSPC})
	n, err := f.Writev([][]byte{[]byte("abc"), nil, []byte("def")}, 0)
	if n != 4 || !vfs.IsFull(err) || read(t, disk, "/d/f") != "abcd" {
		t.Errorf("short write: %d, %v, %q", n, err, read(t, disk, "/d/f"))
	}
	faulty.Add(&faultfs.Rule{Op: faultfs.Write, Bytes: 2, Silent: true})
	n, err = f.WriteAt([]byte("UVWXYZ"), 0)
	if n != 6 || err != nil || read(t, disk, "/d/f") != "UVcd" {
		t.Errorf("torn write: %d, %v, %q", n, err, read(t, disk, "/d/f"))
	}
	faulty.Add(&faultfs.Rule{Op: faultfs.Write, Silent: true})
	n, err = f.WriteAt([]byte("lost"), 0)
	if n != 4 || err != nil || read(t, disk, "/d/f") != "UVcd" {
		t.Errorf("lost write: %d, %v, %q", n, err, read(t, disk, "/d/f"))
	}
}

func TestDiskThatLiesAboutSync(t *testing.T) {
	disk, faulty := setUp(t,
		&faultfs.Rule{Op: faultfs.Sync, Silent: true}, &faultfs.Rule{Op: faultfs.SyncDir, Skip: 1, Silent: true})
	f := create(t, faulty, "/d/f")
	if err := faulty.SyncDir("/d"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("bytes"), 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), faulty.Rename("/d/f", "/d/g"), faulty.SyncDir("/d")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, disk.Crash(memfs.LoseUnsynced()), "/d/f"); got != "" {
		t.Errorf("after a power loss: %q", got)
	}
	if err := errors.Join(f.Sync(), faulty.SyncDir("/d")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, disk.Crash(memfs.LoseUnsynced()), "/d/g"); got != "bytes" {
		t.Errorf("after honest syncs: %q", got)
	}
}

func TestFailedSyncIsNotMadeGoodByTheNext(t *testing.T) {
	disk, faulty := setUp(t, &faultfs.Rule{Op: faultfs.Sync})
	f := create(t, faulty, "/d/f")
	if _, err := f.WriteAt([]byte("bytes"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !vfs.IsSync(err) {
		t.Errorf("first sync: %v", err)
	}
	if err := errors.Join(f.Sync(), faulty.SyncDir("/d")); err != nil {
		t.Errorf("second sync: %v", err)
	}
	if got := read(t, disk, "/d/f"); got != "bytes" {
		t.Errorf("in the page cache: %q", got)
	}
	if got := read(t, disk.Crash(memfs.LoseUnsynced()), "/d/f"); got != "" {
		t.Errorf("after a power loss: %q", got)
	}
}

func TestDiskFillsUpAndIsFreed(t *testing.T) {
	_, faulty := setUp(t)
	f := create(t, faulty, "/d/f")
	faulty.SetRoom(10)
	if n, err := f.WriteAt(make([]byte, 8), 0); n != 8 || err != nil {
		t.Errorf("first: %d, %v", n, err)
	}
	if n, err := f.Writev([][]byte{make([]byte, 1), make([]byte, 5)}, 8); n != 2 || !vfs.IsFull(err) {
		t.Errorf("second: %d, %v", n, err)
	}
	if n, err := f.WriteAt(make([]byte, 1), 10); n != 0 || !vfs.IsFull(err) {
		t.Errorf("third: %d, %v", n, err)
	}
	if free, total, err := faulty.FreeBytes("/d"); free != 0 || total == 0 || err != nil {
		t.Errorf("free %d of %d, %v", free, total, err)
	}
	faulty.SetRoom(-1)
	if n, err := f.WriteAt(make([]byte, 100), 10); n != 100 || err != nil {
		t.Errorf("with room: %d, %v", n, err)
	}
}

func TestReadOnlyRefusesChangesOnly(t *testing.T) {
	_, faulty := setUp(t)
	f := create(t, faulty, "/d/f")
	if _, err := f.WriteAt([]byte("bytes"), 0); err != nil {
		t.Fatal(err)
	}
	faulty.SetReadOnly(true)
	_, writeErr := f.WriteAt([]byte("x"), 0)
	_, openErr := faulty.OpenFile("/d/f", os.O_RDWR, 0)
	_, createErr := faulty.OpenFile("/d/g", os.O_RDONLY|os.O_CREATE, 0o644)
	_, lockErr := faulty.Lock("/d/lock")
	for name, err := range map[string]error{
		"write": writeErr, "open for writing": openErr, "create": createErr, "lock": lockErr,
		"truncate": f.Truncate(0), "remove": faulty.Remove("/d/f"), "removeall": faulty.RemoveAll("/d"),
		"rename": faulty.Rename("/d/f", "/d/g"), "mkdir": faulty.MkdirAll("/e", 0o755),
	} {
		if !vfs.IsReadOnly(err) || !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := read(t, faulty, "/d/f"); got != "bytes" {
		t.Errorf("read %q", got)
	}
	if g, err := faulty.OpenFile("/d/f", os.O_RDONLY|os.O_CREATE, 0o644); err != nil {
		t.Errorf("open of what is there: %v", err)
	} else if err := g.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Sync(); err != nil {
		t.Errorf("sync: %v", err)
	}
}

func TestBitRot(t *testing.T) {
	disk, faulty := setUp(t, &faultfs.Rule{Op: faultfs.Read, Times: -1, Change: func(b []byte, off int64) {
		if off <= 2 && 2 < off+int64(len(b)) {
			b[2-off] ^= 1
		}
	}})
	f := create(t, faulty, "/d/f")
	if _, err := f.WriteAt([]byte("aaaa"), 0); err != nil {
		t.Fatal(err)
	}
	if got := read(t, faulty, "/d/f"); got != "aa`a" {
		t.Errorf("read %q", got)
	}
	if got := read(t, disk, "/d/f"); got != "aaaa" {
		t.Errorf("below the faults is %q", got)
	}
}

func TestShortRead(t *testing.T) {
	_, faulty := setUp(t)
	f := create(t, faulty, "/d/f")
	if _, err := f.WriteAt([]byte("bytes"), 0); err != nil {
		t.Fatal(err)
	}
	faulty.Add(&faultfs.Rule{Op: faultfs.Read, Bytes: 2})
	b := make([]byte, 5)
	if n, err := f.ReadAt(b, 0); n != 2 || !errors.Is(err, syscall.EIO) || !bytes.Equal(b[:2], []byte("by")) {
		t.Errorf("read %d, %v", n, err)
	}
}

func TestHeldCallGoesOnWhenReleased(t *testing.T) {
	held, release := make(chan string), make(chan struct{})
	disk, faulty := setUp(t, &faultfs.Rule{Op: faultfs.Sync, Hold: func(_ faultfs.Op, name string) {
		held <- name
		<-release
	}})
	f := create(t, faulty, "/d/f")
	if _, err := f.WriteAt([]byte("bytes"), 0); err != nil {
		t.Fatal(err)
	}
	var flusher sync.WaitGroup
	flusher.Go(func() {
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
	})
	if name := <-held; name != "/d/f" {
		t.Errorf("held %s", name)
	}
	// Meanwhile other calls go on.
	if _, err := f.WriteAt([]byte("more"), 5); err != nil {
		t.Fatal(err)
	}
	if files, _ := disk.Unsynced(); len(files) != 1 {
		t.Errorf("unsynced: %v", files)
	}
	close(release)
	flusher.Wait()
	if files, _ := disk.Unsynced(); len(files) != 0 {
		t.Errorf("unsynced: %v", files)
	}
}

func TestNoDescriptorLeadsRoundTheRules(t *testing.T) {
	f := create(t, faultfs.Wrap(vfs.OS()), t.TempDir()+"/f")
	defer func() { _ = f.Close() }()
	if _, ok := f.(vfs.FDer); ok {
		t.Error("a wrapped file shows its descriptor")
	}
}

func TestRenameIsMatchedByEitherName(t *testing.T) {
	_, faulty := setUp(t,
		&faultfs.Rule{Op: faultfs.Rename, Path: "old"}, &faultfs.Rule{Op: faultfs.Rename, Path: "new", Err: syscall.ENOSPC})
	create(t, faulty, "/d/old")
	for _, want := range []error{syscall.EIO, syscall.ENOSPC, nil} {
		err := faulty.Rename("/d/old", "/d/new")
		var link *os.LinkError
		if !errors.Is(err, want) || want != nil && !errors.As(err, &link) {
			t.Errorf("error is %v, want %v", err, want)
		}
	}
}
