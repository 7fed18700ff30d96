package rpc

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/peer"
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
	of     *connections
	inside bool // accepted by a listener that only this process can reach
	spoke  atomic.Bool
	free   func() // gives its slot back
	once   sync.Once
}

// isInProcess tells whether the other end is in this process.
func (c *connection) isInProcess() bool { return c.inside }

// Read reads.
func (c *connection) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.heard(n)
	return n, err
}

// heard notes that n bytes came.
func (c *connection) heard(n int) {
	if n > 0 && !c.spoke.Load() {
		c.spoke.Store(true)
	}
}

// Close closes the connection.
func (c *connection) Close() error {
	c.once.Do(func() {
		c.of.mu.Lock()
		delete(c.of.open, c)
		c.of.mu.Unlock()
		c.free()
	})
	return c.Conn.Close()
}

// listener remembers what it accepts, and accepts no more than its slots.
type listener struct {
	net.Listener
	of     *connections
	inside bool          // only this process can reach it
	slots  chan struct{} // one is sent for each open connection; nil: no limit
	closed chan struct{} // closed by Close
	once   sync.Once
}

func newListener(l net.Listener, of *connections, most int) *listener {
	_, inside := l.(*InProcess)
	ours := &listener{Listener: l, of: of, inside: inside, closed: make(chan struct{})}
	if most > 0 {
		ours.slots = make(chan struct{}, most)
	}
	return ours
}

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	if l.slots != nil {
		select {
		case l.slots <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		l.free()
		return nil, err
	}
	c := &connection{Conn: conn, of: l.of, inside: l.inside, free: l.free}
	l.of.mu.Lock()
	if l.of.open == nil {
		l.of.open = make(map[*connection]struct{})
	}
	l.of.open[c] = struct{}{}
	l.of.mu.Unlock()
	return frugal(c), nil
}

// Close stops accepting.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// free gives a slot back.
func (l *listener) free() {
	if l.slots != nil {
		<-l.slots
	}
}

// count returns how many there are.
func (cs *connections) count() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.open)
}

// cutSilent closes the connections whose clients have said nothing: there is
// no call on them to wait for.
func (cs *connections) cutSilent() { cs.cut(func(c *connection) bool { return !c.spoke.Load() }) }

// cutPeer closes the connection of a peer, unless its address is that of
// several, as with sockets that have no addresses.
func (cs *connections) cutPeer(addr net.Addr) {
	cs.mu.Lock()
	var found []*connection
	for c := range cs.open {
		if a := c.RemoteAddr(); a == addr || (a.String() == addr.String() && a.Network() == addr.Network()) {
			found = append(found, c)
		}
	}
	cs.mu.Unlock()
	if len(found) == 1 {
		_ = found[0].Close() // what was not sent is lost: that is what cutting means
	}
}

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

type connectionsKey struct{}

func withConnections(ctx context.Context, cs *connections) context.Context {
	return context.WithValue(ctx, connectionsKey{}, cs)
}

// CutConnection closes the connection of a stream, unless it is within the
// process, where it is that of many; given the stream's context,
// which may have ended. It is for clients that do not read: what the transport
// holds for a stream that has ended it holds until the client takes it or the
// connection ends.
func CutConnection(ctx context.Context) {
	cs, known := ctx.Value(connectionsKey{}).(*connections)
	p, hasPeer := peer.FromContext(ctx)
	if known && hasPeer && p.Addr.Network() != inProcessNetwork {
		cs.cutPeer(p.Addr)
	}
}
