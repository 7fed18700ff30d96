package segment_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/millstream-io/millstream/storage/mmap"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

func TestMain(m *testing.M) {
	code := m.Run()
	mmap.Settle()
	if live := mmap.Live(); live.Regions != 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "regions are left: %+v\n", live)
		code = 1
	}
	os.Exit(code)
}

// log is a segment and what is needed to append to it.
type log struct {
	t *testing.T
	o segment.Options
	s *segment.Segment
}

func newOptions(fsys vfs.FS, dir string, files *segment.Files) segment.Options {
	return segment.Options{
		FS: fsys, Dir: dir, Files: files,
		Identity: segment.Identity{ClusterID: [16]byte{1}, TopicID: record.TopicID{2}, Partition: 3},
		MaxBytes: func() int64 { return 1 << 20 },
	}
}

func create(t *testing.T, o segment.Options, base record.Offset) *log {
	t.Helper()
	l := &log{t: t, o: o}
	var err error
	if l.s, err = segment.Create(&l.o, segment.Start(base, segment.Point{Epoch: segment.NoEpoch})); err != nil {
		t.Fatal(err)
	}
	return l
}

// append appends a batch of so many records and bytes.
func (l *log) append(records, bytes int, ms int64) {
	l.t.Helper()
	var b []byte
	for i := range records {
		v := make([]byte, bytes/records)
		copy(v, fmt.Sprint("r", i))
		b = record.AppendRecord(b, &record.Record{Value: v, TimestampMs: ms, HasTimestamp: true})
	}
	at := l.s.At()
	h := record.Header{
		BaseOffset: at.Offset, Records: uint32(records), LastOffsetDelta: uint32(records - 1), LeaderEpoch: 1,
		AppendTimeMs: ms, MaxTimestampMs: ms,
	}
	head := record.AppendLogBatchHeader(nil, &h, len(b), record.UpdateCRC(0, b))
	err := l.s.Append([][]byte{head, b}, []segment.Placed{{Header: h, Size: int64(len(head) + len(b))}})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *log) seal() {
	l.t.Helper()
	epochs := []segment.EpochStart{{Epoch: 1, Offset: l.s.Base()}}
	if err := l.s.Seal(epochs); err != nil {
		l.t.Fatal(err)
	}
}

func alloc(n int) []byte { return make([]byte, n) }

// read reads one batch, searching for it.
func read(t *testing.T, s *segment.Segment, off record.Offset) segment.Batches {
	t.Helper()
	if !s.Pin() {
		t.Fatal("retired")
	}
	defer s.Unpin()
	b, err := segment.NewCursor().Read(s, off, s.End(), 1, alloc)
	if err != nil {
		t.Fatal(err)
	}
	if b.First > off || b.Next <= off {
		t.Fatalf("read at %d: [%d, %d)", off, b.First, b.Next)
	}
	return b
}

func each(t *testing.T, test func(t *testing.T, o segment.Options)) {
	for name, fsys := range map[string]vfs.FS{"memory": memfs.New(), "mapped": vfs.OS()} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := fsys.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			o := newOptions(fsys, dir, segment.NewFiles(2))
			test(t, o)
			if n := o.Files.Counts().Open; n != 0 {
				t.Errorf("%d files are open", n)
			}
		})
	}
}

