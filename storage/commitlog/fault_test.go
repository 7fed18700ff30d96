package commitlog_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// script does a bit of everything to a log on a disk that may fail, and notes
// in a model what the log said it did.
type script struct {
	disk  *memfs.FS
	fs    *faultfs.FS
	clock clock
	log   *commitlog.Log
	model *storagetest.Model
	acked record.Offset // synced, and said so
	// loose says that something was done of which nobody knows the outcome.
	loose bool
	count int
}

func newScript(t *testing.T) *script {
	t.Helper()
	s := &script{disk: memfs.New(), clock: clock{ms: 1000}, model: &storagetest.Model{}}
	if err := errors.Join(s.disk.MkdirAll("/data", 0o755), s.disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	s.fs = faultfs.Wrap(s.disk)
	return s
}

func (s *script) open() error {
	l, r, err := commitlog.Open(options(s.fs, &s.clock, 1))
	if err != nil {
		return err
	}
	if r.Damaged != nil {
		return fmt.Errorf("damaged: %w", r.Damaged)
	}
	s.log = l
	return nil
}

func (s *script) append(n int) error {
	var batches []*commitlog.Batch
	for range n {
		s.count++
		batches = append(batches, storagetest.NewBatch(fmt.Sprint("v", s.count), 2, storagetest.Sized(90)))
	}
	err := s.log.Append(batches, record.LeaderEpoch(1+s.count/10), s.acked)
	s.model.Append(record.LeaderEpoch(1+s.count/10), batches...)
	return err
}

// acknowledge makes durable what is there, as a partition does.
func (s *script) acknowledge() error {
	end, err := s.log.Sync()
	if err != nil {
		return err
	}
	if err := s.log.StoreCheckpoint(); err != nil {
		return err
	}
	s.acked = max(s.acked, end)
	return nil
}

func (s *script) truncate() error {
	off := s.model.End() - 2
	if off < s.model.Start {
		return nil
	}
	s.acked = min(s.acked, off)
	_, err := s.log.TruncateTo(off)
	if err == nil {
		s.model.TruncateTo(off)
	} else if s.log.Failed() != nil {
		s.loose = true // It is cut, or not.
	}
	return err
}

func (s *script) deleteBefore() error {
	off := min(s.model.Start+3, s.model.End())
	start, err := s.log.DeleteBefore(off)
	s.log.RemoveWaste()
	s.model.StartAt(start)
	return err
}

func (s *script) reopen() error {
	err := s.log.Close()
	return errors.Join(err, s.open())
}

// run does everything, and returns the errors that there were.
func (s *script) run() []error {
	var errs []error
	try := func(call func() error) {
		if s.log == nil {
			if err := s.open(); err != nil {
				errs = append(errs, err)
				return
			}
		}
		if err := call(); err != nil {
			errs = append(errs, err)
		}
	}
	for range 3 {
		try(func() error { return s.append(2) })
		try(s.acknowledge)
		try(func() error { return s.append(3) })
		try(s.acknowledge)
		try(func() error { return s.append(4) })
		try(s.read)
		try(s.acknowledge)
		try(s.truncate)
		try(s.deleteBefore)
		try(func() error { return s.log.SyncCheckpoint() })
		try(func() error { s.log.Idle(); return nil })
		try(func() error { return s.append(1) })
		try(s.acknowledge)
	}
	return errs
}

// read reads all of it.
func (s *script) read() error {
	if s.loose {
		return nil
	}
	return s.model.Check(s.log, s.model.End())
}

// TestEveryCallFails makes each call to the disk fail in turn, once or for
// good, in each way. Whatever fails, the log says so, in its own words; what
// it holds afterwards is what it said it holds; and what was acknowledged is
// there after a power loss.
func TestEveryCallFails(t *testing.T) {
	ops := map[string]faultfs.Op{
		"open": faultfs.Open, "create": faultfs.Create, "read": faultfs.Read, "write": faultfs.Write,
		"sync": faultfs.Sync, "truncate": faultfs.Truncate, "rename": faultfs.Rename, "remove": faultfs.Remove,
		"syncdir": faultfs.SyncDir, "size": faultfs.Size,
	}
	for name, op := range ops {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clean := newScript(t)
			if errs := clean.run(); errs != nil {
				t.Fatal(errs)
			}
			calls := clean.fs.Calls(op)
			if calls == 0 {
				t.Fatalf("the script makes no call of this kind")
			}
			for _, err := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS, syscall.EMFILE} {
				for _, times := range []int{1, -1} {
					for skip := range calls {
						rule := &faultfs.Rule{Op: op, Skip: skip, Times: times, Err: err, Bytes: skip * 37 % 300}
						if err := runWithFault(t, rule); err != nil {
							t.Fatalf("%v in call %d, %d times: %v", rule.Err, skip, times, err)
						}
					}
				}
			}
		})
	}
}

