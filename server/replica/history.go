package replica

import "github.com/millstream-io/millstream/storage/record"

// NoEpoch is the leader epoch of a log without records.
const NoEpoch record.LeaderEpoch = -1

// History is what a log knows of its leader epochs. *commitlog.Log is one.
type History interface {
	// Start is the first offset.
	Start() record.Offset
	// Begin is the base offset of the batch that holds Start: a session begins
	// and goes on at whole batches. It may have to be read.
	Begin() record.Offset
	// End is the offset after the last record.
	End() record.Offset
	// LastEpoch is the leader epoch of the last record, or NoEpoch.
	LastEpoch() record.LeaderEpoch
	// EpochEnd returns the greatest leader epoch of the log that is not greater
	// than e, and the offset after its last record; NoEpoch and the log start if
	// all are greater.
	EpochEnd(e record.LeaderEpoch) (record.LeaderEpoch, record.Offset)
}

// Beginning is where a log begins: Start is the first offset, Begin the base
// offset of the batch that holds it.
type Beginning struct{ Start, Begin record.Offset }

// Divergence is the last place where two logs can agree, as the leader's log
// has it.
type Divergence struct {
	// Epoch is the greatest one of the leader's log that is not greater than the
	// last of the follower's.
	Epoch record.LeaderEpoch
	// End is where it ends in the leader's log.
	End record.Offset
}

// standing is how a follower's log stands to the leader's.
type standing uint8

const (
	// agrees: it is a beginning of the leader's.
	agrees standing = iota
	// diverges: it has records that the leader's has not.
	diverges
	// unrelated: it has nothing that the leader's log still holds.
	unrelated
)

// compare says how a log stands to the leader's log h that ends at end, with a
// record of epoch last.
//
// All records of an epoch were appended by one leader, from one offset on, and
// a follower takes them only in a session, behind the same records. So if both
// logs have a record of epoch last at the same offset, they are equal up to it:
// it is enough that the epoch reaches as far in the leader's log (KIP-101). If
// the leader's log never had that epoch, the two part before it, and the
// greatest epoch below it is the next to be compared (KIP-279).
func compare(h History, last record.LeaderEpoch, end record.Offset) (standing, Divergence) {
	e, at := h.EpochEnd(last)
	switch {
	case mutation == SkipDivergence:
		return agrees, Divergence{}
	case end < h.Start() && end < h.Begin():
		return unrelated, Divergence{}
	case last == NoEpoch && end == h.Start() && end > h.Begin():
		// Nothing can be appended to it there, in the middle of a batch.
		return unrelated, Divergence{}
	case e == last && end <= at:
		return agrees, Divergence{}
	case e == NoEpoch:
		return unrelated, Divergence{}
	}
	return diverges, Divergence{Epoch: e, End: at}
}

// cut returns where a follower with log h has to truncate: what is left may
// still not agree, but it is less, so that opening sessions comes to an end.
func (d Divergence) cut(h History) record.Offset {
	_, end := h.EpochEnd(d.Epoch)
	return min(d.End, end)
}
