package memfs_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// TestFileAgainstBytes compares a file with a slice over random histories,
// with a clone taken now and then that must stay as it was.
func TestFileAgainstBytes(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		d := newDisk(t)
		f := d.create("/d/f")
		var want []byte
		type fork struct {
			fs   *memfs.FS
			want []byte
		}
		var forks []fork
		for range 200 {
			switch off := rng.IntN(3 * 4096); rng.IntN(6) {
			case 0, 1, 2:
				p := bytes.Repeat([]byte{byte(rng.IntN(255) + 1)}, rng.IntN(9000))
				if n := off + len(p); len(p) > 0 && n > len(want) {
					want = append(want, make([]byte, n-len(want))...)
				}
				copy(want[min(off, len(want)):], p)
				d.write(f, int64(off), string(p))
			case 3:
				d.must(f.Truncate(int64(off)))
				if off > len(want) {
					want = append(want, make([]byte, off-len(want))...)
				}
				want = want[:off:off]
			case 4:
				d.must(f.Sync())
				d.must(d.SyncDir("/d"))
				disk{FS: d.Crash(memfs.LoseUnsynced()), t: t}.has("/d/f", string(want))
			case 5:
				forks = append(forks, fork{fs: d.Clone(), want: bytes.Clone(want)})
			}
			d.has("/d/f", string(want))
		}
		for _, k := range forks {
			disk{FS: k.fs, t: t}.has("/d/f", string(k.want))
			disk{FS: k.fs.Crash(memfs.KeepUnsynced()), t: t}.has("/d/f", string(k.want))
		}
	}
}

func TestFullDiskEndsShort(t *testing.T) {
	d := newDisk(t)
	d.SetCapacity(3 * 4096)
	f := d.create("/d/f")
	n, err := f.WriteAt(make([]byte, 5*4096), 100)
	if n != 3*4096-100 || !vfs.IsFull(err) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if free, total, err := d.FreeBytes("/d"); free != 0 || total != 3*4096 || err != nil {
		t.Errorf("free %d of %d, %v", free, total, err)
	}
	d.write(f, 0, "within a page that is there")
	d.must(f.Truncate(4096))
	if free, _, _ := d.FreeBytes("/d"); free != 2*4096 {
		t.Errorf("free %d after truncate", free)
	}
	d.must(d.Remove("/d/f"))
	if free, _, _ := d.FreeBytes("/d"); free != 3*4096 {
		t.Errorf("free %d after remove", free)
	}
}

func TestWildOffsetIsAnError(t *testing.T) {
	d := newDisk(t)
	f := d.create("/d/f")
	if _, err := f.WriteAt([]byte("x"), 1<<62); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("write: %v", err)
	}
	if err := f.Truncate(1 << 62); !errors.Is(err, syscall.EFBIG) {
		t.Errorf("truncate: %v", err)
	}
	if _, err := f.WriteAt([]byte("x"), -1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("negative: %v", err)
	}
}

func TestOpenFilesAreCounted(t *testing.T) {
	d := newDisk(t)
	f, g := d.create("/d/f"), d.create("/d/f")
	if got := d.OpenFiles(); got != 2 {
		t.Errorf("%d open", got)
	}
	d.must(f.Close())
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	d.must(g.Close())
	if got := d.OpenFiles(); got != 0 {
		t.Errorf("%d open after close", got)
	}
}

// TestForksRunAtTheSameTime is for the race detector: clones share pages, and
// must not share anything that is written.
func TestForksRunAtTheSameTime(t *testing.T) {
	d := newDisk(t)
	f := d.create("/d/f")
	var running sync.WaitGroup
	for i := range 50 {
		d.write(f, int64(i)*1000, "some bytes")
		for _, c := range []*memfs.FS{d.Clone(), d.Crash(memfs.KeepRandom(uint64(i)))} {
			running.Go(func() {
				g, err := c.OpenFile("/d/f", os.O_RDWR|os.O_CREATE, 0o644)
				if err != nil {
					return // Lost by the crash with its directory: not the point here.
				}
				_, _ = g.WriteAt([]byte("other bytes"), int64(i)*500)
				_ = g.Sync()
				_ = c.Crash(memfs.LoseUnsynced())
			})
		}
		d.must(f.Sync())
	}
	running.Wait()
}

func BenchmarkCrash(b *testing.B) {
	f := memfs.New()
	if err := f.MkdirAll("/d", 0o755); err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"0.log", "0.index", "1.log", "1.index", "2.log", "checkpoint", "epochs"} {
		h, err := f.OpenFile("/d/"+name, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.WriteAt(make([]byte, 1<<20), 0); err != nil {
			b.Fatal(err)
		}
		if err := h.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.SyncDir("/d"); err != nil {
		b.Fatal(err)
	}
	h, err := f.OpenFile("/d/2.log", os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 200)
	off := int64(1 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.WriteAt(p, off); err != nil {
			b.Fatal(err)
		}
		off = 1<<20 + (off+200)%4096
		f.Crash(memfs.KeepRandom(1))
		if off < 1<<20+200 {
			_ = h.Sync()
		}
	}
}
