package segment

import (
	"path/filepath"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/record"
)

// Seal ends the writing of s: it syncs the file, writes its index, which is
// what says that it is sealed, and syncs the directory, in this order. epochs
// are those of its batches and where each is first seen in it. DURABLE: all
// batches, and that there are no more.
//
// The error is a *SyncError if a sync failed, which is final; a *CorruptError
// if the file turned out to be damaged; else Seal can be tried again.
//
// REQUIRES: called by the writer.
func (s *Segment) Seal(epochs []EpochStart) error {
	if s.Sealed() {
		return nil
	}
	s.GiveBack() // First, so that the syncs make it last.
	if err := s.Sync(); err != nil {
		return err
	}
	x := s.live.Load()
	prefix, err := s.prefix(x)
	if err != nil {
		return err
	}
	if prefix.damage != nil {
		return prefix.damage
	}
	whole := &Index{End: s.at, Epochs: epochs}
	whole.entries = append(append(whole.entries, prefix.entries...), x.known()...)
	// The partial index says nothing that the index does not, and becomes it.
	// Without one, or if that fails, the index is a new file.
	_ = s.o.FS.Rename(s.path(PartialSuffix), s.path(IndexSuffix)+checkpoint.TempSuffix)
	if err := s.writeIndex(whole); err != nil {
		return err
	}
	end := s.at
	s.summary.Store(&end)
	s.sealed.Store(true)
	s.live.Store(nil)
	return nil
}

// writeIndex writes the index file of a sealed segment, durably.
func (s *Segment) writeIndex(x *Index) error {
	info := s.o.Identity.Info(s.base)
	return checkpoint.Write(s.o.FS, s.path(IndexSuffix), appendIndex(nil, &info, x), true)
}

// sealedIndex returns the index of a sealed segment. It is kept as long as the
// file is open. If it is missing or damaged, it is made again from the log,
// and written, unless the log is damaged too.
//
// REQUIRES: the caller holds a pin, or is the writer.
func (s *Segment) sealedIndex(h *handle) (*Index, error) {
	if x := h.index.Load(); x != nil {
		return x, nil
	}
	x, err := s.readSealed()
	if isStale(err) {
		x, err = s.remake()
	}
	if err != nil {
		return nil, err
	}
	h.index.CompareAndSwap(nil, x)
	if x.damage == nil {
		s.summary.CompareAndSwap(nil, &x.End)
	}
	return x, nil
}

// readSealed reads the index file of a sealed segment.
func (s *Segment) readSealed() (*Index, error) {
	x, err := readIndex(s.o, s.base, IndexSuffix, s.path(IndexSuffix))
	if err == nil && (x.End.Offset != s.End() || x.End.Position != s.Size()) {
		err = ErrIndex // Or the log does not fit the index; reading it will tell.
	}
	return x, err
}

// remake makes the index of a sealed segment again, unless another reader has
// done so since its file was looked at.
func (s *Segment) remake() (*Index, error) {
	s.rebuilding.Lock()
	defer s.rebuilding.Unlock()
	if x, err := s.readSealed(); !isStale(err) {
		return x, err
	}
	return s.rebuild()
}

// rebuild makes the index of a sealed segment from its log.
//
// REQUIRES: rebuilding is held.
func (s *Segment) rebuild() (*Index, error) {
	x, err := s.extend(&Index{End: Start(s.base, Point{Epoch: NoEpoch})}, s.Size())
	if err != nil {
		return nil, err
	}
	if x.damage == nil && x.End.Offset != s.End() {
		x.damage = &CorruptError{
			File: s.path(LogSuffix), Position: x.End.Position, Offset: x.End.Offset, Cause: ErrMissing,
		}
	}
	if x.damage == nil {
		// Without the file the log is only read again the next time.
		_ = s.writeIndex(x)
	}
	return x, nil
}

// Summary returns the end of a sealed segment.
//
// REQUIRES: the caller holds a pin, or is the writer.
func (s *Segment) Summary() (Point, error) {
	if p := s.summary.Load(); p != nil {
		return *p, nil
	}
	x, err := s.Index()
	if err != nil {
		return Point{}, err
	}
	return x.End, nil
}

// Index returns the index of a sealed segment. The error is a *CorruptError if
// the log from which it had to be made is damaged.
//
// REQUIRES: the caller holds a pin, or is the writer.
func (s *Segment) Index() (*Index, error) {
	h, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer h.release()
	x, err := s.sealedIndex(h)
	if err != nil {
		return nil, err
	}
	if x.damage != nil {
		return nil, x.damage
	}
	return x, nil
}

// ReadEnd reads what the index file of a segment says about its end;
// fs.ErrNotExist if there is none.
func ReadEnd(o *Options, base record.Offset) (Point, error) {
	x, err := readIndex(o, base, IndexSuffix, filepath.Join(o.Dir, Name(base, IndexSuffix)))
	if err != nil {
		return Point{}, err
	}
	return x.End, nil
}
