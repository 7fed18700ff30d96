package ports_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/millstream-io/millstream/server/ports"
)

func TestAPortIsOneThatNobodyIsGivenByChance(t *testing.T) {
	var taken []string
	for range 200 {
		addr, err := ports.Loopback(taken...)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range taken {
			if addr == other {
				t.Fatalf("%s was given twice", addr)
			}
		}
		taken = append(taken, addr)
		_, text, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		// 32768 is where Linux begins to draw ports of connections, the lowest of
		// the systems that this is built for.
		if port, err := strconv.Atoi(text); err != nil || port < 1024 || port >= 32768 {
			t.Fatalf("%s may be drawn by the system for a connection", addr)
		}
		lis, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("%s is not free: %v", addr, err)
		}
		defer lis.Close() //nolint:errcheck // Nothing depends on it.
	}
}
