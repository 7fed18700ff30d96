package commitlog_test

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// stage is what the scripts of testdata/script act on. Each command prints its
// answer, and the operations on the disk that it took, in order.
type stage struct {
	fs    *memfs.FS
	clock clock
	boot  byte
	log   *commitlog.Log
	c     commitlog.Config
}

// TestScripts runs the scripts. -rewrite writes what they answer now.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/script", func(t *testing.T, file string) {
		s := &stage{fs: memfs.New(), clock: clock{ms: 1000}, boot: 1}
		if err := errors.Join(s.fs.MkdirAll("/data", 0o755), s.fs.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		s.fs.StartLog()
		datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
			s.fs.TakeLog()
			var out strings.Builder
			if err := s.run(t, d, &out); err != nil {
				fmt.Fprintf(&out, "error: %v\n", err)
			}
			for _, op := range s.fs.TakeLog() {
				fmt.Fprintf(&out, "  %s\n", strings.ReplaceAll(op.String(), "/data/p/", ""))
			}
			if out.Len() == 0 {
				return "ok\n"
			}
			return out.String()
		})
	})
}

func (s *stage) run(t *testing.T, d *datadriven.TestData, out *strings.Builder) error {
	if s.log == nil && d.Cmd != "open" && d.Cmd != "ls" && d.Cmd != "flip" && d.Cmd != "shorten" && d.Cmd != "remove" {
		return errors.New("no log is open")
	}
	switch d.Cmd {
	case "open":
		return s.open(t, d, out)
	case "append":
		return s.append(t, d, out)
	case "sync":
		end, err := s.log.Sync()
		fmt.Fprintf(out, "synced to %d\n", end)
		return err
	case "checkpoint":
		return s.log.StoreCheckpoint()
	case "sync-checkpoint":
		return s.log.SyncCheckpoint()
	case "read":
		return s.read(t, d, out)
	case "offset-for-time":
		off, found, err := s.log.OffsetForTime(t.Context(), arg(t, d, "ms", 0), s.log.End())
		fmt.Fprintf(out, "%d %v\n", off, found)
		return err
	case "epoch-end":
		epoch, end := s.log.EpochEnd(record.LeaderEpoch(arg(t, d, "epoch", 0)))
		fmt.Fprintf(out, "epoch %d ends at %d\n", epoch, end)
	case "truncate":
		end, err := s.log.TruncateTo(record.Offset(arg(t, d, "to", 0)))
		fmt.Fprintf(out, "end %d\n", end)
		return err
	case "delete-before":
		start, err := s.log.DeleteBefore(record.Offset(arg(t, d, "offset", 0)))
		s.log.RemoveWaste()
		fmt.Fprintf(out, "start %d\n", start)
		return err
	case "retain":
		c := s.log.Config()
		c.RetentionAge = time.Duration(arg(t, d, "age", 0)) * time.Millisecond
		c.RetentionBytes = arg(t, d, "bytes", 0)
		s.log.SetConfig(c)
		removed, err := s.log.Retain(s.clock.now(), s.log.End())
		s.log.RemoveWaste()
		fmt.Fprintf(out, "removed %d, start %d\n", removed, s.log.Start())
		return err
	case "wait":
		s.clock.ms += arg(t, d, "ms", 0)
	case "idle":
		fmt.Fprintf(out, "at rest: %v, files open: %d\n", s.log.Idle(), s.fs.OpenFiles())
	case "close":
		defer func() { s.log = nil }()
		return s.log.Close()
	case "kill", "crash":
		return s.die(t, d)
	case "flip":
		return storagetest.Flip(s.fs, "/data/p/"+text(t, d, "file"), arg(t, d, "byte", 0), int(arg(t, d, "bit", 0)))
	case "shorten":
		return storagetest.Shorten(s.fs, "/data/p/"+text(t, d, "file"), arg(t, d, "to", 0))
	case "remove":
		return s.fs.Remove("/data/p/" + text(t, d, "file"))
	case "ls":
		files, err := storagetest.Files(s.fs, "/data/p")
		for _, f := range files {
			fmt.Fprintf(out, "%s %d\n", path.Base(f.Path), f.Size)
		}
		return err
	default:
		d.Fatalf(t, "unknown command")
	}
	return nil
}

