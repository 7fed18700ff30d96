package segment

import (
	"errors"
	"io"

	"github.com/millstream-io/millstream/storage/record"
)

// scanWindow is how many bytes a Scanner reads at once, unless a batch is
// larger or the file shorter.
const scanWindow = 256 << 10

// Scanner reads the batches of a segment one after the other from a file, and
// checks each: its bytes, its checksum, and its place after the ones before
// it. It needs neither locks nor a mapping, so it serves recovery, the making
// of indexes, and reading a log from outside.
//
// A Scanner belongs to one goroutine.
type Scanner struct {
	file io.ReaderAt
	name string
	size int64 // of the file; nothing beyond it is read
	at   Point

	window []byte // bytes of the file from start
	start  int64

	header record.Header
	batch  []byte // of the file: a whole field of Segment.batches
	bad    *CorruptError
}

// NewScanner returns a Scanner of the batches of file from a point on. name is
// for errors.
func NewScanner(file io.ReaderAt, name string, from Point, size int64) *Scanner {
	return &Scanner{file: file, name: name, size: size, at: from, start: from.Position}
}

// Next reads the next batch; false at the end of the file and before a bad
// batch, which Bad tells apart.
func (s *Scanner) Next() bool {
	if s.bad != nil || s.at.Position == s.size {
		return false
	}
	h, batch, err := s.batchAt(s.at.Position)
	if err == nil {
		err = s.at.accepts(&h)
	}
	if err != nil {
		s.bad = &CorruptError{File: s.name, Position: s.at.Position, Offset: s.at.Offset, Cause: err}
		return false
	}
	s.header, s.batch = h, batch
	s.at.advance(&h, int64(len(batch)))
	return true
}

// Header is the header of the batch that Next read.
func (s *Scanner) Header() record.Header { return s.header }

// Position is where the batch that Next read begins.
func (s *Scanner) Position() int64 { return s.at.Position - int64(len(s.batch)) }

// Bytes are the bytes of the batch that Next read. BORROWED: until the next
// call of Next.
func (s *Scanner) Bytes() []byte { return s.batch }

// Point is the end of the batch that Next read.
func (s *Scanner) Point() Point { return s.at }

// Bad says why Next stopped before the end of the file, if it did.
func (s *Scanner) Bad() *CorruptError { return s.bad }

// batchAt returns the whole batch at a position, its checksum right. BORROWED:
// until the next call.
func (s *Scanner) batchAt(position int64) (h record.Header, batch []byte, err error) {
	b, err := s.bytesAt(position, record.MaxHeaderSize)
	if err != nil {
		return record.Header{}, nil, err
	}
	h, size, err := record.PeekLogBatch(b)
	if errors.Is(err, record.ErrShort) && size > len(b) {
		// A header of another layout than ours may be longer.
		b, err = s.bytesAt(position, size)
		if err == nil {
			h, size, err = record.PeekLogBatch(b)
		}
	}
	if errors.Is(err, record.ErrShort) {
		err = ErrTruncated
	}
	if err != nil {
		return record.Header{}, nil, err
	}
	if int64(size) > s.size-position {
		return record.Header{}, nil, ErrTruncated
	}
	b, err = s.bytesAt(position, size)
	if err != nil {
		return record.Header{}, nil, err
	}
	return h, b[:size], record.VerifyCRC(b[:size])
}

// bytesAt returns the n bytes at a position, or fewer at the end of the file.
// BORROWED: until the next call.
func (s *Scanner) bytesAt(position int64, n int) ([]byte, error) {
	n = int(min(int64(n), s.size-position))
	if from := position - s.start; from >= 0 && from+int64(n) <= int64(len(s.window)) {
		return s.window[from : from+int64(n)], nil
	}
	length := int(min(max(int64(n), scanWindow), s.size-position))
	if cap(s.window) < length {
		s.window = make([]byte, length)
	}
	s.start, s.window = position, s.window[:length]
	got, err := s.file.ReadAt(s.window, position)
	if got == length {
		return s.window[:n], nil
	}
	s.window = s.window[:0]
	if errors.Is(err, io.EOF) {
		err = ErrShortened
	}
	return nil, err
}

