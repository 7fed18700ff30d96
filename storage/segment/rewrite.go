package segment

import "bytes"

// rewriteBytes is how much Rewrite writes at once, unless a batch is larger.
const rewriteBytes = 1 << 20

// Rewrite writes the batches from a point on to the end of s again, as they
// are, and syncs the file; it returns how many bytes it wrote. DURABLE: all of
// s, if all before the point is.
//
// WHY: if an earlier process met a failed sync, what it had written may be in
// the memory of the system, to be read, but not on the disk; and the system
// takes it for written, so that no sync brings it there. Only what is written
// again is. It is read and checked once more for that, and what was checked is
// what is written: a page that the system has dropped meanwhile, and reads from
// the disk as it was, must not pass for the one before.
//
// The error is a *CorruptError if that happened, a *SyncError, or that of the
// write.
//
// REQUIRES: called by the writer; s was returned by OpenLast, and nothing was
// appended since.
func (s *Segment) Rewrite(from Point) (written int64, err error) {
	h, err := s.acquire()
	if err != nil {
		return 0, err
	}
	defer h.release()
	if h.readOnly != nil {
		return 0, h.readOnly
	}
	h.written.Add(1)
	r := rewriter{h: h, position: from.Position}
	if from.IsEmpty() {
		// The segment may have been made by that process.
		if err := r.info(s); err != nil {
			return 0, err
		}
	}
	scan := NewScanner(h.file, s.path(LogSuffix), from, s.at.Position)
	for scan.Next() {
		if err := r.add(scan.Bytes()); err != nil {
			return r.written, err
		}
	}
	if bad := scan.Bad(); bad != nil {
		return r.written, bad
	}
	if err := r.flush(); err != nil {
		return r.written, err
	}
	if err := h.sync(); err != nil {
		return r.written, &SyncError{File: s.path(LogSuffix), Err: err}
	}
	return r.written, nil
}

// RenewLength gives the file another length and then the one that it had, so
// that the next sync writes its length down. A crash in between leaves a byte
// behind the last batch, which is cut as a torn tail is.
//
// WHY: an earlier process may have cut the file and met a failed sync; then the
// disk may have what was cut, and no sync takes it away as long as the system
// believes that the length is there (see Rewrite).
//
// REQUIRES: as Rewrite; it follows.
func (s *Segment) RenewLength() error {
	h, err := s.acquire()
	if err != nil {
		return err
	}
	defer h.release()
	if h.readOnly != nil {
		return h.readOnly
	}
	h.written.Add(1)
	if err := h.file.Truncate(s.at.Position + 1); err != nil {
		return err
	}
	return h.file.Truncate(s.at.Position)
}

// rewriter writes what follows on a position, in large pieces.
type rewriter struct {
	h        *handle
	position int64
	buf      []byte
	written  int64
}

// info puts what the file begins with before the first batch.
func (r *rewriter) info(s *Segment) error {
	b := make([]byte, FirstPosition)
	if _, err := r.h.file.ReadAt(b, 0); err != nil {
		return err
	}
	if _, err := ReadInfo(bytes.NewReader(b), s.path(LogSuffix), s.base); err != nil {
		return err
	}
	r.position, r.buf = 0, b
	return nil
}

func (r *rewriter) add(batch []byte) error {
	if len(r.buf)+len(batch) > rewriteBytes {
		if err := r.flush(); err != nil {
			return err
		}
	}
	r.buf = append(r.buf, batch...)
	return nil
}

func (r *rewriter) flush() error {
	if len(r.buf) == 0 {
		return nil
	}
	n, err := r.h.file.WriteAt(r.buf, r.position)
	r.position, r.written, r.buf = r.position+int64(n), r.written+int64(n), r.buf[:0]
	return err
}
