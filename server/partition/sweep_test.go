package partition

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// A usual run has one call in sweepStep fail, of the first sweepCalls of a kind.
// Each of the first 200 takes minutes:
// SWEEP_CALLS=200 go test ./server/partition -run TestEveryCall.
const (
	sweepCalls = 60
	sweepStep  = 23
)

func sweepOf() (calls, step int) {
	if n, err := strconv.Atoi(os.Getenv("SWEEP_CALLS")); err == nil {
		return n, 1
	}
	return sweepCalls, sweepStep
}

// TestEveryCallFails makes the n-th call of a kind fail below a partition that
// leads at DISK, once or from then on. Whatever fails: what is refused is
// refused with an error that says why, no end goes back, a descriptor whose
// sync has failed is not used again, nothing is acknowledged that the sync
// should have covered, and after a restart everything acknowledged is there.
func TestEveryCallFails(t *testing.T) {
	kinds := []struct {
		name string
		op   faultfs.Op
		most int // calls worth failing
		size int // of records
	}{
		{"write", faultfs.Write, math.MaxInt, 1300}, {"sync", faultfs.Sync | faultfs.SyncDir, math.MaxInt, 1300},
		{"open", faultfs.Open | faultfs.Create, math.MaxInt, 1300}, {"rename", faultfs.Rename, math.MaxInt, 1300},
		{"read", faultfs.Read, math.MaxInt, 1300},
		// Room is set aside in segments of megabytes only, and one call is as the
		// other: nothing comes of it but speed.
		{"fallocate", faultfs.Reserve, 2, 900_000},
	}
	calls, step := sweepOf()
	for i, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			for n := i % k.most; n < min(calls, k.most); n += step {
				for _, errno := range []syscall.Errno{syscall.EIO, syscall.EROFS} {
					for _, times := range []int{1, -1} {
						rule := &faultfs.Rule{Op: k.op, Skip: n, Times: times, Err: errno, Bytes: n * 37 % 300}
						if err := sweepOnce(t, rule, k.size); err != nil {
							t.Fatalf("%v in call %d, %d times: %v", errno, n, times, err)
						}
					}
				}
			}
		})
	}
}

// sweepOnce plays the story on a disk with one fault, and restarts from what
// is left: after a kill, and after losses of power.
func sweepOnce(t *testing.T, rule *faultfs.Rule, size int) error {
	t.Helper()
	var s *sweep
	synctest.Test(t, func(t *testing.T) {
		s = &sweep{env: newEnv(t), rule: rule, size: size}
		s.ledger.acked = map[record.Offset]string{}
		s.config = commitlog.Config{SegmentBytes: 3 * int64(size)}
		if size > 1<<18 {
			s.config.SegmentBytes *= 3
		}
		s.strict = &strictFS{FS: s.fs, sweep: s}
		s.play()
	})
	if err := errors.Join(s.wrong...); err != nil {
		return err
	}
	for i, disk := range []*memfs.FS{
		s.left.Clone(), s.mem, s.left.Crash(memfs.LoseUnsynced()), s.left.Crash(memfs.LoseEntries()), s.left.Crash(memfs.KeepRandom(uint64(rule.Skip))),
	} {
		if err := s.restart(t, disk, i > 1); err != nil {
			return fmt.Errorf("restart %d: %w", i, err)
		}
	}
	return nil
}

// restart starts again on what is left on a disk.
func (s *sweep) restart(t *testing.T, disk *memfs.FS, powerLost bool) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t).on(disk)
		if e.config = s.config; powerLost {
			e.bootID = [16]byte{9}
		}
		err = s.check(e)
	})
	return err
}

// sweep is a partition that does a bit of everything, and what is owed to those
// who used it.
type sweep struct {
	*env
	rule *faultfs.Rule
	size int // of records, at most
	// follows says that the fault is below a follower: what is told to whoever
	// appends at the leader says nothing of it, and the log may be cut.
	follows bool
	strict  *strictFS
	left    *memfs.FS // the disk before the partition was closed

	ledger  ledger
	epoch   record.LeaderEpoch
	deleted record.Offset // the log start may be up to here
	last    State         // no end goes back
	count   int
	// unsynced is where the log was not on disk when a sync of a segment failed;
	// -1: none has.
	unsynced atomic.Int64

	mu    sync.Mutex // guards wrong
	wrong []error
}

func (s *sweep) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, fmt.Errorf(format, args...))
}

// play goes on until the fault has happened, and a while longer.
func (s *sweep) play() {
	s.fs.Add(s.rule)
	s.unsynced.Store(-1)
	const most = 3000
	round := 0
	for left := 8; left > 0 && round < most; round++ {
		if s.fs.Calls(s.rule.Op) > s.rule.Skip {
			left -= 1 + s.size/500_000 // what is large takes its time
		}
		if !s.round(round) {
			break
		}
	}
	if round == most {
		s.fail("the story makes only %d such calls", s.fs.Calls(s.rule.Op))
	}
	s.left = s.mem.Clone()
	if s.p != nil {
		s.shut()
	}
	if n := s.mem.OpenFiles(); n != 0 {
		s.fail("%d files are open after Close", n)
	}
}

