package etcd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millstream-io/millstream/controller/store"
)

// mounted mounts a file system of a size for the test.
func mounted(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("mounting needs more rights: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// breakIn runs fillUp in a process of its own, and returns what that prints.
func breakIn(dir string) (string, error) {
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), breakEnv+"="+dir)
	out, err := child.CombinedOutput()
	return string(out), err
}

// On a disk without room a store does not begin, and says why. It begins when there
// is room.
func TestAStoreDoesNotBeginOnAFullDisk(t *testing.T) {
	disk := mounted(t, "1m")
	dir := filepath.Join(disk, "controller")
	out, err := breakIn(dir)
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out, dir+" cannot go on") || !strings.Contains(out, "no space left on device") || strings.Contains(out, "goroutine ") {
		t.Errorf("it says:\n%s", out)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	m, ctx := open(t, dev(dir))
	put(ctx, t, m, "/a", "a", 0)
}

// A store whose disk is full for its log stops where it is, says why, and holds
// nobody up who closes it. It is whole when there is room again.
func TestABrokenStoreSaysWhy(t *testing.T) {
	disk := mounted(t, "64m")
	dir := filepath.Join(disk, "controller")
	out, err := breakIn(dir)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(out, "goroutine ") {
		t.Errorf("it panics:\n%s", out)
	}
	var written int
	_, said, _ := strings.Cut(out, writtenMark) // among what etcd has to say
	if _, err := fmt.Sscan(said, &written); err != nil || written < 10 {
		t.Fatalf("%v:\n%s", err, out)
	}
	if err := os.Remove(filepath.Join(disk, "filled")); err != nil {
		t.Fatal(err)
	}
	m, ctx := open(t, dev(dir))
	p, err := m.Range(ctx, store.Range{Prefix: "/fill/", Limit: 1000})
	if err != nil || len(p.Entries) < written {
		t.Errorf("of %d there are %d: %v", written, len(p.Entries), err)
	}
}
