package millstream

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// A route is a way to a broker on which batches are sent. Every producer has
// the one of the client's own connection, on which any broker takes batches of
// any partition, and one for each broker that answers have named as a leader:
// what a leader is sent itself is not carried through another broker.
//
// INVARIANT: the batches of a lane that are in flight are on one route: a lane
// changes its route only when none is. So they reach the partition in order.
// INVARIANT: a lane whose leader cannot be reached is on the client's own
// route, where it would be without routes.
type route struct {
	// addr is what is dialled; of the client's own connection if there is only
	// one address, else empty.
	addr string
	// wake has capacity 1; the route's sender alone receives.
	wake chan struct{}
	// The rest is guarded by the buffer's mutex.

	up     bool        // lanes may be sent here: the connection is there
	ready  fifo[*lane] // lanes that may have something to send here
	asleep bool        // the sender waits for wake
}

func newRoute(addr string) *route { return &route{addr: addr, wake: make(chan struct{}, 1)} }

const (
	// maxRoutes bounds the leaders that one producer sends to itself; what
	// belongs to more is sent to any broker.
	maxRoutes = 64
	// shunFor is how long a leader is not tried again whose route has ended:
	// it stops, or it cannot be reached from here.
	shunFor = 5 * time.Second
	// connectFor bounds how long a connection to a leader is waited for.
	connectFor = 5 * time.Second
)

// rouse wakes the sender of a route if it waits. REQUIRES: mu is held.
func (r *route) rouse() {
	if r.asleep {
		r.asleep = false
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// rouseAll wakes all senders: what is due is nobody's in particular. REQUIRES:
// mu is held.
func (q *buffer) rouseAll() {
	q.own.rouse()
	for _, r := range q.routes {
		r.rouse()
	}
}

// steer has a lane sent to its leader, if that is known and can be reached,
// once nothing of it is in flight. REQUIRES: mu is held.
func (q *buffer) steer(l *lane) {
	switch {
	case l.leader == "" || l.leader == l.route.addr || l.next != nil:
		return
	case l.leader == q.own.addr:
		l.next = q.own
		return
	}
	r := q.routes[l.leader]
	if r == nil {
		q.openRoute(l.leader)
		return
	}
	if r.up {
		l.next = r
	}
}

// openRoute begins the route to a leader, unless there are too many or it has
// just ended. REQUIRES: mu is held.
func (q *buffer) openRoute(addr string) {
	if q.direct == nil || q.closed || len(q.routes) >= maxRoutes {
		return
	}
	if until, shunned := q.shunned[addr]; shunned {
		if time.Now().Before(until) {
			return
		}
		delete(q.shunned, addr)
	}
	r := newRoute(addr)
	if q.routes == nil {
		q.routes = make(map[string]*route)
	}
	q.routes[addr] = r
	q.direct(r)
}

// arrive has lanes use a route from now on.
func (q *buffer) arrive(r *route) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r.up = true
	for i := range q.lanes {
		if l := &q.lanes[i]; l.leader == r.addr {
			q.steer(l)
			q.proceed(l)
		}
	}
}

// leave puts the lanes of a route that has ended back on the client's own.
// Nothing is in flight on the route.
func (q *buffer) leave(r *route) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.routes, r.addr)
	if q.shunned == nil || len(q.shunned) >= maxRoutes {
		q.shunned = make(map[string]time.Time)
	}
	q.shunned[r.addr] = time.Now().Add(shunFor)
	for i := range q.lanes {
		l := &q.lanes[i]
		if l.next != r && l.route != r {
			continue
		}
		if l.next == r {
			l.next = nil
		}
		if l.route == r {
			l.route = q.own
		}
		q.proceed(l)
	}
}

// sendDirect starts the sender of a route to a leader. It ends with its first
// stream, and whenever the producer does. REQUIRES: mu is held.
func (p *Producer) sendDirect(r *route) {
	p.directs.Go(func() {
		defer p.leave(r)
		conn, err := p.client.leaders.acquire(r.addr)
		if err != nil {
			return // an address that cannot be dialled: any broker will do
		}
		defer p.client.leaders.release(r.addr)
		if !connected(p.connecting, conn) {
			return
		}
		p.arrive(r)
		if !p.awaitWork(r) {
			return
		}
		s, err := p.openStream(conn, r)
		if err == nil {
			_, err = p.serve(s)
		}
		if err != nil && p.ctx.Err() == nil {
			p.client.logger.Warn("produce stream to a leader lost", "topic", p.opts.Topic, "leader", r.addr, "err", err)
		}
	})
}

// connected waits until a connection is there. It returns false if it failed,
// took too long, or ctx ended.
func connected(ctx context.Context, conn *grpc.ClientConn) bool {
	ctx, cancel := context.WithTimeout(ctx, connectFor)
	defer cancel()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return true
		case connectivity.TransientFailure, connectivity.Shutdown:
			return false
		case connectivity.Idle:
			conn.Connect()
		case connectivity.Connecting:
		}
		if !conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
}

// leaders are the connections of a client to brokers that lead, beside its own.
type leaders struct {
	dial func(addr string) (*grpc.ClientConn, error)

	mu    sync.Mutex // guards conns
	conns map[string]*leaderConn
}

type leaderConn struct {
	*grpc.ClientConn
	users int
}

// acquire returns the connection to an address; each is to be released.
func (s *leaders) acquire(addr string) (*grpc.ClientConn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.conns[addr]; c != nil {
		c.users++
		return c.ClientConn, nil
	}
	conn, err := s.dial(addr)
	if err != nil {
		return nil, err
	}
	if s.conns == nil {
		s.conns = make(map[string]*leaderConn)
	}
	s.conns[addr] = &leaderConn{conn, 1}
	return conn, nil
}

// release closes a connection whose last user it is of.
func (s *leaders) release(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conns[addr]
	if c.users--; c.users == 0 {
		delete(s.conns, addr)
		_ = c.Close() // nothing is sent on it any more
	}
}
