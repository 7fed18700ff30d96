package mmap

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/millstream-io/millstream/storage/vfs"
)

// mapFile maps f for reading. It returns nil if the file is to be read
// instead: it has no descriptor, its file system cannot map, or not any more,
// as ext4 after an error that made it read-only, or the process has as many
// mappings, or as much address space, as it may.
func mapFile(f vfs.File, length int64) ([]byte, error) {
	d, ok := f.(vfs.FDer)
	if !ok || length == 0 || length > math.MaxInt {
		return nil, nil
	}
	memory, err := unix.Mmap(int(d.FD()), 0, int(length), unix.PROT_READ, unix.MAP_SHARED)
	if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EROFS) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "map", Path: f.Name(), Err: err}
	}
	return memory, nil
}

func (r *Region) unmap() error { return unix.Munmap(r.memory) }

// populate brings the pages of [off, off+n) into memory by a system call, so
// that the scheduler knows that the goroutine waits for a disk; a page fault
// would hold its processor. Bytes that cannot be had are an error here rather
// than a signal later.
func (r *Region) populate(off int64, n int) error {
	if r.noPopulate.Load() {
		return nil
	}
	start := off &^ int64(os.Getpagesize()-1)
	for {
		err := unix.Madvise(r.memory[start:off+int64(n)], unix.MADV_POPULATE_READ)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
		case errors.Is(err, unix.EINVAL):
			r.noPopulate.Store(true)
			return nil
		default:
			return r.fault(off, n, err)
		}
	}
}

// copyMapped is CopyAt on a mapping.
//
// REQUIRES: a reference is held and the range is within the region.
func (r *Region) copyMapped(dst []byte, off int64) (err error) {
	if err := r.populate(off, len(dst)); err != nil {
		return err
	}
	// Between the call above and the copy the file can shrink or a page be
	// evicted that then cannot be read again.
	defer r.guard(debug.SetPanicOnFault(true), off, len(dst), &err)
	copy(dst, r.memory[off:off+int64(len(dst))])
	return nil
}

// withMapped is With on a mapping.
//
// REQUIRES: a reference is held and the range is within the region.
func (r *Region) withMapped(off int64, n int, fn func([]byte) error) (err error) {
	if err := r.populate(off, n); err != nil {
		return err
	}
	defer r.guard(debug.SetPanicOnFault(true), off, n, &err)
	end := off + int64(n)
	return fn(r.memory[off:end:end])
}

// guard is deferred around each touch of the mapping. It turns a fault within
// the region into an error and passes on every other panic: a fault elsewhere
// is a bug that must not look like a bad disk.
func (r *Region) guard(before bool, off int64, n int, err *error) {
	debug.SetPanicOnFault(before)
	v := recover()
	if v == nil {
		return
	}
	fault, ok := v.(interface {
		runtime.Error
		Addr() uintptr
	})
	if !ok || !r.holds(fault.Addr()) {
		panic(v)
	}
	*err = r.fault(off, n, unix.EFAULT)
}

// holds reports whether an address is within the mapping, whole pages counted.
func (r *Region) holds(addr uintptr) bool {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(r.memory)))
	page := uintptr(os.Getpagesize())
	end := start + (uintptr(len(r.memory))+page-1)&^(page-1)
	return start <= addr && addr < end
}
