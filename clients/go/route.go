package millstream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// A route is a way to a broker, for a producer or a reader. Each has the one of
// the client's own connection, on which any broker serves every partition, and
// one for each broker that answers have named as a leader: what a leader is
// asked itself is not carried through another broker.
type route struct {
	// addr is what is dialled; of the client's own connection if there is only
	// one address, else empty.
	addr string
	// wake has capacity 1; the route's sender alone receives.
	wake chan struct{}
	// up: the connection is there, so that partitions may come. Guarded as
	// routes are.
	up bool

	// Of a producer, guarded by the buffer's mutex.
	ready  fifo[*lane] // lanes that may have something to send here
	asleep bool        // the sender waits for wake

	// Of a reader. drop are the subscriptions to end, guarded by the mutex of
	// subscriptions. taken and freed are bytes of credit since the route began,
	// added to by its receiver and by Next; asked is freed when the sender last
	// granted.
	drop                []uint64
	taken, freed, asked atomic.Int64
}

func newRoute(addr string) *route { return &route{addr: addr, wake: make(chan struct{}, 1)} }

// notify wakes the sender of a route, or has it look once more.
func (r *route) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

const (
	// maxRoutes bounds the leaders that one producer or reader talks to itself;
	// what belongs to more it asks of any broker.
	maxRoutes = 64
	// shunFor is how long a leader is not tried again whose route has failed: it
	// stops, or it cannot be reached from here.
	shunFor = 5 * time.Second
	// connectFor bounds how long a connection to a leader is waited for.
	connectFor = 5 * time.Second
)

// routes are those of a producer or a reader, guarded by its mutex.
type routes struct {
	own     *route
	direct  map[string]*route    // to leaders, by address
	shunned map[string]time.Time // addresses whose routes have failed, and until when
	// begin starts what connects a new route, serves it and ends it; nil: there
	// is no route but the own.
	begin func(*route)
}

// to returns the route to a leader if it can be used now. If there is none it
// is begun, unless there are too many or it has just failed.
func (q *routes) to(leader string) *route {
	if leader == q.own.addr {
		return q.own
	}
	if r := q.direct[leader]; r != nil {
		if r.up {
			return r
		}
		return nil
	}
	if q.begin == nil || len(q.direct) >= maxRoutes {
		return nil
	}
	if until, shunned := q.shunned[leader]; shunned {
		if time.Now().Before(until) {
			return nil
		}
		delete(q.shunned, leader)
	}
	r := newRoute(leader)
	if q.direct == nil {
		q.direct = make(map[string]*route)
	}
	q.direct[leader] = r
	q.begin(r)
	return nil
}

// remove takes a route out that has ended.
func (q *routes) remove(r *route, failed bool) {
	delete(q.direct, r.addr)
	if !failed {
		return
	}
	if q.shunned == nil || len(q.shunned) >= maxRoutes {
		q.shunned = make(map[string]time.Time)
	}
	q.shunned[r.addr] = time.Now().Add(shunFor)
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
	dial func(addr string) (conn *grpc.ClientConn, end func() error, err error)

	mu    sync.Mutex // guards conns
	conns map[string]*leaderConn
}

type leaderConn struct {
	*grpc.ClientConn
	end   func() error // closes it
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
	conn, end, err := s.dial(addr)
	if err != nil {
		return nil, err
	}
	if s.conns == nil {
		s.conns = make(map[string]*leaderConn)
	}
	s.conns[addr] = &leaderConn{conn, end, 1}
	return conn, nil
}

// release closes a connection whose last user it is of.
func (s *leaders) release(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conns[addr]
	if c.users--; c.users == 0 {
		delete(s.conns, addr)
		_ = c.end() // nothing is sent on it any more
	}
}
