package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// Entry is a batch that a log should hold.
type Entry struct {
	Base, End   record.Offset
	Epoch       record.LeaderEpoch
	AppendMs    int64
	MaxMs       int64
	Attributes  record.Attributes
	RecordBatch []byte // the producer's bytes
}

// Model is what a log should hold: slow, obvious, and without a disk.
type Model struct {
	Start   record.Offset
	Entries []Entry // one behind the other; the first may reach below Start
	// Origin is where the next entry begins when there is none.
	Origin record.Offset
}

// End is the offset after the last entry.
func (m *Model) End() record.Offset {
	if n := len(m.Entries); n > 0 {
		return m.Entries[n-1].End
	}
	return m.Origin
}

// Clone returns a model that goes its own way.
func (m *Model) Clone() *Model {
	return &Model{Start: m.Start, Entries: slices.Clip(slices.Clone(m.Entries)), Origin: m.Origin}
}

// Append notes batches that a log has appended.
func (m *Model) Append(epoch record.LeaderEpoch, batches ...*commitlog.Batch) {
	for _, b := range batches {
		if !b.Appended {
			return
		}
		e := Entry{
			Base: m.End(), End: m.End() + record.Offset(b.Summary.Records), Epoch: epoch,
			AppendMs: b.AppendTimeMs, MaxMs: b.AppendTimeMs, RecordBatch: b.Pieces.AppendTo(nil),
			Attributes: b.Attributes.WithCompression(b.Summary.Compression),
		}
		if b.Summary.HasTimestamp && !b.Attributes.Has(record.AppendTime) {
			e.MaxMs = b.Summary.MaxTimestampMs
			if !b.Summary.AllTimestamps {
				e.MaxMs = max(e.MaxMs, b.AppendTimeMs)
			}
		}
		m.Entries = append(m.Entries, e)
	}
}

// TruncateTo notes a truncation.
func (m *Model) TruncateTo(off record.Offset) {
	for n := len(m.Entries); n > 0 && m.Entries[n-1].End > off; n-- {
		m.Origin = m.Entries[n-1].Base
		m.Entries = m.Entries[:n-1]
	}
}

// StartAt notes a new log start.
func (m *Model) StartAt(off record.Offset) {
	m.Start = max(m.Start, off)
	for len(m.Entries) > 0 && m.Entries[0].End <= m.Start {
		m.Origin = m.Entries[0].End
		m.Entries = m.Entries[1:]
	}
}

// EpochEnd says what Log.EpochEnd should say, for epochs of the entries.
func (m *Model) EpochEnd(epoch record.LeaderEpoch) (record.LeaderEpoch, record.Offset) {
	known, end := commitlog.NoEpoch, m.Start
	for _, e := range m.Entries {
		if e.Epoch <= epoch {
			known, end = e.Epoch, e.End
		}
	}
	return known, end
}

// Check reads a log from its start to its end and compares it with m, whose
// entries the log may have fewer of, but not below least.
func (m *Model) Check(l *commitlog.Log, least record.Offset) error {
	start, end := l.Start(), l.End()
	if end < least {
		return fmt.Errorf("the log ends at %d; what is below %d was acknowledged", end, least)
	}
	if end > m.End() {
		return fmt.Errorf("the log ends at %d, behind all that was appended (%d)", end, m.End())
	}
	return m.compare(l, max(start, m.Start), end)
}

// CheckUntil reads a log from its start to an offset and compares it with m.
func (m *Model) CheckUntil(l *commitlog.Log, end record.Offset) error {
	return m.compare(l, max(l.Start(), m.Start), end)
}

func (m *Model) compare(l *commitlog.Log, from, end record.Offset) error {
	r := l.NewReader()
	defer r.Close()
	for off := from; off < end; {
		g, err := r.Read(off, end, 1<<20, func(n int) []byte { return make([]byte, n) })
		if err != nil {
			return fmt.Errorf("read at %d of [%d, %d): %w", off, from, end, err)
		}
		if len(g.Bytes) == 0 || g.First > off || g.Next <= off {
			return fmt.Errorf("read at %d of [%d, %d): got [%d, %d)", off, from, end, g.First, g.Next)
		}
		if err := m.CheckRange(g); err != nil {
			return fmt.Errorf("read at %d: %w", off, err)
		}
		off = g.Next
	}
	return nil
}

