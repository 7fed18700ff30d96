package vfs

import (
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syncFile writes the bytes and what is needed to find them, the length
// included, but not the times.
func syncFile(_ *os.File, fd uintptr) error {
	return ignoringEINTR(func() error { return unix.Fdatasync(int(fd)) })
}

// iovecs is one vectored write's argument, reused: a group commit must not
// allocate.
type iovecs [MaxPieces]unix.Iovec

var iovecPool = sync.Pool{New: func() any { return new(iovecs) }}

// writev writes pieces at off with as few system calls as their number
// allows.
//
// REQUIRES: f.mu is held for reading and f is open.
func writev(f *osFile, pieces [][]byte, off int64) (int, error) {
	vec := iovecPool.Get().(*iovecs)
	written := 0
	cur := cursor{pieces: pieces}
	used := 0
	defer func() {
		clear(vec[:used]) // The pool must not keep the pieces alive.
		iovecPool.Put(vec)
	}()
	for {
		n := cur.fill(vec)
		used = max(used, n)
		if n == 0 {
			return written, nil
		}
		w, err := pwritev(f.fd, vec[:n], off+int64(written))
		if err != nil {
			return written, err
		}
		if w == 0 {
			return written, io.ErrShortWrite
		}
		written += w
		cur.advance(w)
	}
}

func pwritev(fd uintptr, vec []unix.Iovec, off int64) (int, error) {
	for {
		// The offset goes in two halves; on 64-bit systems the second is
		// shifted out by the kernel.
		n, _, errno := unix.Syscall6(unix.SYS_PWRITEV, fd, uintptr(unsafe.Pointer(&vec[0])),
			uintptr(len(vec)), uintptr(off), uintptr(off>>32), 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// fill points vec at the bytes that are not yet written and returns how many
// entries it used.
func (c *cursor) fill(vec *iovecs) int {
	n := 0
	for i, skip := c.index, c.skip; i < len(c.pieces) && n < len(vec); i, skip = i+1, 0 {
		p := c.pieces[i][skip:]
		if len(p) == 0 {
			continue
		}
		vec[n].Base = &p[0]
		vec[n].SetLen(len(p))
		n++
	}
	return n
}
