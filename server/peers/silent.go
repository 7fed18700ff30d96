package peers

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/millstream-io/millstream/server/rpc"
)

// A network that is cut says nothing: packets vanish. gRPC pings no sooner than
// after 10 s, and until then a call waits for a broker that is gone, and keeps
// those behind it from whoever leads meanwhile. So while calls are under way a
// connection is looked at, and where nothing comes the broker is asked whether
// it is there. A call may wait for as long as it likes at a broker that is.
//
// INVARIANT: a connection on which calls are under way ends when nothing has
// come on it for endAfter looks, of which it was asked at the one after
// askAfter. Looks are counted and not time, so that a process that was stopped
// itself ends nothing of what it has not read yet.

const (
	// lookEvery is how often connections are looked at.
	lookEvery = 500 * time.Millisecond
	// askAfter is how many looks find nothing before the broker is asked.
	askAfter = 2
	// endAfter is how many find nothing before the connection ends: 3 s, as for
	// the streams of followers.
	endAfter = 6
	// endFencedAfter is that of a broker that the controllers have not heard of
	// either.
	endFencedAfter = 4
)

// traffic is what passes on the connection to a broker.
type traffic struct {
	calls atomic.Int64  // under way
	heard atomic.Uint64 // how often anything came

	// Guarded by Peers.mu.
	seen   uint64 // heard at the last look
	silent int    // looks since it changed
}

// watch looks at connections until the peers are closed.
func (p *Peers) watch() {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-t.C:
			p.look()
		}
	}
}

// look asks brokers that say nothing, and ends the connections to those that
// do not answer.
func (p *Peers) look() {
	s := p.o.Metadata.Current()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, have := range p.conns {
		t := have.traffic
		heard, calls := t.heard.Load(), t.calls.Load()
		// With as many calls as there may be nothing can be asked: gRPC's pings
		// find it out.
		if heard != t.seen || calls == 0 || calls >= rpc.MemberMaxStreams || have.conn.GetState() != connectivity.Ready {
			t.seen, t.silent = heard, 0
			continue
		}
		t.silent++
		limit := endAfter
		if b := s.Broker(id); b != nil && b.Fenced {
			limit = endFencedAfter
		}
		switch {
		case t.silent == askAfter:
			p.asks.Go(func() { p.ask(have.conn) })
		case t.silent >= limit:
			p.metrics.lost.WithLabelValues(string(silent)).Inc()
			p.o.Logger.Info("broker lost", slog.Int("broker_id", int(id)), slog.String("address", have.addr), slog.String("problem", string(silent)))
			delete(p.conns, id)
			_ = have.conn.Close() // its calls end; there is nothing else to lose
		}
	}
}

// ask has a broker say anything. What it says is of no interest: that something
// came is counted.
func (p *Peers) ask(conn *grpc.ClientConn) {
	ctx, cancel := context.WithTimeout(p.ctx, endAfter*lookEvery)
	defer cancel()
	_, _ = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
}

// countCalls returns what has the calls of a connection counted.
func (t *traffic) countCalls() []grpc.DialOption {
	begin := func(method string, opts []grpc.CallOption) []grpc.CallOption {
		if method == grpc_health_v1.Health_Check_FullMethodName {
			return opts // nobody waits for it but ask
		}
		t.calls.Add(1)
		return append(opts, grpc.OnFinish(func(error) { t.calls.Add(-1) }))
	}
	return []grpc.DialOption{
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return streamer(ctx, desc, cc, method, begin(method, opts)...)
		}),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoker(ctx, method, req, reply, cc, begin(method, opts)...)
		}),
	}
}
