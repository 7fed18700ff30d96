package commitlog_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
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
		// Of a damaged log that had a torn tail as well the checkpoint goes on to
		// say that it was cut: nothing is written to it any more.
		if err != nil || (r2.Damaged == nil && (r2.TailCut || r2.End < r.End)) {
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
	_, _, _ = l.OffsetForTime(context.Background(), 5, l.End())
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

// FuzzAppendFollowed: whatever bytes a leader sends, cut anywhere, they are
// refused and nothing is written, or they stand in the log as they were sent,
// checked, in order, and also after a reopen.
func FuzzAppendFollowed(f *testing.F) {
	s := seedLog(f)
	f.Add(s[0][segment.FirstPosition:], uint64(1), uint16(100))
	f.Add(append(slices.Clone(s[0][segment.FirstPosition:]), s[2][segment.FirstPosition:]...), uint64(2), uint16(3000))
	f.Add(s[2][segment.FirstPosition:], uint64(3), uint16(0))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}, uint64(4), uint16(0))
	// A batch of another layout: the fields in another order, and one more.
	h, batch, _, err := record.ParseLogBatch(s[0][segment.FirstPosition:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(otherLayout(&h, batch), uint64(5), uint16(900))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64, segmentBytes uint16) {
		r := newReplica(t, int64(segmentBytes)+1)
		rng := rand.New(rand.NewPCG(seed, 1))
		if err := r.AppendFollowed(cut(b, rng, 1+rng.IntN(300))); err != nil {
			var bad *commitlog.RangeError
			if !errors.As(err, &bad) || r.End() != 0 || r.Size() != 0 {
				t.Fatalf("end %d, %d bytes: %v", r.End(), r.Size(), err)
			}
			return
		}
		for range 2 {
			var got []byte
			reader := r.NewReader()
			for off := record.Offset(0); off < r.End(); {
				g, err := reader.Read(off, r.End(), 1000, func(n int) []byte { return make([]byte, n) })
				if err != nil {
					t.Fatal(err)
				}
				got, off = append(got, g.Bytes...), g.Next
			}
			if !bytes.Equal(got, b) {
				t.Fatal("the bytes differ")
			}
			next, epoch := record.Offset(0), record.LeaderEpoch(0)
			for len(got) > 0 {
				h, _, size, err := record.ParseLogBatch(got)
				if err = errors.Join(err, record.VerifyCRC(got)); err != nil || h.BaseOffset != next || h.LeaderEpoch < epoch {
					t.Fatalf("batch at %d, epoch %d, after %d, %d: %v", h.BaseOffset, h.LeaderEpoch, next, epoch, err)
				}
				if r.EpochAt(h.BaseOffset) != h.LeaderEpoch {
					t.Fatalf("epoch at %d is %d, not %d", h.BaseOffset, r.EpochAt(h.BaseOffset), h.LeaderEpoch)
				}
				next, epoch, got = h.End(), h.LeaderEpoch, got[size:]
			}
			if next != r.End() {
				t.Fatalf("end is %d, not %d", r.End(), next)
			}
			r.reopen()
		}
	})
}

// otherLayout encodes a batch as a later program might.
func otherLayout(h *record.Header, batch []byte) []byte {
	var m []byte
	m = protowire.AppendBytes(protowire.AppendTag(m, 15, protowire.BytesType), batch)
	for _, f := range []struct {
		num protowire.Number
		v   uint32
	}{{2, h.Records}, {3, h.LastOffsetDelta}, {4, uint32(h.LeaderEpoch)}, {10, uint32(h.Attributes)}} {
		m = protowire.AppendFixed32(protowire.AppendTag(m, f.num, protowire.Fixed32Type), f.v)
	}
	m = protowire.AppendString(protowire.AppendTag(m, 99, protowire.BytesType), "later")
	for _, f := range []struct {
		num protowire.Number
		v   uint64
	}{{1, uint64(h.BaseOffset)}, {5, uint64(h.AppendTimeMs)}, {6, uint64(h.MaxTimestampMs)}} {
		m = protowire.AppendFixed64(protowire.AppendTag(m, f.num, protowire.Fixed64Type), f.v)
	}
	crc := record.Pieces{batch}.CRC()
	at := 1 + protowire.SizeVarint(uint64(len(batch)))
	crc = record.UpdateCRC(crc, m[:at])
	crc = record.UpdateCRC(crc, m[at+len(batch):])
	m = protowire.AppendFixed32(protowire.AppendTag(m, 11, protowire.Fixed32Type), crc)
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), m)
}
