package segment

import (
	"errors"
	"io/fs"
	"os"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Placed is a batch that is to be appended: its header, and the bytes of the
// whole field.
type Placed struct {
	Header record.Header
	Size   int64
}

// keepInterval is how many bytes are appended between two writings of the
// partial index. WHY: after a crash so much of the log is read at most to know
// its index again.
const keepInterval = 32 << 20

// Create makes a new, empty segment that begins at from (see Start). DURABLE:
// the file, its info and its name. If it fails, there is no such file.
func Create(o *Options, from Point) (*Segment, error) {
	s := newSegment(o, from.Offset)
	file, err := s.create()
	if err != nil {
		return nil, err
	}
	if err := s.writeInfo(file); err != nil {
		_ = file.Close()
		_ = removeFile(o.FS, s.path(LogSuffix))
		return nil, err
	}
	s.begin(from, from, FirstPosition)
	h := s.newHandle(file)
	s.handle.Store(h)
	o.Files.add(h)
	h.release()
	return s, nil
}

// create makes the file of s. One that has its name and no bytes is one that was
// erased (see Erase), or that nobody came to write to.
func (s *Segment) create() (vfs.File, error) {
	const flag = os.O_RDWR | os.O_CREATE | os.O_EXCL
	path := s.path(LogSuffix)
	f, err := s.o.FS.OpenFile(path, flag, 0o644)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if st, serr := s.o.FS.Stat(path); serr != nil || st.Size() > 0 {
		return nil, err
	}
	if err := removeFile(s.o.FS, path); err != nil {
		return nil, err
	}
	return s.o.FS.OpenFile(path, flag, 0o644)
}

// writeInfo writes what a segment begins with, durably. WHY: a file that is
// longer than its info then always had a good one.
func (s *Segment) writeInfo(file vfs.File) error {
	info := s.o.Identity.Info(s.base)
	if _, err := file.WriteAt(record.AppendSegmentInfo(nil, &info), 0); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	s.checked.Store(true)
	return s.o.FS.SyncDir(s.o.Dir)
}

// begin makes s a segment that is written to at `at` and whose index is known
// from `from` on.
func (s *Segment) begin(from, at Point, size int64) {
	s.at = at
	s.live.Store(newLiveIndex(from))
	s.end.Store(int64(at.Offset))
	s.size.Store(size)
}

// At is where the next batch goes.
//
// REQUIRES: called by the writer; s is not sealed.
func (s *Segment) At() Point { return s.at }

// Append writes whole batches with one vectored write and publishes them.
// pieces are the bytes of all of them in order. If it fails, nothing is
// published and the file is as before, durably, or the error is a
// *RollbackError.
//
// REQUIRES: called by the writer; the headers follow on At and on one another.
func (s *Segment) Append(pieces [][]byte, batches []Placed) error {
	if s.Sealed() {
		return ErrSealed
	}
	h, err := s.acquireToWrite()
	if err != nil {
		return err
	}
	defer h.release()
	end := s.at.Position
	for i := range batches {
		end += batches[i].Size
	}
	s.reserve(h, end)
	n, err := h.file.Writev(pieces, s.at.Position)
	if n > 0 {
		// Not before: a sync beside the write may end before it does.
		h.written.Add(1)
	}
	if err != nil {
		if n == 0 {
			// Nothing was written, so there is nothing to take away; and a disk
			// that became read-only could not.
			return err
		}
		return s.rollback(h, err)
	}
	x := s.live.Load()
	for i := range batches {
		x.add(s.base, &s.at)
		s.at.advance(&batches[i].Header, batches[i].Size)
	}
	// The end first: who sees the size sees the end that belongs to it, or a
	// later one.
	s.end.Store(int64(s.at.Offset))
	s.size.Store(s.at.Position)
	_ = s.Keep(keepInterval) // A cache; Keep says why a failure does not matter.
	return nil
}

// rollback takes a failed write away (rule S9). Truncation is shorten, sync,
// then append (rule F5): else what a client was told is not written could
// stand in the log after a power loss.
func (s *Segment) rollback(h *handle, cause error) error {
	if s.o.BeforeRollback != nil {
		s.o.BeforeRollback()
	}
	err := h.file.Truncate(s.at.Position)
	s.reserved = 0
	if err == nil {
		if err := h.sync(); err != nil {
			return &SyncError{File: s.path(LogSuffix), Err: err} // final for the directory (rule S6)
		}
	}
	if err != nil {
		return &RollbackError{File: s.path(LogSuffix), Position: s.at.Position, Write: cause, Rollback: err}
	}
	return cause
}

// Sync makes all batches durable that Append published before the call. It may
// be called beside Append. A *SyncError is final: what was written since the
// last good sync is in an unknown state for ever.
//
// REQUIRES: the caller holds a pin, or is the writer.
func (s *Segment) Sync() error {
	h := s.handle.Load()
	if h == nil || !h.retain() {
		// Only a file without unsynced bytes is ever closed; but after a
		// restart there may be some of an earlier process.
		var err error
		if h, err = s.acquire(); err != nil {
			return err
		}
	}
	defer h.release()
	if err := h.sync(); err != nil {
		return &SyncError{File: s.path(LogSuffix), Err: err}
	}
	return nil
}

// Rewind makes the writer's index forget what it can read again, and gives back
// room that was set aside.
//
// REQUIRES: called by the writer.
func (s *Segment) Rewind() {
	s.GiveBack()
	x := s.live.Load()
	if x == nil || x.count.Load() <= restEntries {
		return
	}
	if s.Keep(0) == nil && s.kept == s.at.Position {
		s.live.Store(newLiveIndex(s.at))
	}
}

// restEntries is how many entries of an index a log at rest may keep in
// memory: 1 KiB.
const restEntries = 64
