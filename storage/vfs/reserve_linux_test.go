package vfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// TestReserveKeepsTheFileAsItIs: on all implementations what is set aside is
// seen neither in the length nor in what is read, and is given back only at
// the length that the file has.
func TestReserveKeepsTheFileAsItIs(t *testing.T) {
	for name, m := range machines(t) {
		t.Run(name, func(t *testing.T) {
			f, err := m.fs.OpenFile(m.path("f"), os.O_RDWR|os.O_CREATE, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			r, ok := f.(vfs.Reserver)
			if !ok {
				t.Fatal("no Reserver")
			}
			if _, err := f.WriteAt([]byte("12345"), 0); err != nil {
				t.Fatal(err)
			}
			check := func(when, want string) {
				t.Helper()
				size, err := f.Size()
				b := make([]byte, 100)
				n, _ := f.ReadAt(b, 0)
				if err != nil || size != int64(len(want)) || string(b[:n]) != want {
					t.Errorf("%s: %d bytes, %q, %v", when, size, b[:n], err)
				}
			}
			err = r.Reserve(5, 4<<20)
			if errors.Is(err, syscall.EOPNOTSUPP) {
				t.Skip("this file system cannot")
			}
			if err != nil {
				t.Fatal(err)
			}
			check("reserved", "12345")
			for _, size := range []int64{0, 4, 6, 5, 5} {
				if err := r.Trim(size); err != nil {
					t.Fatal(err)
				}
				check("trimmed", "12345")
			}
			if _, err := f.WriteAt([]byte("67"), 5); err != nil {
				t.Fatal(err)
			}
			check("written", "1234567")
			if err := r.Reserve(-1, 5); answer(err) != "invalid argument (sync false, full false)" {
				t.Errorf("reserve at -1: %v", err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(r.Reserve(0, 1)); !errors.Is(err, os.ErrClosed) {
				t.Errorf("reserve in a closed file: %v", err)
			}
			if err := r.Trim(7); !errors.Is(err, os.ErrClosed) {
				t.Errorf("trim of a closed file: %v", err)
			}
		})
	}
}

// TestTrimGivesBlocksBack looks at what the file occupies.
func TestTrimGivesBlocksBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f, err := vfs.OS().OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // It is gone with the test.
	occupied := func() int64 {
		t.Helper()
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Sys().(*syscall.Stat_t).Blocks * 512
	}
	if _, err := f.WriteAt(make([]byte, 100_000), 0); err != nil {
		t.Fatal(err)
	}
	r := f.(vfs.Reserver)
	if err := r.Reserve(100_000, 8<<20); err != nil {
		t.Skipf("this file system cannot: %v", err)
	}
	if n := occupied(); n < 8<<20 {
		t.Skipf("this file system does not: %d bytes", n)
	}
	if err := r.Trim(99_999); err != nil || occupied() < 8<<20 {
		t.Errorf("trimmed at another length: %d bytes, %v", occupied(), err)
	}
	if err := r.Trim(100_000); err != nil || occupied() > 1<<20 {
		t.Errorf("trimmed: %d bytes, %v", occupied(), err)
	}
}

func TestReserveAndTrimFailAsTold(t *testing.T) {
	disk := faultfs.Wrap(vfs.OS(), &faultfs.Rule{Op: faultfs.Reserve, Err: syscall.ENOSPC}, &faultfs.Rule{Op: faultfs.Trim})
	f, err := disk.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // It is gone with the test.
	r := f.(vfs.Reserver)
	if err := r.Reserve(0, 1); !vfs.IsFull(err) {
		t.Errorf("reserve: %v", err)
	}
	if err := r.Trim(0); !errors.Is(err, syscall.EIO) {
		t.Errorf("trim: %v", err)
	}
	if disk.Calls(faultfs.Reserve) != 1 || disk.Calls(faultfs.Trim) != 1 {
		t.Error("calls are not counted")
	}
}
