package forward

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/record"
)

// produceLink is a Produce stream to a leader.
//
// Two goroutines: run opens the stream, receives answers and, when it ends,
// says what became of everything; send sends. Correlation ids count from 1.
type produceLink struct {
	p      *Producer
	broker int32
	ctx    context.Context //nolint:containedctx // of the stream
	cancel context.CancelFunc
	stream grpc.ClientStream // set before send is started
	work   chan struct{}     // wakes send; capacity 1

	// Guarded by Producer.mu.
	head, tail *Request   // not sent
	flying     []*Request // sent; nil where answered
	first      uint64     // correlation id of flying[0]
	stops      bool       // the leader stops: nothing more is sent
}

// errStops is why nothing more is sent to a leader that has said so.
var errStops = errors.New("it is stopping")

func newProduceLink(p *Producer, broker int32) *produceLink {
	l := &produceLink{p: p, broker: broker, work: make(chan struct{}, 1), first: 1}
	l.ctx, l.cancel = context.WithCancel(p.ctx)
	p.spawn(l.run)
	return l
}

// push queues a request. It fails with *UnreachableError if the leader stops.
//
// REQUIRES: Producer.mu is held.
func (l *produceLink) push(r *Request) error {
	if l.stops {
		l.unsent(r, errStops)
		return r.Err
	}
	if l.tail == nil {
		l.head = r
	} else {
		l.tail.next = r
	}
	l.tail = r
	l.wake()
	return nil
}

// wake has send look what there is to do.
func (l *produceLink) wake() {
	select {
	case l.work <- struct{}{}:
	default:
	}
}

// run keeps the link from its first request to the end of its stream.
func (l *produceLink) run() {
	defer l.cancel()
	stream, err := open(l.ctx, l.p.peers, l.broker, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, pb.BrokerService_Produce_FullMethodName)
	if err != nil {
		l.end(err, false)
		return
	}
	l.stream = stream
	sent := make(chan struct{}) // closed when send has returned
	l.p.spawn(func() {
		defer close(sent)
		l.send()
	})
	err = l.receive()
	l.cancel()
	// Before anything is given back: send may be copying from it.
	<-sent
	l.end(err, errors.Is(err, io.EOF))
}

// receive takes answers until the stream ends. io.EOF: the leader has answered
// all that it took.
func (l *produceLink) receive() error {
	for {
		a := &pb.ProduceResponse{}
		if err := l.stream.RecvMsg(a); err != nil {
			return err
		}
		if a.GetCorrelationId() == 0 {
			if a.GetDrain() != nil {
				l.drained()
			}
			continue
		}
		if err := l.answered(a); err != nil {
			return err
		}
	}
}

// drained takes that the leader stops. It answers what it was sent; what it was
// not sent surely is not written, and is repeated elsewhere.
//
// WHY nothing more is sent, though it would be taken for a while: when the
// leader's time is over its connections are cut, and nobody knows what became of
// what was on its way.
func (l *produceLink) drained() {
	p := l.p
	p.mu.Lock()
	l.stops = true
	lost := l.unsend(errStops)
	p.mu.Unlock()
	l.wake()
	for _, r := range lost {
		r.Done.Forwarded(r)
	}
}

// answered takes an answer.
func (l *produceLink) answered(a *pb.ProduceResponse) error {
	l.p.mu.Lock()
	i := a.GetCorrelationId() - l.first
	if i >= uint64(len(l.flying)) || l.flying[i] == nil {
		l.p.mu.Unlock()
		return fmt.Errorf("broker %d answered request %d, which is not in flight", l.broker, a.GetCorrelationId())
	}
	r := l.flying[i]
	l.flying[i] = nil
	for len(l.flying) > 0 && l.flying[0] == nil {
		l.flying = l.flying[1:]
		l.first++
	}
	switch {
	case a.GetError() != nil:
		r.failedBy(rpc.FaultFrom(a.GetError()))
	default:
		r.Base, r.Epoch, r.Ack = record.Offset(a.GetBaseOffset()), record.LeaderEpoch(a.GetLeaderEpoch()), a.GetAck()
	}
	l.p.mu.Unlock()
	r.Done.Forwarded(r)
	return nil
}