// TestSearchThroughIndexes finds each offset of a segment that is larger than
// the interval of the index many times over: as it was written, sealed, and
// opened again with the index, a part of it, or none.
func TestSearchThroughIndexes(t *testing.T) {
	each(t, func(t *testing.T, o segment.Options) {
		l := create(t, o, 100)
		// Batches of all sizes: smaller than the interval, and much larger.
		for i := range 300 {
			l.append(1+i%3, 10+(i*i*37)%30_000, int64(1000+i*10))
		}
		end := l.s.End()
		check := func(s *segment.Segment) {
			t.Helper()
			for off := record.Offset(100); off < end; off += 7 {
				read(t, s, off)
			}
			for i := range 300 {
				ms := int64(1000 + i*10)
				if !s.Pin() {
					t.Fatal("retired")
				}
				off, found, err := s.Find(t.Context(), ms-5, 0, end)
				s.Unpin()
				if err != nil || !found {
					t.Fatalf("time %d: %v, %v", ms, found, err)
				}
				h, _, _, err := record.ParseLogBatch(read(t, s, off).Bytes)
				if err != nil || h.AppendTimeMs != ms || h.BaseOffset != off {
					t.Fatalf("time %d: offset %d, header %+v, %v", ms, off, h, err)
				}
			}
		}
		check(l.s)
		at := l.s.At()
		if err := l.s.Keep(0); err != nil {
			t.Fatal(err)
		}
		l.append(2, 5000, 99_000)
		// Opened again where the tail begins: with the kept index, then without.
		for _, kept := range []bool{true, false} {
			if !kept {
				if err := o.FS.Remove(o.Dir + "/" + segment.Name(100, segment.PartialSuffix)); err != nil {
					t.Fatal(err)
				}
			}
			again, tail, err := segment.OpenLast(&l.o, 100, at)
			if err != nil || tail.Bad != nil || tail.End.Offset != end+2 || tail.Scanned != tail.Size-at.Position {
				t.Fatalf("%+v, %v", tail, err)
			}
			check(again)
			again.Retire()
		}
		l.seal()
		check(l.s)
		l.s.Retire()
		size := l.s.Size()
		sealed := segment.OpenSealed(&l.o, 100, end+2, size)
		check(sealed)
		x, err := sealed.Index()
		if err != nil || x.End.Offset != end+2 || x.Entries() < 20 {
			t.Fatalf("index: %+v, %v", x, err)
		}
		sealed.Retire()
		if err := sealed.Remove(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFilesAreBounded opens more segments than may be open.
func TestFilesAreBounded(t *testing.T) {
	each(t, func(t *testing.T, o segment.Options) {
		var logs []*log
		for i := range 20 {
			l := create(t, o, record.Offset(i*1000))
			l.append(1, 100, 1)
			if err := l.s.Sync(); err != nil {
				t.Fatal(err)
			}
			logs = append(logs, l)
			if n := o.Files.Counts().Open; n > 2 {
				t.Fatalf("%d files are open", n)
			}
		}
		for range 3 {
			for _, l := range logs {
				read(t, l.s, l.s.Base())
			}
		}
		if n := o.Files.Counts(); n.Open > 2 || n.Max != 2 || n.Evicted < 20 || n.Opened < 50 {
			t.Errorf("%+v", n)
		}
		// A file with unsynced bytes is not closed for want of room: who has
		// it open is told of an error of writing it back, and nobody else.
		for _, l := range logs[:5] {
			l.append(1, 100, 2)
		}
		if n := o.Files.Counts().Open; n < 5 {
			t.Errorf("%d files are open", n)
		}
		for _, l := range logs[:5] {
			if l.s.Rest() {
				t.Error("rested with unsynced bytes")
			}
			if err := l.s.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		o.Files.Expire()
		o.Files.Expire()
		if n := o.Files.Counts().Open; n != 0 {
			t.Errorf("%d files are open after nobody used them", n)
		}
		for _, l := range logs {
			read(t, l.s, l.s.Base())
			l.s.Retire()
			if l.s.Pin() {
				t.Error("a retired segment was pinned")
			}
		}
	})
}

// TestRetiredSegmentStaysForItsReaders: who holds a pin reads on, though the
// file has no name any more.
func TestRetiredSegmentStaysForItsReaders(t *testing.T) {
	each(t, func(t *testing.T, o segment.Options) {
		l := create(t, o, 0)
		l.append(1, 100, 1)
		read(t, l.s, 0) // It is open.
		if !l.s.Pin() {
			t.Fatal("not retired, but not pinned")
		}
		l.s.Retire()
		if err := l.s.Remove(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-l.s.Gone():
			t.Fatal("gone with a reader")
		default:
		}
		if _, err := segment.NewCursor().Read(l.s, 0, 1, 1, alloc); err != nil {
			t.Error(err)
		}
		l.s.Unpin()
		<-l.s.Gone()
	})
}

// TestSegmentGrowsBeyondItsMapping: a mapping is made longer than the segment
// is to become; if that is exceeded, another is made.
func TestSegmentGrowsBeyondItsMapping(t *testing.T) {
	each(t, func(t *testing.T, o segment.Options) {
		o.MaxBytes = func() int64 { return 1 }
		l := create(t, o, 0)
		for i := range 9 {
			l.append(1, 1<<20, 1)
			read(t, l.s, record.Offset(i))
		}
		if err := l.s.Sync(); err != nil {
			t.Fatal(err)
		}
		l.s.Retire()
	})
}

// TestFileShortenedByAnother: bytes that were there and are not are an error
// of that read.
func TestFileShortenedByAnother(t *testing.T) {
	each(t, func(t *testing.T, o segment.Options) {
		l := create(t, o, 0)
		for range 40 {
			l.append(1, 1000, 1)
		}
		read(t, l.s, 39)
		f, err := o.FS.OpenFile(o.Dir+"/"+segment.Name(0, segment.LogSuffix), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(8000), f.Close()); err != nil {
			t.Fatal(err)
		}
		if !l.s.Pin() {
			t.Fatal("retired")
		}
		_, err = segment.NewCursor().Read(l.s, 30, 40, 1, alloc)
		l.s.Unpin()
		var corrupt *segment.CorruptError
		if !errors.As(err, &corrupt) || !errors.Is(err, segment.ErrShortened) {
			t.Errorf("got %v", err)
		}
		l.s.Retire()
	})
}

// TestKeptIndexOfAnotherLog: a kept index outlived the batches that it knows
// of, and others stand there now. It is not believed.
func TestKeptIndexOfAnotherLog(t *testing.T) {
	each(t, func(t *testing.T, o segment.Options) {
		l := create(t, o, 0)
		from := l.s.At()
		for range 100 {
			l.append(3, 9000, 50)
		}
		if err := l.s.Keep(0); err != nil {
			t.Fatal(err)
		}
		short := segment.Reopen(l.s, from)
		l.s.Retire()
		<-l.s.Gone()
		if err := short.CutTail(); err != nil { // Not Shorten: the kept index stays.
			t.Fatal(err)
		}
		l.s = short
		for range 300 {
			l.append(1, 4000, 70)
		}
		at := l.s.At()
		if err := l.s.Sync(); err != nil {
			t.Fatal(err)
		}
		l.s.Retire()
		again, _, err := segment.OpenLast(&l.o, 0, at)
		if err != nil {
			t.Fatal(err)
		}
		for off := range at.Offset {
			read(t, again, off)
		}
		again.Retire()
	})
}

// TestWalkFromOutside reads a segment that someone is writing to.
func TestWalkFromOutside(t *testing.T) {
	each(t, func(t *testing.T, o segment.Options) {
		l := create(t, o, 7)
		for range 5 {
			l.append(2, 100, 1)
		}
		path := o.Dir + "/" + segment.Name(7, segment.LogSuffix)
		next := record.Offset(7)
		found, err := segment.Walk(o.FS, path, func(e segment.Entry) error {
			if e.Header.BaseOffset != next || record.VerifyCRC(e.Bytes) != nil {
				t.Errorf("entry at %d: %+v", e.Position, e.Header)
			}
			next = e.Header.End()
			return nil
		})
		if err != nil || found.Batches != 5 || found.Records != 10 || found.End.Offset != 17 || found.Bad != nil ||
			found.Valid != found.Size || found.Info.Partition != 3 {
			t.Errorf("%+v, %v", found, err)
		}
		if present, err := segment.CheckIndex(o.FS, path, &found); present || err != nil {
			t.Errorf("index: %v, %v", present, err)
		}
		l.seal()
		if present, err := segment.CheckIndex(o.FS, path, &found); !present || err != nil {
			t.Errorf("index: %v, %v", present, err)
		}
		found.End.Offset++
		if present, err := segment.CheckIndex(o.FS, path, &found); !present || !errors.Is(err, segment.ErrIndex) {
			t.Errorf("index: %v, %v", present, err)
		}
		stop := errors.New("stop")
		if _, err := segment.Walk(o.FS, path, func(segment.Entry) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("visit's error: %v", err)
		}
		l.s.Retire()
	})
}

func TestNames(t *testing.T) {
	if got := segment.Name(42, segment.LogSuffix); got != "00000000000000000042.log" {
		t.Error(got)
	}
	for name, want := range map[string]bool{
		"00000000000000000042.log": true, "09223372036854775807.index": true, "00000000000000000042.partial": true,
		"9223372036854775808.log": false, "99999999999999999999.log": false, "-0000000000000000042.log": false,
		"+0000000000000000042.log": false, "0000000000000000042.log": false, "00000000000000000042.logs": false,
		"00000000000000000042.log.tmp": false, "checkpoint": false, "": false, "0000000000000000004x.log": false,
	} {
		base, suffix, ok := segment.ParseName(name)
		if ok != want || (ok && segment.Name(base, suffix) != name) {
			t.Errorf("%q: %d, %q, %v", name, base, suffix, ok)
		}
	}
}
