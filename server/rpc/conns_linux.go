package rpc

import (
	"errors"
	"io"
	"net"
	"syscall"

	"google.golang.org/grpc/mem"
)

// frugalConn is a connection that takes a buffer only when there is something
// to read.
//
// WHY: gRPC holds a read buffer for as long as it waits, 256 KiB for each idle
// connection, unless a connection is a bare TCP or Unix one, or does this
// itself; and ours are not bare.
type frugalConn struct {
	*connection
	raw syscall.RawConn

	// Of the read under way, kept here so that it allocates nothing. gRPC reads
	// a connection with one goroutine.
	size int
	pool mem.BufferPool
	buf  *[]byte
	n    int
	err  error
	read func(fd uintptr) bool
}

// frugal returns the connection with frugal reads, if it is of a kind that
// can.
func frugal(c *connection) net.Conn {
	var raw syscall.RawConn
	var err error
	switch conn := c.Conn.(type) {
	case *net.TCPConn:
		raw, err = conn.SyscallConn()
	case *net.UnixConn:
		raw, err = conn.SyscallConn()
	default:
		return c
	}
	if err != nil {
		return c
	}
	f := &frugalConn{connection: c, raw: raw}
	f.read = f.tryRead
	return f
}

// ReadOnReady waits until there are bytes, then reads them into a buffer from
// the pool. It is what gRPC asks for.
func (f *frugalConn) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	f.size, f.pool = size, pool
	err := f.raw.Read(f.read)
	buf, n := f.buf, f.n
	if err == nil {
		err = f.err
	}
	f.buf, f.pool, f.n, f.err = nil, nil, 0, nil
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		if buf != nil {
			pool.Put(buf)
		}
		return nil, 0, err
	}
	f.heard(n)
	return buf, n, nil
}

// tryRead reads what is there. It returns false if there is nothing yet.
func (f *frugalConn) tryRead(fd uintptr) bool {
	f.buf = f.pool.Get(f.size)
	for {
		// The syscall package, as in package net: the race detector is told of
		// reads and writes by the same variable.
		f.n, f.err = syscall.Read(int(fd), *f.buf)
		switch {
		case errors.Is(f.err, syscall.EINTR):
			continue
		case errors.Is(f.err, syscall.EAGAIN):
			f.pool.Put(f.buf)
			f.buf, f.err = nil, nil
			return false
		}
		return true
	}
}
