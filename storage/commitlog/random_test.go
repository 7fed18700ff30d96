package commitlog_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// machine does things to a log and to a model, and compares the two. What it
// must answer does not depend on its options: size of segments, files kept
// open, mapped or not, idle or opened again in between.
type machine struct {
	o      commitlog.Options
	log    *commitlog.Log
	model  *storagetest.Model
	clock  clock
	epoch  record.LeaderEpoch
	count  int
	reader *commitlog.Reader // reads on and on, whatever happens
	next   record.Offset
}

func (m *machine) open(t *rapid.T) {
	l, r, err := commitlog.Open(m.o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Damaged != nil || r.TailCut {
		t.Fatalf("after a clean stop: %+v", r)
	}
	m.log, m.reader = l, l.NewReader()
}

// Append appends some batches, some of them larger than a segment.
func (m *machine) Append(t *rapid.T) {
	m.clock.ms += rapid.Int64Range(-10, 100).Draw(t, "passes")
	if rapid.IntRange(0, 9).Draw(t, "new epoch") == 0 {
		m.epoch += record.LeaderEpoch(rapid.Int32Range(1, 3).Draw(t, "by"))
	}
	var batches []*commitlog.Batch
	for range rapid.IntRange(1, 4).Draw(t, "batches") {
		m.count++
		n := rapid.IntRange(1, 5).Draw(t, "records")
		options := []storagetest.BatchOption{storagetest.Sized(rapid.IntRange(0, 400).Draw(t, "size"))}
		for range rapid.IntRange(0, 2).Draw(t, "timestamps") {
			options = append(options, storagetest.At(rapid.SliceOfN(rapid.Int64Range(0, 3000), 0, 5).Draw(t, "at")...))
		}
		b := storagetest.NewBatch(fmt.Sprint("v", m.count), n, options...)
		storagetest.InPieces(b, rapid.IntRange(1, 300).Draw(t, "piece"))
		if rapid.IntRange(0, 4).Draw(t, "append time") == 0 {
			b.Attributes |= record.AppendTime
		}
		batches = append(batches, b)
	}
	if err := m.log.Append(batches, m.epoch, m.log.Start()); err != nil {
		t.Fatal(err)
	}
	m.model.Append(m.epoch, batches...)
}

// Read reads from anywhere, as much as it likes.
func (m *machine) Read(t *rapid.T) {
	from := record.Offset(rapid.Int64Range(int64(m.model.Start)-1, int64(m.model.End())+1).Draw(t, "from"))
	limit := m.model.End()
	if n := len(m.model.Entries); n > 0 && rapid.Bool().Draw(t, "limited") {
		limit = m.model.Entries[rapid.IntRange(0, n-1).Draw(t, "limit")].End
	}
	most := rapid.IntRange(1, 2000).Draw(t, "most")
	g, err := m.log.NewReader().Read(from, limit, most, func(n int) []byte { return make([]byte, n+3) })
	var outside *commitlog.OffsetOutOfRangeError
	if from < m.model.Start || from > limit {
		if !errors.As(err, &outside) || outside.Requested != from || outside.Start != m.model.Start {
			t.Fatalf("read at %d of [%d, %d]: %v", from, m.model.Start, limit, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	m.check(t, g, from, limit, most)
}

func (m *machine) check(t *rapid.T, g commitlog.Range, from, limit record.Offset, most int) {
	if (len(g.Bytes) == 0) != (from == limit) || g.First > from || g.Next < from || g.Next > limit {
		t.Fatalf("read at %d, limit %d: [%d, %d)", from, limit, g.First, g.Next)
	}
	if err := m.model.CheckRange(g); err != nil {
		t.Fatal(err)
	}
	if len(g.Bytes) > most {
		if _, _, size, err := record.ParseLogBatch(g.Bytes); err != nil || size != len(g.Bytes) {
			t.Fatalf("%d bytes, asked for %d: %v", len(g.Bytes), most, err)
		}
	}
}

// Follow reads what comes next for one that reads on.
func (m *machine) Follow(t *rapid.T) {
	m.next = max(m.next, m.model.Start)
	if m.next > m.model.End() {
		m.next = m.model.End() // It was truncated.
	}
	g, err := m.reader.Read(m.next, m.model.End(), 700, func(n int) []byte { return make([]byte, n) })
	if err != nil {
		t.Fatal(err)
	}
	m.check(t, g, m.next, m.model.End(), 700)
	m.next = g.Next
}

// Search compares all answers to searches.
func (m *machine) Search(t *rapid.T) {
	if err := m.model.CheckSearch(m.log); err != nil {
		t.Fatal(err)
	}
}

// Truncate cuts anywhere.
func (m *machine) Truncate(t *rapid.T) {
	off := record.Offset(rapid.Int64Range(int64(m.model.Start), int64(m.model.End())).Draw(t, "off"))
	cut := m.model.Clone()
	cut.TruncateTo(off)
	end, err := m.log.TruncateTo(off)
	if cut.End() < cut.Start {
		var outside *commitlog.OffsetOutOfRangeError
		if !errors.As(err, &outside) || end != m.model.End() {
			t.Fatalf("truncate to %d, inside the batch of the log start: %d, %v", off, end, err)
		}
		return
	}
	m.model = cut
	if err != nil || end != m.model.End() || end != m.log.End() {
		t.Fatalf("truncate to %d: end %d, want %d: %v", off, end, m.model.End(), err)
	}
}

// DeleteBefore moves the log start.
func (m *machine) DeleteBefore(t *rapid.T) {
	off := record.Offset(rapid.Int64Range(0, int64(m.model.End())).Draw(t, "off"))
	m.model.StartAt(off)
	start, err := m.log.DeleteBefore(off)
	m.log.RemoveWaste()
	if err != nil || start != m.model.Start {
		t.Fatalf("delete before %d: start %d, want %d: %v", off, start, m.model.Start, err)
	}
}

// Retain lets what is old or too much go.
func (m *machine) Retain(t *rapid.T) {
	c := m.log.Config()
	c.RetentionAge = time.Duration(rapid.IntRange(0, 400).Draw(t, "age")) * time.Millisecond
	c.RetentionBytes = rapid.Int64Range(0, 5000).Draw(t, "bytes")
	m.log.SetConfig(c)
	size := m.log.Size()
	removed, err := m.log.Retain(m.clock.now(), m.log.End())
	m.log.RemoveWaste()
	if err != nil {
		t.Fatal(err)
	}
	if removed == 0 && m.log.Start() != m.model.Start {
		t.Fatalf("log start moved from %d to %d and nothing was removed", m.model.Start, m.log.Start())
	}
	oldest := m.clock.now().Add(-c.RetentionAge).UnixMilli()
	for _, e := range m.model.Entries {
		kept := e.End > m.log.Start()
		if expired := c.RetentionAge > 0 && e.AppendMs < oldest; !expired && !kept && m.log.Size() < c.RetentionBytes {
			t.Fatalf("batch at %d is gone: size %d → %d, retained %d bytes", e.Base, size, m.log.Size(), c.RetentionBytes)
		}
	}
	m.model.StartAt(m.log.Start())
}

// Idle closes files; Expire closes those of readers.
func (m *machine) Idle(t *rapid.T) {
	if rapid.Bool().Draw(t, "synced") {
		if end, err := m.log.Sync(); err != nil || end != m.model.End() {
			t.Fatalf("sync: %d, %v", end, err)
		}
		if !m.log.Idle() {
			t.Fatal("synced and unused, but not at rest")
		}
		if n := m.o.Files.Counts().Open; n != 0 {
			t.Fatalf("%d files are open", n)
		}
	}
	m.log.Idle()
	m.o.Files.Expire()
}

// Reopen stops and starts.
func (m *machine) Reopen(t *rapid.T) {
	if err := m.log.Close(); err != nil {
		t.Fatal(err)
	}
	if n := m.o.Files.Counts().Open; n != 0 {
		t.Fatalf("%d files are open", n)
	}
	m.open(t)
}

// Resize changes the size and age of segments.
func (m *machine) Resize(t *rapid.T) {
	m.log.SetConfig(commitlog.Config{
		SegmentBytes: rapid.Int64Range(200, 4000).Draw(t, "bytes"),
		SegmentAge:   time.Duration(rapid.IntRange(0, 200).Draw(t, "age")) * time.Millisecond,
	})
}

// TestRandomOperations compares a log with a model under random operations.
func TestRandomOperations(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		m := &machine{model: &storagetest.Model{}, clock: clock{ms: 1000}, epoch: 1}
		m.o = options(memfs.New(), &m.clock, 1)
		if rapid.Bool().Draw(t, "real files") {
			m.o.FS, m.o.Dir = vfs.OS(), filepath.Join(dir, fmt.Sprint(runs))
		}
		m.o.Config.SegmentBytes = rapid.Int64Range(200, 4000).Draw(t, "segment bytes")
		m.o.Files = commitlog.NewFiles(rapid.IntRange(1, 3).Draw(t, "files"))
		m.open(t)
		t.Repeat(rapid.StateMachineActions(m))
		m.Search(t)
		if err := m.log.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// Check holds after each operation.
func (m *machine) Check(t *rapid.T) {
	if m.log.Start() != m.model.Start || m.log.End() != m.model.End() {
		t.Fatalf("log is [%d, %d), not [%d, %d)", m.log.Start(), m.log.End(), m.model.Start, m.model.End())
	}
	if m.log.SyncedEnd() > m.log.End() {
		t.Fatalf("synced end %d is behind the end %d", m.log.SyncedEnd(), m.log.End())
	}
}
