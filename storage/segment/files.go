package segment

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/millstream-io/millstream/storage/mmap"
	"github.com/millstream-io/millstream/storage/vfs"
)

// DefaultMaxFiles is how many files NewFiles keeps open if not told.
const DefaultMaxFiles = 1024

// Files bounds the open files and mappings of all segments that share it. It
// keeps what was used lately and closes the rest: second chance, which is LRU
// but for the lock that LRU would need on each use.
//
// A file with bytes that were not synced is never closed to make room: an
// error of writing them back is told once, to those who have the file open. So
// Open may exceed the bound while more logs than that have unsynced bytes or
// are being read this moment.
//
// Files starts no goroutine and needs no closing: it is empty when all
// segments are retired or rested.
type Files struct {
	max int

	open      atomic.Int64
	opened    atomic.Int64
	evicted   atomic.Int64
	exhausted atomic.Int64

	mu   sync.Mutex // guards ring, hand and handle.slot; never held across I/O
	ring []*handle
	hand int
}

// NewFiles returns an empty set that keeps at most max files open; 0 means
// DefaultMaxFiles.
func NewFiles(limit int) *Files {
	if limit <= 0 {
		limit = DefaultMaxFiles
	}
	return &Files{max: limit}
}

// FileCounts are the counts of a Files.
type FileCounts struct {
	Open      int64 // files open now
	Max       int64 // files kept open
	Opened    int64 // files opened so far
	Evicted   int64 // files closed so far to make room, or because they rested
	Exhausted int64 // times that the process had no descriptor left
}

// Crowded tells whether more files are open than are to be kept open.
func (f *Files) Crowded() bool { return f.open.Load() > int64(f.max) }

// Counts returns the counts as of now.
func (f *Files) Counts() FileCounts {
	return FileCounts{
		Open: f.open.Load(), Max: int64(f.max), Opened: f.opened.Load(), Evicted: f.evicted.Load(),
		Exhausted: f.exhausted.Load(),
	}
}

// handle is an open file of a segment, and its mapping once somebody read it.
//
// INVARIANT: refs counts the users of the moment, and one for Files as long as
// the handle is in its ring. Who brings it to zero closes the file; zero is
// final.
type handle struct {
	owner *Segment
	file  vfs.File
	// reserver is file, if room can be set aside in it.
	reserver vfs.Reserver
	// readOnly is why the file could not be opened for writing; nil: it was, or
	// was not meant to.
	readOnly error
	// descriptor closes file when the handle and its last region are gone.
	descriptor *shared

	refs atomic.Int32
	used atomic.Bool // since the hand of the clock came by

	// written and synced count writes that have ended, and those that had
	// before the last good sync began. They differ while there is something that
	// a sync must still answer for, but for a write under way, whose writer
	// holds a reference.
	written, synced atomic.Uint64
	// syncing is held for a sync; unsynced is how one failed. WHY not two at
	// once, nor one after that: the system tells an error once to each descriptor,
	// and whoever asks next is told that all is well.
	syncing  sync.Mutex
	unsynced error // guarded by syncing

	region atomic.Pointer[mmap.Region]
	index  atomic.Pointer[Index] // of a sealed segment, once needed

	slot int // in Files.ring; -1: not there. Guarded by Files.mu.
}

// shared closes a file when the last of several holders closes it.
type shared struct {
	file    vfs.File
	holders atomic.Int32
}

func (s *shared) Close() error {
	if s.holders.Add(-1) > 0 {
		return nil
	}
	return s.file.Close()
}

func (h *handle) dirty() bool { return h.written.Load() != h.synced.Load() }

