package memfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// disk is a file system with the checks of a test.
type disk struct {
	*memfs.FS
	t *testing.T
}

func newDisk(t *testing.T) disk {
	d := disk{FS: memfs.New(), t: t}
	d.must(d.MkdirAll("/d", 0o755))
	d.must(d.SyncDir("/"))
	return d
}

func (d disk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d disk) create(name string) vfs.File {
	d.t.Helper()
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	d.must(err)
	return f
}

func (d disk) write(f vfs.File, off int64, s string) {
	d.t.Helper()
	n, err := f.WriteAt([]byte(s), off)
	d.must(err)
	if n != len(s) {
		d.t.Fatalf("wrote %d of %d bytes", n, len(s))
	}
}

// has checks what a file holds; "<none>" is no such file.
func (d disk) has(name, want string) {
	d.t.Helper()
	got := content(d.FS, name)
	if got == want {
		return
	}
	if len(got) < 100 && len(want) < 100 {
		d.t.Fatalf("%s holds %q, want %q", name, got, want)
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	d.t.Fatalf("%s holds %d bytes, want %d; they differ from %d", name, len(got), len(want), at)
}

func (d disk) after(p memfs.Policy) disk { return disk{FS: d.Crash(p), t: d.t} }

const none = "<none>"

func content(f *memfs.FS, name string) string {
	h, err := f.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return none
	}
	if err != nil {
		return err.Error()
	}
	defer func() { _ = h.Close() }()
	size, err := h.Size()
	if err != nil {
		return err.Error()
	}
	b := make([]byte, size)
	if _, err := h.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return err.Error()
	}
	return string(b)
}

func TestPowerLossTakesWhatWasNotSynced(t *testing.T) {
	d := newDisk(t)
	f := d.create("/d/log")
	d.must(d.SyncDir("/d"))
	d.write(f, 0, "synced")
	d.must(f.Sync())
	d.write(f, 6, "+more")
	d.write(f, 0, "S")

	d.after(memfs.LoseUnsynced()).has("/d/log", "synced")
	d.after(memfs.KeepUnsynced()).has("/d/log", "Synced+more")
	d.has("/d/log", "Synced+more") // The original goes on.
}

func TestPowerLossTakesNamesThatWereNotSynced(t *testing.T) {
	d := newDisk(t)
	f := d.create("/d/log")
	d.write(f, 0, "bytes")
	d.must(f.Sync()) // The bytes, not the name.

	d.after(memfs.LoseUnsynced()).has("/d/log", none)
	d.after(memfs.LoseEntries()).has("/d/log", none)
	d.must(d.SyncDir("/d"))
	d.after(memfs.LoseUnsynced()).has("/d/log", "bytes")
}

func TestNameWithoutBytes(t *testing.T) {
	// A checkpoint that is renamed into place without a sync: the famous
	// empty file.
	d := newDisk(t)
	old := d.create("/d/checkpoint")
	d.write(old, 0, "old")
	d.must(old.Sync())
	d.must(d.SyncDir("/d"))
	next := d.create("/d/checkpoint.tmp")
	d.write(next, 0, "new")
	d.must(d.Rename("/d/checkpoint.tmp", "/d/checkpoint"))

	d.after(memfs.LoseUnsynced()).has("/d/checkpoint", "old")
	d.after(memfs.LoseEntries()).has("/d/checkpoint", "old")
	d.after(memfs.LoseWrites()).has("/d/checkpoint", "")
	d.after(memfs.KeepUnsynced()).has("/d/checkpoint", "new")
	d.must(d.SyncDir("/d"))
	d.after(memfs.LoseUnsynced()).has("/d/checkpoint", "")
	d.must(next.Sync())
	d.after(memfs.LoseUnsynced()).has("/d/checkpoint", "new")
	d.after(memfs.LoseUnsynced()).has("/d/checkpoint.tmp", none)
}

