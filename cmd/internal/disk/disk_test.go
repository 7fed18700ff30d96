package disk

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/mmap"
	"github.com/millstream-io/millstream/storage/vfs"
)

// open makes a shelf, or skips the test where there can be none.
func open(t *testing.T) (*Shelf, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir)
	if _, ok := errors.AsType[*UnavailableError](err); ok {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

func mounted(t *testing.T, dir string) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), dir)
}

// Without power, what was synced is there, and what was not is gone.
func TestPowerTakesWhatWasNotSynced(t *testing.T) {
	s, dir := open(t)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if mounted(t, dir) {
			t.Error("something is mounted still")
		}
	}()
	d, err := s.Make("a", 64<<20)
	if _, ok := errors.AsType[*UnavailableError](err); ok {
		t.Skip(err)
	}
	check(err)
	name := filepath.Join(d.Dir, "log")
	f, err := os.Create(name)
	check(err)
	_, err = f.WriteString("synced.")
	check(err)
	check(f.Sync())
	at, err := os.Open(d.Dir)
	check(err)
	check(at.Sync())
	check(at.Close())
	_, err = f.WriteString("not synced")
	check(err)
	check(os.WriteFile(filepath.Join(d.Dir, "new"), nil, 0o600))
	check(d.PowerOff())
	if _, err := f.WriteString("more"); err == nil {
		t.Error("it takes writes without power")
	}
	_ = f.Close() // without power it may fail
	check(d.PowerOn())
	text, err := os.ReadFile(name)
	check(err)
	if !bytes.Equal(text, []byte("synced.")) {
		t.Errorf("it has %q", text)
	}
	if _, err := os.Stat(filepath.Join(d.Dir, "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that was made and not synced is there: %v", err)
	}
}

func TestAFullDiskTakesNothing(t *testing.T) {
	s, _ := open(t)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	d, err := s.Make("a", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Fill(); err != nil {
		t.Fatal(err)
	}
	much := make([]byte, 1<<20)
	if err := os.WriteFile(filepath.Join(d.Dir, "log"), much, 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("it took more: %v", err)
	}
	for range 2 {
		if err := d.Free(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(d.Dir, "log"), much, 0o600); err != nil {
		t.Errorf("it takes nothing: %v", err)
	}
}

// A frozen disk keeps writers waiting and loses nothing.
func TestAFrozenDiskKeepsWritersWaiting(t *testing.T) {
	s, _ := open(t)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	d, err := s.Make("a", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Freeze(); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(filepath.Join(d.Dir, "log"), []byte("x"), 0o600) }()
	select {
	case err := <-written:
		t.Errorf("it took a write: %v", err)
		written <- err
	case <-time.After(200 * time.Millisecond):
	}
	for range 2 {
		if err := d.Thaw(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

// What is on it can be read, as logs are too: mapped for the first time only
// now, which the kernel may refuse.
func TestAFailedDiskIsReadOnlyUntilItIsRepaired(t *testing.T) {
	s, _ := open(t)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	d, err := s.Make("a", 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(d.Dir, "log")
	f, err := vfs.OS().OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("synced"), 0)
	if err := errors.Join(err, f.Sync(), d.Fail()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("more"), 6); !errors.Is(err, syscall.EROFS) {
		t.Errorf("it took a write: %v", err)
	}
	if text, err := os.ReadFile(name); string(text) != "synced" {
		t.Errorf("read %q, %v", text, err)
	}
	r, err := mmap.Open(f, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, len("synced"))
	if err := r.CopyAt(text, 0); err != nil || string(text) != "synced" {
		t.Errorf("as a log is read, it is %q, %v", text, err)
	}
	r.Release()
	mmap.Settle()
	_ = f.Close() // it may fail
	if err := d.Repair(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("again"), 0o600); err != nil {
		t.Error(err)
	}
}

// What a dead process has mounted is unmounted by the next; that of a living
// one stays.
func TestWhatTheDeadMountedIsUnmounted(t *testing.T) {
	s, dir := open(t)
	if _, err := s.Make("a", 16<<20); err != nil {
		t.Fatal(err)
	}
	living, other := open(t)
	if !mounted(t, dir) {
		t.Error("what a living process has mounted is gone")
	}
	name := filepath.Join(dir, ownerFile)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, append(text, '0'), 0o600); err != nil { // started at another time
		t.Fatal(err)
	}
	next, _ := open(t)
	if mounted(t, dir) || !mounted(t, other) {
		t.Errorf("the dead one's is mounted: %t, the living one's: %t", mounted(t, dir), mounted(t, other))
	}
	if err := errors.Join(living.Close(), next.Close()); err != nil {
		t.Error(err)
	}
}
