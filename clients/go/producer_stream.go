package millstream

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/millstream-io/millstream/clients/go/internal/transport"
	"github.com/millstream-io/millstream/clients/go/internal/wire"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// backoffFor returns how long to wait after so many failures in a row.
func backoffFor(failures int) time.Duration {
	d := backoffMin << min(failures-1, 10)
	d = min(d, backoffMax)
	return d/2 + rand.N(d/2+1)
}

// produceStream is one Produce stream. The sender's goroutine opens it, sends
// on it and waits for the receiver; the receiver's goroutine alone receives.
type produceStream struct {
	grpc.ClientStream
	route  *route
	cancel context.CancelFunc
	// stop is closed by the receiver when no more requests are to be sent.
	stop chan struct{}
	// ended is closed by the receiver when it returns; err and drain are set
	// before. err is nil if the server ended the stream well.
	ended chan struct{}
	err   error
	drain *pb.Drain
	// gone is closed when the connection that the stream is on is gone.
	gone <-chan struct{}
	// answered: at least one request was. Written by the receiver, read after
	// ended.
	answered bool
}

// run is the sender: it opens a stream when there is something to send, and
// another when that one ends, until the producer is closed.
func (p *Producer) run() {
	defer close(p.done)
	defer p.abandon()
	defer p.directs.Wait() // what they leave is on the own route then
	failures := 0
	for p.awaitWork(p.routes.own) {
		answered := false
		s, err := p.openStream(p.client.conn, p.routes.own)
		if err == nil {
			answered, err = p.serve(s)
		}
		if p.ctx.Err() != nil {
			return
		}
		if answered {
			failures = 0
		}
		if answered && err == nil {
			continue
		}
		failures++
		p.client.logger.Warn("produce stream lost", "topic", p.opts.Topic, "attempt", failures, "err", err)
		p.expire(err)
		if !p.pause(backoffFor(failures)) {
			return
		}
	}
}

// awaitWork waits until there is something to send on a route. It returns false when
// there will be nothing any more.
func (p *Producer) awaitWork(r *route) bool {
	for {
		ok, wait := p.hasWork(r)
		if ok {
			return true
		}
		if !p.sleep(r, wait, nil) {
			return false
		}
	}
}

// sleep waits for the sender of a route to be woken: by work, by the time (0:
// never), by stop. It returns false when the producer is closed.
func (p *Producer) sleep(r *route, wait time.Duration, stop <-chan struct{}) bool {
	var timeout <-chan time.Time
	if wait > 0 {
		timeout = time.After(wait)
	}
	select {
	case <-r.wake:
	case <-timeout:
	case <-stop:
	case <-p.quit:
		return false
	case <-p.ctx.Done():
		return false
	}
	return true
}

// pause waits for d. It returns false when the producer is closed.
func (p *Producer) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-p.quit:
		return false
	case <-p.ctx.Done():
		return false
	}
}

func (p *Producer) openStream(conn *grpc.ClientConn, r *route) (*produceStream, error) {
	ctx, cancel := context.WithCancel(p.ctx)
	stream, err := openStream(ctx, conn, pb.BrokerService_Produce_FullMethodName)
	if err != nil {
		cancel()
		return nil, ErrorOf("produce", p.opts.Topic, err)
	}
	s := &produceStream{ClientStream: stream, route: r, cancel: cancel, stop: make(chan struct{}), ended: make(chan struct{}), gone: p.client.departure()}
	go p.receive(s)
	return s, nil
}

// serve sends on a stream until it ends, and settles what it left. It returns
// whether the stream answered anything, and why it ended, nil if as planned.
func (p *Producer) serve(s *produceStream) (answered bool, err error) {
	defer s.cancel()
	unsent := p.sendAll(s)
	if err := s.CloseSend(); err != nil {
		p.client.logger.Debug("half-closing a produce stream", "err", err)
	}
	<-s.ended
	p.lose(s.route, unsent, s.err)
	if s.err == nil && s.drain != nil && s.route == p.routes.own {
		p.client.awaitDrained(p.ctx, s.drain, s.gone)
	}
	return s.answered, s.err
}

// sendAll sends until the stream or the producer ends. It returns the batch
// whose sending failed, if one did: it surely was not sent.
func (p *Producer) sendAll(s *produceStream) *batch {
	for {
		select {
		case <-s.stop:
			return nil
		default:
		}
		b, restart, wait := p.take(s.route)
		if b == nil {
			if !p.sleep(s.route, wait, s.stop) {
				return nil
			}
			continue
		}
		if err := s.SendMsg(p.request(b, restart)); err != nil {
			return b // why is told by the receiver.
		}
	}
}

