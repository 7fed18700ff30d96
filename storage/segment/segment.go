package segment

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Options are what the segments of one log have in common. They are not
// changed once a segment uses them.
type Options struct {
	FS       vfs.FS
	Dir      string
	Identity Identity
	Files    *Files
	// MaxBytes says how long a segment may become at present: a mapping is made
	// so long, so that it is made once.
	MaxBytes func() int64
	// BeforeRollback is called, by the writer, before a failed write is taken
	// away from a file; nil: nothing is.
	BeforeRollback func()
}

// mapSlack is how much longer than MaxBytes a mapping of a growing segment is:
// the batch that exceeds it has room.
const mapSlack = record.MaxLogBatchBytes + 1<<16

// openFile opens a file, for writing too if asked. A file system that cannot
// be written to is no reason not to read: readOnly tells of it.
func (o *Options) openFile(name string, writable bool) (f vfs.File, readOnly, err error) {
	flag := os.O_RDONLY
	if writable {
		flag = os.O_RDWR
	}
	f, err = o.FS.OpenFile(name, flag, 0)
	if vfs.IsTooManyFiles(err) {
		o.Files.exhausted.Add(1)
		// The first call only starts the interval that the second one ends.
		o.Files.Expire()
		o.Files.Expire()
		f, err = o.FS.OpenFile(name, flag, 0)
	}
	if writable && vfs.IsReadOnly(err) {
		readOnly = err
		f, err = o.FS.OpenFile(name, os.O_RDONLY, 0)
	}
	return f, readOnly, err
}

// Segment is one segment of a log.
//
// Who writes: the writer stores end and size, in that order, after the bytes
// are in the file; and live. Who reads: whoever holds a pin loads size once
// and never looks beyond it, so nobody sees bytes that are being written.
// What publishes: Append, by storing size.
type Segment struct {
	o    *Options
	base record.Offset

	end    atomic.Int64 // offset after the last batch
	size   atomic.Int64 // of the file's whole batches and info, in bytes
	sealed atomic.Bool

	// pins counts those who may look at the file now, and retiredBit says that
	// no more may come. gone is closed when it is set and the count is zero.
	pins atomic.Int64
	gone chan struct{}

	handle  atomic.Pointer[handle]
	checked atomic.Bool // the file's info was found to be right

	live    atomic.Pointer[liveIndex] // nil once sealed
	summary atomic.Pointer[Point]     // the end of a sealed segment, once known
	// rebuilding is held while the index of a sealed segment is made from its log
	// and written. WHY across that: another one at a time would read it all again,
	// and write the same file.
	rebuilding sync.Mutex

	// The writer's, meaningful until s is sealed: where the next batch goes, how
	// far the index was kept, and how far blocks were set aside, or asked for.
	at       Point
	kept     int64
	reserved int64
}

const retiredBit = 1 << 62

func newSegment(o *Options, base record.Offset) *Segment {
	return &Segment{o: o, base: base, gone: make(chan struct{})}
}

// OpenSealed returns a sealed segment, without looking at its files. end is
// the base offset of the segment after it, size the length of its file in
// bytes.
func OpenSealed(o *Options, base, end record.Offset, size int64) *Segment {
	s := newSegment(o, base)
	s.end.Store(int64(end))
	s.size.Store(size)
	s.sealed.Store(true)
	return s
}

// Base is the offset of the first record that the segment may hold.
func (s *Segment) Base() record.Offset { return s.base }

// End is the offset after the last record.
func (s *Segment) End() record.Offset { return record.Offset(s.end.Load()) }

// Size is the length of the file in bytes, without a group that is being
// written.
func (s *Segment) Size() int64 { return s.size.Load() }

// Sealed reports whether nothing is appended any more.
func (s *Segment) Sealed() bool { return s.sealed.Load() }

// IsEmpty reports whether the segment holds no batch.
func (s *Segment) IsEmpty() bool { return s.Size() == FirstPosition }

// Pin keeps the file of s as it is until Unpin; false means that s is retired:
// look at the log's current view.
func (s *Segment) Pin() bool {
	for {
		n := s.pins.Load()
		if n&retiredBit != 0 {
			return false
		}
		if s.pins.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Unpin ends what Pin began.
func (s *Segment) Unpin() {
	if s.pins.Add(-1) == retiredBit {
		s.vanish()
	}
}

// Retired reports whether s is not part of the log any more.
func (s *Segment) Retired() bool { return s.pins.Load()&retiredBit != 0 }

// Retire says that s is not part of the log any more. The file is closed when
// the last pin goes. Calling it again is harmless.
//
// REQUIRES: no new view of the log holds s.
func (s *Segment) Retire() {
	for {
		n := s.pins.Load()
		if n&retiredBit != 0 {
			return
		}
		if s.pins.CompareAndSwap(n, n|retiredBit) {
			if n == 0 {
				s.vanish()
			}
			return
		}
	}
}

// Gone is closed when s is retired and nobody looks at its file any more.
func (s *Segment) Gone() <-chan struct{} { return s.gone }

// vanish runs once: nobody can take a pin any more, so nobody can open the
// file.
func (s *Segment) vanish() {
	if h := s.handle.Swap(nil); h != nil {
		s.o.Files.drop(h)
	}
	close(s.gone)
}

// Remove removes the files of a retired segment, the log first: an index
// without a log is nothing, but a log without an index would have to be read.
// A file that is open stays readable to those who have it open.
//
// REQUIRES: s lies below the log start, by which its files are known for what
// they are if they come back; else Erase.
func (s *Segment) Remove() error {
	if err := removeFile(s.o.FS, s.path(LogSuffix)); err != nil {
		return err
	}
	if err := removeFile(s.o.FS, s.path(IndexSuffix)); err != nil {
		return err
	}
	return removeFile(s.o.FS, s.path(PartialSuffix))
}

func (s *Segment) path(suffix string) string {
	return filepath.Join(s.o.Dir, Name(s.base, suffix))
}

// mapLength is how long a mapping must be that covers [0, end).
func (s *Segment) mapLength(end int64) int64 {
	if s.Sealed() {
		return max(end, s.Size())
	}
	return max(end, s.o.MaxBytes()+mapSlack)
}

// checkInfo compares the info of the file with what it should be.
func (s *Segment) checkInfo(file vfs.File) error {
	info, err := ReadInfo(file, s.path(LogSuffix), s.base)
	if err != nil {
		return err
	}
	if err := s.o.Identity.check(s.path(LogSuffix), s.base, &info); err != nil {
		return err
	}
	s.checked.Store(true)
	return nil
}

// Rest closes the file of s if nobody uses it and all of it is synced, and
// drops what can be read again. It reports whether nothing is open.
//
// REQUIRES: called by the writer.
func (s *Segment) Rest() bool {
	h := s.handle.Load()
	return h == nil || s.o.Files.rest(h)
}
