package commitlog

import (
	"math/bits"
	"sync"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Batch is a producer's batch on its way into the log.
type Batch struct {
	// Pieces are the producer's bytes. BORROWED: until Append returns.
	Pieces record.Pieces
	// Summary is what validation found in them.
	Summary record.Summary
	// Attributes are those of the header; the compression comes from Summary.
	Attributes record.Attributes

	// HasProducer says that the next three come from an idempotent producer.
	// Else the batch is stored without them.
	HasProducer                 bool
	ProducerID                  int64
	ProducerEpoch, BaseSequence int32

	// Appended, BaseOffset and AppendTimeMs are Append's answer. If it failed,
	// Appended says which batches were written all the same: the first ones.
	Appended     bool
	BaseOffset   record.Offset
	AppendTimeMs int64
}

// The bounds of one write (rule S9).
const (
	maxGroupPieces = vfs.MaxPieces
	maxGroupBytes  = 8 << 20
	maxGroupHeads  = 64 << 10
)

// group is what one write takes. Groups are kept for reuse by all logs: a log
// that is not appended to this moment has none.
type group struct {
	pieces [][]byte
	heads  []byte // the headers that pieces point into; never grown
	placed []segment.Placed
	bytes  int64
	first  int // of the batches that Append was given
	joined []byte
}

var groups = sync.Pool{New: func() any {
	return &group{
		pieces: make([][]byte, 0, maxGroupPieces),
		heads:  make([]byte, 0, maxGroupHeads),
		placed: make([]segment.Placed, 0, maxGroupHeads/record.MaxHeaderSize),
	}
}}

// reset empties g. The pieces are forgotten: they belong to requests.
func (g *group) reset(first int) {
	clear(g.pieces)
	g.pieces, g.heads, g.placed = g.pieces[:0], g.heads[:0], g.placed[:0]
	g.bytes, g.first = 0, first
}

// fits reports whether a batch can go into the same write.
func (g *group) fits(b *Batch, size int64) bool {
	return len(g.pieces)+1+len(b.Pieces) <= maxGroupPieces &&
		g.bytes+size <= maxGroupBytes &&
		len(g.heads)+record.MaxHeaderSize <= maxGroupHeads
}

// add puts a batch behind the others.
func (g *group) add(h *record.Header, b *Batch, size int64) {
	from := len(g.heads)
	g.heads = record.AppendLogBatchHeader(g.heads, h, b.Summary.Bytes, b.Summary.CRC)
	g.pieces = append(g.pieces, g.heads[from:len(g.heads):len(g.heads)])
	if len(b.Pieces) < maxGroupPieces {
		g.pieces = append(g.pieces, b.Pieces...)
	} else {
		// Someone sends crumbs. It is alone in this write.
		g.joined = b.Pieces.AppendTo(make([]byte, 0, b.Summary.Bytes))
		g.pieces = append(g.pieces, g.joined)
	}
	g.placed = append(g.placed, segment.Placed{Header: *h, Size: size})
	g.bytes += size
}

// Append gives each batch its offsets and writes all of them, in order, with
// as few writes as rule S9 allows, and publishes the new end of the log. They
// are not durable before Sync. committedEnd is the high watermark, which the
// headers carry for recovery (rule S2).
//
// The error is a *WriteError, after which the log goes on; a *FailedError,
// after which it does not; *EpochError or *BatchError, if the caller made a
// mistake; ErrClosed. Batch.Appended says what was written before.
//
// REQUIRES: one writer. The batches are valid.
func (l *Log) Append(batches []*Batch, epoch record.LeaderEpoch, committedEnd record.Offset) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.leave()
	if err := l.appendable(batches, epoch); err != nil {
		return err
	}
	g := groups.Get().(*group)
	err := l.appendAll(g, batches, epoch, committedEnd)
	g.reset(0)
	g.joined = nil
	groups.Put(g)
	return err
}

// appendable checks all that can be checked before anything is written.
func (l *Log) appendable(batches []*Batch, epoch record.LeaderEpoch) error {
	if err := l.writable(); err != nil {
		return err
	}
	if last := max(l.point().Epoch, l.LastEpoch()); epoch < last || epoch < 0 {
		return &EpochError{Epoch: epoch, Last: last}
	}
	for _, b := range batches {
		b.Appended = false
		switch n := b.Pieces.Len(); {
		case n != b.Summary.Bytes:
			return &BatchError{Why: "its bytes are not those of its summary", Limit: int64(b.Summary.Bytes), Actual: int64(n)}
		case n > record.MaxBatchBytes:
			return &BatchError{Why: "bytes", Limit: record.MaxBatchBytes, Actual: int64(n)}
		case b.Summary.Records == 0:
			return &BatchError{Why: "no records", Limit: 1}
		}
	}
	return nil
}

