package segment

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/millstream-io/millstream/storage/record"
)

// Tail is what recovery found in the last segment of a log, from the point on
// up to which its bytes were known to be durable.
type Tail struct {
	// End is the end of the last valid batch.
	End Point
	// Size is the length of the file, Scanned how much of it was read, both in
	// bytes.
	Size, Scanned int64
	// Bad says what is wrong behind End; nil if the file ends there.
	Bad *CorruptError
	// CommittedEnd is the greatest committed_end of the valid batches behind a
	// bad one: all records below it were acknowledged (rule S2).
	CommittedEnd record.Offset
	// Uncuttable says that what is behind End must not be cut whatever the
	// offsets say: it could not be read, or not be searched to its end.
	Uncuttable bool
	// Epochs are where leader epochs above that of the point were first seen.
	Epochs []EpochStart
}

// OpenLast opens the last segment of a log for writing, and reads it from a
// point on to its end. It changes nothing: if the tail has a bad batch, the
// caller cuts it (CutTail) or leaves the segment alone, in which nothing
// beyond the tail's End is visible.
//
// The errors are those of reading, *MismatchError,
// *record.UnsupportedVersionError, and *CorruptError if the file is not as
// long as from, or from is no place in it (ErrNoPlace).
func OpenLast(o *Options, base record.Offset, from Point) (*Segment, Tail, error) {
	s := newSegment(o, base)
	s.begin(from, from, from.Position)
	h, err := s.acquire()
	if err != nil {
		return nil, Tail{}, fmt.Errorf("open segment: %w", err)
	}
	defer h.release()
	tail, err := s.scanTail(h, from)
	if err != nil {
		s.Retire()
		return nil, Tail{}, err
	}
	s.kept = s.at.Position
	if tail.Scanned > 0 {
		// An earlier process wrote it, and may not have synced it.
		h.written.Add(1)
	}
	return s, tail, nil
}

func (s *Segment) scanTail(h *handle, from Point) (Tail, error) {
	size, err := h.file.Size()
	if err != nil {
		return Tail{}, err
	}
	if size < from.Position {
		return Tail{}, &CorruptError{File: s.path(LogSuffix), Position: size, Offset: from.Offset, Cause: ErrShortened}
	}
	fits, err := from.fits(h.file)
	if err != nil {
		return Tail{}, err
	}
	if !fits {
		return Tail{}, &CorruptError{File: s.path(LogSuffix), Position: from.Position, Offset: from.Offset, Cause: ErrNoPlace}
	}
	tail := Tail{Size: size, Scanned: size - from.Position}
	x := s.live.Load()
	scan := NewScanner(h.file, s.path(LogSuffix), from, size)
	epoch := from.Epoch
	for before := from; scan.Next(); before = scan.Point() {
		x.add(s.base, &before)
		if e := scan.Header().LeaderEpoch; e > epoch {
			tail.Epochs = append(tail.Epochs, EpochStart{Epoch: e, Offset: before.Offset})
			epoch = e
		}
	}
	tail.End = scan.Point()
	if tail.Bad = scan.Bad(); tail.Bad != nil {
		end, sure := scan.committedAfter()
		tail.CommittedEnd, tail.Uncuttable = end, !sure || tail.Bad.isUnreadable()
	}
	s.at = tail.End
	s.end.Store(int64(s.at.Offset))
	s.size.Store(s.at.Position)
	return tail, nil
}

// CutTail shortens the file of s to its last valid batch, durably.
//
// REQUIRES: s was returned by OpenLast, and nobody has seen it since.
func (s *Segment) CutTail() error {
	h, err := s.acquire()
	if err != nil {
		return err
	}
	defer h.release()
	if h.readOnly != nil {
		return h.readOnly
	}
	// A partial index never reaches beyond what was valid, so it may stay.
	if err := h.file.Truncate(s.at.Position); err != nil {
		return err
	}
	if err := h.sync(); err != nil {
		return &SyncError{File: s.path(LogSuffix), Err: err}
	}
	return nil
}

// Abandoned reports whether the segment with the given base offset was being
// created when the process or the machine died: its file is no longer than its
// info, which is not good. Such a file never held a batch, for the info is
// synced before the first.
func Abandoned(o *Options, base record.Offset) (bool, error) {
	path := filepath.Join(o.Dir, Name(base, LogSuffix))
	f, _, err := o.openFile(path, false)
	if err != nil {
		return false, err
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	size, err := f.Size()
	if err != nil || size > FirstPosition {
		return false, err
	}
	_, err = ReadInfo(f, path, base)
	var corrupt *CorruptError
	return errors.As(err, &corrupt) && !corrupt.isUnreadable(), nil
}

// Discard removes the files of a segment that lies below the log start, durably:
// see Segment.Remove.
func Discard(o *Options, base record.Offset) error {
	for _, suffix := range [...]string{LogSuffix, IndexSuffix, PartialSuffix} {
		if err := removeFile(o.FS, filepath.Join(o.Dir, Name(base, suffix))); err != nil {
			return err
		}
	}
	return o.FS.SyncDir(o.Dir)
}
