package millstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/millstream-io/millstream/clients/go/internal/wire"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// settled is a batch that has been settled: what is told once mu is released.
type settled struct {
	batch *batch
	err   error
}

// settle ends a batch. REQUIRES: mu is held, and b is in no queue.
func (q *buffer) settle(b *batch, place Place, err error) settled {
	place.Partition = b.lane.partition
	b.out.place, b.out.err = place, err
	if err != nil {
		q.lost += int64(b.records)
		if q.lostFirst == nil {
			q.lostFirst = err
		}
	}
	q.budget += b.charge
	if q.starve > 0 {
		close(q.room)
		q.room, q.starve = make(chan struct{}), 0
	}
	close(b.out.done)
	b.release()
	return settled{b, err}
}

// fail settles a batch that is not acknowledged. REQUIRES: as settle.
func (q *buffer) fail(b *batch, err error) settled {
	return q.settle(b, Place{Offset: -1, LeaderEpoch: NoEpoch}, err)
}

// tell tells the user of what has been settled.
func (q *buffer) tell(all ...settled) {
	if q.opts.OnBatch == nil {
		return
	}
	for _, s := range all {
		q.opts.OnBatch(BatchResult{Place: s.batch.out.place, Records: s.batch.records, Err: s.err})
	}
}

// answered returns the batch that an answer is for. REQUIRES: mu is held.
func (q *buffer) answered(id uint64) (*batch, error) {
	l := &q.lanes[id%uint64(len(q.lanes))]
	if l.inflight.len() == 0 || l.inflight.peek().id != id {
		return nil, &wire.MalformedError{Message: "ProduceResponse", What: "answers no request, or out of order"}
	}
	b, _ := l.inflight.pop()
	return b, nil
}

// acknowledge settles the batch of a good answer, which may name the leader.
func (q *buffer) acknowledge(a *wire.ProduceAnswer, leader string) error {
	q.mu.Lock()
	b, err := q.answered(a.CorrelationID)
	if err != nil {
		q.mu.Unlock()
		return err
	}
	l := b.lane
	l.attempts, l.told = 0, false
	if leader != "" {
		l.leader = leader
	}
	q.steer(l)
	q.throttle(a.ThrottleMs)
	s := q.settle(b, Place{
		Offset: a.BaseOffset, LeaderEpoch: a.LeaderEpoch,
		Scope: pb.AckScope(a.Scope), Medium: pb.AckMedium(a.Medium), InSync: a.InSync,
	}, nil)
	q.proceed(l)
	q.mu.Unlock()
	q.tell(s)
	return nil
}

func (q *buffer) throttle(ms uint32) {
	if ms > 0 {
		q.throttled = time.Now().Add(time.Duration(ms) * time.Millisecond)
	}
}

// tellAfter of RetryFor a batch may wait before somebody is told: most leaders
// are replaced in less than those six seconds of two minutes.
const tellAfter = 20

// refuse takes an answer that is an error: the batch is kept to be sent again
// if it surely was not written, else it is settled. late is how long a batch
// has been tried in vain by now; 0: not long, or the logger was told before.
func (q *buffer) refuse(id uint64, throttleMs uint32, said *Error) (late time.Duration, err error) {
	q.mu.Lock()
	b, err := q.answered(id)
	if err != nil {
		q.mu.Unlock()
		return 0, err
	}
	l := b.lane
	said.Partition = int32(l.partition)
	l.broken = true
	q.throttle(throttleMs)
	var told []settled
	follows := said.Reason == pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED
	switch {
	case follows || said.Retryable:
		if !follows {
			l.attempts++
			l.refused = said
		}
		if waits := time.Since(b.created); waits < q.opts.RetryFor {
			l.failed = append(l.failed, b)
			if !follows && !l.told && waits >= q.opts.RetryFor/tellAfter {
				l.told, late = true, waits
			}
		} else {
			told = append(told, q.fail(b, q.gaveUp(l, said)))
		}
	case said.Reason == pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME || said.Code == codes.Unknown:
		told = append(told, q.fail(b, q.unknown(l, said)))
	default:
		told = append(told, q.fail(b, said))
	}
	q.proceed(l)
	q.mu.Unlock()
	q.tell(told...)
	return late, nil
}

