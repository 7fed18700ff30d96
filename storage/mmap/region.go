// Package mmap reads files through memory, and survives what that brings.
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
// than was thought, or the disk cannot give them.
type FaultError struct {
	File   string
	Offset int64 // of the range asked for, in bytes
	Length int   // of the range asked for, in bytes
	Err    error // EFAULT, EIO, io.ErrUnexpectedEOF, ErrOutside, …
}

// Error says which bytes, and why.
func (e *FaultError) Error() string {
	return fmt.Sprintf("read %s [%d, %d): %v", e.File, e.Offset, e.Offset+int64(e.Length), e.Err)
}

// Unwrap returns the cause.
func (e *FaultError) Unwrap() error { return e.Err }

// Region is a range of a file, from its start, that can be read.
type Region struct {
	name   string
	length int64
	file   vfs.File
	owned  []io.Closer
	refs   atomic.Int64
}

// Open makes the first length bytes of f readable, also those beyond its end
// which come later. The caller holds the first reference. f must stay open
// until the region is gone; owned are closed then, in order (so pass f itself
// to hand it over).
func Open(f vfs.File, length int64, owned ...io.Closer) (*Region, error) {
	r := &Region{name: f.Name(), length: length, file: f, owned: owned}
	r.refs.Store(1)
	return r, nil
}

// Len is the region's length in bytes.
func (r *Region) Len() int64 { return r.length }

// Retain takes a reference; false means that the region is gone.
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

// Release gives a reference back.
func (r *Region) Release() {
	n := r.refs.Add(-1)
	if n < 0 {
		panic("mmap: region released more often than retained")
	}
	if n == 0 {
		for _, c := range r.owned {
			_ = c.Close()
		}
	}
}

// CopyAt copies len(dst) bytes from off.
func (r *Region) CopyAt(dst []byte, off int64) error {
	if !r.Retain() {
		return ErrReleased
	}
	defer r.Release()
	if off < 0 || int64(len(dst)) > r.length-off {
		return &FaultError{File: r.name, Offset: off, Length: len(dst), Err: ErrOutside}
	}
	n, err := r.file.ReadAt(dst, off)
	if n == len(dst) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &FaultError{File: r.name, Offset: off, Length: len(dst), Err: err}
}

// With calls fn with the n bytes at off. BORROWED: b is valid until fn
// returns.
func (r *Region) With(off int64, n int, fn func(b []byte) error) error {
	b := make([]byte, n)
	if err := r.CopyAt(b, off); err != nil {
		return err
	}
	return fn(b)
}

// Counts are the mappings of this process.
type Counts struct {
	Regions int64 // open regions, mapped or not
	Mapped  int64 // mappings
	Bytes   int64 // length of the mappings in bytes
	Pending int64 // mappings that wait to be unmapped
}

// Live returns the counts as of now.
func Live() Counts { return Counts{} }