// send sends requests until the stream ends or the leader stops.
func (l *produceLink) send() {
	for {
		m, stops := l.next()
		if stops {
			_ = l.stream.CloseSend() // why it fails is told by receive
			return
		}
		if m == nil {
			select {
			case <-l.work:
				continue
			case <-l.ctx.Done():
				return
			}
		}
		if err := l.stream.SendMsg(m); err != nil {
			return // why is told by receive
		}
	}
}

// next takes the next request as in flight and returns it encoded; nil: there is
// none. stops says that there will be none.
func (l *produceLink) next() (m *message, stops bool) {
	l.p.mu.Lock()
	r := l.head
	if r == nil || l.ctx.Err() != nil {
		stops = l.stops
		l.p.mu.Unlock()
		return nil, stops
	}
	if l.head = r.next; l.head == nil {
		l.tail = nil
	}
	r.next = nil
	id := l.first + uint64(len(l.flying))
	l.flying = append(l.flying, r)
	l.p.mu.Unlock()

	h := wire.ForwardedProduce{
		CorrelationID: id, Topic: r.Topic, TopicID: record.TopicID(r.To.Topic), Partition: r.Partition, Acks: r.Acks,
		BatchCRC: r.CRC, Restart: r.Restart, MinRevision: r.To.Revision, LeaderEpoch: record.LeaderEpoch(r.To.Epoch),
	}
	size := wire.MaxForwardedProduceSize + len(r.Topic)
	for _, piece := range r.Batch {
		size += len(piece)
	}
	// WHY a copy: the transport may keep the bytes for longer than the client's
	// request is kept.
	b := l.p.pieces.Get(max(size, leastPooled))
	*b = wire.AppendForwardedProduce((*b)[:0], &h, r.Batch)
	return &message{mem.BufferSlice{mem.NewBuffer(b, l.p.pieces)}}, false
}

// leastPooled is the least buffer that gRPC gives back.
const leastPooled = 1280

// end says what became of what was not answered, in order. complete: the leader
// has answered all that it took.
func (l *produceLink) end(err error, complete bool) {
	p := l.p
	p.mu.Lock()
	delete(p.links, l.broker)
	var lost []*Request
	for _, r := range l.flying {
		if r == nil {
			continue
		}
		switch {
		case complete:
			l.unsent(r, err)
		case r.Lane != nil && r.Lane.refused:
			// The leader refuses all that follows, until a restart.
			r.failedBy(ErrPrecedingFailed)
		default:
			r.failedBy(&BrokenError{Broker: l.broker, Cause: err})
		}
		lost = append(lost, r)
	}
	l.flying = nil
	lost = append(lost, l.unsend(err)...)
	p.mu.Unlock()
	for _, r := range lost {
		r.Done.Forwarded(r)
	}
}

// unsend fails what is queued, and returns it.
//
// REQUIRES: Producer.mu is held.
func (l *produceLink) unsend(err error) []*Request {
	var lost []*Request
	for r := l.head; r != nil; r = r.next {
		l.unsent(r, err)
		lost = append(lost, r)
	}
	l.head, l.tail = nil, nil
	return lost
}

// unsent fails a request that the leader did not take.
//
// REQUIRES: Producer.mu is held.
func (l *produceLink) unsent(r *Request, err error) {
	_, busy := errors.AsType[*BusyError](err)
	switch e, ok := errors.AsType[*UnreachableError](err); {
	case r.Lane != nil && r.Lane.failed && r.sequence > r.Lane.restart:
		r.failedBy(ErrPrecedingFailed)
	case ok:
		r.failedBy(e)
	case busy:
		r.failedBy(err)
	default:
		r.failedBy(&UnreachableError{Broker: l.broker, Cause: err})
	}
}
