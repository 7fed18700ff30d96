package vfs

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// TestShortWritesAreContinued plays a kernel that takes some bytes of each
// call and no more.
func TestShortWritesAreContinued(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 5))
	for range 300 {
		var pieces [][]byte
		var all []byte
		for range rng.IntN(3000) {
			p := bytes.Repeat([]byte{byte(rng.Uint32())}, rng.IntN(7))
			pieces = append(pieces, p)
			all = append(all, p...)
		}
		var got []byte
		c := cursor{pieces: pieces}
		vec := new(iovecs)
		for calls := 0; ; calls++ {
			n := c.fill(vec)
			if n == 0 {
				break
			}
			var offered []byte
			for _, v := range vec[:n] {
				offered = append(offered, unsafe.Slice(v.Base, int(v.Len))...)
			}
			w := 1 + rng.IntN(len(offered))
			got = append(got, offered[:w]...)
			c.advance(w)
			if calls > len(all) {
				t.Fatal("no progress")
			}
		}
		if !bytes.Equal(got, all) {
			t.Fatalf("%d pieces of %d bytes: the kernel got %d bytes", len(pieces), len(all), len(got))
		}
	}
}
