package servertest

import (
	"io"
	"net"
	"sync"
)

// TCP makes the public services reachable on loopback, for what dials an
// address, and returns that. It ends with the test.
func (s *Server) TCP() string {
	s.t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	s.check(err)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			from, err := lis.Accept()
			if err != nil {
				return // closed
			}
			conns.Go(func() { s.splice(from) })
		}
	})
	s.t.Cleanup(func() {
		s.Stop() // which closes the connections
		_ = lis.Close()
		conns.Wait()
	})
	return lis.Addr().String()
}

// splice joins a connection to one of the server's until either is closed.
func (s *Server) splice(from net.Conn) {
	to, err := s.listener.Load().DialContext(s.t.Context())
	if err != nil {
		_ = from.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(to, from) // the end of either is the end of both
		_ = to.Close()
	})
	_, _ = io.Copy(from, to)
	_ = from.Close()
	both.Wait()
}