// isUnreadable reports whether a bad batch is bad because its bytes could not
// be read. What is there then is unknown, so it must not be cut.
func (e *CorruptError) isUnreadable() bool {
	var (
		batch *record.CorruptBatchError
		info  *record.CorruptInfoError
	)
	for _, known := range []error{ErrTruncated, ErrOffsetOrder, ErrEpochOrder} {
		if errors.Is(e.Cause, known) {
			return false
		}
	}
	return !errors.As(e.Cause, &batch) && !errors.As(e.Cause, &info)
}

// searchFactor bounds the work of committedAfter: it computes checksums over
// at most so many times the bytes that it searches, and searchFloor more.
const (
	searchFactor = 4
	searchFloor  = 64 << 20
)

// committedAfter looks for valid batches behind a bad one, and returns the
// greatest committed_end that one of them has (rule S2): records below it were
// acknowledged, so the bad batch is no torn tail. sure is false if it gave up.
//
// A batch behind the bad one is believed only if it could have been written
// there: with a greater offset, in no older epoch, and with a committed_end
// that is not beyond its own place. WHY: a record may hold bytes that look
// like a batch. Batches of records of users are skipped as a whole where the
// bad one's own length still leads to a batch; else only those bytes that a
// torn header has uncovered can be taken for batches, and the worst is that
// the log waits for a person.
func (s *Scanner) committedAfter() (end record.Offset, sure bool) {
	expected, epoch := s.at.Offset, s.at.Epoch
	budget := (s.size-s.at.Position)*searchFactor + searchFloor
	position := s.at.Position + 1
	if next, ok := s.behind(s.at.Position); ok {
		position = next
	}
	for position < s.size {
		b, err := s.bytesAt(position, record.MaxHeaderSize)
		if err != nil {
			return end, false
		}
		skip := candidate(b)
		if skip > 0 {
			position += int64(skip)
			continue
		}
		h, size, err := record.PeekLogBatch(b)
		if err != nil || h.BaseOffset <= expected || h.LeaderEpoch < epoch || h.CommittedEnd > h.BaseOffset {
			position++
			continue
		}
		if budget -= int64(size); budget < 0 {
			return end, false
		}
		if _, _, err := s.batchAt(position); err != nil {
			position++
			if next, ok := s.behind(position - 1); ok {
				position = next
			}
			continue
		}
		end = max(end, h.CommittedEnd)
		expected, epoch = h.End()-1, h.LeaderEpoch
		position += int64(size)
	}
	return end, true
}

// behind returns where a batch follows the one at position, whose length may
// be right although the rest is not.
func (s *Scanner) behind(position int64) (int64, bool) {
	b, err := s.bytesAt(position, record.MaxHeaderSize)
	if err != nil {
		return 0, false
	}
	_, size, err := record.PeekLogBatch(b)
	if err != nil || int64(size) >= s.size-position {
		return 0, false
	}
	if _, _, err := s.batchAt(position + int64(size)); err != nil {
		return 0, false
	}
	return position + int64(size), true
}

// candidate returns how many bytes can be skipped because no batch begins in
// them; 0: one may begin at b[0].
func candidate(b []byte) int {
	for i := range b {
		if b[i] == tagBatches && (i > 0 || mayBegin(b)) {
			return i
		}
	}
	return len(b)
}

// tagBatches is the tag of Segment.batches, tagBaseOffset that of the first
// field of a LogBatch as brokers write it.
const (
	tagBatches    = 1<<3 | 2
	tagBaseOffset = 1<<3 | 1
)

// mayBegin reports whether b looks like tag and length of a batch and the tag
// of its first field.
func mayBegin(b []byte) bool {
	for i := 1; i < min(len(b), 6); i++ {
		if b[i] < 0x80 {
			return i+1 < len(b) && b[i+1] == tagBaseOffset
		}
	}
	return false
}
