package segment

import (
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/storage/mmap"
	"github.com/millstream-io/millstream/storage/record"
)

// Batches are whole batches that follow one another.
type Batches struct {
	// Bytes are whole fields of Segment.batches, from the caller's memory,
	// their checksums right.
	Bytes []byte
	// First is the base offset of the first batch, Next the offset after the
	// last one.
	First, Next record.Offset
	// LastEpoch is the leader epoch of the last batch.
	LastEpoch record.LeaderEpoch
}

// Cursor reads a segment onwards. It remembers where it stopped, so only the
// first read, and one from another place, must search. It holds neither a pin
// nor a file between reads.
//
// A Cursor belongs to one goroutine.
type Cursor struct {
	seg  *Segment
	at   place // where the next batch of seg begins
	walk walk
	// visit is walk.visit: a method value made for each read would be an
	// allocation for each read.
	visit func([]byte) error
}

// walk is one read under way.
type walk struct {
	from, limit record.Offset
	maxBytes    int
	alloc       func(int) []byte

	at   place // where the window begins
	want int   // bytes that the window must have to go on; 0: it is done
	// size is that of the segment in bytes.
	size int64
	out  []byte // copied
	// beyond is the size of a first batch that reaches beyond limit.
	beyond int
	err    error
}

// NewCursor returns a Cursor.
func NewCursor() *Cursor {
	c := &Cursor{}
	c.visit = c.walk.visit
	return c
}

// Read reads the batches of s from the one that holds offset `from` on, at
// most maxBytes of them but at least one, none that reaches beyond limit. If
// the first one does, nothing is read. alloc gives the memory; it is called at
// most once, must not block, and what it gives may be longer than asked.
//
// REQUIRES: the caller holds a pin; from is within s.
//
// The errors are those of opening the file, *mmap.FaultError, and
// *CorruptError. Before it believes either of the last two the caller makes
// sure that s is not retired (rule S4).
func (c *Cursor) Read(s *Segment, from, limit record.Offset, maxBytes int, alloc func(int) []byte) (Batches, error) {
	size := s.Size()
	h, err := s.acquire()
	if err != nil {
		return Batches{}, err
	}
	defer h.release()
	if c.seg != s || c.at.offset != from {
		c.seg = nil
		if c.at, err = s.floor(h, from); err != nil {
			return Batches{}, err
		}
	}
	b, err := c.copy(h, s, limit, size, from, maxBytes, alloc)
	if err != nil {
		return Batches{}, err
	}
	out, bad := check(b, c.at)
	if bad != nil {
		bad.File = s.path(LogSuffix)
		if len(out.Bytes) == 0 {
			return Batches{}, bad
		}
		// What is before the bad batch is good; the next read will say why.
	}
	if c.walk.beyond > 0 {
		return Batches{First: from, Next: from, LastEpoch: NoEpoch}, nil
	}
	c.seg = s
	c.at = place{position: c.at.position + int64(len(out.Bytes)), offset: out.Next}
	return out, nil
}

// copy finds the batches and copies them once. ENSURES: c.at is where they
// begin; there is at least one, though it is not to be returned if it reaches
// beyond limit: without its checksum nobody knows that it really does.
func (c *Cursor) copy(
	h *handle, s *Segment, limit record.Offset, size int64, from record.Offset, maxBytes int, alloc func(int) []byte,
) ([]byte, error) {
	w := &c.walk
	*w = walk{from: from, limit: limit, maxBytes: maxBytes, alloc: alloc, at: c.at, size: size, want: record.MaxHeaderSize}
	defer func() { w.alloc, w.out = nil, nil }()
	for w.at.position < size && w.err == nil && w.want > 0 {
		n := min(int64(max(w.want, maxBytes, minWindow)), size-w.at.position)
		if err := h.with(w.at.position, int(n), c.visit); err != nil {
			return nil, s.explain(h, size, w.at, err)
		}
	}
	if w.err == nil && w.want > 0 {
		w.err = ErrMissing
	}
	c.at = w.at
	if w.err != nil {
		return nil, &CorruptError{File: s.path(LogSuffix), Position: w.at.position, Offset: w.at.offset, Cause: w.err}
	}
	return w.out, nil
}

