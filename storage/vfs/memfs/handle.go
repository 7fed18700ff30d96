package memfs

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/millstream-io/millstream/storage/vfs"
)

// handle is an open file.
type handle struct {
	fs     *FS
	node   *inode
	name   string
	access int  // os.O_RDONLY, os.O_WRONLY or os.O_RDWR
	closed bool // guarded by fs.mu
}

var (
	_ vfs.File     = (*handle)(nil)
	_ vfs.Reserver = (*handle)(nil)
)

func (h *handle) Name() string { return h.name }

func (h *handle) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return h.fault("close", os.ErrClosed)
	}
	h.closed = true
	h.fs.open--
	return nil
}

func (h *handle) fault(op string, err error) error {
	return &fs.PathError{Op: op, Path: h.name, Err: err}
}

// usable says why a call cannot be made.
//
// REQUIRES: fs.mu is held.
func (h *handle) usable(refused int, off int64) error {
	switch {
	case h.closed:
		return os.ErrClosed
	case h.access == refused:
		return syscall.EBADF
	case off < 0:
		return syscall.EINVAL
	}
	return nil
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.RLock()
	defer h.fs.mu.RUnlock()
	if len(p) == 0 && !h.closed && off >= 0 {
		return 0, nil
	}
	if err := h.usable(os.O_WRONLY, off); err != nil {
		return 0, h.fault("read", err)
	}
	return h.node.now.readAt(p, off) // io.EOF is not wrapped, as in package os.
}

func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	b := make([]byte, len(p))
	copy(b, p)
	return h.write(b, off)
}

func (h *handle) Writev(pieces [][]byte, off int64) (int, error) {
	n := 0
	for _, p := range pieces {
		n += len(p)
	}
	b := make([]byte, 0, n)
	for _, p := range pieces {
		b = append(b, p...)
	}
	return h.write(b, off)
}

// write takes b over: until it is synced, it is what a power loss may tear.
func (h *handle) write(b []byte, off int64) (int, error) {
	n, err := h.writeLocked(b, off)
	if n > 0 {
		h.fs.done(Op{Kind: Write, Name: clean(h.name), Offset: off, Bytes: int64(n)})
	}
	if err != nil {
		return n, h.fault("write", err)
	}
	return n, nil
}

func (h *handle) writeLocked(b []byte, off int64) (int, error) {
	f := h.fs
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(b) == 0 && !h.closed && off >= 0 {
		return 0, nil // As package os, which makes no call then.
	}
	if err := h.usable(os.O_RDONLY, off); err != nil {
		return 0, err
	}
	if off > maxFileBytes-int64(len(b)) {
		return 0, syscall.EFBIG
	}
	had := h.node.now.size
	n := h.node.now.writeAt(b, off, func() bool {
		if f.used+pageBytes > f.capacity {
			return false
		}
		f.used += pageBytes
		return true
	})
	if n > 0 {
		f.seq++
		h.node.pending = append(h.node.pending, write{seq: f.seq, off: off, b: b[:n:n], sized: h.node.now.size > had})
		h.node.modified = f.clock()
	}
	if n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (h *handle) Truncate(size int64) error {
	err := h.fs.locked(func() error {
		if err := h.usable(os.O_RDONLY, size); err != nil {
			if errors.Is(err, syscall.EBADF) {
				return syscall.EINVAL // As ftruncate says it.
			}
			return err
		}
		if size > maxFileBytes {
			return syscall.EFBIG
		}
		h.truncateLocked(size)
		return nil
	})
	if err != nil {
		return h.fault("truncate", err)
	}
	h.fs.done(Op{Kind: Truncate, Name: clean(h.name), Offset: size})
	return nil
}

func (h *handle) truncateLocked(size int64) {
	f := h.fs
	h.node.reserved = 0
	if size == h.node.now.size {
		return // As it was: there is nothing to write.
	}
	f.used -= pageBytes * int64(h.node.now.truncate(size))
	f.seq++
	h.node.pending = append(h.node.pending, write{seq: f.seq, off: size, truncate: true, sized: true})
	h.node.modified = f.clock()
}

// Reserve makes handle a vfs.Reserver. What is set aside is noted, and counts
// for nothing; but there must be room.
func (h *handle) Reserve(off, n int64) error {
	err := h.fs.locked(func() error {
		if err := h.usable(os.O_RDONLY, min(off, n-1)); err != nil {
			return err
		}
		if h.fs.used+n > h.fs.capacity {
			return syscall.ENOSPC
		}
		h.node.reserved = max(h.node.reserved, off+n)
		return nil
	})
	if err != nil {
		return h.fault("fallocate", err)
	}
	return nil
}

// Trim makes handle a vfs.Reserver.
func (h *handle) Trim(size int64) error {
	err := h.fs.locked(func() error {
		if h.closed {
			return os.ErrClosed
		}
		if size == h.node.now.size {
			h.node.reserved = 0
		}
		return nil
	})
	if err != nil {
		return h.fault("truncate", err)
	}
	return nil
}

func (h *handle) Sync() error {
	err := h.fs.locked(func() error {
		if h.closed {
			return os.ErrClosed
		}
		h.node.sync()
		return nil
	})
	if err != nil {
		return h.fault("sync", err)
	}
	h.fs.done(Op{Kind: Sync, Name: clean(h.name)})
	return nil
}

// FailSync is a sync that fails as Linux lets it fail: what was not synced
// stays readable, but counts as clean from then on, so that no later sync
// brings it to the disk. Nor does one bring a length there at which the file
// was cut, until something gives the file another length.
func (h *handle) FailSync() {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	h.node.pending = nil
}

func (h *handle) Size() (int64, error) {
	h.fs.mu.RLock()
	defer h.fs.mu.RUnlock()
	if h.closed {
		return 0, h.fault("stat", os.ErrClosed)
	}
	return h.node.now.size, nil
}
