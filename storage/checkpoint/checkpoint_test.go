package checkpoint_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

const path = "/d/epochs"

func newDisk(t testing.TB) *memfs.FS {
	t.Helper()
	disk := memfs.New()
	if err := errors.Join(disk.MkdirAll("/d", 0o755), disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return disk
}

func write(t testing.TB, fsys vfs.FS, payload string, durable bool) {
	t.Helper()
	if err := checkpoint.Write(fsys, path, []byte(payload), durable); err != nil {
		t.Fatal(err)
	}
}

func TestWriteAndRead(t *testing.T) {
	disk := newDisk(t)
	if _, err := checkpoint.Read(disk, path); !errors.Is(err, checkpoint.ErrNotExist) {
		t.Errorf("before the first write: %v", err)
	}
	for _, payload := range []string{"first", "", strings.Repeat("long ", 10_000), "short"} {
		write(t, disk, payload, true)
		got, err := checkpoint.Read(disk, path)
		if err != nil || string(got) != payload {
			t.Fatalf("read %d bytes, %v; wrote %d", len(got), err, len(payload))
		}
	}
	if _, err := disk.Stat(path + checkpoint.TempSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("temporary file: %v", err)
	}
	if n := disk.OpenFiles(); n != 0 {
		t.Errorf("%d files left open", n)
	}
}

func TestWriteOnRealDisk(t *testing.T) {
	name := t.TempDir() + "/f"
	for _, durable := range []bool{true, false} {
		payload := fmt.Sprint("durable ", durable)
		if err := checkpoint.Write(vfs.OS(), name, []byte(payload), durable); err != nil {
			t.Fatal(err)
		}
		if got, err := checkpoint.Read(vfs.OS(), name); err != nil || string(got) != payload {
			t.Errorf("read %q, %v", got, err)
		}
	}
}

func TestOperationsInOrder(t *testing.T) {
	disk := newDisk(t)
	disk.StartLog()
	write(t, disk, "x", true)
	write(t, disk, "y", false)
	var got []string
	for _, op := range disk.TakeLog() {
		got = append(got, op.String())
	}
	want := `create /d/epochs.tmp
write /d/epochs.tmp [0, 17)
sync /d/epochs.tmp
rename /d/epochs.tmp /d/epochs
syncdir /d
create /d/epochs.tmp
write /d/epochs.tmp [0, 17)
rename /d/epochs.tmp /d/epochs`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("operations are\n%s\nwant\n%s", s, want)
	}
}

// TestCrashAtEveryOperation loses power after each operation of a durable
// write: the old payload or the new one is there, and the new one if Write had
// returned.
func TestCrashAtEveryOperation(t *testing.T) {
	disk := newDisk(t)
	write(t, disk, "old", true)
	crashes := 0
	disk.SetHook(func(op memfs.Op) {
		for seed := range uint64(50) {
			for _, p := range []memfs.Policy{
				memfs.LoseUnsynced(), memfs.KeepUnsynced(), memfs.LoseEntries(), memfs.LoseWrites(),
				memfs.TearLast(int64(seed)), memfs.KeepRandom(seed),
			} {
				crashes++
				got, err := checkpoint.Read(disk.Crash(p), path)
				if err != nil || string(got) != "old" && string(got) != "new" {
					t.Fatalf("power lost after %q (%s): %q, %v", op, p, got, err)
				}
			}
		}
	})
	write(t, disk, "new", true)
	disk.SetHook(nil)
	got, err := checkpoint.Read(disk.Crash(memfs.LoseUnsynced()), path)
	if err != nil || string(got) != "new" {
		t.Errorf("after the write: %q, %v", got, err)
	}
	if crashes == 0 {
		t.Error("nothing crashed")
	}
}

// TestWithoutSyncIsOldNewOrCorrupt: the promise of a write that is not
// durable. Never a payload that nobody wrote.
func TestWithoutSyncIsOldNewOrCorrupt(t *testing.T) {
	disk := newDisk(t)
	old, fresh := strings.Repeat("old", 1000), strings.Repeat("newer", 1000)
	write(t, disk, old, true)
	write(t, disk, fresh, false)
	seen := map[string]int{}
	for seed := range uint64(500) {
		got, err := checkpoint.Read(disk.Crash(memfs.KeepRandom(seed)), path)
		switch {
		case errors.As(err, new(*checkpoint.CorruptError)):
			seen["corrupt"]++
		case err != nil:
			t.Fatal(err)
		case string(got) == old:
			seen["old"]++
		case string(got) == fresh:
			seen["new"]++
		default:
			t.Fatalf("seed %d: %d bytes that nobody wrote", seed, len(got))
		}
	}
	if len(seen) != 3 {
		t.Errorf("crashes left only %v", seen)
	}
	if got, err := checkpoint.Read(disk.Clone(), path); err != nil || string(got) != fresh {
		t.Errorf("after a kill: %d bytes, %v", len(got), err)
	}
}

