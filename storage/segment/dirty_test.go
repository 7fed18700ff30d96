package segment_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// TestASyncBesideAWriteDoesNotAnswerForIt: a sync ends before a write does that
// had begun before it. The file has unsynced bytes then, and is not closed: an
// error of writing them back is told to those who have it open.
func TestASyncBesideAWriteDoesNotAnswerForIt(t *testing.T) {
	disk := memfs.New()
	if err := disk.MkdirAll("/d", 0o755); err != nil {
		t.Fatal(err)
	}
	fault := faultfs.Wrap(disk)
	l := create(t, newOptions(fault, "/d", segment.NewFiles(1)), 0)
	sync := func() {
		if err := l.s.Sync(); err != nil {
			t.Error(err)
		}
	}
	fault.Add(&faultfs.Rule{Op: faultfs.Write, Path: "*.log", Hold: func(faultfs.Op, string) { sync() }})
	l.append(1, 10, 1)
	if l.s.Rest() || disk.OpenFiles() != 1 {
		t.Error("the file was closed before all of it was synced")
	}
	sync()
	if !l.s.Rest() || disk.OpenFiles() != 0 {
		t.Error("the file is open, though all of it was synced")
	}

	// A write that wrote nothing leaves nothing to sync.
	fault.Add(&faultfs.Rule{Op: faultfs.Write, Path: "*.log", Err: syscall.ENOSPC})
	h := record.Header{BaseOffset: l.s.End(), Records: 1, LeaderEpoch: 1}
	if err := l.s.Append([][]byte{{1}}, []segment.Placed{{Header: h, Size: 1}}); !vfs.IsFull(err) {
		t.Errorf("append: %v", err)
	}
	if !l.s.Rest() || disk.OpenFiles() != 0 {
		t.Error("the file is open, though nothing was written")
	}
	l.s.Retire()
}

// Two sync a segment, the flusher and who seals it: the system tells the first
// that it failed, and would tell the second that all is well.
func TestASyncThatFailedFailsForAll(t *testing.T) {
	disk := memfs.New()
	if err := disk.MkdirAll("/d", 0o755); err != nil {
		t.Fatal(err)
	}
	fault := faultfs.Wrap(disk)
	l := create(t, newOptions(fault, "/d", segment.NewFiles(1)), 0)
	l.append(1, 10, 1)
	second := make(chan error, 1)
	fault.Add(&faultfs.Rule{Op: faultfs.Sync, Path: "*.log", Times: 1, Err: syscall.EIO})
	calls := fault.Calls(faultfs.Sync)
	go func() { second <- l.s.Sync() }()
	for name, err := range map[string]error{"one": l.s.Sync(), "one beside it": <-second, "one after them": l.s.Sync()} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := fault.Calls(faultfs.Sync) - calls; n != 1 {
		t.Errorf("synced %d times", n)
	}
	l.s.Retire()
}
