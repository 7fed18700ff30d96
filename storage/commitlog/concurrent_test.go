package commitlog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/mmap"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// crowd is a log with one writer and many others.
type crowd struct {
	t   *testing.T
	log *commitlog.Log
	o   commitlog.Options

	done    atomic.Bool
	batches sync.Map // id → CRC of what was appended as that
	reads   atomic.Int64
	outside atomic.Int64
}

// id is what a batch can be known by: an offset may be used again, but in a
// later epoch.
type id struct {
	base  record.Offset
	epoch record.LeaderEpoch
}

// verify checks that what was read was once appended just there.
func (c *crowd) verify(g commitlog.Range) error {
	next := g.First
	for b := g.Bytes; len(b) > 0; {
		h, batch, size, err := record.ParseLogBatch(b)
		if err != nil {
			return err
		}
		want, ok := c.batches.Load(id{h.BaseOffset, h.LeaderEpoch})
		if !ok || h.BaseOffset != next || want != (record.Pieces{batch}).CRC() {
			return fmt.Errorf("batch at %d, epoch %d: expected at %d, known %v", h.BaseOffset, h.LeaderEpoch, next, ok)
		}
		next = h.End()
		b = b[size:]
	}
	if next != g.Next {
		return fmt.Errorf("range ends at %d, says %d", next, g.Next)
	}
	return nil
}

// read reads on and on, from another place whenever jump says so.
func (c *crowd) read(jump func(start, end record.Offset) (record.Offset, bool)) error {
	r := c.log.NewReader()
	buf := make([]byte, 64<<10)
	off := record.Offset(0)
	for !c.done.Load() {
		end := c.log.End()
		if to, ok := jump(c.log.Start(), end); ok {
			off = to
		}
		g, err := r.Read(off, end, 2000, func(n int) []byte { return buf[:n] })
		var outside *commitlog.OffsetOutOfRangeError
		switch {
		case errors.As(err, &outside):
			c.outside.Add(1)
			off = outside.Start
			continue
		case err != nil:
			return fmt.Errorf("read at %d: %w", off, err)
		}
		if err := c.verify(g); err != nil {
			return fmt.Errorf("read at %d: %w", off, err)
		}
		c.reads.Add(1)
		off = g.Next
	}
	return nil
}

// search asks for times and epochs.
func (c *crowd) search() error {
	for !c.done.Load() {
		end := c.log.End()
		off, found, err := c.log.OffsetForTime(context.Background(), rand.Int64N(20_000), end)
		if err != nil {
			return fmt.Errorf("search: %w", err)
		}
		if found && off >= end {
			return fmt.Errorf("found %d, behind %d", off, end)
		}
		c.log.EpochEnd(c.log.EpochAt(off))
	}
	return nil
}

// keep syncs, and closes what is not used.
func (c *crowd) keep() error {
	for !c.done.Load() {
		if _, err := c.log.Sync(); err != nil {
			return err
		}
		if err := c.log.SyncCheckpoint(); err != nil {
			return err
		}
		c.o.Files.Expire()
		c.log.RemoveWaste()
		if synced, end := c.log.SyncedEnd(), c.log.End(); synced > end && c.log.End() >= synced {
			return fmt.Errorf("synced end %d, end %d", synced, end)
		}
	}
	return nil
}

