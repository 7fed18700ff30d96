package commitlog

import (
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

// Facts returns a checkpoint that says what it is told.
func Facts(start, base, end int64, position int64, epoch int32, times int64, written int64) []byte {
	m := mark{base: record.Offset(base), epochStart: record.Offset(base), at: segment.Point{
		Position: position, Offset: record.Offset(end), Epoch: record.LeaderEpoch(epoch), AppendTimeMs: times,
		MaxTimestampMs: times, FirstAppendMs: times,
	}}
	w := m
	w.at.Offset = record.Offset(written)
	return (&facts{bootID: [16]byte{1}, start: record.Offset(start), synced: m, written: w}).append(nil)
}
