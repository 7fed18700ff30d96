package mmap_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millstream-io/millstream/storage/mmap"
	"github.com/millstream-io/millstream/storage/vfs"
)

// mapped returns a file of n bytes and a region over it that is surely mapped.
func mapped(t testing.TB, n int) (vfs.File, *mmap.Region) {
	t.Helper()
	f := open(t, vfs.OS(), filepath.Join(t.TempDir(), "f"))
	write(t, f, pattern(n), 0)
	r := region(t, f, int64(n))
	if !r.Mapped() {
		t.Fatal("the file is not mapped")
	}
	t.Cleanup(r.Release)
	return f, r
}

var sink byte

// TestSignalInsideTheGuardIsAnError provokes a real SIGBUS: the file is cut
// after its pages were populated and before they are read.
func TestSignalInsideTheGuardIsAnError(t *testing.T) {
	f, r := mapped(t, 1<<20)
	reached := false
	err := r.With(0, 1<<20, func(b []byte) error {
		sink = b[1<<19] // Fine as long as the file is whole.
		if err := f.Truncate(4096); err != nil {
			t.Fatal(err)
		}
		reached = true
		sink = b[1<<19]
		t.Error("bytes that are gone were read")
		return nil
	})
	wantFault(t, err, unix.EFAULT)
	if !reached {
		t.Error("the fault came before the truncation")
	}
	var fault *mmap.FaultError
	if errors.As(err, &fault); fault.Offset != 0 || fault.Length != 1<<20 || !strings.Contains(err.Error(), "[0, 1048576)") {
		t.Errorf("the error is %v", err)
	}
	// The region goes on working for what is there.
	if err := r.CopyAt(make([]byte, 4096), 0); err != nil {
		t.Errorf("first page: %v", err)
	}
}

// readWithoutGuard is what the child process of the next test does.
func readWithoutGuard() {
	f, err := vfs.OS().OpenFile(os.Getenv(childEnv), os.O_RDWR|os.O_CREATE, 0o644)
	if err == nil {
		err = f.Truncate(1 << 20)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
		os.Exit(3)
	}
	r, err := mmap.Open(f, 1<<20)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
		os.Exit(3)
	}
	_ = r.With(0, 1<<20, func(b []byte) error {
		debug.SetPanicOnFault(false)
		_ = f.Truncate(0)
		sink = b[1<<19]
		return nil
	})
	os.Exit(0)
}

// TestWithoutTheGuardTheProcessDies proves that the tests here provoke what
// they say.
func TestWithoutTheGuardTheProcessDies(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), childEnv+"="+filepath.Join(t.TempDir(), "f"))
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !bytes.Contains(out, []byte("SIGBUS")) {
		t.Fatalf("the child ended with %v and said\n%s", err, out)
	}
}

// TestFileCutAgainAndAgainUnderReaders looks for the window between populate
// and copy from the outside.
func TestFileCutAgainAndAgainUnderReaders(t *testing.T) {
	f, r := mapped(t, 1<<20)
	want := pattern(1 << 20)
	stop := make(chan struct{})
	var cutter, readers sync.WaitGroup
	cutter.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := f.Truncate(0); err != nil {
				t.Error(err)
				return
			}
			if _, err := f.WriteAt(want, 0); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 4 {
		readers.Go(func() {
			got := make([]byte, 1<<18)
			for range 50 {
				err := r.CopyAt(got, 1<<18)
				if err != nil && !errors.As(err, new(*mmap.FaultError)) {
					t.Errorf("read: %v", err)
				}
				err = r.With(1<<18, 1<<18, func(b []byte) error {
					copy(got, b)
					return nil
				})
				if err != nil && !errors.As(err, new(*mmap.FaultError)) {
					t.Errorf("walk: %v", err)
				}
			}
		})
	}
	readers.Wait()
	close(stop)
	cutter.Wait()
}