// TestFailureOfAnyCall lets each call of a write fail in turn.
func TestFailureOfAnyCall(t *testing.T) {
	for skip := 0; ; skip++ {
		disk := newDisk(t)
		write(t, disk, "old", true)
		rule := &faultfs.Rule{Skip: skip, Err: syscall.ENOSPC, Bytes: 7}
		faulty := faultfs.Wrap(disk, rule)
		err := checkpoint.Write(faulty, path, []byte("new"), true)
		calls := faulty.Calls(faultfs.Any)
		got, readErr := checkpoint.Read(disk, path)
		if readErr != nil {
			t.Fatalf("call %d failed with %v; then reading: %v", skip, err, readErr)
		}
		if skip >= calls {
			if err != nil || string(got) != "new" || skip < 6 {
				t.Errorf("no call of %d failed: %q, %v", calls, got, err)
			}
			return
		}
		if !vfs.IsFull(err) {
			t.Errorf("call %d failed, the error is %v", skip, err)
		}
		if s := string(got); s != "old" && s != "new" {
			t.Errorf("call %d failed: %q", skip, got)
		}
		if n := disk.OpenFiles(); n != 0 {
			t.Errorf("call %d failed: %d files open", skip, n)
		}
	}
}

// rewrite changes the bytes of a file.
func rewrite(t *testing.T, disk *memfs.FS, name string, change func([]byte) []byte) {
	t.Helper()
	f, err := disk.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	b = change(b)
	if err := f.Truncate(int64(len(b))); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	disk := newDisk(t)
	write(t, disk, "a payload of some bytes", true)
	for bit := range 8 * (16 + len("a payload of some bytes")) {
		c := disk.Clone()
		rewrite(t, c, path, func(b []byte) []byte {
			b[bit/8] ^= 1 << (bit % 8)
			return b
		})
		if got, err := checkpoint.Read(c, path); !errors.As(err, new(*checkpoint.CorruptError)) {
			t.Errorf("bit %d: %q, %v", bit, got, err)
		}
	}
}

func TestEveryOtherLengthIsFound(t *testing.T) {
	disk := newDisk(t)
	write(t, disk, "payload", true)
	for n := range 40 {
		if n == 16+len("payload") {
			continue
		}
		c := disk.Clone()
		rewrite(t, c, path, func(b []byte) []byte { return append(b, make([]byte, 40)...)[:n] })
		if got, err := checkpoint.Read(c, path); !errors.As(err, new(*checkpoint.CorruptError)) {
			t.Errorf("%d bytes: %q, %v", n, got, err)
		}
	}
}

func TestHugeFileCostsNoMemory(t *testing.T) {
	disk := newDisk(t)
	f, err := disk.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 32); err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.Read(disk, path); !errors.As(err, new(*checkpoint.CorruptError)) {
		t.Errorf("error is %v", err)
	}
}

func TestTooLargePayloadIsRefused(t *testing.T) {
	disk := newDisk(t)
	write(t, disk, "old", true)
	var large *checkpoint.TooLargeError
	err := checkpoint.Write(disk, path, make([]byte, checkpoint.MaxPayload+1), true)
	if !errors.As(err, &large) || large.Limit != checkpoint.MaxPayload {
		t.Errorf("error is %v", err)
	}
	if got, err := checkpoint.Read(disk, path); err != nil || string(got) != "old" {
		t.Errorf("then: %q, %v", got, err)
	}
}

func TestReadErrorIsNotDamage(t *testing.T) {
	disk := newDisk(t)
	write(t, disk, "payload", true)
	faulty := faultfs.Wrap(disk, &faultfs.Rule{Op: faultfs.Read, Bytes: 3})
	_, err := checkpoint.Read(faulty, path)
	if !errors.Is(err, syscall.EIO) || errors.As(err, new(*checkpoint.CorruptError)) {
		t.Errorf("error is %v", err)
	}
}

func FuzzRead(f *testing.F) {
	disk := newDisk(f)
	write(f, disk, "payload", true)
	h, err := disk.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		f.Fatal(err)
	}
	good := make([]byte, 16+len("payload"))
	if _, err := h.ReadAt(good, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("MSCK"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newDisk(t)
		w, err := c.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		got, err := checkpoint.Read(c, path)
		if err != nil {
			if !errors.As(err, new(*checkpoint.CorruptError)) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		// What is accepted is what would be written for it.
		write(t, c, string(got), false)
		rewrite(t, c, path, func(now []byte) []byte {
			if !bytes.Equal(now, b) {
				t.Fatalf("accepted %x, would write %x", b, now)
			}
			return now
		})
	})
}
