// Package mmap reads files through memory, and survives what that brings: on
// Linux a file is mapped, elsewhere and for files without a descriptor it is
// read, and callers cannot tell.
//
// It owns all calls of mmap, munmap and madvise, and the guard without which
// a bad sector or a file cut short under a reader would end the process. It
// refuses to own writing (a store to a mapping of a full disk is a signal, a
// write is an error) and the decision what a fault means: whoever knows how
// long the file should be decides between damage and a truncation.
//
// INVARIANT: mapped memory is touched only while a reference is held, and only
// under the guard; a mapping is taken down once, after the last reference
// went.
//
// Mappings are taken down on one goroutine, because it takes milliseconds a
// gigabyte. The first Release that needs it starts it, it ends when nothing is
// left to do, and Settle waits for it.
package mmap

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/millstream-io/millstream/storage/vfs"
)

// ErrReleased says that a region was used after its last reference went.
var ErrReleased = errors.New("mmap: region used after its release")

// ErrOutside says that a range is not within the region.
var ErrOutside = errors.New("mmap: range outside the region")

// FaultError says that bytes of a file cannot be read: the file is shorter
// than was thought, or the disk cannot give them. (Rule S4: it is damage only
// if the file is as long as it should be.)
type FaultError struct {
	File   string
	Offset int64 // of the range asked for, in bytes
	Length int   // of the range asked for, in bytes
	// Err is the cause: EFAULT (beyond the file's end, or the disk failed),
	// EIO, io.ErrUnexpectedEOF, ErrOutside.
	Err error
}

// Error says which bytes, and why.
func (e *FaultError) Error() string {
	return fmt.Sprintf("read %s [%d, %d): %v", e.File, e.Offset, e.Offset+int64(e.Length), e.Err)
}

// Unwrap returns the cause.
func (e *FaultError) Unwrap() error { return e.Err }

// Region is a range of a file, from its start, that can be read. All methods
// may be called by several goroutines at once.
//
// It lives while references to it do. CopyAt and With take one for
// themselves, so that a reader that comes too late gets ErrReleased and never
// the memory of whatever was mapped at that address next.
type Region struct {
	name   string
	length int64
	file   vfs.File // used only if memory is nil
	owned  []io.Closer
	memory []byte // the mapping, or nil if the file is read
	// noPopulate is set once the kernel said that it cannot (before 5.14).
	noPopulate atomic.Bool
	// refs counts references. It never rises from 0.
	refs atomic.Int64
}

// Open makes the first length bytes of f readable, also those beyond its end
// that will be written later. The caller holds the first reference.
//
// REQUIRES: f stays open until the region is gone. The closers in owned are
// closed then, in order, with their errors dropped; so pass f itself to hand
// it over.
func Open(f vfs.File, length int64, owned ...io.Closer) (*Region, error) {
	if length < 0 {
		return nil, fmt.Errorf("map %s: length %d: %w", f.Name(), length, ErrOutside)
	}
	memory, err := mapFile(f, length)
	if err != nil {
		return nil, err
	}
	r := &Region{name: f.Name(), length: length, file: f, owned: owned, memory: memory}
	r.refs.Store(1)
	live.regions.Add(1)
	if memory != nil {
		live.mapped.Add(1)
		live.bytes.Add(length)
	}
	return r, nil
}

// Len is the region's length in bytes.
func (r *Region) Len() int64 { return r.length }

// Mapped reports whether the region is mapped; otherwise it is read.
func (r *Region) Mapped() bool { return r.memory != nil }

// Retain takes a reference. False means that the region is gone, and that
// nothing was taken.
func (r *Region) Retain() bool {
	for {
		n := r.refs.Load()
		if n <= 0 {
			return false
		}
		if r.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release gives a reference back. With the last one the region goes: a
// mapping in the background, else at once. Releasing more than was retained
// panics.
func (r *Region) Release() {
	switch n := r.refs.Add(-1); {
	case n > 0:
	case n < 0:
		panic("mmap: region of " + r.name + " released more often than retained")
	case r.memory != nil:
		unmapLater(r)
	default:
		r.closeOwned()
		live.regions.Add(-1)
	}
}

func (r *Region) closeOwned() {
	for _, c := range r.owned {
		_ = c.Close() // Nobody is left to tell, and nothing was written through it.
	}
}

// CopyAt copies len(dst) bytes from off. It copies all or returns an error:
// a *FaultError or ErrReleased; dst holds anything then.
//
// Bytes behind the file's end are a *FaultError, but on the last page of a
// mapping they can be zeros: ask only for what was written.
func (r *Region) CopyAt(dst []byte, off int64) error {
	if !r.Retain() {
		return ErrReleased
	}
	defer r.Release()
	if err := r.contains(off, len(dst)); err != nil || len(dst) == 0 {
		return err
	}
	if r.memory == nil {
		return r.readAt(dst, off)
	}
	return r.copyMapped(dst, off)
}

// With calls fn with the n bytes at off, without copying them if they are
// mapped. A fault in fn is a *FaultError; what else fn returns or panics with
// is passed on.
//
// BORROWED: b is valid until fn returns, and fn must not hand it to another
// goroutine: the guard protects this one only.
func (r *Region) With(off int64, n int, fn func(b []byte) error) error {
	if !r.Retain() {
		return ErrReleased
	}
	defer r.Release()
	if err := r.contains(off, n); err != nil {
		return err
	}
	if n == 0 {
		return fn(nil)
	}
	if r.memory == nil {
		b := make([]byte, n)
		if err := r.readAt(b, off); err != nil {
			return err
		}
		return fn(b)
	}
	return r.withMapped(off, n, fn)
}

func (r *Region) contains(off int64, n int) error {
	if off < 0 || n < 0 || off > r.length || int64(n) > r.length-off {
		return r.fault(off, n, ErrOutside)
	}
	return nil
}

func (r *Region) fault(off int64, n int, err error) error {
	return &FaultError{File: r.name, Offset: off, Length: n, Err: err}
}

func (r *Region) readAt(dst []byte, off int64) error {
	n, err := r.file.ReadAt(dst, off)
	switch {
	case n == len(dst):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return r.fault(off, len(dst), err)
}