func TestRemovedFileComesBackUnlessSynced(t *testing.T) {
	d := newDisk(t)
	f := d.create("/d/log")
	d.write(f, 0, "bytes")
	d.must(f.Sync())
	d.must(d.SyncDir("/d"))
	d.must(d.Remove("/d/log"))
	d.has("/d/log", none)
	d.after(memfs.LoseUnsynced()).has("/d/log", "bytes")
	d.must(d.SyncDir("/d"))
	d.after(memfs.LoseUnsynced()).has("/d/log", none)
}

func TestDirectoryNeedsItsParentSynced(t *testing.T) {
	d := newDisk(t)
	d.must(d.MkdirAll("/d/a/b", 0o755))
	f := d.create("/d/a/b/log")
	d.write(f, 0, "bytes")
	d.must(f.Sync())
	d.must(d.SyncDir("/d/a/b"))
	d.after(memfs.LoseUnsynced()).has("/d/a/b/log", none)
	d.must(d.SyncDir("/d/a"))
	d.after(memfs.LoseUnsynced()).has("/d/a/b/log", none)
	d.must(d.SyncDir("/d"))
	d.after(memfs.LoseUnsynced()).has("/d/a/b/log", "bytes")
}

func TestRenameBetweenDirectoriesIsNeverHalf(t *testing.T) {
	d := newDisk(t)
	d.must(d.MkdirAll("/trash", 0o755))
	d.must(d.MkdirAll("/d/topic", 0o755))
	f := d.create("/d/topic/log")
	d.write(f, 0, "bytes")
	d.must(f.Sync())
	for _, dir := range []string{"/", "/d", "/d/topic"} {
		d.must(d.SyncDir(dir))
	}
	d.must(d.Rename("/d/topic", "/trash/topic"))
	for seed := range uint64(64) {
		c := d.after(memfs.KeepRandom(seed))
		old, now := content(c.FS, "/d/topic/log"), content(c.FS, "/trash/topic/log")
		if (old == "bytes") == (now == "bytes") {
			t.Fatalf("seed %d: old place %q, new place %q", seed, old, now)
		}
	}
	// A sync of either directory is a sync of both halves.
	for _, dir := range []string{"/d", "/trash"} {
		c := disk{FS: d.Clone(), t: t}
		c.must(c.SyncDir(dir))
		c = c.after(memfs.LoseUnsynced())
		c.has("/trash/topic/log", "bytes")
		c.has("/d/topic/log", none)
	}
}

func TestSyncDirBringsWhatItsEntriesRestOn(t *testing.T) {
	// The file is made in one directory and moved to another; only the second
	// is synced. It must not be lost, nor be in both.
	d := newDisk(t)
	d.must(d.MkdirAll("/e", 0o755))
	d.must(d.SyncDir("/"))
	f := d.create("/d/x")
	d.write(f, 0, "x")
	d.must(f.Sync())
	d.create("/d/other")
	d.must(d.Rename("/d/x", "/e/y"))
	d.must(d.SyncDir("/e"))
	c := d.after(memfs.LoseUnsynced())
	c.has("/e/y", "x")
	c.has("/d/x", none)
	c.has("/d/other", none) // That one nobody asked for.
}

func TestTearLast(t *testing.T) {
	d := newDisk(t)
	f := d.create("/d/log")
	g := d.create("/d/other")
	d.write(f, 0, "first-")
	d.write(g, 0, "whole")
	d.write(f, 6, "second")
	for n := range int64(8) {
		c := d.after(memfs.TearLast(n))
		c.has("/d/log", "first-second"[:min(6+n, 12)])
		c.has("/d/other", "whole")
	}
	d.must(f.Sync()) // Now the last write that is not synced is another.
	d.after(memfs.TearLast(2)).has("/d/other", "wh")
	d.after(memfs.TearLast(2)).has("/d/log", "first-second")
}

