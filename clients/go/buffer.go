package millstream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/millstream-io/millstream/clients/go/internal/transport"
)

// smallestBatch is the first buffer of a batch of a partition that has been
// quiet, in bytes; it grows as it fills.
const smallestBatch = 4 << 10

// batch is a batch of records of one partition on its way.
//
// It is filled under the buffer's mutex, and belongs to the sender from the
// moment it is taken. Its bytes are shared with gRPC: refs counts the
// producer's reference and those of messages being written; the last one
// gives the buffer back.
type batch struct {
	lane    *lane
	pool    *transport.Pool
	buf     *[]byte // pooled
	bytes   []byte  // of *buf: what is filled
	limit   int     // bytes that it may hold: of the buffer, and of a batch
	charge  int     // bytes that it takes of the budget
	records int
	created time.Time
	out     *outcome

	// Of the sender: set once, when the batch is first sent.
	ready bool
	crc   uint32

	id   uint64 // correlation id of the request it is in flight in
	refs atomic.Int32
}

var _ mem.BufferPool = (*batch)(nil)

// Get is never called: a batch takes buffers back only.
func (b *batch) Get(n int) *[]byte { return b.pool.Get(n) }

// Put is called by gRPC when a message with the bytes has been written.
func (b *batch) Put(*[]byte) { b.release() }

func (b *batch) release() {
	if b.refs.Add(-1) == 0 {
		b.pool.Put(b.buf)
	}
}

// message returns the bytes as a buffer for gRPC, which frees it.
func (b *batch) message() mem.Buffer {
	b.refs.Add(1)
	return mem.NewBuffer(&b.bytes, b)
}

// lane is the way of the records of one partition. Its batches are, in the
// order of their records: failed, inflight or queue, open.
type lane struct {
	partition uint32
	open      *batch
	// queue holds batches to be sent, in order.
	queue fifo[*batch]
	// inflight holds batches sent on the open stream and not answered.
	inflight fifo[*batch]
	// failed holds batches that were answered with an error and are to be sent
	// again, once nothing is in flight.
	failed []*batch
	// broken: a request failed, so nothing is sent until all are answered.
	broken bool
	// restart: the next request must lift the server's refusal.
	restart bool
	// resting: waits until notBefore before it sends again.
	resting   bool
	notBefore time.Time
	attempts  int    // failed in a row
	told      bool   // the logger was told that it waits
	refused   *Error // what the last of them said
	listed    *route // in whose line of ready lanes it stands
	// route is where its batches are sent, next where they will be once none is
	// in flight, nil: there too; leader is the address of who leads, as last
	// heard, empty: nothing else than the client's own connection is known.
	route, next *route
	leader      string
	capacity    int // to begin the next batch with
}

// idle reports whether nothing is on its way, so that an open batch need not
// wait.
func (l *lane) idle() bool { return l.inflight.len() == 0 && l.queue.len() == 0 }

func (l *lane) blocked() bool { return l.broken || l.resting || l.next != nil }

// lingering is an open batch that may wait until a time.
type lingering struct {
	batch *batch
	until time.Time
}

// buffer holds the records that are not settled: per partition one open batch
// and a queue of full ones.
//
// The goroutines of Append write it, the sender takes from it, the receiver
// settles. All of it is guarded by mu, which is never held across I/O, a
// channel that blocks, or a callback.
type buffer struct {
	mu   sync.Mutex
	pool *transport.Pool
	opts *ProducerOptions

	routes routes
	lanes  []lane
	sticky uint32 // partition of records without a key, until its batch is sealed
	linger fifo[lingering]
	rest   []*lane // resting lanes
	budget int     // bytes left for batches; below 0 when one larger than all is let in
	room   chan struct{}
	starve int // goroutines that wait for room
	closed bool

	sequence uint64 // of requests

	throttled time.Time // nothing is sent before; zero: no matter
	lost      int64     // records failed since the last Flush
	lostFirst error
}

func (q *buffer) init(pool *transport.Pool, o *ProducerOptions, count uint32, own *route, sticky uint32) {
	q.pool, q.opts, q.routes.own, q.sticky = pool, o, own, sticky
	q.budget, q.room = o.BufferBytes, make(chan struct{})
	q.lanes = make([]lane, count)
	for i := range q.lanes {
		q.lanes[i].partition, q.lanes[i].route = uint32(i), own
	}
}

// makeRoom opens or grows the batch of l for size more bytes, or seals it for
// want of room; the caller looks again.
//
// REQUIRES: mu is held. It is released while waiting.
func (q *buffer) makeRoom(ctx, life context.Context, l *lane, size int) error {
	if q.closed {
		return ErrClosed
	}
	if b := l.open; b != nil {
		if !q.grow(b, size) {
			q.seal(l)
		}
		return nil
	}
	want := transport.Capacity(max(min(l.capacity, q.opts.BatchBytes), size, smallestBatch))
	if want > q.budget {
		want = transport.Capacity(max(size, smallestBatch))
	}
	if want > q.budget && q.budget < q.opts.BufferBytes {
		return q.awaitRoom(ctx, life)
	}
	q.begin(l, want, size)
	return nil
}

