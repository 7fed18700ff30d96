package peers

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// mostUnreachable is how many brokers a report names.
const mostUnreachable = 64

// problem is how a broker was lost, for logs and metrics.
type problem string

const (
	refused problem = "refused" // nobody listens where it was
	cut     problem = "cut"     // the other side ended the connection, or the system did for it
	silent  problem = "silent"  // it said nothing, also when it was asked; this says nothing about its process
)

// problemOf says how a broker was lost; empty: the error says nothing about its
// process. A silent network is no such thing.
func problemOf(err error) problem {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return cut
	default:
		return ""
	}
}

// lost is the brokers that were lost since the last report. It holds no more
// than there are brokers.
type lost struct {
	wake chan struct{} // capacity 1; never closed

	mu     sync.Mutex // guards epochs
	epochs map[int32]int64
}

func newLost() *lost {
	return &lost{wake: make(chan struct{}, 1), epochs: map[int32]int64{}}
}

func (l *lost) add(id int32, epoch int64) {
	l.mu.Lock()
	l.epochs[id] = epoch
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// failed notes that the connection to a broker failed. The epoch is the one
// that is known now: whoever tries the broker again finds out if that one
// lives.
func (p *Peers) failed(id int32, addr string, err error) {
	how := problemOf(err)
	if how == "" {
		return
	}
	b := p.o.Metadata.Current().Broker(id)
	if b == nil || b.InternalAddress != addr {
		return
	}
	p.metrics.lost.WithLabelValues(string(how)).Inc()
	if b.Fenced {
		return // nobody counts on it
	}
	p.o.Logger.Info("broker lost", slog.Int("broker_id", int(id)), slog.String("address", addr), slog.String("problem", string(how)))
	p.lost.add(id, b.Epoch)
}

// Lost is sent to when there is something for Unreachable to return.
func (p *Peers) Lost() <-chan struct{} { return p.lost.wake }

// Unreachable returns the brokers whose connection was refused or ended by
// their side since it was last called, in the epochs they had; at most 64.
func (p *Peers) Unreachable() []*controllerv1.UnreachableBroker {
	p.lost.mu.Lock()
	defer p.lost.mu.Unlock()
	var bs []*controllerv1.UnreachableBroker
	for id, epoch := range p.lost.epochs {
		if len(bs) == mostUnreachable {
			break
		}
		bs = append(bs, &controllerv1.UnreachableBroker{BrokerId: id, BrokerEpoch: epoch})
		delete(p.lost.epochs, id)
	}
	return bs
}

// watched is a connection that tells how it ends, once, and counts whether
// anything comes.
type watched struct {
	net.Conn

	heard  *atomic.Uint64
	once   sync.Once
	failed func(error)
}

// Read is part of net.Conn.
func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if n > 0 {
		w.heard.Add(1)
	}
	if err != nil {
		w.end(err)
	}
	return n, err
}

// Write is part of net.Conn.
func (w *watched) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	if err != nil {
		w.end(err)
	}
	return n, err
}

// end tells of the first error; this side's own Close comes with one that is
// no problem of the other's.
func (w *watched) end(err error) {
	w.once.Do(func() { w.failed(err) })
}