func TestTruncateIsLostToo(t *testing.T) {
	d := newDisk(t)
	f := d.create("/d/log")
	d.must(d.SyncDir("/d"))
	d.write(f, 0, "0123456789")
	d.must(f.Sync())
	d.must(f.Truncate(4))
	d.write(f, 4, "xy")
	d.has("/d/log", "0123xy")
	d.after(memfs.LoseUnsynced()).has("/d/log", "0123456789")
	seen := map[string]bool{}
	for seed := range uint64(200) {
		seen[content(d.Crash(memfs.KeepRandom(seed)), "/d/log")] = true
	}
	for _, want := range []string{"0123456789", "0123", "0123xy", "0123xy6789"} {
		if !seen[want] {
			t.Errorf("no seed left %q (bytes behind a tail that was written again)", want)
		}
	}
	d.must(f.Sync())
	d.after(memfs.LoseUnsynced()).has("/d/log", "0123xy")
}

func TestKilledProcessLosesNothingButSyncsNothing(t *testing.T) {
	d := newDisk(t)
	lock, err := d.Lock("/d/lock")
	d.must(err)
	if _, err := d.Lock("/d/lock"); !errors.As(err, new(*vfs.LockedError)) {
		t.Fatalf("second lock: %v", err)
	}
	f := d.create("/d/log")
	d.write(f, 0, "bytes")
	c := disk{FS: d.Clone(), t: t}
	c.has("/d/log", "bytes")
	c.after(memfs.LoseUnsynced()).has("/d/log", none)
	if _, err := c.Lock("/d/lock"); err != nil {
		t.Errorf("lock of a killed process: %v", err)
	}
	if got := c.OpenFiles(); got != 1 {
		t.Errorf("%d open files, want only the new lock", got)
	}

	// Neither sees what the other does from here.
	d.write(f, 0, "BYTES")
	g := c.create("/d/log")
	c.write(g, 5, "+clone")
	d.has("/d/log", "BYTES")
	c.has("/d/log", "bytes+clone")
	d.must(lock.Close())
}

func TestFailedSyncIsFinal(t *testing.T) {
	d := newDisk(t)
	f := d.create("/d/log")
	d.must(d.SyncDir("/d"))
	d.write(f, 0, "a")
	f.(interface{ FailSync() }).FailSync()
	d.has("/d/log", "a")
	d.must(f.Sync()) // Succeeds and does nothing, as on Linux.
	d.after(memfs.LoseUnsynced()).has("/d/log", "")
	d.after(memfs.KeepUnsynced()).has("/d/log", "")
}

// TestAFailedSyncLosesALength: a file that was cut is short to who reads it, and
// long after a power loss, until a sync follows on another change of its length.
func TestAFailedSyncLosesALength(t *testing.T) {
	for name, c := range map[string]struct {
		again func(f vfs.File) error
		left  string
	}{
		"nothing":         {func(vfs.File) error { return nil }, "abcdef"},
		"the same length": {func(f vfs.File) error { return f.Truncate(2) }, "abcdef"},
		"a write before":  {func(f vfs.File) error { _, err := f.WriteAt([]byte("x"), 0); return err }, "xb\x00\x00\x00\x00"},
		"a write behind":  {func(f vfs.File) error { _, err := f.WriteAt([]byte("x"), 2); return err }, "abx"},
		"another length":  {func(f vfs.File) error { return errors.Join(f.Truncate(3), f.Truncate(2)) }, "ab"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDisk(t)
			f := d.create("/d/log")
			d.must(d.SyncDir("/d"))
			d.write(f, 0, "abcdef")
			d.must(f.Sync())
			d.must(f.Truncate(2))
			f.(interface{ FailSync() }).FailSync()
			d.has("/d/log", "ab")
			d.must(c.again(f))
			d.must(f.Sync())
			d.after(memfs.LoseUnsynced()).has("/d/log", c.left)
		})
	}
}

