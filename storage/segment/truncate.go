package segment

import "github.com/millstream-io/millstream/storage/record"

// PointAt returns the last end of a batch of s that is not beyond off. before
// is the end of the segment before s. It reads the segment up to there.
//
// REQUIRES: called by the writer.
func (s *Segment) PointAt(off record.Offset, before Point) (Point, error) {
	h, err := s.acquire()
	if err != nil {
		return Point{}, err
	}
	defer h.release()
	at := Start(s.base, before)
	scan := NewScanner(h.file, s.path(LogSuffix), at, s.Size())
	for at.Offset < off && scan.Next() {
		if scan.Point().Offset > off {
			return at, nil
		}
		at = scan.Point()
	}
	if bad := scan.Bad(); bad != nil {
		return Point{}, bad
	}
	return at, nil
}

// Reopen returns a segment that ends at a point within s, and is written to
// from there on. It shows readers a part of the file of s; Shorten makes the
// file agree, once s is gone.
func Reopen(s *Segment, at Point) *Segment {
	n := newSegment(s.o, s.base)
	n.begin(at, at, at.Position)
	n.checked.Store(s.checked.Load())
	n.kept = at.Position
	return n
}

// Shorten cuts the file of s where s ends, durably, and takes away what seals
// it or describes what was cut.
//
// REQUIRES: called by the writer; all other segments of the same file are gone
// (rule S4).
func (s *Segment) Shorten() error {
	if err := EraseIndex(s.o, s.base); err != nil {
		return err
	}
	if err := removeFile(s.o.FS, s.path(PartialSuffix)); err != nil {
		return err
	}
	// The name of the index goes first, durably: as long as it is there, the
	// file is taken to be complete.
	if err := s.o.FS.SyncDir(s.o.Dir); err != nil {
		return err
	}
	return s.CutTail()
}