// CheckRange compares what was read with m.
func (m *Model) CheckRange(g commitlog.Range) error {
	off, epoch := g.First, commitlog.NoEpoch
	for b := g.Bytes; len(b) > 0; {
		h, batch, size, err := record.ParseLogBatch(b)
		if err != nil {
			return err
		}
		if err := record.VerifyCRC(b[:size]); err != nil {
			return err
		}
		i, found := slices.BinarySearchFunc(m.Entries, off, func(e Entry, o record.Offset) int { return int(e.Base - o) })
		if !found {
			return fmt.Errorf("no batch begins at %d", off)
		}
		switch e := m.Entries[i]; {
		case h.BaseOffset != e.Base || h.End() != e.End:
			return fmt.Errorf("batch [%d, %d) is at [%d, %d)", e.Base, e.End, h.BaseOffset, h.End())
		case h.LeaderEpoch != e.Epoch:
			return fmt.Errorf("batch at %d has epoch %d, not %d", off, h.LeaderEpoch, e.Epoch)
		case h.AppendTimeMs != e.AppendMs || h.MaxTimestampMs != e.MaxMs:
			return fmt.Errorf("batch at %d has times %d, %d, not %d, %d", off, h.AppendTimeMs, h.MaxTimestampMs, e.AppendMs, e.MaxMs)
		case !bytes.Equal(batch, e.RecordBatch):
			return fmt.Errorf("batch at %d holds other bytes", off)
		}
		off, epoch = h.End(), h.LeaderEpoch
		b = b[size:]
	}
	if off != g.Next || (len(g.Bytes) > 0 && epoch != g.LastEpoch) {
		return fmt.Errorf("range says next %d and epoch %d, holds %d and %d", g.Next, g.LastEpoch, off, epoch)
	}
	return nil
}

// CheckSearch compares the answers of a log to searches with m, from all
// entries on.
func (m *Model) CheckSearch(l *commitlog.Log) error { return m.CheckSomeSearch(l, 1) }

// CheckSomeSearch is CheckSearch from each so-manieth entry, and from the last
// ones, where a crash leaves what is hard.
func (m *Model) CheckSomeSearch(l *commitlog.Log, every int) error {
	const last = 4
	if l.End() != m.End() || l.Start() != m.Start {
		return fmt.Errorf("log is [%d, %d), not [%d, %d)", l.Start(), l.End(), m.Start, m.End())
	}
	for i, e := range m.Entries {
		if i%every != 0 && i < len(m.Entries)-last {
			continue
		}
		// From each entry alone: nothing is remembered from the one before.
		r := l.NewReader()
		from := max(e.Base, m.Start)
		g, err := r.Read(from, m.End(), 1, func(n int) []byte { return make([]byte, n) })
		if err != nil {
			return fmt.Errorf("read at %d: %w", from, err)
		}
		if g.First != e.Base || g.Next != e.End {
			return fmt.Errorf("read at %d: got [%d, %d), not [%d, %d)", from, g.First, g.Next, e.Base, e.End)
		}
		if got := l.EpochAt(from); got != e.Epoch {
			return fmt.Errorf("epoch at %d is %d, not %d", from, got, e.Epoch)
		}
		if err := m.checkEpochEnd(l, e.Epoch); err != nil {
			return err
		}
		for _, ms := range [...]int64{e.MaxMs - 1, e.MaxMs, e.MaxMs + 1} {
			if err := m.checkTime(l, ms); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Model) checkEpochEnd(l *commitlog.Log, e record.LeaderEpoch) error {
	for _, e := range [...]record.LeaderEpoch{e - 1, e, e + 1} {
		gotEpoch, gotEnd := l.EpochEnd(e)
		wantEpoch, wantEnd := m.EpochEnd(e)
		// Of epochs whose records are gone a log may know, or not.
		if (gotEpoch != wantEpoch || gotEnd != wantEnd) && wantEpoch != commitlog.NoEpoch {
			return fmt.Errorf("epoch %d ends at (%d, %d), not (%d, %d)", e, gotEpoch, gotEnd, wantEpoch, wantEnd)
		}
	}
	return nil
}

func (m *Model) checkTime(l *commitlog.Log, ms int64) error {
	got, found, err := l.OffsetForTime(context.Background(), ms, m.End())
	if err != nil {
		return fmt.Errorf("offset for time %d: %w", ms, err)
	}
	want, wanted, err := m.OffsetForTime(ms)
	if err != nil {
		return err
	}
	if got != want || found != wanted {
		return fmt.Errorf("offset for time %d: %d, %v, not %d, %v", ms, got, found, want, wanted)
	}
	return nil
}

// OffsetForTime says what Log.OffsetForTime should say.
func (m *Model) OffsetForTime(ms int64) (record.Offset, bool, error) {
	var it record.Iterator
	for _, e := range m.Entries {
		h := record.Header{BaseOffset: e.Base, AppendTimeMs: e.AppendMs, Attributes: e.Attributes}
		if e.MaxMs < ms {
			continue
		}
		for it.ResetLogBatch(&h, e.RecordBatch); it.Next(); {
			if it.TimestampMs() >= ms && it.Offset() >= m.Start {
				return it.Offset(), true, nil
			}
		}
		if err := it.Err(); err != nil {
			return 0, false, errors.Join(errors.New("model"), err)
		}
	}
	return 0, false, nil
}
