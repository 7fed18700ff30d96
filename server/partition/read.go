package partition

import (
	"context"
	"errors"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

// Reader reads a partition up to its readable end. One goroutine uses it and
// closes it.
type Reader struct {
	p *Partition
	r *commitlog.Reader
	// replica says that it reads whether this replica leads or follows; cuts is
	// Partition.cuts when it began.
	replica bool
	cuts    int64
}

// NewReader returns a reader that goes on while this replica leads: also when it
// leads again, unless records were cut in between. It costs nothing until it
// reads.
func (p *Partition) NewReader() *Reader {
	return &Reader{p: p, r: p.log.NewReader(), cuts: p.cuts.Load()}
}

// Cut tells whether records were cut here that could be read since the reader
// began.
func (r *Reader) Cut() bool { return r.p.cuts.Load() != r.cuts }

// Read returns the stored bytes of the batches from offset on that can be
// read, about maxBytes of them and at least one batch, in memory that alloc
// gives. At the readable end it returns an empty range. The first batch may
// begin before from.
//
// It fails with ErrClosed, *FailedError, *NotLeaderError, *NotFreshError,
// *CutError, *commitlog.OffsetOutOfRangeError, *segment.CorruptError, after which
// the partition is quarantined, or why the file of a segment could not be opened.
func (r *Reader) Read(from record.Offset, maxBytes int, alloc func(int) []byte) (commitlog.Range, error) {
	if err := r.unreadable(); err != nil {
		return commitlog.Range{}, err
	}
	limit := record.Offset(r.p.readable.Load())
	// Behind the limit: one that a cut has lowered is not taken for the end. What a
	// follower does not have yet it does not judge.
	if r.Cut() || from > limit && r.replica {
		return commitlog.Range{}, &CutError{}
	}
	if from > limit {
		if err := r.p.stale(); err != nil {
			return commitlog.Range{}, err // another leader may have it
		}
		return commitlog.Range{}, &commitlog.OffsetOutOfRangeError{Requested: from, Start: r.p.log.Start(), End: limit}
	}
	got, err := r.r.Read(from, limit, maxBytes, alloc)
	if _, gone := errors.AsType[*commitlog.OffsetOutOfRangeError](err); gone && r.Cut() {
		return commitlog.Range{}, &CutError{}
	}
	if err != nil {
		return commitlog.Range{}, r.p.examine(err)
	}
	// Behind the read: what was there then may be served for as long as the
	// lease, however long this process was asleep in between.
	if err := r.p.stale(); err != nil {
		return commitlog.Range{}, err
	}
	if r.Cut() { // while it was read
		return commitlog.Range{}, &CutError{}
	}
	return got, nil
}

// Close gives back what the reader holds.
func (r *Reader) Close() { r.r.Close() }

// examine quarantines the partition if err is damage, and returns err.
func (p *Partition) examine(err error) error {
	if errors.Is(err, commitlog.ErrClosed) {
		return ErrClosed
	}
	if damage, ok := errors.AsType[*segment.CorruptError](err); ok {
		p.quarantine(damage)
	}
	return err
}

// OffsetForTime returns the offset of the first readable record whose
// timestamp is not before ms (milliseconds since 1970-01-01 UTC); false if
// there is none. It fails with the cause of ctx when that ends.
func (p *Partition) OffsetForTime(ctx context.Context, ms int64) (record.Offset, bool, error) {
	if err := context.Cause(ctx); err != nil {
		return 0, false, err
	}
	if err := p.status.Load().unreadable(); err != nil {
		return 0, false, err
	}
	off, found, err := p.log.OffsetForTime(ctx, ms, record.Offset(p.readable.Load()))
	if err != nil {
		return 0, false, p.examine(err)
	}
	return off, found, nil
}

// EpochBefore returns the leader epoch of the record before an offset; -1 if
// there is none.
func (p *Partition) EpochBefore(off record.Offset) record.LeaderEpoch {
	if off <= p.log.Start() {
		return commitlog.NoEpoch
	}
	return p.log.EpochAt(off - 1)
}

// CheckEpoch tells whether a position is of this history of the log (rule
// H6): off is the offset to go on at, epoch the leader epoch of the record
// before it. It returns nil or a *DivergedError.
func (p *Partition) CheckEpoch(off record.Offset, epoch record.LeaderEpoch) error {
	start := p.log.Start()
	if off <= start {
		// What was before it is gone with its epochs; nothing can be said, and
		// nothing that is left can differ.
		return nil
	}
	known, end := p.log.EpochEnd(epoch)
	if known == epoch && off <= end {
		return nil
	}
	return &DivergedError{Epoch: known, SafeOffset: max(start, min(off, end))}
}