// request returns the message that asks for b to be appended.
func (p *Producer) request(b *batch, restart bool) *transport.Outgoing {
	if !b.ready {
		p.compress(b)
		b.crc = crc32.Checksum(b.bytes, wire.Castagnoli)
		b.ready = true
	}
	h := wire.ProduceHeader{
		CorrelationID: b.id, Topic: p.opts.Topic, TopicID: p.topic.GetTopicId(), Partition: b.lane.partition,
		Acks: int32(p.opts.Acks), BatchCRC: b.crc, Restart: restart,
		MinRevision: p.topic.GetRevision(), // a broker that restarts may not know the topic yet
	}
	header := h.AppendTo(make([]byte, 0, h.Size()), len(b.bytes))
	return &transport.Outgoing{Bytes: mem.BufferSlice{mem.SliceBuffer(header), b.message()}}
}

// compress replaces the bytes of a batch by the compressed ones, if those are
// fewer.
func (p *Producer) compress(b *batch) {
	if p.encoder == nil {
		return
	}
	packed, err := p.encoder.Encode(b.bytes)
	if err != nil {
		p.client.logger.Warn("batch sent uncompressed", "topic", p.opts.Topic, "err", err)
		return
	}
	if len(packed)+wire.MaxCompressedHeader >= len(b.bytes) {
		return
	}
	buf := p.client.pool.Get(len(packed) + wire.MaxCompressedHeader)
	out := wire.AppendCompressedHeader((*buf)[:0], int32(p.encoder.Kind()), uint32(b.records), len(packed))
	out = append(out, packed...)
	p.client.pool.Put(b.buf)
	b.buf, b.bytes = buf, out
}

// receive takes answers until the stream ends.
func (p *Producer) receive(s *produceStream) {
	defer close(s.ended)
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			close(s.stop)
		}
	}
	defer stop()
	var scratch []byte
	var answer wire.ProduceAnswer
	for {
		var in transport.Incoming
		if err := s.RecvMsg(&in); err != nil {
			if !errors.Is(err, io.EOF) {
				s.err = causeOf(p.ctx, ErrorOf("produce", p.opts.Topic, err))
			}
			return
		}
		scratch = in.CopyTo(scratch[:0])
		err := answer.Parse(scratch)
		switch {
		case err == nil && answer.Unusual:
			err = p.unusual(s, scratch, stop)
		case err == nil:
			s.answered = true
			err = p.acknowledge(&answer, "")
		}
		if err != nil {
			s.err = fmt.Errorf("produce %s: %w", p.opts.Topic, err)
			s.cancel()
			return
		}
	}
}

// unusual takes an answer that is more than an acknowledgement.
func (p *Producer) unusual(s *produceStream, message []byte, stop func()) error {
	var m pb.ProduceResponse
	if err := proto.Unmarshal(message, &m); err != nil {
		return &wire.MalformedError{Message: "ProduceResponse", What: err.Error()}
	}
	if m.GetDrain() != nil {
		s.drain = m.GetDrain()
		stop()
	}
	if to := m.GetReroute(); to.GetTopic() == p.opts.Topic {
		p.reroute(to.GetPartition(), to.GetLeader().GetAddress())
	}
	switch {
	case m.GetCorrelationId() == 0:
		return nil
	case m.GetError() != nil:
		s.answered = true
		said := newError("produce", p.opts.Topic, -1, m.GetError())
		late, err := p.refuse(m.GetCorrelationId(), m.GetThrottleMs(), said)
		if late > 0 {
			p.client.logger.Warn("records are not taken, and are sent again", "topic", p.opts.Topic, "partition", said.Partition,
				"for", late.Round(time.Millisecond), "until", p.opts.RetryFor, "err", said)
		}
		return err
	}
	s.answered = true
	a := wire.ProduceAnswer{
		CorrelationID: m.GetCorrelationId(), BaseOffset: -1, LeaderEpoch: m.GetLeaderEpoch(), ThrottleMs: m.GetThrottleMs(),
		Scope: int32(m.GetAck().GetScope()), Medium: int32(m.GetAck().GetMedium()), InSync: m.GetAck().GetInSyncReplicas(),
	}
	if m.BaseOffset != nil {
		a.BaseOffset = m.GetBaseOffset()
	}
	return p.acknowledge(&a, m.GetLeader().GetAddress())
}
