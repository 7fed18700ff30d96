package segment

import (
	"context"

	"github.com/millstream-io/millstream/storage/record"
)

// floor returns where to begin the search for the batch that holds off: at it,
// or before it by about the interval of the index.
//
// REQUIRES: the caller holds a pin; off is within s.
func (s *Segment) floor(h *handle, off record.Offset) (place, error) {
	if off == s.base {
		return s.first(), nil
	}
	return s.lookUp(h, func(entries []entry, _ *Index) (place, bool) {
		return floorOffset(entries, s.base, off)
	})
}

// floorTime returns where to begin the search for the first batch with a
// timestamp at or after ms.
func (s *Segment) floorTime(h *handle, ms int64) (place, error) {
	return s.lookUp(h, func(entries []entry, x *Index) (place, bool) {
		if x != nil && x.damage != nil && x.End.MaxTimestampMs < ms {
			// The answer may be where nothing can be read.
			return place{}, false
		}
		return floorTime(entries, s.base, ms)
	})
}

func (s *Segment) first() place { return place{position: FirstPosition, offset: s.base} }

// lookUp asks the second part of the index, and if that has no answer the
// first part; x is nil for the former.
func (s *Segment) lookUp(h *handle, find func(entries []entry, x *Index) (place, bool)) (place, error) {
	live := s.live.Load()
	if live == nil {
		x, err := s.sealedIndex(h)
		if err != nil {
			return place{}, err
		}
		return s.orFirst(find, x)
	}
	if p, ok := find(live.known(), nil); ok {
		return p, nil
	}
	x, err := s.prefix(live)
	if err != nil {
		return place{}, err
	}
	return s.orFirst(find, x)
}

func (s *Segment) orFirst(find func([]entry, *Index) (place, bool), x *Index) (place, error) {
	if p, ok := find(x.entries, x); ok {
		return p, nil
	}
	return s.first(), nil
}

// findBytes is how much a search by time reads at once, in bytes.
const findBytes = 256 << 10

// Find returns the offset of the first record in [from, limit) whose timestamp
// is at or after ms; false if there is none. All that it looks at is checked,
// so a changed timestamp is an error and no wrong answer.
//
// REQUIRES: the caller holds a pin. Errors are as those of Cursor.Read, and the
// cause of ctx when it ends: that is looked at before each piece that is read.
func (s *Segment) Find(ctx context.Context, ms int64, from, limit record.Offset) (record.Offset, bool, error) {
	h, err := s.acquire()
	if err != nil {
		return 0, false, err
	}
	at, err := s.floorTime(h, ms)
	h.release()
	if err != nil {
		return 0, false, err
	}
	c := NewCursor()
	c.seg, c.at = s, at
	var buf []byte
	alloc := func(n int) []byte {
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		return buf[:n]
	}
	var it record.Iterator
	for next, end := at.offset, min(limit, s.End()); next < end; {
		if ctx.Err() != nil {
			return 0, false, context.Cause(ctx)
		}
		position := c.at.position
		b, err := c.Read(s, next, end, findBytes, alloc)
		if err != nil || len(b.Bytes) == 0 {
			return 0, false, err
		}
		off, ok, err := find(&it, b.Bytes, ms, from)
		if err != nil {
			return 0, false, &CorruptError{File: s.path(LogSuffix), Position: position, Offset: next, Cause: err}
		}
		if ok {
			return off, off < limit, nil
		}
		next = b.Next
	}
	return 0, false, nil
}

// find looks for a record in whole, checked batches.
func find(it *record.Iterator, b []byte, ms int64, from record.Offset) (record.Offset, bool, error) {
	for len(b) > 0 {
		head, batch, size, err := record.ParseLogBatch(b)
		if err != nil {
			return 0, false, err
		}
		b = b[size:]
		if head.MaxTimestampMs < ms || head.End() <= from {
			continue
		}
		for it.ResetLogBatch(&head, batch); it.Next(); {
			if it.TimestampMs() >= ms && it.Offset() >= from {
				return it.Offset(), true, nil
			}
		}
		if err := it.Err(); err != nil {
			return 0, false, err
		}
	}
	return 0, false, nil
}
