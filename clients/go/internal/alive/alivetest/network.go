// Package alivetest is a network for tests that can be cut.
package alivetest

import (
	"net"
	"sync"
	"sync/atomic"
)

// Network is a network. While it is cut packets vanish, and neither side has an
// error. Of a connection that was cut nothing comes any more.
type Network struct{ cut atomic.Bool }

// Cut cuts the network, or mends it.
func (n *Network) Cut(cut bool) { n.cut.Store(cut) }

// Conn returns a connection of the network.
func (n *Network) Conn(c net.Conn) net.Conn {
	return &conn{Conn: c, n: n, closed: make(chan struct{})}
}

type conn struct {
	net.Conn

	n      *Network
	once   sync.Once
	closed chan struct{}
}

// Read is part of net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.n.cut.Load() {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

// Write is part of net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if c.n.cut.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// Close is part of net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
