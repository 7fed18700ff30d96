package scale

import (
	"errors"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// each opens files that are not empty and removed, one after the other.
func each(files []string, do func(f *os.File, size int) error) error {
	for _, name := range files {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		st, err := f.Stat()
		if err == nil && st.Size() > 0 {
			err = do(f, int(st.Size()))
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// evict asks the system to forget files. What is not written back, or is
// mapped by somebody, stays.
func evict(files []string) error {
	return each(files, func(f *os.File, _ int) error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) })
}

// warm reads files, so that they are in memory.
func warm(files []string) error {
	return each(files, func(f *os.File, _ int) error {
		_, err := io.Copy(io.Discard, struct{ io.Reader }{f})
		return err
	})
}

// residency returns the fraction of the pages of files that is in memory.
func residency(files []string) (float64, error) {
	pages, in := 0, 0
	err := each(files, func(f *os.File, size int) error {
		m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		page := os.Getpagesize()
		vec := make([]byte, (size+page-1)/page)
		_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&vec[0]))) //nolint:gosec // mincore has no wrapper.
		if errno != 0 {
			return errors.Join(os.NewSyscallError("mincore", errno), unix.Munmap(m))
		}
		for _, v := range vec {
			in += int(v & 1)
		}
		pages += len(vec)
		return unix.Munmap(m)
	})
	return float64(in) / float64(max(pages, 1)), err
}
