package millstream

// INVARIANT: the batches of a lane that are in flight are on one route: a lane
// changes its route only when none is. So they reach the partition in order.
// INVARIANT: a lane whose leader cannot be reached is on the client's own
// route, where it would be without routes.

// rouse wakes the sender of a route if it waits. REQUIRES: the buffer's mutex
// is held.
func (r *route) rouse() {
	if r.asleep {
		r.asleep = false
		r.notify()
	}
}

// rouseAll wakes all senders: what is due is nobody's in particular. REQUIRES:
// mu is held.
func (q *buffer) rouseAll() {
	q.routes.own.rouse()
	for _, r := range q.routes.direct {
		r.rouse()
	}
}

// steer has a lane sent to its leader, if that is known and can be reached,
// once nothing of it is in flight. REQUIRES: mu is held.
func (q *buffer) steer(l *lane) {
	if l.leader == "" || l.leader == l.route.addr || l.next != nil || q.closed {
		return
	}
	l.next = q.routes.to(l.leader)
}

// reroute notes who leads a partition, as a broker says that passes on what it is
// sent for it. "" is nobody who can be reached.
func (q *buffer) reroute(partition uint32, leader string) {
	if leader == "" || partition >= uint32(len(q.lanes)) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	l := &q.lanes[partition]
	l.leader = leader
	q.steer(l)
	q.proceed(l)
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
	q.routes.remove(r, true)
	for i := range q.lanes {
		l := &q.lanes[i]
		if l.next != r && l.route != r {
			continue
		}
		if l.next == r {
			l.next = nil
		}
		if l.route == r {
			l.route = q.routes.own
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
