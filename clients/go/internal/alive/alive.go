// Package alive ends connections whose other side is gone without a word: a
// network that is cut says nothing, and gRPC's own pings take 40 s to find it.
//
// It owns the sockets below a gRPC connection. It refuses to own what becomes
// of the calls on them, and reconnecting: gRPC does that.
//
// INVARIANT: while calls are under way on a connection, its sockets are closed
// when nothing has come for endAfter looks since a call that is answered at
// once was sent on it. Looks are counted and not time, so that a process that
// was stopped itself ends nothing of what it has not read yet. Who answers that
// call may take any time for the others.
//
// Goroutines: that of Run, and one for each connection that is asked, which end
// with it.
package alive

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
)

const (
	// lookEvery is how often connections are looked at.
	lookEvery = 500 * time.Millisecond
	// askAfter is how many looks find nothing before the other side is asked: 2 s.
	askAfter = 4
	// endAfter is how many find nothing since it was asked: 3 s, in which a lost
	// packet is sent again several times.
	endAfter = 6
)

// Lines are the connections of a client. The zero value is ready.
type Lines struct {
	mu  sync.Mutex // guards all
	all map[*Line]struct{}
}

// Run looks at the connections until ctx ends.
func (s *Lines) Run(ctx context.Context) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	var asks sync.WaitGroup
	defer asks.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s.mu.Lock()
		for l := range s.all {
			l.look(ctx, &asks)
		}
		s.mu.Unlock()
	}
}

// Dial makes a connection that is looked at until it is closed by what is
// returned with it. dial is given what it is to be made with.
func (s *Lines) Dial(creds credentials.TransportCredentials, dial func(...grpc.DialOption) (*grpc.ClientConn, error)) (*grpc.ClientConn, func() error, error) {
	l := &Line{sockets: make(map[*socket]struct{})}
	conn, err := dial(l.options(creds)...)
	if err != nil {
		return nil, nil, err
	}
	l.conn = conn
	s.mu.Lock()
	if s.all == nil {
		s.all = make(map[*Line]struct{})
	}
	s.all[l] = struct{}{}
	s.mu.Unlock()
	return conn, func() error {
		s.mu.Lock()
		delete(s.all, l)
		s.mu.Unlock()
		return conn.Close()
	}, nil
}

// Line is a connection.
type Line struct {
	conn  *grpc.ClientConn
	calls atomic.Int64  // under way, but for asks
	heard atomic.Uint64 // how often anything came

	mu      sync.Mutex // guards sockets
	sockets map[*socket]struct{}

	// Of who looks.
	seen   uint64 // heard at the last look
	silent int    // looks since it changed
	waited int    // of them since the ask was sent
	ask    *ask   // nil: it was not asked
}

// ask is a call that is answered at once.
type ask struct {
	cancel context.CancelFunc
	sent   atomic.Bool
	failed atomic.Bool // it could not be sent
}

// options are what a connection is made with so that it is known.
func (l *Line) options(creds credentials.TransportCredentials) []grpc.DialOption {
	begin := func(method string, opts []grpc.CallOption) []grpc.CallOption {
		if method == grpc_health_v1.Health_Check_FullMethodName {
			return opts
		}
		l.calls.Add(1)
		return append(opts, grpc.OnFinish(func(error) { l.calls.Add(-1) }))
	}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(&known{creds, l}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return streamer(ctx, desc, cc, method, begin(method, opts)...)
		}),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoker(ctx, method, req, reply, cc, begin(method, opts)...)
		}),
	}
}

// look asks when nothing comes, and closes the sockets when nothing comes then.
func (l *Line) look(ctx context.Context, asks *sync.WaitGroup) {
	if heard := l.heard.Load(); heard != l.seen || l.calls.Load() == 0 || !l.connected() || l.ask != nil && l.ask.failed.Load() {
		if l.ask != nil {
			l.ask.cancel()
		}
		l.seen, l.silent, l.waited, l.ask = heard, 0, 0, nil
		return
	}
	l.silent++
	switch {
	case l.ask == nil && l.silent >= askAfter:
		ctx, cancel := context.WithCancel(ctx)
		a := &ask{cancel: cancel}
		l.ask = a
		asks.Go(func() { l.send(ctx, a) })
	case l.ask != nil && l.ask.sent.Load():
		if l.waited++; l.waited >= endAfter {
			l.close()
		}
	}
}

// send sends an ask. WHY not a unary call: it may wait for others to end before
// it is sent, and nothing is known then.
func (l *Line) send(ctx context.Context, a *ask) {
	defer a.cancel()
	s, err := l.conn.NewStream(ctx, &grpc.StreamDesc{}, grpc_health_v1.Health_Check_FullMethodName)
	if err == nil {
		err = s.SendMsg(&grpc_health_v1.HealthCheckRequest{})
	}
	if err != nil {
		a.failed.Store(true)
		return
	}
	a.sent.Store(true)
	_ = s.RecvMsg(&grpc_health_v1.HealthCheckResponse{}) // that anything came is counted
}

func (l *Line) connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sockets) > 0
}

// close ends what is below the connection: its calls fail, and gRPC connects
// again, to another address if it has several.
func (l *Line) close() {
	l.mu.Lock()
	all := make([]*socket, 0, len(l.sockets))
	for s := range l.sockets {
		all = append(all, s)
	}
	l.mu.Unlock()
	for _, s := range all {
		_ = s.Close() // there is nothing else to lose
	}
}

// known are credentials that have the sockets known below which they are.
type known struct {
	credentials.TransportCredentials

	l *Line
}

// ClientHandshake is part of credentials.TransportCredentials.
func (k *known) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s := &socket{raw, k.l}
	k.l.mu.Lock()
	k.l.sockets[s] = struct{}{}
	k.l.mu.Unlock()
	conn, info, err := k.TransportCredentials.ClientHandshake(ctx, authority, s)
	if err != nil {
		s.forget()
	}
	return conn, info, err
}

// Clone is part of credentials.TransportCredentials.
func (k *known) Clone() credentials.TransportCredentials {
	return &known{k.TransportCredentials.Clone(), k.l}
}

// socket is one that counts whether anything comes.
type socket struct {
	net.Conn

	l *Line
}

// Read is part of net.Conn.
func (s *socket) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	if n > 0 {
		s.l.heard.Add(1)
	}
	return n, err
}

// Close is part of net.Conn.
func (s *socket) Close() error {
	s.forget()
	return s.Conn.Close()
}

func (s *socket) forget() {
	s.l.mu.Lock()
	delete(s.l.sockets, s)
	s.l.mu.Unlock()
}
