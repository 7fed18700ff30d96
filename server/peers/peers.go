// Package peers is a broker's connections to the internal listeners of the
// other brokers: one to each, shared by all that speak to it, to where its
// current incarnation is.
//
// It owns the connections, whether anybody is at their other ends, and who could
// not be reached. It refuses to own what
// is said over them, and which broker is to be spoken to.
//
// INVARIANT: Conn returns a connection to the address that the newest metadata
// has for the broker; one to another address is closed. With certificates the
// other side has shown that it is that broker.
//
// Goroutines: gRPC's own, one that looks at connections, and one for each that
// is asked whether it is there; all are ended by Close. Closing a connection
// ends the calls on it.
package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/rpc"
)

// ErrClosed says that the connections are closed for good.
var ErrClosed = errors.New("peers: closed")

// UnknownError says that a broker cannot be connected to, as far as the
// metadata goes: it is not there, or nobody said where it is.
type UnknownError struct {
	// Broker that was asked for.
	Broker int32
	// Revision of the metadata.
	Revision int64
	// Known says that it is there, without an address for brokers.
	Known bool
}

// Error says it for people.
func (e *UnknownError) Error() string {
	if e.Known {
		return fmt.Sprintf("broker %d has no internal address at revision %d", e.Broker, e.Revision)
	}
	return fmt.Sprintf("there is no broker %d at revision %d", e.Broker, e.Revision)
}

// Options are what Peers need.
type Options struct {
	// Self is the broker whose they are.
	Self int32
	// Metadata says where brokers are. Required.
	Metadata *metadata.Mirror
	// Credentials returns those for connections to a broker, which must refuse
	// any other; nil: plain text.
	Credentials func(broker int32) credentials.TransportCredentials
	// Dial connects to an address; nil: over TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Logger; nil: none.
	Logger *slog.Logger
	// Registerer receives the metrics; nil: none are registered.
	Registerer prometheus.Registerer
}

// Peers are the connections of one broker. Their methods may be called from
// any goroutine.
type Peers struct {
	o       Options
	lost    *lost
	metrics *metrics
	ctx     context.Context //nolint:containedctx // ends with Close
	cancel  context.CancelFunc
	asks    sync.WaitGroup // what watches, and what asks

	mu     sync.Mutex // guards what follows; nothing waits under it
	conns  map[int32]*peer
	seen   *metadata.Snapshot // for which conns was last looked through
	closed bool
}

// peer is the connection to one incarnation of a broker, or to several that
// had the same address.
type peer struct {
	addr    string
	epoch   int64
	conn    *grpc.ClientConn
	traffic *traffic
}

// New returns peers without a connection. Close ends them.
func New(o Options) (*Peers, error) {
	p, err := unwatched(o)
	if err != nil {
		return nil, err
	}
	p.asks.Go(p.watch)
	return p, nil
}

// unwatched returns peers whose connections nobody looks at.
func unwatched(o Options) (*Peers, error) {
	if o.Metadata == nil {
		return nil, errors.New("peers: Metadata is required")
	}
	if o.Dial == nil {
		o.Dial = dialTCP
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Peers{o: o, lost: newLost(), conns: map[int32]*peer{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var err error
	if p.metrics, err = newMetrics(o.Registerer, p); err != nil {
		p.cancel()
		return nil, fmt.Errorf("register the metrics of peers: %w", err)
	}
	return p, nil
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// Conn returns the connection to a broker, which connects when it is first
// used. It is shared: who gets it does not close it, and asks again for each
// stream or call. It fails with *UnknownError or ErrClosed.
func (p *Peers) Conn(id int32) (*grpc.ClientConn, error) {
	s := p.o.Metadata.Current()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if s != p.seen {
		p.follow(s)
	}
	if have := p.conns[id]; have != nil {
		return have.conn, nil
	}
	b := p.seen.Broker(id)
	if b == nil || b.InternalAddress == "" {
		return nil, &UnknownError{Broker: id, Revision: p.seen.Revision, Known: b != nil}
	}
	t := new(traffic)
	conn, err := p.connect(b, t)
	if err != nil {
		return nil, err
	}
	p.conns[id] = &peer{b.InternalAddress, b.Epoch, conn, t}
	return conn, nil
}

// follow closes connections to where no broker is any more, unless a caller
// with newer metadata has. REQUIRES: mu is held.
func (p *Peers) follow(s *metadata.Snapshot) {
	if p.seen != nil && s.Generation == p.seen.Generation && s.Revision < p.seen.Revision {
		return
	}
	p.seen = s
	for id, have := range p.conns {
		b := s.Broker(id)
		switch {
		case b == nil || b.InternalAddress != have.addr:
			p.o.Logger.Info("connection to a broker is of its past", slog.Int("broker_id", int(id)), slog.String("address", have.addr))
			_ = have.conn.Close() // its calls end; there is nothing else to lose
			delete(p.conns, id)
		case b.Epoch != have.epoch:
			// It is back: what was waited for between attempts was the one before.
			have.epoch = b.Epoch
			have.conn.ResetConnectBackoff()
		}
	}
}

// connect makes a connection that is not connected yet.
func (p *Peers) connect(b *metadata.Broker, t *traffic) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if p.o.Credentials != nil {
		creds = p.o.Credentials(b.ID)
	}
	id, addr := b.ID, b.InternalAddress
	return grpc.NewClient("passthrough:///"+addr, append(append(rpc.MemberOptions(), t.countCalls()...),
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			raw, err := p.o.Dial(ctx, addr)
			if err != nil {
				p.failed(id, addr, err)
				return nil, err
			}
			return &watched{Conn: raw, heard: &t.heard, failed: func(err error) { p.failed(id, addr, err) }}, nil
		}))...)
}

// Close closes all connections, and ends the calls on them.
func (p *Peers) Close() error {
	p.mu.Lock()
	conns := p.conns
	p.conns, p.closed = nil, true
	p.mu.Unlock()
	p.cancel()
	var errs []error
	for _, have := range conns {
		errs = append(errs, have.conn.Close())
	}
	p.asks.Wait()
	return errors.Join(errs...)
}

// count returns the number of connections.
func (p *Peers) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}
