package segment

import (
	"errors"

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

// Find returns the offset of the first record below limit whose timestamp is
// at or after ms; false if there is none.
//
// REQUIRES: the caller holds a pin. Errors are as those of Cursor.Read.
func (s *Segment) Find(ms int64, from, limit record.Offset) (record.Offset, bool, error) {
	size := s.Size()
	h, err := s.acquire()
	if err != nil {
		return 0, false, err
	}
	defer h.release()
	at, err := s.floorTime(h, ms)
	if err != nil {
		return 0, false, err
	}
	for at.position < size && at.offset < limit {
		head, next, err := s.peek(h, at, size)
		if err != nil {
			return 0, false, err
		}
		if head.MaxTimestampMs >= ms && head.End() > from {
			off, ok, err := s.findIn(h, at, next, ms, from)
			if err != nil || ok {
				return off, ok && off < limit, err
			}
		}
		at = next
	}
	return 0, false, nil
}

// peek reads the header of the batch at a place, and where the next one
// begins.
func (s *Segment) peek(h *handle, at place, size int64) (head record.Header, next place, err error) {
	n := min(int64(record.MaxHeaderSize), size-at.position)
	var length int
	look := func(b []byte) error {
		head, length, err = record.PeekLogBatch(b)
		return nil
	}
	if failed := h.with(at.position, int(n), look); failed != nil {
		return head, place{}, s.explain(h, size, at, failed)
	}
	if errors.Is(err, record.ErrShort) && int64(length) > n && int64(length) <= size-at.position {
		if failed := h.with(at.position, length, look); failed != nil {
			return head, place{}, s.explain(h, size, at, failed)
		}
	}
	switch {
	case errors.Is(err, record.ErrShort) || (err == nil && int64(length) > size-at.position):
		err = ErrTruncated
	case err == nil && head.BaseOffset != at.offset:
		err = ErrOffsetOrder
	}
	if err != nil {
		err = &CorruptError{File: s.path(LogSuffix), Position: at.position, Offset: at.offset, Cause: err}
	}
	return head, place{position: at.position + int64(length), offset: head.End()}, err
}

// findIn looks for a record in the batch between two places.
func (s *Segment) findIn(h *handle, at, next place, ms int64, from record.Offset) (record.Offset, bool, error) {
	b := make([]byte, next.position-at.position)
	region, err := h.view(next.position)
	if err != nil {
		return 0, false, err
	}
	if err := region.CopyAt(b, at.position); err != nil {
		return 0, false, s.explain(h, next.position, at, err)
	}
	if _, bad := check(b, at); bad != nil {
		bad.File = s.path(LogSuffix)
		return 0, false, bad
	}
	head, batch, _, err := record.ParseLogBatch(b)
	if err != nil {
		return 0, false, err
	}
	var it record.Iterator
	for it.ResetLogBatch(&head, batch); it.Next(); {
		if it.TimestampMs() >= ms && it.Offset() >= from {
			return it.Offset(), true, nil
		}
	}
	if err := it.Err(); err != nil {
		err = &CorruptError{File: s.path(LogSuffix), Position: at.position, Offset: at.offset, Cause: err}
		return 0, false, err
	}
	return 0, false, nil
}