// begin opens a batch with a buffer of capacity bytes.
func (q *buffer) begin(l *lane, capacity, size int) {
	b := &batch{
		lane: l, pool: q.pool, buf: q.pool.Get(capacity), charge: capacity, created: time.Now(),
		limit: min(capacity, max(size, q.opts.BatchBytes)), out: &outcome{done: make(chan struct{})},
	}
	b.refs.Store(1)
	b.bytes = (*b.buf)[:0]
	q.budget -= capacity
	l.open = b
	if q.opts.Linger > 0 {
		q.linger.push(lingering{b, b.created.Add(q.opts.Linger)})
		if q.linger.len() == 1 {
			q.rouseAll()
		}
		return
	}
	if l.idle() {
		q.list(l)
	}
}

// grow gives a batch a larger buffer, if it may have one and there is budget.
func (q *buffer) grow(b *batch, size int) bool {
	need := len(b.bytes) + size
	if need > q.opts.BatchBytes {
		return false
	}
	capacity := transport.Capacity(max(need, min(2*cap(*b.buf), q.opts.BatchBytes)))
	if capacity-b.charge > q.budget {
		return false
	}
	buf := q.pool.Get(capacity)
	n := copy(*buf, b.bytes)
	q.pool.Put(b.buf)
	q.budget -= capacity - b.charge
	b.buf, b.bytes, b.charge = buf, (*buf)[:n], capacity
	b.limit = min(capacity, q.opts.BatchBytes)
	return true
}

// awaitRoom waits until a batch is settled.
func (q *buffer) awaitRoom(ctx, life context.Context) error {
	if q.opts.Linger > 0 {
		q.sealAll()
	}
	room := q.room
	q.starve++
	q.mu.Unlock()
	defer q.mu.Lock()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-life.Done():
		return ErrClosed
	}
}

// end ends the open batch of l, if any: it takes no more records.
func (q *buffer) end(l *lane) {
	b := l.open
	if b == nil {
		return
	}
	l.open = nil
	l.capacity = cap(b.bytes)
	if len(b.bytes) < cap(b.bytes)/4 {
		l.capacity /= 2
	}
	l.queue.push(b)
	if q.sticky == l.partition {
		q.sticky = (q.sticky + 1) % uint32(len(q.lanes))
	}
}

// seal ends the open batch of l and has it sent without waiting.
func (q *buffer) seal(l *lane) {
	q.end(l)
	if l.queue.len() > 0 {
		q.list(l)
	}
}

func (q *buffer) sealAll() {
	for i := range q.lanes {
		q.seal(&q.lanes[i])
	}
}

// list notes that l may have something to send.
func (q *buffer) list(l *lane) {
	if l.listed != l.route && !l.blocked() {
		l.listed = l.route
		l.route.ready.push(l)
		l.route.rouse()
	}
}

// take returns the next batch to send on a route, in flight from now on, and
// whether its request must restart the partition. Without one it returns how
// long to wait for the time to come; 0: until woken.
func (q *buffer) take(r *route) (b *batch, restart bool, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait, held := q.tick()
	for !held {
		l, ok := r.ready.pop()
		if !ok {
			break
		}
		if l.listed == r {
			l.listed = nil
		}
		if l.route != r || l.blocked() {
			continue
		}
		if q.opts.Linger == 0 && l.idle() {
			q.end(l)
		}
		b, ok := l.queue.pop()
		if !ok {
			continue
		}
		q.sequence++
		b.id = q.sequence*uint64(len(q.lanes)) + uint64(l.partition)
		l.inflight.push(b)
		restart, l.restart = l.restart, false
		if l.queue.len() > 0 {
			q.list(l)
		}
		return b, restart, 0
	}
	r.asleep = true
	return nil, false, wait
}

// hasWork reports whether take may return a batch of a route, and else how long
// to wait, as take does.
func (q *buffer) hasWork(r *route) (ok bool, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait, held := q.tick()
	if !held && r.ready.len() > 0 {
		return true, 0
	}
	r.asleep = true
	return false, wait
}

// tick does what is due. It returns how long it is to what comes next, 0 if
// nothing, and whether nothing may be sent before.
func (q *buffer) tick() (wait time.Duration, held bool) {
	if q.linger.len() == 0 && len(q.rest) == 0 && q.throttled.IsZero() {
		return 0, false
	}
	now := time.Now()
	sooner := func(t time.Time) {
		if d := t.Sub(now); wait == 0 || d < wait {
			wait = d
		}
	}
	for q.linger.len() > 0 {
		next := q.linger.peek()
		if next.until.After(now) {
			sooner(next.until)
			break
		}
		q.linger.pop()
		if l := next.batch.lane; l.open == next.batch {
			q.seal(l)
		}
	}
	resting := q.rest[:0]
	for _, l := range q.rest {
		if l.notBefore.After(now) {
			sooner(l.notBefore)
			resting = append(resting, l)
			continue
		}
		l.resting = false
		q.list(l)
	}
	clear(q.rest[len(resting):])
	q.rest = resting
	if q.throttled.After(now) {
		return q.throttled.Sub(now), true
	}
	q.throttled = time.Time{}
	return wait, false
}