func runWithFault(t *testing.T, rule *faultfs.Rule) error {
	t.Helper()
	s := newScript(t)
	s.fs.Add(rule)
	for _, err := range s.run() {
		if err := s.understands(err); err != nil {
			return err
		}
	}
	s.fs.Clear()
	if s.log == nil {
		return nil
	}
	// What it published is there, whether it failed or not; a truncation that
	// failed has happened or not.
	if !s.loose {
		if err := s.model.Check(s.log, s.model.End()); err != nil {
			return fmt.Errorf("running: %w", err)
		}
	}
	for i, p := range append(storagetest.Policies(uint64(rule.Skip)), memfs.KeepUnsynced()) {
		disk := s.disk.Crash(p)
		l, r, err := commitlog.Open(options(disk, &s.clock, 9))
		if err != nil {
			return fmt.Errorf("%v: open: %w", p, err)
		}
		if r.Damaged != nil {
			return fmt.Errorf("%v: %w", p, r.Damaged)
		}
		switch {
		case s.loose && l.End() < s.acked:
			err = fmt.Errorf("end %d, acknowledged %d", l.End(), s.acked)
		case !s.loose:
			err = s.model.Check(l, s.acked)
		}
		if err != nil {
			return fmt.Errorf("policy %d, %v: %w", i, p, err)
		}
	}
	return nil
}

// understands says what is wrong with an error, and notes what it leaves open.
func (s *script) understands(err error) error {
	var (
		write   *commitlog.WriteError
		failed  *commitlog.FailedError
		corrupt *segment.CorruptError
	)
	switch {
	case errors.As(err, &failed):
		s.loose = true // A group that could not be taken back, a cut half done.
		if s.log != nil && s.log.Failed() == nil {
			return fmt.Errorf("it says that it failed, but goes on: %w", err)
		}
	case errors.As(err, &write):
		if write.Kind == commitlog.WriteFailed && !errors.Is(err, syscall.EIO) {
			return fmt.Errorf("wrong kind %v: %w", write.Kind, err)
		}
	case errors.As(err, &corrupt):
	case s.log == nil || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EROFS):
	default:
		return fmt.Errorf("not understood: %w", err)
	}
	return nil
}

// TestSyncErrorIsFinal: what a failed sync leaves is unknown for ever, so
// nothing is written or synced any more, though the disk be well again.
func TestSyncErrorIsFinal(t *testing.T) {
	s := newScript(t)
	if err := errors.Join(s.open(), s.append(1), s.acknowledge(), s.append(1)); err != nil {
		t.Fatal(err)
	}
	s.fs.Add(&faultfs.Rule{Op: faultfs.Sync})
	syncs := s.fs.Calls(faultfs.Sync)
	for range 3 {
		end, err := s.log.Sync()
		var failed *commitlog.FailedError
		var unsynced *segment.SyncError
		if !errors.As(err, &failed) || !errors.As(err, &unsynced) || end != 2 {
			t.Errorf("sync: %d, %v", end, err)
		}
	}
	if n := s.fs.Calls(faultfs.Sync) - syncs; n != 1 {
		t.Errorf("synced %d times", n)
	}
	if err := s.append(1); !errors.Is(err, s.log.Failed()) {
		t.Errorf("append: %v", err)
	}
	if err := s.log.StoreCheckpoint(); err == nil {
		t.Error("a checkpoint was stored")
	}
	if err := s.model.Check(s.log, 4); err != nil {
		t.Errorf("what was written can be read: %v", err)
	}
	if err := s.log.Close(); err != nil {
		t.Error(err)
	}
}