// write does what writers do.
func (c *crowd) write(ops int, clock *clock) error {
	rng := rand.New(rand.NewPCG(1, 1))
	epoch := record.LeaderEpoch(1)
	for i := range ops {
		clock.ms += rng.Int64N(20)
		var err error
		switch n := rng.IntN(100); {
		case n < 85:
			b := storagetest.NewBatch(fmt.Sprint("v", i), 1+rng.IntN(4), storagetest.Sized(rng.IntN(300)))
			c.batches.Store(id{c.log.End(), epoch}, b.Summary.CRC)
			err = c.log.Append([]*commitlog.Batch{b}, epoch, c.log.Start())
		case n < 88:
			span := int64(c.log.End() - c.log.Start())
			off := c.log.End() - record.Offset(rng.Int64N(min(40, span+1)))
			_, err = c.log.TruncateTo(off)
			epoch++
			var outside *commitlog.OffsetOutOfRangeError
			if errors.As(err, &outside) {
				err = nil // Inside the batch of the log start.
			}
		case n < 90:
			_, err = c.log.DeleteBefore(c.log.Start() + record.Offset(rng.Int64N(int64(c.log.End()-c.log.Start())/2+1)))
		case n < 93:
			_, err = c.log.Retain(clock.now(), c.log.End())
		case n < 94:
			// Somewhere near, so that readers are often where it was.
			err = c.log.ResetTo(max(0, c.log.Start()+record.Offset(rng.Int64N(300)-150)))
			epoch++
		case n < 97:
			c.log.Idle()
		default:
			err = c.log.StoreCheckpoint()
		}
		if err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
	}
	return nil
}

// TestReadersBesideEverything reads, searches and syncs while the log is
// appended to, rolled, truncated, retained and put to rest.
func TestReadersBesideEverything(t *testing.T) {
	for name, o := range map[string]commitlog.Options{
		"memory": {FS: memfs.New(), Dir: "/p"},
		"mapped": {FS: vfs.OS(), Dir: t.TempDir() + "/p"},
	} {
		t.Run(name, func(t *testing.T) {
			clock := &clock{ms: 1000}
			o.Config = commitlog.Config{SegmentBytes: 3000, RetentionBytes: 20_000}
			o.Files = commitlog.NewFiles(3)
			o.Now = clock.now
			l, _, err := commitlog.Open(o)
			if err != nil {
				t.Fatal(err)
			}
			c := &crowd{t: t, log: l, o: o}
			var others sync.WaitGroup
			for _, run := range []func() error{
				c.search, c.keep,
				func() error {
					return c.read(func(record.Offset, record.Offset) (record.Offset, bool) { return 0, false })
				},
				func() error {
					return c.read(func(start, end record.Offset) (record.Offset, bool) {
						return start + record.Offset(rand.Int64N(int64(max(0, end-start))+1)), true
					})
				},
				func() error {
					return c.read(func(_, end record.Offset) (record.Offset, bool) { return max(0, end-9), rand.IntN(4) == 0 })
				},
			} {
				others.Go(func() {
					if err := run(); err != nil {
						t.Error(err)
					}
				})
			}
			if err := c.write(700, clock); err != nil {
				t.Error(err)
			}
			c.done.Store(true)
			others.Wait()
			t.Logf("%d reads, %d outside", c.reads.Load(), c.outside.Load())
			if c.reads.Load() < 10 {
				t.Errorf("only %d reads", c.reads.Load())
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if n := o.Files.Counts().Open; n != 0 {
				t.Errorf("%d files are open after Close", n)
			}
			mmap.Settle()
			if live := mmap.Live(); live.Mapped != 0 || live.Regions != 0 {
				t.Errorf("mapped after Close: %+v", live)
			}
			again, r, err := commitlog.Open(o)
			if err != nil || r.Damaged != nil || r.TailCut {
				t.Fatalf("%+v, %v", r, err)
			}
			if err := again.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReadAfterClose: readers of a closed log are told, and wait for nothing.
func TestReadAfterClose(t *testing.T) {
	u := newUser(t, 1, true)
	u.open()
	u.append()
	r := u.log.NewReader()
	if err := errors.Join(u.log.Close(), u.log.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(0, 1, 1, func(n int) []byte { return make([]byte, n) }); !errors.Is(err, commitlog.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, _, err := u.log.OffsetForTime(t.Context(), 0, 1); !errors.Is(err, commitlog.ErrClosed) {
		t.Errorf("offset for time: %v", err)
	}
	if _, err := u.log.Sync(); !errors.Is(err, commitlog.ErrClosed) {
		t.Errorf("sync: %v", err)
	}
	if err := u.log.Append(nil, 1, 0); !errors.Is(err, commitlog.ErrClosed) {
		t.Errorf("append: %v", err)
	}
}
