package commitlog

import (
	"fmt"
	"sync"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

// RangeError says that a range of another log cannot be appended to this one.
// ENSURES: nothing of it was.
type RangeError struct {
	Position int           // of the bad batch, in bytes from the start of the range
	Offset   record.Offset // that is expected there
	// Cause is record.ErrShort or a *record.CorruptBatchError if the bytes are
	// bad, segment.ErrOffsetOrder if the batch does not follow on what is
	// before it, or an *EpochError.
	Cause error
}

// Error says where, and what is wrong.
func (e *RangeError) Error() string {
	return fmt.Sprintf("range cannot be appended: batch at byte %d (offset %d): %v", e.Position, e.Offset, e.Cause)
}

// Unwrap returns the cause.
func (e *RangeError) Unwrap() error { return e.Cause }

// followed is what AppendFollowed works with. It is kept for reuse by all
// logs.
type followed struct {
	walk   record.LogBatches
	placed []segment.Placed // all batches of the range
	group  group
}

// keptPlaced is how many batches the memory of a range that is kept for reuse
// has room for: more than a range of 256 KiB holds.
const keptPlaced = 4096

var followeds = sync.Pool{New: func() any {
	return &followed{group: group{pieces: make([][]byte, 0, maxGroupPieces)}}
}}

func (f *followed) release() {
	f.walk.Reset(nil)
	f.begin(0)
	f.group.placed = nil
	if f.placed = f.placed[:0]; cap(f.placed) > keptPlaced {
		f.placed = nil
	}
	followeds.Put(f)
}

// AppendFollowed appends a range of the leader's log as it stands there: whole
// `batches` fields, contiguous, byte for byte, in pieces that are cut anywhere.
// Its first batch must begin where this log ends. It is checked as a whole
// before any of it is written; what Append says of writes, publication and
// durability holds here too. A segment that is rolled by age is rolled by the
// append times of the batches: what comes late is not old for that.
//
// The error is a *RangeError, after which nothing is written; else as Append's,
// and End says how many batches were written before. BORROWED: the pieces,
// until it returns.
//
// REQUIRES: one writer. The range has no gaps: a leader that has cleaned it
// hands it over otherwise.
func (l *Log) AppendFollowed(pieces record.Pieces) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.leave()
	if err := l.writable(); err != nil {
		return err
	}
	f := followeds.Get().(*followed)
	defer f.release()
	if err := l.checkFollowed(f, pieces); err != nil {
		return err
	}
	return l.writeFollowed(f, pieces)
}

// checkFollowed checks all of a range, and notes its batches.
func (l *Log) checkFollowed(f *followed, pieces record.Pieces) error {
	next, epoch := l.point().Offset, max(l.point().Epoch, l.LastEpoch())
	for f.walk.Reset(pieces); f.walk.Next(); {
		h := f.walk.Header()
		var cause error
		switch {
		case h.BaseOffset != next:
			cause = segment.ErrOffsetOrder
		case h.LeaderEpoch < epoch:
			cause = &EpochError{Epoch: h.LeaderEpoch, Last: epoch}
		}
		if cause != nil {
			return &RangeError{Position: f.walk.Start(), Offset: next, Cause: cause}
		}
		next, epoch = h.End(), h.LeaderEpoch
		f.placed = append(f.placed, segment.Placed{Header: *h, Size: int64(f.walk.Size())})
	}
	if err := f.walk.Err(); err != nil {
		return &RangeError{Position: f.walk.Start(), Offset: next, Cause: err}
	}
	return nil
}

// writeFollowed writes a range that was checked, as appendAll does.
func (l *Log) writeFollowed(f *followed, pieces record.Pieces) error {
	c, g := l.config.Load(), &f.group
	f.begin(0)
	at := place{pieces: pieces}
	for i := range f.placed {
		p := &f.placed[i]
		n := at.count(p.Size)
		if len(g.placed) > 0 && (g.joined != nil || g.bytes+p.Size > maxGroupBytes || len(g.pieces)+n > maxGroupPieces) {
			if err := l.write(g); err != nil {
				return err
			}
			f.begin(i)
		}
		if l.isDue(c, g, p.Size, p.Header.LastOffsetDelta+1, p.Header.AppendTimeMs) {
			if err := l.write(g); err != nil {
				return err
			}
			f.begin(i)
			if err := l.roll(); err != nil {
				return err
			}
		}
		if n <= maxGroupPieces {
			g.pieces = at.take(p.Size, g.pieces)
		} else {
			// Someone sends crumbs. It is alone in this write.
			g.joined = at.join(p.Size)
			g.pieces = append(g.pieces, g.joined)
		}
		g.placed = f.placed[i-len(g.placed) : i+1]
		g.bytes += p.Size
	}
	return l.write(g)
}

// begin empties the group; batch i is to be its first.
func (f *followed) begin(i int) {
	f.group.reset(i)
	f.group.placed, f.group.joined = f.placed[i:i], nil
}

// place is a place in a range.
type place struct {
	pieces record.Pieces // from the one on that the next byte is in
	skip   int           // bytes of the first of them that are passed
}

// count returns how many pieces the next n bytes lie in.
func (p *place) count(n int64) int {
	count := 0
	n += int64(p.skip)
	for i := 0; n > 0; i++ {
		n -= int64(len(p.pieces[i]))
		count++
	}
	return count
}

// take passes n bytes and adds the pieces that they are to dst. Bytes that
// follow in the same piece on the last of dst make that longer.
func (p *place) take(n int64, dst [][]byte) [][]byte {
	for n > 0 {
		whole := p.pieces[0]
		end := int(min(int64(p.skip)+n, int64(len(whole))))
		if last := len(dst) - 1; p.skip > 0 && last >= 0 {
			dst[last] = whole[p.skip-len(dst[last]) : end : end]
		} else if end > p.skip {
			dst = append(dst, whole[p.skip:end:end])
		}
		n -= int64(end - p.skip)
		if p.skip = end; end == len(whole) {
			p.pieces, p.skip = p.pieces[1:], 0
		}
	}
	return dst
}

// join passes n bytes and returns a copy of them.
func (p *place) join(n int64) []byte {
	b := make([]byte, 0, n)
	for _, piece := range p.take(n, nil) {
		b = append(b, piece...)
	}
	return b
}
