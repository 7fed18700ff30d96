package segment

import (
	"errors"
	"io"
	"math"

	"github.com/millstream-io/millstream/storage/record"
)

// NoEpoch stands for the leader epoch of a log without batches, and NoTime for
// the greatest timestamp of a segment without batches.
const (
	NoEpoch record.LeaderEpoch = -1
	NoTime  int64              = math.MinInt64
)

// Point is a place between two batches of a segment, and what must be known
// there of everything before it.
type Point struct {
	Position int64              // in bytes from the start of the file
	Offset   record.Offset      // of the next batch
	Epoch    record.LeaderEpoch // of the batch before, in the whole log; NoEpoch
	// AppendTimeMs is the append time of the batch before, in the whole log.
	AppendTimeMs int64
	// MaxTimestampMs is the greatest of the batches before, in this segment;
	// NoTime.
	MaxTimestampMs int64
	// FirstAppendMs is the append time of the segment's first batch.
	FirstAppendMs int64
	// Last is the batch before, in this segment, by which a point that was
	// written down shows that it belongs to the log.
	Last LastBatch
}

// LastBatch is where a batch begins, and its checksum.
type LastBatch struct {
	Position uint32
	CRC      uint32
}

// Start returns the point at which a segment with the given base offset
// begins, when before is the end of the segment before it (or a zero Point
// with NoEpoch).
func Start(base record.Offset, before Point) Point {
	return Point{
		Position: FirstPosition, Offset: base, Epoch: before.Epoch, AppendTimeMs: before.AppendTimeMs,
		MaxTimestampMs: NoTime,
	}
}

// IsEmpty reports whether no batch of the segment is before p.
func (p *Point) IsEmpty() bool { return p.Position == FirstPosition }

// advance moves p behind a batch.
func (p *Point) advance(h *record.Header, size int64) {
	if p.IsEmpty() {
		p.FirstAppendMs = h.AppendTimeMs
	}
	p.Last = LastBatch{Position: uint32(p.Position), CRC: h.CRC}
	p.Position += size
	p.Offset = h.End()
	p.Epoch = h.LeaderEpoch
	p.AppendTimeMs = max(p.AppendTimeMs, h.AppendTimeMs)
	p.MaxTimestampMs = max(p.MaxTimestampMs, h.MaxTimestampMs)
}

// accepts says what is wrong with a batch that is to stand at p (rule F5).
func (p *Point) accepts(h *record.Header) error {
	if h.BaseOffset != p.Offset {
		return ErrOffsetOrder
	}
	if h.LeaderEpoch < p.Epoch {
		return ErrEpochOrder
	}
	return nil
}

// fits reports whether p is a place in a log, as far as the batch before it
// tells.
func (p *Point) fits(f io.ReaderAt) (bool, error) {
	if p.IsEmpty() {
		return true, nil
	}
	var b [record.MaxHeaderSize]byte
	n, err := f.ReadAt(b[:], int64(p.Last.Position))
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	h, size, err := record.PeekLogBatch(b[:n])
	return err == nil && int64(p.Last.Position)+int64(size) == p.Position && h.End() == p.Offset &&
		h.CRC == p.Last.CRC, nil
}

// EpochStart is where a leader epoch begins in a log.
type EpochStart struct {
	Epoch  record.LeaderEpoch
	Offset record.Offset
}