// TestSyncedSurvivesAnything is the invariant of the package: after any
// history, under any policy, what was synced is there.
func TestSyncedSurvivesAnything(t *testing.T) {
	d := newDisk(t)
	f := d.create("/d/log")
	d.must(d.SyncDir("/d"))
	var all []byte
	synced := 0
	for i := range 300 {
		p := bytes.Repeat([]byte{byte('a' + i%26)}, 1+i*37%1500)
		if i%3 == 0 {
			_, err := f.Writev([][]byte{p[:len(p)/2], nil, p[len(p)/2:]}, int64(len(all)))
			d.must(err)
		} else {
			d.write(f, int64(len(all)), string(p))
		}
		all = append(all, p...)
		if i%7 == 0 {
			d.must(f.Sync())
			synced = len(all)
		}
		for _, p := range []memfs.Policy{
			memfs.LoseUnsynced(), memfs.KeepUnsynced(), memfs.LoseEntries(), memfs.LoseWrites(),
			memfs.TearLast(int64(i)), memfs.KeepRandom(uint64(i)), memfs.KeepRandom(uint64(i) + 1e6),
		} {
			got := content(d.Crash(p), "/d/log")
			if !strings.HasPrefix(got, string(all[:synced])) || len(got) > len(all) {
				t.Fatalf("after write %d, %s: %d bytes left, %d were synced", i, p, len(got), synced)
			}
			// What survives of the rest is right or zero, never another byte.
			for j := synced; j < len(got); j++ {
				if got[j] != all[j] && got[j] != 0 {
					t.Fatalf("after write %d, %s: byte %d is %q", i, p, j, got[j])
				}
			}
		}
	}
	d.has("/d/log", string(all))
}

func TestRandomCrashIsRepeatable(t *testing.T) {
	d := newDisk(t)
	for i := range 20 {
		f := d.create(fmt.Sprintf("/d/%d", i))
		d.write(f, 0, strings.Repeat("x", 3000))
	}
	seen := map[string]bool{}
	for seed := range uint64(32) {
		one, two := dump(t, d.Crash(memfs.KeepRandom(seed))), dump(t, d.Crash(memfs.KeepRandom(seed)))
		if one != two {
			t.Fatalf("seed %d leaves now\n%s\nand now\n%s", seed, one, two)
		}
		seen[one] = true
	}
	if len(seen) < 16 {
		t.Errorf("32 seeds left only %d different disks", len(seen))
	}
}

func dump(t *testing.T, f *memfs.FS) string {
	t.Helper()
	entries, err := f.ReadDir("/d")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %q\n", e.Name(), content(f, "/d/"+e.Name()))
	}
	return b.String()
}

func TestHookCanForkTheDiskAfterEachOperation(t *testing.T) {
	d := newDisk(t)
	d.StartLog()
	var left []string
	d.SetHook(func(op memfs.Op) {
		if op.Kind == memfs.Write || op.Kind == memfs.Sync {
			left = append(left, content(d.Crash(memfs.LoseUnsynced()), "/d/log"))
		}
	})
	f := d.create("/d/log")
	d.must(d.SyncDir("/d"))
	d.write(f, 0, "a")
	d.must(f.Sync())
	d.write(f, 1, "b")
	d.must(f.Truncate(1))
	d.must(d.Rename("/d/log", "/d/old"))
	d.must(d.Remove("/d/old"))
	if want := []string{"", "a", "a"}; !slices.Equal(left, want) {
		t.Errorf("crashes left %q, want %q", left, want)
	}
	var log []string
	for _, op := range d.TakeLog() {
		log = append(log, op.String())
	}
	want := []string{
		"create /d/log", "syncdir /d", "write /d/log [0, 1)", "sync /d/log", "write /d/log [1, 2)",
		"truncate /d/log 1", "rename /d/log /d/old", "remove /d/old",
	}
	if !slices.Equal(log, want) {
		t.Errorf("log is\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
	if again := d.TakeLog(); len(again) != 0 {
		t.Errorf("log was taken and still has %v", again)
	}
}

func TestUnsyncedSaysWhatIsAtRisk(t *testing.T) {
	d := newDisk(t)
	f := d.create("/d/log")
	d.write(f, 0, "a")
	files, entries := d.Unsynced()
	if !slices.Equal(files, []string{"/d/log"}) || !entries {
		t.Errorf("unsynced: %v, entries %v", files, entries)
	}
	d.must(f.Sync())
	d.must(d.SyncDir("/d"))
	if files, entries = d.Unsynced(); len(files) != 0 || entries {
		t.Errorf("after syncs unsynced: %v, entries %v", files, entries)
	}
}
