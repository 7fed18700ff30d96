package tlsfile

import (
	"bufio"
	"net"
	"sync"
)

const (
	// batchBytes is how much of what is written at once goes to the network in
	// one call.
	batchBytes = 256 << 10
	// aheadBytes is how much is taken from the network in one call.
	aheadBytes = 128 << 10
)

// batched is a TLS connection whose records, of 16 KiB at most, do not each
// cost a call of the system and wake the other side.
type batched struct {
	net.Conn // the TLS connection, above under
	under    *gathering
}

// gathering is the connection below: while hold is true it gathers what is
// written to it.
type gathering struct {
	net.Conn
	reader *bufio.Reader // nil: nothing is read ahead

	mu   sync.Mutex // guards what follows; held while gathered bytes are written
	hold bool
	held *[]byte // pooled; nil: nothing is held
}

// batches holds buffers between writes: connections that say nothing have none.
var batches = sync.Pool{New: func() any {
	b := make([]byte, 0, batchBytes)
	return &b
}}

// gather returns a connection to speak TLS on. ahead has it read ahead, for
// which it keeps a buffer as long as it lives.
func gather(raw net.Conn, ahead bool) *gathering {
	g := &gathering{Conn: raw}
	if ahead {
		g.reader = bufio.NewReaderSize(raw, aheadBytes)
	}
	return g
}

// Read is part of net.Conn.
func (g *gathering) Read(b []byte) (int, error) {
	if g.reader != nil {
		return g.reader.Read(b)
	}
	return g.Conn.Read(b)
}

// Write is part of net.Conn. What is gathered may fail later: TLS takes the
// first error of a connection for its end, and so does gRPC.
func (g *gathering) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.hold {
		return g.Conn.Write(b)
	}
	if g.held != nil && len(*g.held)+len(b) > batchBytes {
		if err := g.flush(); err != nil {
			return 0, err
		}
	}
	if len(b) > batchBytes {
		return g.Conn.Write(b)
	}
	if g.held == nil {
		g.held, _ = batches.Get().(*[]byte)
	}
	*g.held = append(*g.held, b...)
	return len(b), nil
}

// flush writes what is gathered. REQUIRES: mu is held.
func (g *gathering) flush() error {
	if g.held == nil {
		return nil
	}
	_, err := g.Conn.Write(*g.held)
	*g.held = (*g.held)[:0]
	batches.Put(g.held)
	g.held = nil
	return err
}

// raw is the connection to the network.
func (g *gathering) raw() net.Conn { return g.Conn }

// set begins or ends the gathering.
func (g *gathering) set(hold bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold = hold
	return g.flush()
}

// Write is part of net.Conn.
//
// REQUIRES: no other Write at the same time. What TLS itself writes meanwhile
// (an alert, an answer to a change of keys) goes along in order.
func (c *batched) Write(b []byte) (int, error) {
	if err := c.under.set(true); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	if flushed := c.under.set(false); err == nil && flushed != nil {
		return 0, flushed
	}
	return n, err
}

// Close is part of net.Conn. It does not wait for a write that hangs.
func (c *batched) Close() error {
	if !c.under.mu.TryLock() {
		return c.under.raw().Close() // nothing more can be said on it
	}
	c.under.mu.Unlock()
	return c.Conn.Close()
}
