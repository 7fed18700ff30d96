package api

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/wire"
)

// fetchStream is one Fetch stream.
//
// Three goroutines: the handler's decides, on the first cause, when the stream
// ends and how; receive takes requests; send reads partitions and sends
// frames. Partitions wake subscriptions on their own goroutines. The handler
// returns without waiting for the other two.
//
// A subscription is ready, or waits for its partition (armed), or waits for
// credit (starved), or is in send's hands. Nothing looks at one that waits, so
// it costs nothing.
type fetchStream struct {
	s      *BrokerService
	stream grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]
	ctx    context.Context
	cancel context.CancelCauseFunc

	// work wakes send, room wakes receive; capacity 1 each.
	work, room chan struct{}

	mu         sync.Mutex // guards what follows
	subs       map[uint64]*subscription
	ready      subscriptionList
	starved    subscriptionList
	control    []wire.FetchResponse // frames that are of no subscription in the stream
	credit     credit
	halfClosed bool
	draining   bool
	closed     bool       // send has ended
	elsewhere  *elsewhere // nil: no partition is led by another broker

	// send's own.
	out   *frameWriter
	mem   *reading
	alloc func(int) []byte // allocate, bound once
	tail  int              // room that alloc leaves for the rest of the frame
}

// Fetch serves a Fetch stream.
func (s *BrokerService) Fetch(stream grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error {
	if err := sendUncompressed(stream); err != nil {
		return err
	}
	return s.fetch(stream)
}

// sendUncompressed keeps gRPC from answering in the compression of the
// request, at many times the cost of the answer: what is worth it was
// compressed by its producer.
func sendUncompressed(stream grpc.ServerStream) error {
	return grpc.SetSendCompressor(stream.Context(), encoding.Identity)
}

func (s *BrokerService) fetch(stream grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(errFinished)
	s.metrics.fetchStreams.Inc()
	defer s.metrics.fetchStreams.Dec()
	f := &fetchStream{
		s: s, stream: stream, ctx: ctx, cancel: cancel,
		work: make(chan struct{}, 1), room: make(chan struct{}, 1),
		subs: make(map[uint64]*subscription),
	}
	f.mem = newReading(s.reading)
	f.out = newFrameWriter(stream, s.limits.StallTimeout, s.endStalled(cancel))
	f.out.lent = f.mem
	f.alloc = f.allocate
	s.streams.Go(f.receive)
	s.streams.Go(f.send)
	err := f.decide()
	s.endReading(stream.Context(), f.mem)
	return err
}

// decide waits for the first reason to end the stream and says what the client
// is told.
func (f *fetchStream) decide() error {
	draining := f.s.draining
	for {
		select {
		case <-f.ctx.Done():
			if cause := context.Cause(f.ctx); !errors.Is(cause, errFinished) {
				return cause
			}
			return nil
		case <-draining:
			draining = nil
			f.mu.Lock()
			f.draining = true
			f.mu.Unlock()
			wake(f.work)
		}
	}
}

// receive takes requests until the client half-closes or the stream ends.
func (f *fetchStream) receive() {
	for f.awaitRoom() {
		m, err := f.stream.Recv()
		if errors.Is(err, io.EOF) {
			f.mu.Lock()
			f.halfClosed = true
			f.mu.Unlock()
			wake(f.work)
			return
		}
		if err != nil {
			f.cancel(err)
			return
		}
		f.take(m)
	}
}

// awaitRoom waits until the client has read the errors of its requests. It
// returns false when the stream has ended.
func (f *fetchStream) awaitRoom() bool {
	for {
		f.mu.Lock()
		full := len(f.control) >= f.s.limits.UnreadAnswers
		f.mu.Unlock()
		if !full {
			return f.ctx.Err() == nil
		}
		select {
		case <-f.room:
		case <-f.ctx.Done():
			return false
		}
	}
}

// take carries out one request.
func (f *fetchStream) take(m *pb.FetchRequest) {
	for _, id := range m.GetUnsubscribe() {
		f.unsubscribe(id)
	}
	// Before the subscriptions of the same request, whose frames it bounds.
	if m.Credit != nil {
		f.mu.Lock()
		f.credit.grant(m.GetCredit())
		f.feed()
		f.mu.Unlock()
	}
	if n, most := len(m.GetSubscribe()), f.s.limits.Subscriptions; n > most {
		f.refuse(wire.FetchResponse{Error: tooManySubscriptions(most, n).RequestError()})
	} else {
		f.subscribeAll(m.GetSubscribe())
	}
	wake(f.work)
}

// subscribeAll adds subscriptions, in order. They wait together for partitions
// and metadata that are not ready: what the first one waits, the others need
// not, and receive is held up for endWait at most.
func (f *fetchStream) subscribeAll(all []*pb.FetchSubscription) {
	if len(all) == 0 {
		return
	}
	until, cancel := context.WithTimeout(f.ctx, endWait)
	defer cancel()
	since := partition.Uptime()
	for i, want := range all {
		f.subscribe(until, i, want, since)
	}
}

// feed makes the starved subscriptions ready for whose next frame there is
// credit now.
//
// REQUIRES: mu is held.
func (f *fetchStream) feed() {
	if f.elsewhere != nil {
		f.feedLinks()
	}
	for s := f.starved.head; s != nil; {
		next := s.link
		if f.credit.fits(s.need) {
			f.starved.remove(s)
			f.queue(s)
		}
		s = next
	}
}

// refuse queues a frame that says what cannot be done.
func (f *fetchStream) refuse(r wire.FetchResponse) {
	f.mu.Lock()
	f.control = append(f.control, r)
	f.mu.Unlock()
}

// unsubscribe removes a subscription. A frame that is on its way still comes.
func (f *fetchStream) unsubscribe(id uint64) {
	f.mu.Lock()
	s := f.subs[id]
	if s == nil { // finished meanwhile, perhaps
		f.mu.Unlock()
		return
	}
	wasArmed := f.forget(s)
	if s.lead != nil {
		s.lead.link.Unsubscribe(id)
	}
	f.mu.Unlock()
	if wasArmed {
		s.part.Cancel(s)
	}
}

// forget takes a subscription out of the stream. It returns whether it has to
// be cancelled at its partition.
//
// REQUIRES: mu is held, and the subscription is in the stream.
func (f *fetchStream) forget(s *subscription) (wasArmed bool) {
	switch s.state {
	case ready:
		f.ready.remove(s)
	case starved:
		f.starved.remove(s)
	case armed:
		wasArmed = true
	case sending, holding, away, over:
	}
	s.state = over
	delete(f.subs, s.id)
	f.s.metrics.fetchSubscriptions.Dec()
	return wasArmed
}

// end lets go of everything when send ends.
func (f *fetchStream) end() {
	f.mem.rest()
	f.mu.Lock()
	f.closed = true
	if e := f.elsewhere; e != nil {
		f.s.passing.Release(e.held)
		e.held = 0
	}
	var waiting []*subscription
	for _, s := range f.subs {
		if f.forget(s) {
			waiting = append(waiting, s)
		}
	}
	f.mu.Unlock()
	for _, s := range waiting {
		s.part.Cancel(s)
	}
}