// round does some things to the partition; false: it will not open again.
func (s *sweep) round(n int) bool {
	if s.p == nil && !s.begin() {
		return s.rule.Times > 0
	}
	for range 1 + n%3 {
		s.count++
		s.appendTo(s.p, fmt.Sprintf("%d %s", s.count, strings.Repeat("x", s.size-s.count*137%1300)), 1+s.count%2)
	}
	synctest.Wait()
	s.look()
	s.read()
	switch {
	case n%3 == 1:
		s.epoch++
		s.p.Lead(alone(s.epoch, replica.Disk))
	case n%5 == 2:
		pass(1500 * time.Millisecond)
	case n%5 == 3:
		before := max(s.deleted, s.last.HighWatermark-3)
		_, err := s.p.DeleteRecords(context.Background(), before)
		// What was refused is not done, not after a restart either. A file system
		// that is read-only takes nothing of a write; a rule may.
		if s.understand("delete", err); err == nil || !harmless(err) || errors.Is(err, syscall.EROFS) {
			s.deleted = before
		}
	case n%5 == 4:
		s.understand("sync the checkpoint", s.p.SyncCheckpoint())
	case n%7 == 6:
		s.shut()
		return true
	}
	synctest.Wait()
	s.look()
	return true
}

// begin opens the log and leads it.
func (s *sweep) begin() bool {
	log, rec, err := commitlog.Open(commitlog.Options{
		FS: s.strict, Dir: logDir, ClusterID: [16]byte{2}, TopicID: record.TopicID{3}, Partition: 4, Config: s.config, BootID: s.bootID,
	})
	if err != nil {
		s.understand("open", err)
		return false
	}
	if rec.Damaged != nil {
		// What cannot be read is not touched, until somebody has read it.
		if s.rule.Op != faultfs.Read || !errors.Is(rec.Damaged, s.rule.Err) || rec.TailCut {
			s.fail("taken for damage: %w", rec.Damaged)
		}
		s.understand("close", log.Close())
		return false
	}
	s.unsynced.Store(-1)
	s.last = State{}
	s.p = New(Options{Log: log, Self: 1, Flusher: s.flusher, Observer: s.seen, Logger: slog.New(slog.DiscardHandler), Settings: Settings{MaxAheadMs: time.Hour.Milliseconds()}})
	s.epoch++
	s.p.Lead(alone(s.epoch, replica.Disk))
	synctest.Wait()
	s.look()
	return true
}

func (s *sweep) shut() {
	s.understand("close", s.p.Close())
	s.flusher.running.Wait()
	s.p = nil
}

// appendTo sends a batch; its answer is looked at whenever it comes.
func (s *sweep) appendTo(p *Partition, text string, n int) {
	r := &sweepEntry{Request: *batch(text, n), s: s}
	for i := range n {
		r.texts = append(r.texts, fmt.Sprintf("%s#%d", text, i))
	}
	r.Done = r
	if err := p.Append(context.Background(), &r.Request); !s.follows {
		s.understand("append", err)
	}
}

type sweepEntry struct {
	Request
	s     *sweep
	texts []string
}

// Complete takes the answer.
func (e *sweepEntry) Complete(*Request) {
	s := e.s
	if e.Err != nil {
		if !s.follows {
			s.understand("answer", e.Err)
		}
		return
	}
	if at := s.unsynced.Load(); at >= 0 && e.end > record.Offset(at) {
		s.fail("offset %d is acknowledged, and a sync of what begins at %d has failed", e.Base, at)
	}
	s.ledger.note(&e.Request, e.texts)
}

// look looks at the ends, and at why the partition is broken if it is.
func (s *sweep) look() {
	is, was := s.p.State(), s.last
	cut := !s.follows && (is.End < was.End || is.SyncedEnd < was.SyncedEnd)
	if cut || is.HighWatermark < was.HighWatermark || is.LogStart < was.LogStart {
		s.fail("an end went back: %+v, and was %+v", is, was)
	}
	if is.LogStart > s.deleted {
		s.fail("the log begins at %d, and what is from %d on was never let go", is.LogStart, s.deleted)
	}
	var (
		failed   *FailedError
		notLeads *NotLeaderError
	)
	if is.Offline != nil && (!s.follows || !errors.As(is.Offline, &notLeads)) {
		s.understand("state", is.Offline)
	}
	if s.unsynced.Load() >= 0 && !errors.As(is.Offline, &failed) {
		s.fail("a sync has failed, and the partition goes on: %+v", is)
	}
	s.last = is
	s.ledger.readable = max(s.ledger.readable, is.HighWatermark)
}

