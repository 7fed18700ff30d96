// Package ports finds ports for processes that must be told theirs before they
// start, and must find it free again when they are started another time.
//
// INVARIANT: what it gives lies outside the range from which systems draw the
// ports of outgoing connections and of listeners that ask for any. So only
// another caller of this package can take a port between the call and its use,
// or while its process is down, and callers draw at random from thousands.
//
// It keeps no state and starts no goroutine.
package ports

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
)

// The range, below where Linux (32768) and macOS (49152) begin to draw.
const (
	first = 10_000
	count = 20_000
)

// attempts is how many ports are tried: that so many are all taken means that
// something else is wrong.
const attempts = 256

// Loopback returns an address of 127.0.0.1 that nobody listens on now, and
// that is none of those spoken for.
func Loopback(spokenFor ...string) (string, error) {
	last := errors.New("each is spoken for")
	for range attempts {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(count)))
		if slices.Contains(spokenFor, addr) {
			continue
		}
		lis, err := net.Listen("tcp", addr)
		if err != nil {
			last = err
			continue
		}
		return addr, lis.Close()
	}
	return "", fmt.Errorf("no free port in %d attempts between %d and %d: %w", attempts, first, first+count-1, last)
}
