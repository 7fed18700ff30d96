package vfs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millstream-io/millstream/storage/vfs"
)

// smallDisk mounts a file system of 64 KiB, where that is allowed.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// TestFullDisk: a write that finds room for a part writes the part, says how
// much, and says why.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t)
	f := create(t, filepath.Join(dir, "f"))
	pieces := make([][]byte, 3000)
	var all []byte
	for i := range pieces {
		pieces[i] = bytes.Repeat([]byte{byte(i)}, 50)
		all = append(all, pieces[i]...)
	}
	n, err := f.Writev(pieces, 0)
	if !vfs.IsFull(err) || n != 64<<10 {
		t.Fatalf("wrote %d, %v", n, err)
	}
	got := make([]byte, n)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, all[:n]) {
		t.Errorf("what was written: %v, same %v", err, bytes.Equal(got, all[:n]))
	}
	if free, total, err := vfs.OS().FreeBytes(dir); free != 0 || total != 64<<10 || err != nil {
		t.Errorf("free %d of %d, %v", free, total, err)
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Writev(pieces[:100], 0); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestReadOnlyDisk(t *testing.T) {
	dir := smallDisk(t)
	name := filepath.Join(dir, "f")
	f := create(t, name)
	if _, err := f.WriteAt([]byte("bytes"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil { // Or the remount is refused.
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("remount: %v", err)
	}
	disk := vfs.OS()
	_, openErr := disk.OpenFile(name, os.O_RDWR, 0)
	_, createErr := disk.OpenFile(name+"2", os.O_RDWR|os.O_CREATE, 0o644)
	_, lockErr := disk.Lock(filepath.Join(dir, "lock"))
	for what, err := range map[string]error{
		"open": openErr, "create": createErr, "lock": lockErr, "remove": disk.Remove(name),
		"rename": disk.Rename(name, name+"2"), "mkdir": disk.MkdirAll(filepath.Join(dir, "d"), 0o755),
	} {
		if !vfs.IsReadOnly(err) || errors.As(err, new(*vfs.LockedError)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r, err := disk.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := r.ReadAt(b, 0); err != nil || string(b) != "bytes" {
		t.Errorf("read %q, %v", b, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