// TestFullDiskThenRoom: a group that does not fit is not there, not even in
// part; the log goes on when there is room.
func TestFullDiskThenRoom(t *testing.T) {
	s := newScript(t)
	if err := errors.Join(s.open(), s.append(1), s.acknowledge()); err != nil {
		t.Fatal(err)
	}
	for room := range int64(400) {
		s.fs.SetRoom(room)
		err := s.append(2)
		var write *commitlog.WriteError
		if !errors.As(err, &write) || write.Kind != commitlog.DiskFull {
			t.Fatalf("room for %d bytes: %v", room, err)
		}
		if s.log.Failed() != nil || s.log.End() != s.model.End() {
			t.Fatalf("room for %d bytes: end %d, %v", room, s.log.End(), s.log.Failed())
		}
	}
	s.fs.SetRoom(1 << 20)
	if err := errors.Join(s.append(2), s.acknowledge(), s.reopen()); err != nil {
		t.Fatal(err)
	}
	if err := s.model.CheckSearch(s.log); err != nil {
		t.Fatal(err)
	}
}

// TestReadOnlyDisk: a log on a disk that cannot be written to can be read.
func TestReadOnlyDisk(t *testing.T) {
	s := newScript(t)
	if errs := s.run(); errs != nil {
		t.Fatal(errs)
	}
	if err := s.log.Close(); err != nil {
		t.Fatal(err)
	}
	s.fs.SetReadOnly(true)
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	if err := s.model.CheckSearch(s.log); err != nil {
		t.Fatal(err)
	}
	var write *commitlog.WriteError
	if err := s.append(1); !errors.As(err, &write) || write.Kind != commitlog.ReadOnly {
		t.Errorf("append: %v", err)
	}
	if err := s.model.CheckSearch(s.log); err != nil {
		t.Fatal(err)
	}
	s.fs.SetReadOnly(false)
	// The file is open, for reading: readers come all the time.
	if err := errors.Join(s.append(1), s.acknowledge()); err != nil {
		t.Errorf("writable again: %v", err)
	}
}

// TestBitRotWhileReading: what the disk gives wrong is an error of that read,
// and nothing that was wrong is handed out.
func TestBitRotWhileReading(t *testing.T) {
	s := newScript(t)
	if errs := s.run(); errs != nil {
		t.Fatal(errs)
	}
	if err := s.log.Close(); err != nil {
		t.Fatal(err)
	}
	rng := int64(0)
	s.fs.Add(&faultfs.Rule{Op: faultfs.Read, Path: "*.log", Times: -1, Change: func(b []byte, off int64) {
		if off < segment.FirstPosition {
			return // Else nothing is ever opened.
		}
		rng = (rng*1103515245 + 12345) & 0x7fffffff
		b[rng%int64(len(b))] ^= 1 << (rng % 8)
	}})
	wrong, right := 0, 0
	for range 300 {
		if err := s.open(); err != nil {
			if !typed(err) && !errors.Is(err, syscall.EIO) {
				// Open found it.
				t.Logf("open: %v", err)
			}
			continue
		}
		r := s.log.NewReader()
		for off := s.model.Start; off < s.model.End(); {
			g, err := r.Read(off, s.model.End(), 200, func(n int) []byte { return make([]byte, n) })
			if err != nil {
				if !typed(err) {
					t.Fatal(err)
				}
				wrong++
				off++
				continue
			}
			right++
			if err := s.model.CheckRange(g); err != nil {
				t.Fatal(err)
			}
			off = g.Next
		}
	}
	if wrong == 0 || right == 0 {
		t.Errorf("%d reads were wrong, %d right", wrong, right)
	}
}
