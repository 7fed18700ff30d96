package commitlog_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// promised is what a log must hold whatever happens to the machine, but for what
// it lets go. It is immutable.
type promised struct {
	start   record.Offset // where the log has begun for good
	batches []id          // acknowledged as on the disk, in order
	end     record.Offset // of the last of them
}

// busy is a crowd whose disk is copied while all are at work, and lost later.
type busy struct {
	*crowd
	clock clock
	disk  *memfs.FS
	rng   *rand.Rand // of the writer

	pledge atomic.Pointer[promised] // nil: the log is being reset
	starts atomic.Int64             // where it may have begun by now
	calls  atomic.Int64             // to the disk

	mu    sync.Mutex // guards disks
	disks []moment

	// The writer's.
	epoch   record.LeaderEpoch
	written []id
	ends    []record.Offset // of written
}

// moment is a disk, and what was promised before it was copied.
type moment struct {
	disk *memfs.FS
	op   memfs.Op
	was  *promised
	most record.Offset // where the log may begin
}

const (
	mostMoments = 25
	everyCall   = 37 // is looked at
)

// keepDisk copies the disk now and then, in the middle of whatever is done.
func (b *busy) keepDisk(op memfs.Op) {
	if b.calls.Add(1)%everyCall != 0 {
		return
	}
	was := b.pledge.Load()
	disk := b.disk.Clone()
	most := record.Offset(b.starts.Load())
	if was == nil || b.pledge.Load() == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	m := moment{disk, op, was, most}
	if len(b.disks) < mostMoments {
		b.disks = append(b.disks, m)
	} else if i := rand.IntN(int(b.calls.Load() / everyCall)); i < mostMoments {
		b.disks[i] = m
	}
}

// acknowledge promises what is on the disk, as a partition does.
func (b *busy) acknowledge() error {
	synced, start := b.log.SyncedEnd(), b.log.Start()
	if err := b.log.StoreCheckpoint(); err != nil {
		return err
	}
	n := 0
	for n < len(b.ends) && b.ends[n] <= synced {
		n++
	}
	p := &promised{start: start, batches: b.written[:n:n]}
	if n > 0 {
		p.end = b.ends[n-1]
	}
	if was := b.pledge.Load(); was == nil || p.end > was.end || p.start > was.start {
		b.pledge.Store(p)
	}
	return nil
}

func (b *busy) end() record.Offset {
	if p := b.pledge.Load(); p != nil {
		return p.end
	}
	return 0
}