func (s *stage) open(t *testing.T, d *datadriven.TestData, out *strings.Builder) error {
	o := options(s.fs, &s.clock, s.boot)
	s.c.SegmentBytes = arg(t, d, "segment-bytes", max(s.c.SegmentBytes, 0))
	s.c.SegmentAge = time.Duration(arg(t, d, "segment-age", s.c.SegmentAge.Milliseconds())) * time.Millisecond
	o.Config = s.c
	l, r, err := commitlog.Open(o)
	if err != nil {
		return err
	}
	s.log = l
	fmt.Fprintf(out, "[%d, %d) synced to %d, durable to %d, %d bytes read", r.Start, r.End, r.SyncedEnd, r.DurableEnd, r.Scanned)
	if r.SameBoot {
		fmt.Fprint(out, ", same boot")
	}
	if r.NoCheckpoint {
		fmt.Fprint(out, ", no checkpoint")
	}
	fmt.Fprintln(out)
	if r.TailCut {
		fmt.Fprintf(out, "cut %d bytes at %d: %v\n", r.CutBytes, r.CutPosition, short(r.CutCause))
	}
	if r.Damaged != nil {
		fmt.Fprintf(out, "damaged: %v\n", short(r.Damaged))
	}
	return nil
}

func short(e *segment.CorruptError) string { return strings.ReplaceAll(e.Error(), "/data/p/", "") }

func (s *stage) append(t *testing.T, d *datadriven.TestData, out *strings.Builder) error {
	var batches []*commitlog.Batch
	for i := range arg(t, d, "batches", 1) {
		records := int(arg(t, d, "records", 1))
		o := []storagetest.BatchOption{storagetest.Sized(int(arg(t, d, "size", 0)))}
		if ms := arg(t, d, "timestamp", -1); ms >= 0 {
			o = append(o, storagetest.At(ms))
		}
		batches = append(batches, storagetest.NewBatch(fmt.Sprint("b", i), records, o...))
	}
	err := s.log.Append(batches, record.LeaderEpoch(arg(t, d, "epoch", 1)), record.Offset(arg(t, d, "committed", 0)))
	fmt.Fprintf(out, "end %d\n", s.log.End())
	return err
}

func (s *stage) read(t *testing.T, d *datadriven.TestData, out *strings.Builder) error {
	off := record.Offset(arg(t, d, "from", 0))
	end := record.Offset(arg(t, d, "limit", int64(s.log.End())))
	r := s.log.NewReader()
	for {
		g, err := r.Read(off, end, int(arg(t, d, "bytes", 1<<20)), func(n int) []byte { return make([]byte, n) })
		if corrupt := (*segment.CorruptError)(nil); errors.As(err, &corrupt) {
			fmt.Fprintf(out, "corrupt: %s\n", short(corrupt))
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "[%d, %d) %d bytes\n", g.First, g.Next, len(g.Bytes))
		if g.Next == end {
			return nil
		}
		off = g.Next
	}
}

// die ends the process, or the machine.
func (s *stage) die(t *testing.T, d *datadriven.TestData) error {
	policy := memfs.LoseUnsynced()
	switch d.Cmd {
	case "kill":
		s.fs = s.fs.Clone()
	default:
		if d.HasArg("tear") {
			policy = memfs.TearLast(arg(t, d, "tear", 0))
		}
		if d.HasArg("keep") {
			policy = memfs.KeepUnsynced()
		}
		s.fs = s.fs.Crash(policy)
		s.boot++
	}
	s.fs.StartLog()
	s.log = nil
	return nil
}

func arg(t *testing.T, d *datadriven.TestData, name string, otherwise int64) int64 {
	t.Helper()
	d.MaybeScanArgs(t, name, &otherwise)
	return otherwise
}

func text(t *testing.T, d *datadriven.TestData, name string) (value string) {
	t.Helper()
	d.ScanArgs(t, name, &value)
	return value
}