// retain takes a reference; false means that the handle is gone.
func (h *handle) retain() bool {
	for {
		n := h.refs.Load()
		if n <= 0 {
			return false
		}
		if h.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (h *handle) release() {
	if h.refs.Add(-1) == 0 {
		h.close()
	}
}

// close closes the file and gives the mapping back. REQUIRES: refs is 0.
func (h *handle) close() {
	h.owner.handle.CompareAndSwap(h, nil)
	if r := h.region.Swap(nil); r != nil {
		r.Release()
	}
	// Nothing depends on the result: what was written was synced, or its
	// segment was removed, or the log has failed.
	_ = h.descriptor.Close()
	h.owner.o.Files.open.Add(-1)
}

// sync makes durable what was written before the call. If one has failed, all
// that come later fail with its error.
func (h *handle) sync() error {
	w := h.written.Load()
	h.syncing.Lock()
	defer h.syncing.Unlock()
	if h.unsynced != nil {
		return h.unsynced
	}
	if err := h.file.Sync(); err != nil {
		h.unsynced = err
		return err
	}
	for {
		s := h.synced.Load()
		if s >= w || h.synced.CompareAndSwap(s, w) {
			return nil
		}
	}
}

// add puts h, which has a reference for it, into the ring, and closes others
// to make room.
func (f *Files) add(h *handle) {
	f.open.Add(1)
	f.opened.Add(1)
	var victim *handle
	f.mu.Lock()
	h.slot = len(f.ring)
	f.ring = append(f.ring, h)
	if len(f.ring) > f.max {
		victim = f.victim()
	}
	f.mu.Unlock()
	if victim != nil {
		f.evicted.Add(1)
		victim.close()
	}
}

// sweep is how many handles one addition looks at for one to close. If all of
// them are in use, the ring grows, and the next addition looks further.
const sweep = 64

// victim takes a handle out of the ring that nobody uses: its refs are 0 then.
//
// REQUIRES: f.mu is held.
func (f *Files) victim() *handle {
	for range min(sweep, 2*len(f.ring)) {
		if f.hand >= len(f.ring) {
			f.hand = 0
		}
		h := f.ring[f.hand]
		if h.used.Swap(false) || h.dirty() || !h.refs.CompareAndSwap(1, 0) {
			f.hand++
			continue
		}
		f.unlink(h)
		return h
	}
	return nil
}

// unlink takes h out of the ring.
//
// REQUIRES: f.mu is held.
func (f *Files) unlink(h *handle) bool {
	if h.slot < 0 {
		return false
	}
	last := len(f.ring) - 1
	f.ring[h.slot] = f.ring[last]
	f.ring[h.slot].slot = h.slot
	f.ring[last] = nil
	f.ring = f.ring[:last]
	h.slot = -1
	return true
}

// drop takes h out of the ring; it closes when its last user is done.
func (f *Files) drop(h *handle) {
	f.mu.Lock()
	linked := f.unlink(h)
	f.mu.Unlock()
	if linked {
		h.release()
	}
}

// rest closes h if nobody uses it and all its bytes are synced.
func (f *Files) rest(h *handle) bool {
	if h.dirty() || !h.refs.CompareAndSwap(1, 0) {
		return false
	}
	f.mu.Lock()
	f.unlink(h)
	f.mu.Unlock()
	f.evicted.Add(1)
	h.close()
	return true
}

// Expire closes the files that nobody used since the last call, but those with
// bytes that were not synced. Called at intervals, it bounds how long a file
// that was read once stays open. It returns how many it closed.
func (f *Files) Expire() int {
	var victims []*handle
	f.mu.Lock()
	for i := 0; i < len(f.ring); {
		h := f.ring[i]
		if h.used.Swap(false) || h.dirty() || !h.refs.CompareAndSwap(1, 0) {
			i++
			continue
		}
		f.unlink(h) // Another is at i now.
		victims = append(victims, h)
	}
	f.mu.Unlock()
	for _, h := range victims {
		f.evicted.Add(1)
		h.close()
	}
	return len(victims)
}

// acquire returns an open handle of s, with a reference for the caller.
//
// REQUIRES: the caller holds a pin on s, or is its writer.
func (s *Segment) acquire() (*handle, error) {
	for {
		h := s.handle.Load()
		if h != nil && h.retain() {
			// Read first: a line that all readers write is slower than one
			// that they share.
			if !h.used.Load() {
				h.used.Store(true)
			}
			return h, nil
		}
		if h != nil {
			// It is being closed, and leaves its place before that.
			s.handle.CompareAndSwap(h, nil)
		}
		if h, err := s.open(); h != nil || err != nil {
			return h, err
		}
	}
}

// acquireToWrite is acquire for what can be written to. A file that could only be
// opened for reading is opened again: the file system may take writes by now, and
// while somebody reads, or tries to write, the file would not be closed by itself.
//
// REQUIRES: called by the writer.
func (s *Segment) acquireToWrite() (*handle, error) {
	h, err := s.acquire()
	if err != nil || h.readOnly == nil {
		return h, err
	}
	if !h.dirty() && s.handle.CompareAndSwap(h, nil) {
		s.o.Files.drop(h)
	}
	h.release()
	if h, err = s.acquire(); err != nil {
		return nil, err
	}
	if readOnly := h.readOnly; readOnly != nil {
		h.release()
		return nil, readOnly
	}
	return h, nil
}

// open opens the file of s. It returns nothing if another did so meanwhile.
func (s *Segment) open() (*handle, error) {
	file, readOnly, err := s.o.openFile(s.path(LogSuffix), !s.Sealed())
	if err != nil {
		return nil, err
	}
	if !s.checked.Load() {
		if err := s.checkInfo(file); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	h := s.newHandle(file)
	h.readOnly = readOnly
	if !s.handle.CompareAndSwap(nil, h) {
		return nil, file.Close()
	}
	s.o.Files.add(h)
	return h, nil
}

func (s *Segment) newHandle(file vfs.File) *handle {
	h := &handle{owner: s, file: file, descriptor: &shared{file: file}, slot: -1}
	h.reserver, _ = file.(vfs.Reserver)
	h.descriptor.holders.Store(1)
	h.refs.Store(2) // The ring's and the caller's.
	return h
}

// view returns a mapping of h that covers [0, end).
func (h *handle) view(end int64) (*mmap.Region, error) {
	for {
		r := h.region.Load()
		if r != nil && r.Len() >= end {
			return r, nil
		}
		h.descriptor.holders.Add(1)
		fresh, err := mmap.Open(h.file, h.owner.mapLength(end), h.descriptor)
		if err != nil {
			return nil, errors.Join(err, h.descriptor.Close())
		}
		if !h.region.CompareAndSwap(r, fresh) {
			fresh.Release()
			continue
		}
		if r != nil {
			r.Release()
		}
	}
}

// with calls fn with the n bytes at off. BORROWED: until fn returns.
func (h *handle) with(off int64, n int, fn func([]byte) error) error {
	for {
		r, err := h.view(off + int64(n))
		if err != nil {
			return err
		}
		// A region that grew too small is replaced under its users' feet.
		if err = r.With(off, n, fn); !errors.Is(err, mmap.ErrReleased) {
			return err
		}
	}
}