// proceed lets l send again if nothing of it is in flight: what failed first,
// after a rest if it failed by itself. REQUIRES: mu is held.
func (q *buffer) proceed(l *lane) {
	if l.inflight.len() > 0 {
		return
	}
	if l.next != nil {
		l.route, l.next = l.next, nil
	}
	if l.broken {
		l.broken, l.restart = false, true
		l.queue.pushFront(l.failed)
		l.failed = nil
		if l.attempts > 0 && !l.resting {
			l.resting, l.notBefore = true, time.Now().Add(backoffFor(l.attempts))
			q.rest = append(q.rest, l)
		}
	}
	if l.resting {
		// Whose turn it is to wait for the end of the rest: the sender that did may
		// have ended with its route.
		l.route.rouse()
	}
	if l.queue.len() > 0 || l.open != nil && q.opts.Linger == 0 {
		q.list(l)
	}
}

// lose takes the end of the stream of a route. What was sent and not answered has an
// unknown outcome, unless the server ended the stream well, having answered
// all that it took (cause io.EOF given as nil), unless it is unsent: the
// batch whose sending failed, and unless it was sent behind one that was refused
// and is to be sent again: until a restart, for which there has to be nothing in
// flight, the server refuses all that follows. The rest is to be sent again.
func (q *buffer) lose(r *route, unsent *batch, cause error) {
	q.mu.Lock()
	var told []settled
	for i := range q.lanes {
		l := &q.lanes[i]
		if l.route != r || l.inflight.len() == 0 && !l.broken && !l.restart {
			continue
		}
		again, refused := l.failed, len(l.failed) > 0
		for _, b := range l.inflight.take() {
			if cause == nil || b == unsent || refused {
				again = append(again, b)
			} else {
				told = append(told, q.fail(b, q.unknown(l, cause)))
			}
		}
		l.queue.pushFront(again)
		l.failed, l.broken, l.restart = nil, false, false
		q.proceed(l)
	}
	q.mu.Unlock()
	q.tell(told...)
}

// expire fails what has waited on the client's own route for longer than
// RetryFor, or everything if the cause is not transient, because there is no
// stream to send it on. cause is nil if the stream ended as planned and did
// nothing.
func (q *buffer) expire(cause error) {
	q.mu.Lock()
	var told []settled
	if cause == nil {
		cause = errIdleStream
	}
	all := !isTransient(cause)
	now := time.Now()
	for i := range q.lanes {
		l := &q.lanes[i]
		if l.route != q.routes.own {
			continue
		}
		if b := l.open; b != nil && (all || now.Sub(b.created) >= q.opts.RetryFor) {
			q.end(l)
		}
		for l.queue.len() > 0 && (all || now.Sub(l.queue.peek().created) >= q.opts.RetryFor) {
			b, _ := l.queue.pop()
			if all {
				told = append(told, q.fail(b, cause))
			} else {
				told = append(told, q.fail(b, q.gaveUp(l, cause)))
			}
		}
	}
	q.mu.Unlock()
	q.tell(told...)
}

// abandon fails all that is not in flight, and refuses further records.
func (q *buffer) abandon() {
	q.mu.Lock()
	q.closed = true
	var told []settled
	for i := range q.lanes {
		l := &q.lanes[i]
		q.end(l)
		for _, b := range l.queue.take() {
			told = append(told, q.fail(b, l.closed()))
		}
	}
	q.mu.Unlock()
	q.tell(told...)
}

// closed is ErrClosed, and why it was not sent before, if it had been refused.
func (l *lane) closed() error {
	if l.attempts == 0 || l.refused == nil {
		return ErrClosed
	}
	return fmt.Errorf("%w; it was to be sent again after: %w", ErrClosed, l.refused)
}

func (q *buffer) gaveUp(l *lane, cause error) error {
	return &GaveUpError{Topic: q.opts.Topic, Partition: int32(l.partition), Cause: cause}
}

func (q *buffer) unknown(l *lane, cause error) error {
	return &UnknownOutcomeError{Topic: q.opts.Topic, Partition: l.partition, Cause: cause}
}

// flush seals every open batch and returns the outcomes that are awaited.
func (q *buffer) flush() []*outcome {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sealAll()
	var outs []*outcome
	for i := range q.lanes {
		l := &q.lanes[i]
		for _, batches := range [][]*batch{l.failed, l.inflight.all(), l.queue.all()} {
			for _, b := range batches {
				outs = append(outs, b.out)
			}
		}
	}
	return outs
}

func (q *buffer) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
}

// failures returns what failed since it was last called.
func (q *buffer) failures() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, first := q.lost, q.lostFirst
	q.lost, q.lostFirst = 0, nil
	if n == 0 {
		return nil
	}
	return &UnacknowledgedError{Records: n, First: first}
}

// errIdleStream says that a server ended a stream without any answer.
var errIdleStream = errors.New("the server ended the stream")

// causeOf returns why a context ended, as an error of this package.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return ErrClosed
	}
	return err
}
