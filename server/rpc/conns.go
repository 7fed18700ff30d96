package rpc

import (
	"net"
	"sync"
	"sync/atomic"
)

// connections are those that a server has accepted. gRPC itself knows only
// those whose handshake is done, and would wait at its stop for a client that
// connects and says nothing.
type connections struct {
	mu   sync.Mutex // guards open
	open map[*connection]struct{}
}

// connection is a net.Conn that knows whether its client has said anything.
type connection struct {
	net.Conn
	of    *connections
	spoke atomic.Bool
}

// Read reads.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.spoke.Load() {
		c.spoke.Store(true)
	}
	return n, err
}

// Close closes the connection.
func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// listener remembers what it accepts.
type listener struct {
	net.Listener
	of *connections
}

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: conn, of: l.of}
	l.of.mu.Lock()
	defer l.of.mu.Unlock()
	if l.of.open == nil {
		l.of.open = make(map[*connection]struct{})
	}
	l.of.open[c] = struct{}{}
	return c, nil
}

// cutSilent closes the connections whose clients have said nothing: there is
// no call on them to wait for.
func (cs *connections) cutSilent() { cs.cut(func(c *connection) bool { return !c.spoke.Load() }) }

// cutAll closes every connection.
func (cs *connections) cutAll() { cs.cut(func(*connection) bool { return true }) }

func (cs *connections) cut(which func(*connection) bool) {
	cs.mu.Lock()
	var open []*connection
	for c := range cs.open {
		if which(c) {
			open = append(open, c)
		}
	}
	cs.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // what was not sent is lost: that is what cutting means
	}
}
