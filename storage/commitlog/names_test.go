package commitlog_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// TestASegmentIsNotWrittenToUnlessItsNameIsOnTheDisk: the sync fails that is to
// make the name of a new segment durable, and the process ends before it can take
// the file away. The next one finds a segment without batches, whose name no sync
// brings to the disk any more. What it acknowledges is there after a power loss.
func TestASegmentIsNotWrittenToUnlessItsNameIsOnTheDisk(t *testing.T) {
	disk, c := long(t), &clock{ms: 2_000_000}
	fault := faultfs.Wrap(disk)
	l, _, err := commitlog.Open(options(fault, c, 1))
	if err != nil {
		t.Fatal(err)
	}
	l.SetConfig(commitlog.Config{SegmentBytes: 2000})
	fault.Add(&faultfs.Rule{Op: faultfs.SyncDir, Skip: 1}) // the first one is that of the index
	fault.Add(&faultfs.Rule{Op: faultfs.Remove, Path: "*.log", Times: -1})
	big := []*commitlog.Batch{storagetest.NewBatch("big", 1, storagetest.Sized(2000))}
	if err := l.Append(big, l.LastEpoch(), 0); l.Failed() == nil {
		t.Fatalf("append: %v", err)
	}
	files, err := storagetest.Files(disk, "/data/p")
	if err != nil {
		t.Fatal(err)
	}
	empty := 0
	for _, f := range files {
		if f.Size == segment.FirstPosition {
			empty++
		}
	}
	if empty != 1 {
		t.Fatalf("the process has left %d segments without batches: %v", empty, files)
	}

	same := disk.Clone()
	l, r, err := commitlog.Open(options(same, c, 1))
	if err != nil || r.Damaged != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := l.Append([]*commitlog.Batch{storagetest.NewBatch("acked", 1)}, l.LastEpoch(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.StoreCheckpoint(), l.SyncCheckpoint()); err != nil {
		t.Fatal(err)
	}
	want := serve(t, l)
	for _, p := range storagetest.Policies(7) {
		left, r, err := commitlog.Open(options(same.Crash(p), c, 2))
		if err != nil || r.Damaged != nil {
			t.Fatalf("%v: %+v, %v", p, r, err)
		}
		if got := serve(t, left); !got.equal(want) {
			t.Errorf("%v: it is %v, and was %v", p, got, want)
		}
	}
}

// TestAFailedSyncOfADirectoryIsFinal: whatever the system calls it. Where there
// was no descriptor to sync with, none failed.
func TestAFailedSyncOfADirectoryIsFinal(t *testing.T) {
	for _, why := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EMFILE} {
		for skip := range 2 {
			fault := faultfs.Wrap(long(t))
			l, _, err := commitlog.Open(options(fault, &clock{ms: 2_000_000}, 1))
			if err != nil {
				t.Fatal(err)
			}
			l.SetConfig(commitlog.Config{SegmentBytes: 2000})
			fault.Add(&faultfs.Rule{Op: faultfs.SyncDir, Err: why, Skip: skip})
			big := func() error {
				return l.Append([]*commitlog.Batch{storagetest.NewBatch("big", 1, storagetest.Sized(2000))}, l.LastEpoch(), 0)
			}
			if err := big(); !errors.Is(err, why) || (l.Failed() != nil) != (why != syscall.EMFILE) {
				t.Errorf("sync %d fails with %v: %v, and the log: %v", skip, why, err, l.Failed())
			}
			if err := big(); (err == nil) != (why == syscall.EMFILE) {
				t.Errorf("sync %d has failed with %v; the next: %v", skip, why, err)
			}
		}
	}
}

// TestAnErasedSegmentIsNone: a name without bytes is that of no segment, wherever
// it stands; one in which there were batches is missed.
func TestAnErasedSegmentIsNone(t *testing.T) {
	start := long(t)
	l, _, err := commitlog.Open(options(start.Clone(), &clock{ms: 2_000_000}, 1))
	if err != nil {
		t.Fatal(err)
	}
	want, last := serve(t, l), l.LastBase()
	name := func(base record.Offset, suffix string) string { return "/data/p/" + segment.Name(base, suffix) }
	for _, base := range []record.Offset{1, want.end - 1, want.end, want.end + 5} {
		disk := start.Clone()
		for _, suffix := range []string{segment.LogSuffix, segment.IndexSuffix} {
			if err := storagetest.WriteFile(disk, name(base, suffix), nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, boot := range []byte{1, 2} {
			l, r, err := commitlog.Open(options(disk.Clone(), &clock{ms: 2_000_000}, boot))
			if err != nil || r.Damaged != nil {
				t.Fatalf("an empty file at %d: %+v, %v", base, r, err)
			}
			if got := serve(t, l); !got.equal(want) {
				t.Errorf("with an empty file at %d the log is %v, not %v", base, got, want)
			}
			l.SetConfig(commitlog.Config{SegmentBytes: 1}) // each batch has its segment, at all of these places
			for range 10 {
				if err := l.Append([]*commitlog.Batch{storagetest.NewBatch("more", 1)}, l.LastEpoch(), 0); err != nil {
					t.Fatalf("with an empty file at %d: %v", base, err)
				}
			}
			serve(t, l)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	disk := start.Clone()
	if err := storagetest.Shorten(disk, name(last, segment.LogSuffix), 0); err != nil {
		t.Fatal(err)
	}
	l, r, err := commitlog.Open(options(disk, &clock{ms: 2_000_000}, 2))
	if err != nil || r.Damaged == nil || l.End() != want.end {
		t.Fatalf("the last segment has lost its bytes: %+v, %v", r, err)
	}
	if _, err := storagetest.ReadFile(disk, name(last, segment.LogSuffix)); err != nil {
		t.Errorf("what is left of it is gone: %v", err)
	}
}
