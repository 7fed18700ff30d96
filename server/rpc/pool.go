package rpc

import (
	"math/bits"
	"sync"
)

// BufferPool is a mem.BufferPool that hands out buffers as they are.
//
// WHY: gRPC's own pool has five sizes, the greatest two of them 32 KiB and
// 1 MiB, and clears a buffer on each Get: a message of 64 KiB costs clearing
// 1 MiB. Here a buffer is at most a quarter larger than asked for, and nothing
// is cleared, because every user writes a buffer before it shows it to
// anybody.
//
// It is safe for concurrent use. Buffers that nobody uses are freed by the
// garbage collector.
type BufferPool struct {
	classes [poolClasses]sync.Pool
}

const (
	// minPooled is the size of the smallest buffer handed out.
	minPooled = 1 << minPooledBits
	// maxPooled is the size of the largest buffer that is kept; larger ones
	// are made and forgotten.
	maxPooled = 16 << 20

	minPooledBits = 8
	// Four classes between one power of two and the next.
	poolClasses = (24-minPooledBits)*4 + 1
)

var sharedPool BufferPool

// SharedPool returns the pool that all servers and streams of a process
// share.
func SharedPool() *BufferPool { return &sharedPool }

// Get returns a buffer of the given length whose content is arbitrary.
func (p *BufferPool) Get(length int) *[]byte {
	if length > maxPooled {
		b := make([]byte, length)
		return &b
	}
	class, size := poolClass(length)
	if b, ok := p.classes[class].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, size)
	return &b
}

// Put gives a buffer back.
// REQUIRES: b came from Get and nobody uses its bytes any longer.
func (p *BufferPool) Put(b *[]byte) {
	c := cap(*b)
	if c < minPooled || c > maxPooled {
		return
	}
	if class, size := poolClass(c); size == c { // else not ours
		p.classes[class].Put(b)
	}
}

// poolClass returns the class of buffers that hold n bytes and their size.
func poolClass(n int) (class, size int) {
	if n <= minPooled {
		return 0, minPooled
	}
	// 2^k < n <= 2^(k+1), in quarters of 2^k.
	k := bits.Len(uint(n-1)) - 1
	quarter := 1 << (k - 2)
	q := (n - 1<<k + quarter - 1) / quarter // 1 to 4
	return (k-minPooledBits)*4 + q, 1<<k + q*quarter
}