func TestGuardLeavesTheGoroutineAsItWas(t *testing.T) {
	f, r := mapped(t, 8192)
	if debug.SetPanicOnFault(false) {
		t.Fatal("the test began under a guard")
	}
	check := func(when string) {
		if debug.SetPanicOnFault(false) {
			t.Errorf("guard left on after %s", when)
		}
	}
	if err := r.CopyAt(make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	check("a copy")
	_ = r.With(0, 10, func([]byte) error { return errors.New("an error") })
	check("an error")
	func() {
		defer func() { _ = recover() }()
		_ = r.With(0, 10, func([]byte) error { panic("a panic") })
	}()
	check("a panic")
	wantFault(t, r.With(0, 8192, func(b []byte) error {
		if err := f.Truncate(0); err != nil {
			t.Fatal(err)
		}
		sink = b[4096]
		return nil
	}), unix.EFAULT)
	check("a fault")
	debug.SetPanicOnFault(true)
	if err := r.CopyAt(nil, 0); err != nil {
		t.Fatal(err)
	}
	if !debug.SetPanicOnFault(false) {
		t.Error("a guard that was on before is off")
	}
}

func set(p *int) error {
	*p = 1
	return nil
}

func TestOtherPanicsAreNotFaults(t *testing.T) {
	_, r := mapped(t, 8192)
	for name, fn := range map[string]func([]byte) error{
		"a bug":        func([]byte) error { return set(nil) },
		"out of range": func(b []byte) error { i := len(b); sink = b[i]; return nil },
		"a panic":      func([]byte) error { panic("mine") },
		"a fault elsewhere": func([]byte) error {
			other, err := unix.Mmap(-1, 0, 4096, unix.PROT_NONE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Munmap(other) }()
			sink = other[0]
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if v := recover(); v == nil {
					t.Error("the panic was swallowed")
				}
			}()
			err := r.With(0, 100, fn)
			t.Errorf("the panic became %v", err)
		})
	}
}

func TestTooLargeToMapIsRead(t *testing.T) {
	f := open(t, vfs.OS(), filepath.Join(t.TempDir(), "f"))
	write(t, f, pattern(100), 0)
	r := region(t, f, math.MaxInt64-math.MaxUint16)
	defer r.Release()
	if r.Mapped() {
		t.Fatal("mapped")
	}
	got := make([]byte, 100)
	if err := r.CopyAt(got, 0); err != nil || !bytes.Equal(got, pattern(100)) {
		t.Errorf("read: %v", err)
	}
}

func TestFileWithoutReadPermissionIsAnError(t *testing.T) {
	f, err := vfs.OS().OpenFile(filepath.Join(t.TempDir(), "f"), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := mmap.Open(f, 4096); !errors.Is(err, os.ErrPermission) {
		t.Errorf("error is %v", err)
	}
}

func TestMappingOutlivesTheDescriptorOnly(t *testing.T) {
	// Removed and closed, the file is still readable: what a reader of an old
	// view relies on.
	name := filepath.Join(t.TempDir(), "f")
	f := open(t, vfs.OS(), name)
	want := pattern(1 << 16)
	write(t, f, want, 0)
	r, err := mmap.Open(f, 1<<16, f)
	if err != nil {
		t.Fatal(err)
	}
	if err := vfs.OS().Remove(name); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1<<16)
	if err := r.CopyAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read of a removed file: %v", err)
	}
	r.Release()
	mmap.Settle()
	if _, err := f.Size(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file that was handed over is not closed: %v", err)
	}
}

func TestUnmappingIsOneGoroutine(t *testing.T) {
	f, _ := mapped(t, 4096)
	regions := make([]*mmap.Region, 500)
	for i := range regions {
		regions[i] = region(t, f, 1<<20)
	}
	before := runtime.NumGoroutine()
	for _, r := range regions {
		r.Release()
		if n := runtime.NumGoroutine(); n > before+1 {
			t.Fatalf("%d goroutines, %d before", n, before)
		}
	}
	mmap.Settle()
	if n := mmap.Live().Pending; n != 0 {
		t.Errorf("%d pending", n)
	}
}

func TestReadingDoesNotAllocate(t *testing.T) {
	_, r := mapped(t, 1<<20)
	dst := make([]byte, 1<<18)
	walk := func(b []byte) error {
		sink = b[0]
		return nil
	}
	n := testing.AllocsPerRun(100, func() {
		if r.CopyAt(dst, 4096) != nil || r.With(4096, 1<<18, walk) != nil {
			t.Error("read failed")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCopyAt(b *testing.B) {
	_, r := mapped(b, 64<<20)
	for _, n := range []int{64, 4 << 10, 64 << 10, 256 << 10, 1 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dst := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			off := int64(0)
			for b.Loop() {
				if err := r.CopyAt(dst, off); err != nil {
					b.Fatal(err)
				}
				if off += int64(n); off+int64(n) > 64<<20 {
					off = 0
				}
			}
		})
	}
}
