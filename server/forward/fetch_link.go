package forward

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/wire"
)

// Frame is a FetchResponse of a leader: its bytes, and what of them matters on
// the way. The bytes are of rpc.SharedPool; who takes the frame owns them, and
// gives Held back to the budget.
type Frame struct {
	wire.FetchHead

	Bytes *[]byte
	// Held is what the frame takes of the budget.
	Held int
}

// Budget bounds the bytes that frames take. Those who wait are served in order.
type Budget interface {
	// Acquire takes bytes, and waits for them if it must, until ctx ends.
	Acquire(ctx context.Context, bytes int) error
	// Release gives bytes back.
	Release(bytes int)
}

// Sink takes what comes on a FetchLink, in order, on the link's goroutine. It
// must not block.
type Sink interface {
	// Frame takes a frame.
	Frame(*Frame)
	// Ended says why the link has ended. Nothing comes after it.
	Ended(error)
}

// FetchLink is a Fetch stream to a leader, of one stream of a client. What it
// may hold of frames is what was granted, and within the budget: while that has
// no room, the next frame waits in the transport.
//
// Two goroutines: run opens the stream and receives, send sends. Its methods
// are safe for concurrent use and do not block.
type FetchLink struct {
	broker int32
	sink   Sink
	budget Budget
	ctx    context.Context //nolint:containedctx // that of the stream
	cancel context.CancelFunc
	stream grpc.ClientStream // set before send is started
	work   chan struct{}     // wakes send; capacity 1
	spawn  func(func())

	mu      sync.Mutex // guards what follows
	next    *pb.FetchRequest
	granted uint64
}

// NewFetchLink opens a link, which ends with ctx. spawn starts a goroutine that
// the caller waits for.
func NewFetchLink(ctx context.Context, peers *Calls, broker int32, sink Sink, budget Budget, spawn func(func())) *FetchLink {
	l := &FetchLink{broker: broker, sink: sink, budget: budget, spawn: spawn, work: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(mark(ctx))
	spawn(func() { l.run(peers) })
	return l
}

// Close ends the link. Frames may still come until Ended.
func (l *FetchLink) Close() { l.cancel() }

// Subscribe adds a subscription.
func (l *FetchLink) Subscribe(s *pb.FetchSubscription) {
	l.mu.Lock()
	r := l.request()
	r.Subscribe = append(r.Subscribe, s)
	l.mu.Unlock()
	l.wake()
}

// Unsubscribe removes a subscription. Frames of it may still come.
func (l *FetchLink) Unsubscribe(id uint64) {
	l.mu.Lock()
	r := l.request()
	// A request unsubscribes before it subscribes.
	r.Subscribe = slices.DeleteFunc(r.Subscribe, func(s *pb.FetchSubscription) bool { return s.GetSubscriptionId() == id })
	r.Unsubscribe = append(r.Unsubscribe, id)
	l.mu.Unlock()
	l.wake()
}

// Grant says how many bytes of frames may come, as a total (rule G5).
func (l *FetchLink) Grant(total uint64) {
	l.mu.Lock()
	l.granted = max(l.granted, total)
	l.request().Credit = new(l.granted)
	l.mu.Unlock()
	l.wake()
}

// request returns what send sends next.
//
// REQUIRES: mu is held.
func (l *FetchLink) request() *pb.FetchRequest {
	if l.next == nil {
		l.next = &pb.FetchRequest{}
	}
	return l.next
}

func (l *FetchLink) wake() {
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// run keeps the link.
func (l *FetchLink) run(peers *Calls) {
	defer l.cancel()
	stream, err := open(l.ctx, peers, l.broker, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, pb.BrokerService_Fetch_FullMethodName)
	if err != nil {
		l.sink.Ended(err)
		return
	}
	l.stream = stream
	l.spawn(l.send)
	for {
		f, err := l.receive()
		if err != nil {
			l.sink.Ended(&BrokenError{Broker: l.broker, Cause: err})
			return
		}
		l.sink.Frame(f)
	}
}

func (l *FetchLink) receive() (*Frame, error) {
	var m message
	if err := l.stream.RecvMsg(&m); err != nil {
		return nil, err
	}
	defer m.slice.Free()
	n := m.slice.Len()
	most := n + n/4 + leastPooled // that a pooled buffer has
	if err := l.budget.Acquire(l.ctx, most); err != nil {
		return nil, err
	}
	f := &Frame{Bytes: rpc.SharedPool().Get(max(n, leastPooled))}
	f.Held = min(most, cap(*f.Bytes))
	l.budget.Release(most - f.Held)
	*f.Bytes = (*f.Bytes)[:n]
	m.slice.CopyTo(*f.Bytes)
	if err := f.Parse(*f.Bytes); err != nil {
		rpc.SharedPool().Put(f.Bytes)
		l.budget.Release(f.Held)
		return nil, err
	}
	return f, nil
}

// send sends requests until the stream ends; why is told by run.
func (l *FetchLink) send() {
	for {
		l.mu.Lock()
		r := l.next
		l.next = nil
		l.mu.Unlock()
		if r == nil {
			select {
			case <-l.work:
				continue
			case <-l.ctx.Done():
				return
			}
		}
		if err := l.stream.SendMsg(r); err != nil {
			return
		}
	}
}