func (b *busy) do(i int) error {
	l := b.log
	b.clock.ms += b.rng.Int64N(20)
	switch n := b.rng.IntN(100); {
	case n < 60:
		for range 1 + b.rng.IntN(4) {
			r := storagetest.NewBatch(fmt.Sprint("v", i, b.rng.Uint32()), 1+b.rng.IntN(4), storagetest.Sized(b.rng.IntN(300)))
			at := id{l.End(), b.epoch}
			b.batches.Store(at, r.Summary.CRC)
			if err := l.Append([]*commitlog.Batch{r}, b.epoch, b.end()); err != nil {
				return err
			}
			b.written, b.ends = append(b.written, at), append(b.ends, l.End())
		}
	case n < 80:
		return b.acknowledge()
	case n < 86: // nothing that was promised
		n := len(b.ends)
		for n > 0 && b.ends[n-1] > b.end() && b.rng.IntN(4) > 0 {
			n--
		}
		to := max(l.Start(), b.end())
		if n > 0 {
			to = max(to, b.ends[n-1])
		}
		if n < len(b.ends) {
			b.epoch++
		}
		b.written, b.ends = b.written[:n:n], b.ends[:n:n]
		_, err := l.TruncateTo(to)
		return err
	case n < 90:
		to := l.Start() + record.Offset(b.rng.Int64N(int64(max(0, b.end()-l.Start()))+1))
		b.starts.Store(max(b.starts.Load(), int64(to)))
		if _, err := l.DeleteBefore(to); err != nil {
			return err
		}
		return b.acknowledge()
	case n < 92:
		b.starts.Store(max(b.starts.Load(), int64(l.LastBase())))
		if _, err := l.Retain(b.clock.now(), b.end()); err != nil {
			return err
		}
		b.starts.Store(int64(l.Start()))
	case n < 93:
		to := max(0, l.End()+record.Offset(b.rng.Int64N(200)-150))
		b.pledge.Store(nil)
		if err := l.ResetTo(to); err != nil {
			return err
		}
		b.epoch++
		b.written, b.ends = nil, nil
		b.starts.Store(int64(to))
		return b.acknowledge()
	case n < 97: // an index is lost, and made again by who reads
		files, err := storagetest.Files(b.disk, "/data/p")
		if err != nil {
			return err
		}
		for _, f := range files {
			if b.rng.IntN(3) > 0 || path.Ext(f.Path) != segment.IndexSuffix {
				continue
			}
			if err := b.disk.Remove(f.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		l.Idle() // so that readers look at the files
	default:
		l.Idle()
	}
	return nil
}

// check says what is wrong with what a log has after the end of the machine.
func (b *busy) check(m *moment, disk *memfs.FS, boot byte) error {
	l, r, err := commitlog.Open(options(disk, &clock{ms: b.clock.ms}, boot))
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // It is looked at, no more.
	if r.Damaged != nil || r.Start < m.was.start || r.Start > m.most || r.End < m.was.end {
		return fmt.Errorf("%+v: promised was [%d..%d, %d)", r, m.was.start, m.most, m.was.end)
	}
	next := 0
	reader := l.NewReader()
	for off := l.Start(); off < l.End(); {
		g, err := reader.Read(off, l.End(), 2000, func(n int) []byte { return make([]byte, n) })
		if err != nil {
			return err
		}
		if err := b.verify(g); err != nil {
			return err
		}
		for rest := g.Bytes; len(rest) > 0; {
			h, _, size, err := record.ParseLogBatch(rest)
			if err != nil {
				return err
			}
			rest = rest[size:]
			for next < len(m.was.batches) && m.was.batches[next].base < h.BaseOffset {
				next++
			}
			if at := (id{h.BaseOffset, h.LeaderEpoch}); h.End() <= m.was.end && (next == len(m.was.batches) || m.was.batches[next] != at) {
				return fmt.Errorf("batch %v is not what was acknowledged", at)
			}
		}
		off = g.Next
	}
	more := storagetest.NewBatch("more", 1)
	return errors.Join(l.Append([]*commitlog.Batch{more}, b.epoch+1, 0), l.Close())
}

// TestLostWhileAllAreAtWork: one writes, truncates, deletes and retains, others
// sync the log and its checkpoint, remove what is not needed, read, and make
// indexes again. At any moment the machine may lose its power, or the process be
// killed: what was acknowledged is there, and nothing that was never written.
func TestLostWhileAllAreAtWork(t *testing.T) {
	for seed := range crashSeeds(2) {
		b := &busy{crowd: &crowd{t: t}, clock: clock{ms: 1000}, disk: memfs.New(), epoch: 1, rng: rand.New(rand.NewPCG(seed, 11))}
		if err := errors.Join(b.disk.MkdirAll("/data", 0o755), b.disk.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		b.o = options(b.disk, &b.clock, 1)
		b.o.Config.RetentionBytes = 6000
		b.o.Files = commitlog.NewFiles(3)
		l, _, err := commitlog.Open(b.o)
		if err != nil {
			t.Fatal(err)
		}
		b.log = l
		b.pledge.Store(&promised{})
		b.disk.SetHook(b.keepDisk)
		var others sync.WaitGroup
		for _, run := range []func() error{
			func() error { _, err := l.Sync(); return err }, l.SyncCheckpoint,
			func() error { l.RemoveWaste(); return nil },
		} {
			others.Go(func() {
				for !b.done.Load() {
					if err := run(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for range 2 {
			others.Go(func() {
				err := b.read(func(start, end record.Offset) (record.Offset, bool) {
					runtime.Gosched()
					return start + record.Offset(rand.Int64N(int64(max(0, end-start))+1)), true
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		for i := range 300 {
			if err := b.do(i); err != nil {
				t.Errorf("seed %d, %d: %v", seed, i, err)
				break
			}
		}
		b.done.Store(true)
		others.Wait()
		b.disk.SetHook(nil)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		for i := range b.disks {
			m := &b.disks[i]
			if err := b.check(m, m.disk.Clone(), 1); err != nil {
				t.Fatalf("seed %d, killed after %v: %v", seed, m.op, err)
			}
			for _, policy := range storagetest.Policies(seed) {
				if err := b.check(m, m.disk.Crash(policy), 2); err != nil {
					t.Fatalf("seed %d, power lost after %v, %v: %v", seed, m.op, policy, err)
				}
			}
		}
		t.Logf("seed %d: %d calls, %d disks, %d reads, end %d", seed, b.calls.Load(), len(b.disks), b.reads.Load(), l.End())
	}
}