// read reads what can be read, and compares what was acknowledged.
func (s *sweep) read() {
	got, err := s.texts(s.last.LogStart)
	s.understand("read", err)
	for off, text := range got {
		if acked, ok := s.ledger.acked[off]; ok && acked != text {
			s.fail("record %d reads %.20q, and %.20q was acknowledged", off, text, acked)
		}
	}
}

// understand says what is wrong with an error: one that callers do not know, or
// that does not say what the disk said.
func (s *sweep) understand(doing string, err error) {
	if err == nil {
		return
	}
	var (
		failed      *FailedError
		quarantined *QuarantinedError
		refused     *commitlog.WriteError
		broken      *commitlog.FailedError
		corrupt     *segment.CorruptError
	)
	var unopened *fs.PathError
	known := doing == "read" && s.rule.Op&faultfs.Open != 0 && errors.As(err, &unopened) || errors.As(err, &failed) || errors.As(err, &quarantined) || errors.As(err, &refused) || errors.As(err, &broken) ||
		errors.As(err, &corrupt) || errors.Is(err, ErrUnknownOutcome) || doing == "open"
	switch {
	case errors.Is(err, ErrClosed): // it waited for what was not to come any more
	case !known:
		s.fail("%s: an error without a type: %w (%T)", doing, err, err)
	case !errors.Is(err, s.rule.Err):
		s.fail("%s: it does not say that it was %w: %w", doing, s.rule.Err, err)
	}
}

// check starts again on what is left.
func (s *sweep) check(e *env) error {
	e.openOn(e.fs)
	defer func() {
		_ = e.p.Close()
		e.flusher.running.Wait()
	}()
	if e.rec.Damaged != nil {
		return fmt.Errorf("taken for damage: %w", e.rec.Damaged)
	}
	if !e.p.Lead(alone(s.epoch+1, replica.Disk)) {
		return errors.New("does not lead")
	}
	synctest.Wait()
	is := e.p.State()
	got, err := e.texts(is.LogStart)
	if err != nil {
		return err
	}
	for off, text := range s.ledger.acked {
		if off >= s.deleted && got[off] != text {
			return fmt.Errorf("acknowledged record %d is %.20q, want %.20q; %+v", off, got[off], text, e.rec)
		}
	}
	if is.LogStart > s.deleted || is.HighWatermark < s.ledger.readable || int(is.HighWatermark-is.LogStart) != len(got) {
		return fmt.Errorf("%d records; %d could be read, %d were let go: %+v", len(got), s.ledger.readable, s.deleted, is)
	}
	if r := e.acked(batch("after", 1)); r.Base != is.HighWatermark {
		return fmt.Errorf("appended at %d, want %d", r.Base, is.HighWatermark)
	}
	return nil
}

// strictFS notes which descriptors have failed to sync, and who uses them all
// the same.
type strictFS struct {
	vfs.FS
	sweep *sweep
}

func (f *strictFS) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	inner, err := f.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &strictFile{File: inner, sweep: f.sweep}, nil
}

type strictFile struct {
	vfs.File
	sweep   *sweep
	batches atomic.Bool // it has some
	lost    atomic.Bool // a sync has failed
}

func (f *strictFile) used(how string) {
	if f.lost.Load() {
		f.sweep.fail("%s of %s through a descriptor whose sync has failed", how, f.Name())
	}
}

// note notes that a segment has batches: nobody was told anything of one that
// has none.
func (f *strictFile) note(off int64) {
	if off >= segment.FirstPosition && !f.batches.Load() {
		f.batches.Store(true)
	}
}

func (f *strictFile) Sync() error {
	f.used("sync")
	err := f.File.Sync()
	if err != nil {
		f.lost.Store(true)
		if p := f.sweep.p; p != nil && f.batches.Load() && strings.HasSuffix(f.Name(), segment.LogSuffix) {
			f.sweep.unsynced.CompareAndSwap(-1, int64(p.log.SyncedEnd()))
		}
	}
	return err
}

func (f *strictFile) ReadAt(p []byte, off int64) (int, error) {
	f.used("read")
	return f.File.ReadAt(p, off)
}

func (f *strictFile) WriteAt(p []byte, off int64) (int, error) {
	f.used("write")
	f.note(off)
	return f.File.WriteAt(p, off)
}

func (f *strictFile) Writev(pieces [][]byte, off int64) (int, error) {
	f.used("write")
	f.note(off)
	return f.File.Writev(pieces, off)
}

func (f *strictFile) Truncate(size int64) error {
	f.used("truncate")
	return f.File.Truncate(size)
}

// Reserve and Trim are those of vfs.Reserver, which files in memory are.
func (f *strictFile) Reserve(off, n int64) error {
	f.used("reserve")
	return f.File.(vfs.Reserver).Reserve(off, n)
}

// Trim gives room back.
func (f *strictFile) Trim(size int64) error {
	f.used("trim")
	return f.File.(vfs.Reserver).Trim(size)
}
