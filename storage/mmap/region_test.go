package mmap_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/storage/mmap"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		readWithoutGuard()
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		mmap.Settle()
		os.Exit(code)
	}))
}

const childEnv = "MILLSTREAM_TEST_READ_WITHOUT_GUARD"

// eachKind runs a test over a file that is mapped, where that exists, and over
// files that are read.
func eachKind(t *testing.T, test func(t *testing.T, f vfs.File)) {
	kinds := []struct {
		name string
		fs   vfs.FS
		dir  string
	}{
		{"os", vfs.OS(), t.TempDir()},
		{"os without a descriptor", faultfs.Wrap(vfs.OS()), t.TempDir()},
		{"memory", memfs.New(), "/"},
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			test(t, open(t, k.fs, filepath.Join(k.dir, "file")))
		})
	}
}

func open(t testing.TB, fsys vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func region(t testing.TB, f vfs.File, length int64) *mmap.Region {
	t.Helper()
	r, err := mmap.Open(f, length)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func write(t testing.TB, f vfs.File, b []byte, off int64) {
	t.Helper()
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func wantFault(t *testing.T, err error, cause error) {
	t.Helper()
	var fault *mmap.FaultError
	if !errors.As(err, &fault) {
		t.Fatalf("error is %v, want a FaultError", err)
	}
	if cause != nil && !errors.Is(err, cause) {
		t.Fatalf("cause is %v, want %v", fault.Err, cause)
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i/251)
	}
	return b
}

func TestReadsWhatWasWritten(t *testing.T) {
	eachKind(t, func(t *testing.T, f vfs.File) {
		want := pattern(100_000)
		write(t, f, want, 0)
		r := region(t, f, 1<<20)
		defer r.Release()
		for _, at := range []struct{ off, n int }{{0, 1}, {0, 100_000}, {4095, 2}, {99_999, 1}, {12_345, 50_000}, {77, 0}} {
			got := make([]byte, at.n)
			if err := r.CopyAt(got, int64(at.off)); err != nil || !bytes.Equal(got, want[at.off:at.off+at.n]) {
				t.Errorf("copy of %d at %d: %v, same %v", at.n, at.off, err, bytes.Equal(got, want[at.off:at.off+at.n]))
			}
			var seen []byte
			err := r.With(int64(at.off), at.n, func(b []byte) error {
				if len(b) != at.n || cap(b) != len(b) {
					t.Errorf("with %d bytes of capacity %d, want %d", len(b), cap(b), at.n)
				}
				seen = append(seen, b...)
				return nil
			})
			if err != nil || !bytes.Equal(seen, want[at.off:at.off+at.n]) {
				t.Errorf("with of %d at %d: %v", at.n, at.off, err)
			}
		}
	})
}

func TestSeesWhatIsAppendedLater(t *testing.T) {
	eachKind(t, func(t *testing.T, f vfs.File) {
		r := region(t, f, 1<<20) // Of an empty file.
		defer r.Release()
		got := make([]byte, 10)
		wantFault(t, r.CopyAt(got, 0), nil)
		for i := range 1000 {
			p := bytes.Repeat([]byte{byte(i)}, 10)
			write(t, f, p, int64(i)*10)
			if err := r.CopyAt(got, int64(i)*10); err != nil || !bytes.Equal(got, p) {
				t.Fatalf("after append %d: %v %v", i, got, err)
			}
		}
		wantFault(t, r.CopyAt(got, 1<<19), nil)
	})
}

func TestRangesOutsideTheRegion(t *testing.T) {
	eachKind(t, func(t *testing.T, f vfs.File) {
		write(t, f, pattern(8192), 0)
		r := region(t, f, 4096)
		defer r.Release()
		for _, at := range []struct {
			off int64
			n   int
		}{{-1, 1}, {4096, 1}, {0, 4097}, {4095, 2}, {math.MaxInt64, 1}, {math.MinInt64, 1}, {-5, 0}, {4097, 0}} {
			wantFault(t, r.CopyAt(make([]byte, at.n), at.off), mmap.ErrOutside)
			wantFault(t, r.With(at.off, at.n, func([]byte) error { return nil }), mmap.ErrOutside)
		}
		wantFault(t, r.With(0, -1, func([]byte) error { return nil }), mmap.ErrOutside)
		if err := r.CopyAt(nil, 4096); err != nil {
			t.Errorf("nothing at the end: %v", err)
		}
	})
}

func TestEmptyAndNegativeRegions(t *testing.T) {
	eachKind(t, func(t *testing.T, f vfs.File) {
		r := region(t, f, 0)
		wantFault(t, r.CopyAt(make([]byte, 1), 0), mmap.ErrOutside)
		r.Release()
		if _, err := mmap.Open(f, -1); !errors.Is(err, mmap.ErrOutside) {
			t.Errorf("negative length: %v", err)
		}
	})
}

func TestTruncatedFileIsAFault(t *testing.T) {
	eachKind(t, func(t *testing.T, f vfs.File) {
		write(t, f, pattern(1<<20), 0)
		r := region(t, f, 1<<20)
		defer r.Release()
		got := make([]byte, 1<<20)
		if err := r.CopyAt(got, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(8192); err != nil {
			t.Fatal(err)
		}
		wantFault(t, r.CopyAt(got, 0), nil)
		wantFault(t, r.With(0, 1<<20, func([]byte) error { return nil }), nil)
		if err := r.CopyAt(got[:8192], 0); err != nil {
			t.Errorf("what is left: %v", err)
		}
	})
}

func TestReadErrorIsAFaultOfItsCause(t *testing.T) {
	disk := faultfs.Wrap(memfs.New(), &faultfs.Rule{Op: faultfs.Read, Skip: 1})
	f := open(t, disk, "/f")
	write(t, f, pattern(100), 0)
	r := region(t, f, 100)
	defer r.Release()
	got := make([]byte, 100)
	if err := r.CopyAt(got, 0); err != nil {
		t.Fatal(err)
	}
	wantFault(t, r.CopyAt(got, 0), syscall.EIO)
}

func TestErrorOfTheCallIsPassedOn(t *testing.T) {
	eachKind(t, func(t *testing.T, f vfs.File) {
		write(t, f, pattern(10), 0)
		r := region(t, f, 10)
		defer r.Release()
		if err := r.With(0, 10, func([]byte) error { return io.ErrNoProgress }); !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("error is %v", err)
		}
	})
}

func TestUseAfterReleaseIsAnError(t *testing.T) {
	eachKind(t, func(t *testing.T, f vfs.File) {
		write(t, f, pattern(10), 0)
		r := region(t, f, 10)
		if !r.Retain() {
			t.Fatal("live region is gone")
		}
		r.Release()
		if err := r.CopyAt(make([]byte, 10), 0); err != nil {
			t.Fatalf("one reference is left: %v", err)
		}
		r.Release()
		for range 2 { // Before and after it was taken down.
			if err := r.CopyAt(make([]byte, 10), 0); !errors.Is(err, mmap.ErrReleased) {
				t.Errorf("copy: %v", err)
			}
			if err := r.With(0, 10, func([]byte) error { return nil }); !errors.Is(err, mmap.ErrReleased) {
				t.Errorf("with: %v", err)
			}
			if r.Retain() {
				t.Error("a region that is gone was retained")
			}
			mmap.Settle()
		}
		defer func() {
			if recover() == nil {
				t.Error("one release too many was not noticed")
			}
		}()
		r.Release()
	})
}

func TestReaderKeepsTheRegion(t *testing.T) {
	// The last reference but the reader's goes while it reads.
	eachKind(t, func(t *testing.T, f vfs.File) {
		want := pattern(1 << 16)
		write(t, f, want, 0)
		closed := new(closer)
		r, err := mmap.Open(f, 1<<16, closed)
		if err != nil {
			t.Fatal(err)
		}
		err = r.With(0, 1<<16, func(b []byte) error {
			r.Release()
			mmap.Settle()
			if closed.times.Load() != 0 {
				t.Error("closed under the reader")
			}
			if !bytes.Equal(b, want) {
				t.Error("bytes changed under the reader")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		mmap.Settle()
		if n := closed.times.Load(); n != 1 {
			t.Errorf("closed %d times", n)
		}
	})
}

type closer struct{ times atomic.Int32 }

func (c *closer) Close() error {
	c.times.Add(1)
	return nil
}

func TestRetainAndReleaseAtTheSameTime(t *testing.T) {
	eachKind(t, func(t *testing.T, f vfs.File) {
		want := pattern(1 << 16)
		write(t, f, want, 0)
		mmap.Settle()
		before := mmap.Live()
		for range 10 {
			closed := new(closer)
			r, err := mmap.Open(f, 1<<16, closed)
			if err != nil {
				t.Fatal(err)
			}
			var readers sync.WaitGroup
			warm := make(chan struct{}, 8)
			for i := range 8 {
				readers.Go(func() { readUntilGone(t, r, want[i*1000:i*1000+5000], int64(i)*1000, warm) })
			}
			for range 8 {
				<-warm
			}
			r.Release()
			readers.Wait()
			mmap.Settle()
			if n := closed.times.Load(); n != 1 {
				t.Fatalf("closed %d times", n)
			}
		}
		if after := mmap.Live(); after != before {
			t.Errorf("counts were %+v and are %+v", before, after)
		}
	})
}

// readUntilGone reads with and without an own reference until there is
// nothing left to read. The number of reads is bounded because eight readers
// whose references overlap keep a region for as long as they like.
func readUntilGone(t *testing.T, r *mmap.Region, want []byte, off int64, warm chan<- struct{}) {
	got := make([]byte, len(want))
	for n := range 2000 {
		retained := n%2 == 0 && r.Retain()
		err := r.CopyAt(got, off)
		if retained {
			r.Release()
		}
		if n == 0 {
			warm <- struct{}{}
		}
		runtime.Gosched()
		switch {
		case err == nil && bytes.Equal(got, want):
		case errors.Is(err, mmap.ErrReleased) && !retained:
			return
		default:
			t.Errorf("read: %v, same bytes %v", err, bytes.Equal(got, want))
			return
		}
	}
}

func TestLiveCountsRegions(t *testing.T) {
	mmap.Settle()
	before := mmap.Live()
	f := open(t, vfs.OS(), filepath.Join(t.TempDir(), "f"))
	regions := make([]*mmap.Region, 100)
	for i := range regions {
		regions[i] = region(t, f, 1<<30)
	}
	during := mmap.Live()
	if during.Regions != before.Regions+100 {
		t.Errorf("%d regions", during.Regions)
	}
	if regions[0].Mapped() && (during.Mapped != before.Mapped+100 || during.Bytes != before.Bytes+100<<30) {
		t.Errorf("counts are %+v", during)
	}
	for _, r := range regions {
		r.Release()
	}
	mmap.Settle()
	if after := mmap.Live(); after != before {
		t.Errorf("counts were %+v and are %+v", before, after)
	}
}
