package vfs

import (
	"os"

	"golang.org/x/sys/unix"
)

var _ Reserver = (*osFile)(nil)

// Reserve makes osFile a Reserver.
func (f *osFile) Reserve(off, n int64) error {
	return f.raw("fallocate", func() error {
		return unix.Fallocate(int(f.fd), unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

const (
	sectorBytes = 512 // of which st_blocks counts
	// trimSlack is how much more than its length a file may occupy without
	// anything being set aside: its last block, and the tree of its extents.
	trimSlack = 256 << 10
)

// Trim gives blocks back by setting the length that the file has, at which
// ext4, XFS and the like free what lies behind. A file that has none is only
// looked at.
func (f *osFile) Trim(size int64) error {
	return f.raw("truncate", func() error {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.fd), &st); err != nil {
			return err
		}
		if st.Size != size || st.Blocks*sectorBytes <= size+trimSlack {
			return nil
		}
		return unix.Ftruncate(int(f.fd), size)
	})
}

// raw makes a system call on the descriptor.
func (f *osFile) raw(op string, call func() error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return f.fault(op, os.ErrClosed)
	}
	if err := ignoringEINTR(call); err != nil {
		return f.fault(op, err)
	}
	return nil
}
