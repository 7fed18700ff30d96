package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/rpc"
)

// produceStream is one Produce stream.
//
// Three goroutines: the handler's decides, on the first cause, when the stream
// ends and how; receive takes requests; send sends answers. Completions come
// on the goroutines of partitions. The handler returns without waiting for the
// other two: gRPC releases them when it has returned.
//
//	receive ── Append ──► partition
//	   │ (refused)             │ Complete
//	   └─────────► lanes ◄─────┘      one FIFO for each partition
//	                 │ answers, in order in each lane
//	                 ▼
//	               send
//
// INVARIANT: every request taken is in exactly one place: receive's hands, a
// lane, the list of answers, or the free list.
type produceStream struct {
	s      *BrokerService
	stream grpc.ServerStream
	ctx    context.Context
	cancel context.CancelCauseFunc

	// receive's own.
	in        intake
	receiver  *rpc.Receiver
	ask       func(int) error   // askFor, bound once
	asked     int               // bytes of the budget for receiving, of the message in hand
	held      *broker.Budget    // bytes in flight on this stream
	elsewhere *forward.Producer // nil: nothing was forwarded yet

	// answered wakes send, room wakes receive; capacity 1 each.
	answered, room chan struct{}

	mu          sync.Mutex // guards what follows, and the lists of lanes
	free        *produceRequest
	ready       requestList
	outstanding int  // requests taken and not handed to the transport as answers
	ended       bool // no more requests are taken
	dirty       []*lane

	out *frameWriter // send's own
}

// errFinished is the cause of a stream that ended as it should.
var errFinished = errors.New("finished")

// Produce serves a Produce stream.
func (s *BrokerService) Produce(stream grpc.BidiStreamingServer[pb.ProduceRequest, pb.ProduceResponse]) error {
	if err := sendUncompressed(stream); err != nil {
		return err
	}
	return s.produce(stream)
}

func (s *BrokerService) produce(stream grpc.ServerStream) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(errFinished)
	s.metrics.produceStreams.Inc()
	defer s.metrics.produceStreams.Dec()
	p := s.newProduceStream(ctx, cancel, stream)
	p.ask = p.askFor
	p.receiver = rpc.NewReceiver(stream, maxRequestBytes, s.limits.StallTimeout, func() {
		s.metrics.stalled.Inc()
		cancel(senderTooSlow(s.limits.StallTimeout))
	})
	s.streams.Go(p.receive)
	s.streams.Go(p.send)
	return p.decide()
}

func (s *BrokerService) newProduceStream(ctx context.Context, cancel context.CancelCauseFunc, stream grpc.ServerStream) *produceStream {
	p := &produceStream{
		s: s, stream: stream, ctx: ctx, cancel: cancel, held: broker.NewBudget(s.limits.StreamInFlightBytes),
		answered: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
	p.in.lanes = newLaneSet(s.limits.StreamPartitions)
	p.out = newFrameWriter(stream, s.limits.StallTimeout, s.endStalled(cancel))
	return p
}

// decide waits for the first reason to end the stream and says what the client
// is told.
func (p *produceStream) decide() error {
	draining, grace := p.s.draining, (<-chan time.Time)(nil)
	for {
		select {
		case <-p.ctx.Done():
			cause := context.Cause(p.ctx)
			if errors.Is(cause, errFinished) {
				return nil
			}
			return cause
		case <-draining:
			// Until the grace is over the client's requests are still taken; then
			// what is in flight is answered and the stream ends.
			draining = nil
			p.sendDrain()
			t := time.NewTimer(p.s.limits.DrainGrace)
			defer t.Stop()
			grace = t.C
		case <-grace:
			grace = nil
			p.endIntake()
		}
	}
}

// receive takes requests until the client half-closes, the stream ends, or
// intake is ended.
func (p *produceStream) receive() {
	defer p.received()
	for p.awaitRoom() {
		r := p.newRequest()
		var err error
		if r.frame.msg, err = p.receiver.Receive(p.ask); err != nil {
			p.receiveEnded(err)
			return
		}
		if !p.begin() {
			p.release(r)
			return
		}
		if err := p.admit(r); err != nil {
			p.release(r)
			p.cancel(err)
			return
		}
	}
}

// askFor takes bytes of the budget for receiving, before a large message is.
//
// No deadlock: who has them waits for its client, for StallTimeout at most, and
// then for the budgets of what is in flight, which partitions give back; nobody
// who has those waits for these.
func (p *produceStream) askFor(bytes int) error {
	bytes = min(bytes, int(p.s.receiving.Limit()))
	if err := p.s.receiving.Acquire(p.ctx, bytes); err != nil {
		return err
	}
	p.asked = bytes
	return nil
}

// received gives back what askFor took: the message counts as in flight now, or
// there is none.
func (p *produceStream) received() {
	if p.asked > 0 {
		p.s.receiving.Release(p.asked)
		p.asked = 0
	}
}

// senderTooSlow says that a client did not send the rest of a message.
func senderTooSlow(after time.Duration) *rpc.Fault {
	return rpc.LimitFault(codes.ResourceExhausted, "stream.stall.timeout", after.Milliseconds(), after.Milliseconds(),
		fmt.Sprintf("less than %d bytes of a message have come within %v (stream.stall.timeout)", rpc.MessageStep, after))
}

// receiveEnded is told why there is no next request: io.EOF is the client's
// half-close; all else ends the stream by itself, as gRPC knows it.
func (p *produceStream) receiveEnded(err error) {
	if errors.Is(err, io.EOF) {
		p.endIntake()
		return
	}
	p.cancel(err)
}

// awaitRoom waits until the stream may take another request. It returns false
// when no more are taken.
func (p *produceStream) awaitRoom() bool {
	for {
		p.mu.Lock()
		ended, full := p.ended, p.outstanding >= p.s.limits.UnreadAnswers
		p.mu.Unlock()
		switch {
		case ended || p.ctx.Err() != nil:
			return false
		case !full:
			return true
		}
		select {
		case <-p.room:
		case <-p.ctx.Done():
			return false
		}
	}
}

// begin counts a request as taken, unless intake has ended meanwhile: then it
// stays without an answer.
func (p *produceStream) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return false
	}
	p.outstanding++
	return true
}

// endIntake ends the taking of requests; send ends the stream when all that
// were taken are answered.
func (p *produceStream) endIntake() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	wake(p.answered)
	wake(p.room)
}

// wake makes a channel of capacity 1 readable.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