// minWindow is the least number of bytes that a read looks at at once.
const minWindow = 4 << 10

// visit looks for the batches in a window of the mapping, and copies them. It
// leaves in w.want how many bytes it needs from w.at on to go on. BORROWED: b.
func (w *walk) visit(b []byte) error {
	w.want = 0
	for i := 0; i < len(b); {
		h, size, err := record.PeekLogBatch(b[i:])
		switch {
		case errors.Is(err, record.ErrShort):
			w.more(len(b)-i, size)
			return nil
		case err == nil && h.BaseOffset != w.at.offset:
			err = fmt.Errorf("%w: %d", ErrOffsetOrder, h.BaseOffset)
		}
		if err != nil {
			w.err = err
			return nil
		}
		if h.End() > w.from {
			w.take(b[i:], &h, size)
			return nil
		}
		i += size
		w.at.position += int64(size)
		w.at.offset = h.End()
	}
	w.want = record.MaxHeaderSize
	return nil
}

// more asks for a window in which the header of the batch at w.at is whole.
// have is how many bytes of it there were, size its size, if that is known.
func (w *walk) more(have, size int) {
	n := record.MaxHeaderSize
	if size > 0 && (have >= n || size < n) {
		n = size
	}
	w.ask(have, int(min(int64(n), w.size-w.at.position)))
}

// ask asks for a window of n bytes; have is how many there were.
func (w *walk) ask(have, n int) {
	if have >= n || int64(n) > w.size-w.at.position {
		w.err = ErrTruncated
		return
	}
	w.want = n
}

// take copies whole batches from the begin of b, the first of which has the
// given header and size.
func (w *walk) take(b []byte, first *record.Header, size int) {
	if size > len(b) {
		w.ask(len(b), size)
		return
	}
	total := size
	if first.End() > w.limit {
		w.beyond = size
	}
	for w.beyond == 0 && total < len(b) {
		h, size, err := record.PeekLogBatch(b[total:])
		if err != nil || h.End() > w.limit || total+size > min(w.maxBytes, len(b)) {
			// A bad batch, or one that is cut off by the end of the window,
			// ends the range; the next read begins with it.
			break
		}
		total += size
	}
	w.out = w.alloc(total)[:total]
	copy(w.out, b)
}

// check walks over what was copied, and checks it: what is returned is what
// was checked. It returns the good part.
func check(b []byte, at place) (Batches, *CorruptError) {
	out := Batches{First: at.offset, Next: at.offset, LastEpoch: NoEpoch}
	good := 0
	for good < len(b) {
		h, _, size, err := record.ParseLogBatch(b[good:])
		if err == nil {
			err = record.VerifyCRC(b[good : good+size])
		}
		switch {
		case err != nil:
		case h.BaseOffset != out.Next:
			err = ErrOffsetOrder
		case h.LeaderEpoch < out.LastEpoch:
			err = ErrEpochOrder
		}
		if err != nil {
			out.Bytes = b[:good]
			return out, &CorruptError{Position: at.position + int64(good), Offset: out.Next, Cause: err}
		}
		good += size
		out.Next, out.LastEpoch = h.End(), h.LeaderEpoch
	}
	out.Bytes = b
	return out, nil
}

// explain says what a failed read means.
func (s *Segment) explain(h *handle, size int64, at place, err error) error {
	var fault *mmap.FaultError
	if !errors.As(err, &fault) {
		return err
	}
	cause := error(fault)
	if now, statErr := h.file.Size(); statErr == nil && now < size {
		cause = ErrShortened
	}
	return &CorruptError{File: s.path(LogSuffix), Position: at.position, Offset: at.offset, Cause: cause}
}