func (l *Log) appendAll(g *group, batches []*Batch, epoch record.LeaderEpoch, committedEnd record.Offset) error {
	c := l.config.Load()
	// Append time never goes back (rule F6). One look at the clock serves all.
	now := max(l.point().AppendTimeMs, l.o.Now().UnixMilli())
	g.reset(0)
	next := l.point().Offset
	for i, b := range batches {
		size := logBatchSize(b.Summary.Bytes)
		if len(g.placed) > 0 && !g.fits(b, size) {
			if err := l.writeOwn(g, batches); err != nil {
				return err
			}
			g.reset(i)
		}
		if l.isDue(c, g, size, b.Summary.Records, now) {
			if err := l.writeOwn(g, batches); err != nil {
				return err
			}
			g.reset(i)
			if err := l.roll(); err != nil {
				return err
			}
		}
		h := l.header(b, next, epoch, now, committedEnd)
		g.add(&h, b, size)
		b.BaseOffset, b.AppendTimeMs = next, now
		next = h.End()
	}
	return l.writeOwn(g, batches)
}

// isDue reports whether a new segment must begin before a batch is appended
// behind g.
func (l *Log) isDue(c *Config, g *group, size int64, records uint32, now int64) bool {
	if l.active == nil {
		return true
	}
	at := l.active.At()
	if at.IsEmpty() && len(g.placed) == 0 {
		return false
	}
	if after := at.Position + g.bytes + size; after > c.SegmentBytes && !l.defersRoll(c, g, after) {
		return true
	}
	pending := record.Offset(records)
	if n := len(g.placed); n > 0 {
		pending += g.placed[n-1].Header.End() - at.Offset
	}
	if at.Offset-l.active.Base()+pending > maxSegmentOffsets {
		return true
	}
	first := at.FirstAppendMs
	if at.IsEmpty() {
		first = g.placed[0].Header.AppendTimeMs
	}
	return c.SegmentAge > 0 && now-first >= c.SegmentAge.Milliseconds()
}

// header returns the header of a batch that is to stand at next.
func (l *Log) header(b *Batch, next record.Offset, epoch record.LeaderEpoch, now int64, committed record.Offset) record.Header {
	s := &b.Summary
	h := record.Header{
		BaseOffset: next, Records: s.Records, LastOffsetDelta: s.Records - 1, LeaderEpoch: epoch,
		AppendTimeMs: now, MaxTimestampMs: now, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1,
		Attributes:   b.Attributes.WithCompression(s.Compression),
		CommittedEnd: min(committed, next),
	}
	if !b.Attributes.Has(record.AppendTime) && s.HasTimestamp {
		h.MaxTimestampMs = s.MaxTimestampMs
		if !s.AllTimestamps {
			// The others have the append time.
			h.MaxTimestampMs = max(h.MaxTimestampMs, now)
		}
	}
	if b.HasProducer {
		h.ProducerID, h.ProducerEpoch, h.BaseSequence = b.ProducerID, b.ProducerEpoch, b.BaseSequence
	}
	return h
}

// logBatchSize is the number of bytes of the field of a LogBatch whose batch
// has n bytes.
func logBatchSize(n int) int64 {
	const fixed = record.MaxHeaderSize - 2*(1+maxLength)
	inner := fixed + 1 + lengthSize(n) + n
	return int64(1 + lengthSize(inner) + inner)
}

// maxLength is how many bytes MaxHeaderSize has for each length.
const maxLength = 5

func lengthSize(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// writeOwn writes g, and tells so the batches that Append was given.
func (l *Log) writeOwn(g *group, batches []*Batch) error {
	if err := l.write(g); err != nil {
		return err
	}
	for _, b := range batches[g.first : g.first+len(g.placed)] {
		b.Appended = true
	}
	return nil
}

// write writes g, unless it is empty, and publishes it.
func (l *Log) write(g *group) error {
	if len(g.placed) == 0 {
		return nil
	}
	if err := l.active.Append(g.pieces, g.placed); err != nil {
		return l.writeFailed("append", err)
	}
	l.publish(g)
	return nil
}

// publish makes what was written visible: first what a reader of it may ask
// for, then the end.
func (l *Log) publish(g *group) {
	at := l.active.At()
	v := l.view.Load()
	if v.lastEpoch() < at.Epoch {
		for i := range g.placed {
			if h := &g.placed[i].Header; v.lastEpoch() < h.LeaderEpoch {
				v = v.withEpoch(h.LeaderEpoch, h.BaseOffset)
			}
		}
		l.view.Store(v)
		l.storeEpochs(v.epochs)
	}
	l.size.Add(g.bytes)
	l.marks.Lock()
	l.marks.written = mark{base: l.active.Base(), at: at, epochStart: v.lastEpochStart()}
	l.marks.Unlock()
	l.end.Store(int64(at.Offset))
}
