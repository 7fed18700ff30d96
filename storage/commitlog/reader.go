package commitlog

import (
	"context"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

// Reader reads a log onwards. Between reads it holds no file and no memory of
// the log's, so there may be many, and idle ones cost nothing. It belongs to
// one goroutine.
type Reader struct {
	l      *Log
	cursor *segment.Cursor
}

// Range is what Read returns: whole batches that follow one another.
type Range struct {
	// Bytes are whole `batches` fields, from alloc, with right checksums.
	Bytes []byte
	// First is the base offset of the first batch, which may be below the
	// offset asked for; Next is the offset after the last record. Both are the
	// offset asked for if there is nothing.
	First, Next record.Offset
	// LastEpoch is the leader epoch of the last batch; NoEpoch if there is
	// none.
	LastEpoch record.LeaderEpoch
}

// NewReader returns a Reader.
func (l *Log) NewReader() *Reader { return &Reader{l: l, cursor: segment.NewCursor()} }

// Close ends the use of r. It needs nothing, for r holds nothing; it is there
// so that callers do not come to depend on that.
func (r *Reader) Close() { r.cursor = segment.NewCursor() }

// Read reads the batch that holds offset `from`, and what follows it: at most
// maxBytes, but at least one batch, within one segment, and nothing at or
// beyond limit, which is the readable end. The range is empty if from is
// limit. alloc gives the memory, at least as much as it is asked for; it is
// called at most a few times, must not block, and its last answer becomes
// Range.Bytes.
//
// The error is an *OffsetOutOfRangeError if from is not in [Start, limit], a
// *segment.CorruptError if what is there is damaged, ErrClosed, or that of
// opening the file.
func (r *Reader) Read(from, limit record.Offset, maxBytes int, alloc func(int) []byte) (Range, error) {
	l := r.l
	for {
		if l.closed.Load() {
			return Range{}, ErrClosed
		}
		// In this order: see the package comment.
		written := l.End()
		end := min(limit, written)
		v := l.view.Load()
		if start := l.Start(); from < start || from > end {
			return Range{}, &OffsetOutOfRangeError{Requested: from, Start: start, End: max(start, end)}
		}
		if from == end {
			return Range{First: from, Next: from, LastEpoch: NoEpoch}, nil
		}
		s := v.find(from)
		if s == nil || from >= s.End() {
			if l.changed(v, written) || (s != nil && from < s.End()) {
				continue
			}
			return Range{}, l.missing(from)
		}
		if !s.Pin() {
			continue
		}
		b, err := r.cursor.Read(s, from, end, maxBytes, alloc)
		s.Unpin()
		if err != nil && s.Retired() {
			// A fault means something only in the current view (rule S4).
			continue
		}
		return Range(b), err
	}
}

// changed reports whether the view, or the end that was loaded before it, is
// not current any more. If neither changed, nothing was cut between the two.
func (l *Log) changed(v *view, end record.Offset) bool { return l.End() != end || l.view.Load() != v }

// missing says why there is no record at off, which is within the log.
func (l *Log) missing(off record.Offset) error {
	if l.damaged != nil {
		return l.damaged
	}
	return &segment.CorruptError{File: l.o.Dir, Offset: off, Cause: segment.ErrMissing}
}

// OffsetForTime returns the offset of the first record below limit whose
// timestamp is at or after ms, the time of a record without one being the
// append time of its batch; false if there is none. Errors are as those of
// Reader.Read, and the cause of ctx when it ends: that is looked at before each
// segment, of which there may be very many, and before each piece of one that is
// read. An index that is missing is made first.
func (l *Log) OffsetForTime(ctx context.Context, ms int64, limit record.Offset) (record.Offset, bool, error) {
	for {
		if l.closed.Load() {
			return 0, false, ErrClosed
		}
		written := l.End()
		v := l.view.Load()
		off, found, err, again := l.searchTime(ctx, v, ms, written, limit)
		if !again {
			return off, found, err
		}
	}
}

// searchTime looks through the segments of a view. again means that the view
// is not current any more.
func (l *Log) searchTime(
	ctx context.Context, v *view, ms int64, written, limit record.Offset,
) (off record.Offset, found bool, err error, again bool) {
	start, end := l.Start(), min(written, limit)
	if first := v.find(start); first == nil && start < end {
		return 0, false, l.missing(start), l.changed(v, written)
	}
	for _, s := range v.segments {
		if s.End() <= start || s.Base() >= end {
			continue
		}
		if ctx.Err() != nil {
			return 0, false, context.Cause(ctx), false
		}
		if !s.Pin() {
			return 0, false, nil, true
		}
		found = true
		if s.Sealed() {
			var p segment.Point
			if p, err = s.Summary(); err == nil {
				found = p.MaxTimestampMs >= ms
			}
		}
		if err == nil && found {
			off, found, err = s.Find(ctx, ms, start, end)
		}
		s.Unpin()
		if err != nil && s.Retired() {
			return 0, false, nil, true
		}
		if err != nil || found {
			return off, found, err, false
		}
	}
	if last := v.last(); l.damaged != nil && (last == nil || last.End() < end) {
		return 0, false, l.damaged, false
	}
	return 0, false, nil, false
}
