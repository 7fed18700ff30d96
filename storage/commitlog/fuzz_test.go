package commitlog_test

import (
	"errors"
	"testing"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// seedLog returns the files of a small log: a sealed segment, its index, the
// last segment, and the rest.
func seedLog(f *testing.F) (files [6][]byte) {
	f.Helper()
	fsys := memfs.New()
	o := options(fsys, &clock{ms: 1}, 1)
	o.Config.SegmentBytes = 350
	l, _, err := commitlog.Open(o)
	if err != nil {
		f.Fatal(err)
	}
	for range 2 {
		b := []*commitlog.Batch{storagetest.NewBatch("a", 1), storagetest.NewBatch("b", 2)}
		if err := l.Append(b, 1, 0); err != nil {
			f.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	for i, name := range fuzzFiles {
		b, err := storagetest.ReadFile(fsys, "/data/p/"+name)
		if err != nil && i < 5 {
			f.Fatal(err)
		}
		files[i] = b
	}
	return files
}

// fuzzFiles are the files that the fuzzer makes.
var fuzzFiles = [...]string{
	segment.Name(0, segment.LogSuffix), segment.Name(0, segment.IndexSuffix), segment.Name(3, segment.LogSuffix),
	"checkpoint", "epochs", segment.Name(3, segment.PartialSuffix),
}

// FuzzRecover: whatever the files of a log hold, opening it is an error or a
// log; reading it is an error or records; and what it did to the files it does
// not do again.
func FuzzRecover(f *testing.F) {
	s := seedLog(f)
	f.Add(s[0], s[1], s[2], s[3], s[4], s[5], byte(0))
	f.Add(s[0], s[1], s[2][:len(s[2])-3], s[3], s[4], s[5], byte(1))
	f.Add(s[0], []byte{}, s[2], []byte{}, s[4], s[5], byte(0xff))
	f.Add(s[0][:300], s[1], []byte{}, s[3], []byte{}, s[5], byte(0))
	f.Add([]byte{}, []byte{}, []byte{}, []byte{}, []byte{}, []byte{}, byte(0))
	f.Fuzz(func(t *testing.T, log0, index0, log3, checkpoint, epochs, partial []byte, missing byte) {
		fsys := memfs.New()
		if err := fsys.MkdirAll("/data/p", 0o755); err != nil {
			t.Fatal(err)
		}
		for i, b := range [...][]byte{log0, index0, log3, checkpoint, epochs, partial} {
			if missing&(1<<i) != 0 {
				continue
			}
			if err := storagetest.WriteFile(fsys, "/data/p/"+fuzzFiles[i], b); err != nil {
				t.Fatal(err)
			}
		}
		l, r, err := commitlog.Open(options(fsys, &clock{ms: 1}, 1))
		if err != nil {
			return
		}
		use(t, l)
		again, r2, err := commitlog.Open(options(fsys.Clone(), &clock{ms: 1}, 1))
		if err != nil || r2.TailCut || (r2.Damaged == nil && r2.End < r.End) {
			t.Fatalf("second time: %+v, %v; first time: %+v", r2, err, r)
		}
		use(t, again)
	})
}

// use reads, searches and appends. The log may answer what it likes, but must
// come to an end.
func use(t *testing.T, l *commitlog.Log) {
	t.Helper()
	reader := l.NewReader()
	errs := 0
	for off := l.Start(); off < l.End() && errs < 5; {
		g, err := reader.Read(off, l.End(), 500, func(n int) []byte { return make([]byte, n) })
		switch {
		case err != nil:
			errs++
			off++
		case g.Next <= off || len(g.Bytes) == 0:
			t.Fatalf("read at %d: [%d, %d), %d bytes", off, g.First, g.Next, len(g.Bytes))
		default:
			off = g.Next
		}
	}
	_, _, _ = l.OffsetForTime(5, l.End())
	l.EpochEnd(l.EpochAt(l.Start()))
	b := storagetest.NewBatch("more", 1)
	if err := l.Append([]*commitlog.Batch{b}, max(1, l.LastEpoch()), 0); (err == nil) != b.Appended {
		t.Fatalf("append: %v, appended %v", err, b.Appended)
	}
	if err := l.Close(); err != nil {
		var failed *commitlog.FailedError
		if !errors.As(err, &failed) {
			t.Fatal(err)
		}
	}
}

// FuzzRecoverFromWrongFacts: a checkpoint with a good checksum that says wrong
// things, as a restored file might.
func FuzzRecoverFromWrongFacts(f *testing.F) {
	s := seedLog(f)
	size := int64(len(s[2]))
	f.Add(int64(0), int64(3), int64(6), size, int32(1), int64(1), int64(6))
	f.Add(int64(4), int64(3), int64(3), int64(90), int32(1), int64(1), int64(6))
	f.Add(int64(0), int64(0), int64(3), int64(200), int32(1), int64(1), int64(3))
	f.Add(int64(100), int64(50), int64(99), size-1, int32(-1), int64(-1), int64(1)<<62)
	f.Fuzz(func(t *testing.T, start, base, end, position int64, epoch int32, times, written int64) {
		fsys := memfs.New()
		if err := fsys.MkdirAll("/data/p", 0o755); err != nil {
			t.Fatal(err)
		}
		for i, b := range s {
			if b == nil || fuzzFiles[i] == "checkpoint" {
				continue
			}
			if err := storagetest.WriteFile(fsys, "/data/p/"+fuzzFiles[i], b); err != nil {
				t.Fatal(err)
			}
		}
		slots, err := checkpoint.OpenSlots(fsys, "/data/p/checkpoint")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(slots.Store(commitlog.Facts(start, base, end, position, epoch, times, written)), slots.Close()); err != nil {
			t.Fatal(err)
		}
		l, r, err := commitlog.Open(options(fsys, &clock{ms: 1}, 1))
		if err != nil {
			return
		}
		if r.End-r.Start > 1000 {
			return // It believes that it lost so much; asking for each takes for ever.
		}
		use(t, l)
	})
}
