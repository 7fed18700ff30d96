package commitlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// late is a log whose first segment has lost its index, and a reader that is about
// to leave another.
type late struct {
	*replica

	all  []byte // of the log
	end  record.Offset
	base record.Offset // of the second segment
	free chan struct{} // closed: the reader goes on
	read chan error    // how the reader ended
}

// newLate returns one whose reader is held when it writes the index. spoil spoils
// the disk before the log is opened.
func newLate(t *testing.T, spoil ...func(*late)) *late {
	t.Helper()
	l := &late{replica: newReplica(t, 500), free: make(chan struct{}), read: make(chan error, 1)}
	for l.Segments() < 4 {
		b := storagetest.NewBatch(fmt.Sprint(l.End()), 1, storagetest.Sized(60))
		if err := l.Append([]*commitlog.Batch{b}, 1, l.End()); err != nil {
			t.Fatal(err)
		}
	}
	l.all, l.end = l.replica.read(0, l.End()), l.End()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.fs.Remove("/data/p/" + segment.Name(0, segment.IndexSuffix)); err != nil {
		t.Fatal(err)
	}
	for _, do := range spoil {
		do(l)
	}
	disk := faultfs.Wrap(l.fs)
	o := options(disk, &l.clock, 1)
	o.Config.SegmentBytes = 500
	log, _, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	l.Log = log
	reader := log.NewReader()
	first, err := reader.Read(0, l.end, 1<<20, func(n int) []byte { return make([]byte, n) })
	if err != nil {
		t.Fatal(err)
	}
	l.base = first.Next
	disk.Add(&faultfs.Rule{Op: faultfs.Create, Path: segment.Name(0, segment.IndexSuffix) + ".tmp", Hold: func(faultfs.Op, string) { <-l.free }})
	go func() {
		_, err := log.NewReader().Read(l.base-1, l.end, 1, func(n int) []byte { return make([]byte, n) })
		l.read <- err
	}()
	synctest.Wait()
	select {
	case err := <-l.read:
		t.Fatalf("the reader is not held: %v", err)
	default:
	}
	return l
}

// goOn lets the reader go on, and waits for it.
func (l *late) goOn() {
	l.t.Helper()
	close(l.free)
	if err := <-l.read; err != nil && !errors.Is(err, commitlog.ErrClosed) {
		l.t.Fatal(err)
	}
}

// firstFiles are the files of the first segment that are there.
func (l *late) firstFiles() []string {
	l.t.Helper()
	entries, err := l.fs.ReadDir("/data/p")
	if err != nil {
		l.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if base, _, ok := segment.ParseName(e.Name()); ok && base == 0 {
			names = append(names, e.Name())
		}
	}
	return names
}

// afterKill opens the log as it is when the process is killed.
func (l *late) afterKill() *replica {
	l.t.Helper()
	disk := l.fs.Clone()
	log, rec, err := commitlog.Open(options(disk, &l.clock, 1))
	if err != nil || rec.Damaged != nil || rec.TailCut {
		l.t.Fatalf("%+v, %v", rec, err)
	}
	l.t.Cleanup(func() { _ = log.Close() })
	return &replica{t: l.t, fs: disk, clock: l.clock, Log: log}
}

// The index of a segment that is removed does not stay behind.
func TestAnIndexThatIsMadeLateIsRemovedWithItsSegment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLate(t)
		if _, err := l.DeleteBefore(l.base); err != nil {
			t.Fatal(err)
		}
		l.RemoveWaste() // which does not wait
		l.goOn()
		l.RemoveWaste()
		if names := l.firstFiles(); len(names) > 0 {
			t.Errorf("%v are left", names)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Nor does it when the log is closed in between.
func TestCloseWaitsForAnIndexThatIsMadeLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLate(t)
		if _, err := l.DeleteBefore(l.base); err != nil {
			t.Fatal(err)
		}
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }()
		synctest.Wait()
		l.goOn()
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		if names := l.firstFiles(); len(names) > 0 {
			t.Errorf("%v are left", names)
		}
	})
}

// A log that begins again, with a segment of that name, is whole after a kill: the
// index of the one before would say that it has lost what it had.
func TestAnIndexThatIsMadeLateIsNoneOfTheNextSegment(t *testing.T) {
	for _, wasted := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := newLate(t)
			if wasted {
				if _, err := l.DeleteBefore(l.base); err != nil {
					t.Fatal(err)
				}
			}
			var one []byte
			done := make(chan error, 1)
			go func() {
				err := l.ResetTo(0)
				if err == nil {
					_, size, peeked := record.PeekLogBatch(l.all)
					one = slices.Clone(l.all[:size])
					err = errors.Join(peeked, l.AppendFollowed(record.Pieces{one}), l.StoreCheckpoint())
				}
				done <- err
			}()
			synctest.Wait()
			l.goOn()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			again := l.afterKill()
			if !bytes.Equal(again.read(0, again.End()), one) {
				t.Errorf("wasted %v: the log is [%d, %d)", wasted, again.Start(), again.End())
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Who opens the directory when a log was closed may cut what that one's readers
// were reading.
func TestAnIndexThatIsMadeLateIsNoneOfTheNextLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLate(t)
		done := make(chan error, 1)
		go func() {
			if err := l.Close(); err != nil {
				done <- err
				return
			}
			log, _, err := commitlog.Open(options(l.fs, &l.clock, 1))
			if err == nil {
				_, err = log.TruncateTo(1)
			}
			l.Log = log
			done <- err
		}()
		synctest.Wait()
		l.goOn()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if _, err := l.fs.Stat("/data/p/" + segment.Name(0, segment.IndexSuffix)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the segment that is written to has an index: %v", err)
		}
		l.afterKill()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A damaged log is closed to be moved away, and another begins in its place.
func TestADamagedLogIsClosedWhenNobodyMakesAnIndexInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLate(t, func(l *late) {
			name := lastLog(l.Log)
			if err := storagetest.Shorten(l.fs, name, fileSize(t, l.fs, l.Log)-1); err != nil {
				t.Fatal(err)
			}
		})
		if l.Failed() == nil {
			t.Fatal("the log is not damaged")
		}
		done := make(chan error, 1)
		go func() {
			done <- errors.Join(l.Close(), l.fs.Rename("/data/p", "/data/damaged"), l.fs.MkdirAll("/data/p", 0o755))
		}()
		synctest.Wait()
		l.goOn()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if names := l.firstFiles(); len(names) > 0 {
			t.Errorf("%v has come into the log that begins anew", names)
		}
	})
}
