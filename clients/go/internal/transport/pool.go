package transport

import (
	"math/bits"
	"sync"

	"google.golang.org/grpc/mem"
)

// Sizes of pooled buffers, as powers of two: 1 KiB to 16 MiB. What is larger
// is left to the garbage collector.
const (
	smallestTier = 10
	largestTier  = 24
)

// Pool pools buffers by powers of two and does not clear them. gRPC's own
// pool rounds 64 KiB up to 1 MiB and clears all of it on each Get, which
// halves the speed of a fetch. The zero Pool is ready for use, by any number
// of goroutines.
type Pool struct {
	tiers [largestTier + 1]sync.Pool
}

var _ mem.BufferPool = (*Pool)(nil)

// Capacity returns the capacity of the buffer that Get returns for n bytes.
func Capacity(n int) int {
	tier := tierOf(n)
	if tier > largestTier {
		return n
	}
	return 1 << tier
}

// Get returns a buffer of n bytes that hold anything.
func (p *Pool) Get(n int) *[]byte {
	tier := tierOf(n)
	if tier > largestTier {
		b := make([]byte, n)
		return &b
	}
	if b, ok := p.tiers[tier].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, 1<<tier)
	return &b
}

// Put gives a buffer back.
func (p *Pool) Put(b *[]byte) {
	c := cap(*b)
	if c&(c-1) != 0 || c < 1<<smallestTier || c > 1<<largestTier {
		return
	}
	p.tiers[tierOf(c)].Put(b)
}

func tierOf(n int) int { return max(smallestTier, bits.Len(uint(max(n, 1)-1))) }
