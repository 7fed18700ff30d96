package segment

import (
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

// EpochStart is where a leader epoch begins in a log.
type EpochStart struct {
	Epoch  record.LeaderEpoch
	Offset record.Offset
}
