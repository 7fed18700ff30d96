package millstream

import (
	"slices"
	"time"
)

// INVARIANT: a partition is subscribed on one route at a time, and what still
// comes of the subscription before is dropped by its id; the next begins at the
// position that was reached, once the last frame of the one before is with Next:
// two routes have two receivers. So records come in order, each once.

// steer has a partition read from its leader, if that is known and can be
// reached. REQUIRES: mu is held.
func (q *subscriptions) steer(s *subscription) {
	if s.leader == "" || s.leader == s.route.addr || s.over {
		return
	}
	if s.leader == s.unsure && time.Now().Before(s.unsureUntil) {
		return
	}
	if r := q.routes.to(s.leader); r != nil {
		q.move(s, r)
	}
}

// hear notes the address of a broker. REQUIRES: mu is held.
func (q *subscriptions) hear(addr string) {
	if len(q.brokers) < maxRoutes && !slices.Contains(q.brokers, addr) {
		q.brokers = append(q.brokers, addr)
	}
}

// flee has a partition asked for elsewhere when it was refused because whoever
// leads it cannot be sure of that: it may be cut off, and so may be the broker
// that was asked, while others lead and know it. Whoever is asked next is any
// broker, that passes it on to the leader it knows of. REQUIRES: mu is held.
func (q *subscriptions) flee(s *subscription, now time.Time) {
	own := q.routes.own
	if s.route != own {
		s.unsure, s.unsureUntil, s.leader = s.route.addr, now.Add(shunFor), ""
		q.move(s, own)
		return
	}
	if s.leader != "" {
		s.unsure, s.unsureUntil = s.leader, now.Add(shunFor)
	}
	for range q.brokers {
		q.turn = (q.turn + 1) % len(q.brokers)
		if b := q.brokers[q.turn]; b != own.addr && b != s.unsure {
			s.leader = b
			q.steer(s)
			return
		}
	}
}

// move has a partition read on another route. REQUIRES: mu is held.
func (q *subscriptions) move(s *subscription, to *route) {
	if s.id != 0 {
		s.route.drop = append(s.route.drop, s.id)
		delete(q.byID, s.id)
		s.id = 0
	}
	s.route.notify()
	s.route = to
	to.notify()
}

// arrive has partitions use a route from now on.
func (q *subscriptions) arrive(r *route) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r.up = true
	for _, s := range q.all {
		if s.leader == r.addr {
			q.steer(s)
		}
	}
}

// leave puts the partitions of a route that has ended back on the client's own.
func (q *subscriptions) leave(r *route, failed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.routes.remove(r, failed)
	for _, s := range q.all {
		if s.route == r {
			q.move(s, q.routes.own)
		}
	}
}

// on tells whether a route has any partition that is not over, and how many
// routes have.
func (q *subscriptions) on(r *route) (used bool, routes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make(map[*route]bool, 1+len(q.routes.direct))
	for _, s := range q.all {
		if !s.over {
			all[s.route] = true
		}
	}
	return all[r], max(1, len(all))
}

// notifyAll has every sender look.
func (q *subscriptions) notifyAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.routes.own.notify()
	for _, r := range q.routes.direct {
		r.notify()
	}
}

// readDirect starts the sender of a route to a leader. It ends with its first
// stream, or when it has no partition any more. REQUIRES: the mutex of
// subscriptions is held.
func (r *Reader) readDirect(rt *route) {
	r.directs.Go(func() {
		failed := true
		defer func() { r.subs.leave(rt, failed) }()
		conn, err := r.client.leaders.acquire(rt.addr)
		if err != nil {
			return // an address that cannot be dialled: any broker will do
		}
		defer r.client.leaders.release(rt.addr)
		if !connected(r.connecting, conn) {
			return
		}
		r.subs.arrive(rt)
		s, err := r.open(conn, rt)
		if err == nil {
			_, err = r.serve(s)
			failed = !s.left
		}
		if err != nil && failed && r.ctx.Err() == nil {
			r.client.logger.Warn("fetch stream to a leader lost", "topic", r.opts.Topic, "leader", rt.addr, "err", err)
		}
	})
}
