package follower

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/record"
)

const (
	// heldBytes is how much may have come on one stream and not be written: then
	// the stream is not read until the logs have taken some of it.
	heldBytes = 32 << 20
	// silence is how long a leader may say nothing, six of its pings.
	silence = 3 * time.Second
	// perMessage bounds what one message says of sessions.
	perMessage = 1000
)

// errSilent says that the leader said nothing for too long.
var errSilent = errors.New("the leader is silent")

// stream is one stream to a leader.
type stream struct {
	pair   *pair
	lane   lane
	call   grpc.ClientStream
	ctx    context.Context
	cancel context.CancelCauseFunc
	more   chan struct{} // capacity 1; never closed

	// Guarded by the pair's mutex.
	sessions map[uint64]*Link
	opens    []*replicationv1.SessionOpen
	closes   []*replicationv1.SessionClose
	acks     []*Link
	words    []*word // to be said
	pong     int64   // the ping to answer; 0: none
	last     bool    // nothing comes after what is to be said now

	held struct {
		sync.Mutex
		bytes int
		room  chan struct{} // capacity 1; never closed
	}
}

// openStream opens a stream and says who follows.
func openStream(ctx context.Context, cancel context.CancelCauseFunc, p *pair, n lane, conn *grpc.ClientConn) (*stream, error) {
	call, err := conn.NewStream(ctx, &replicationv1.ReplicationService_ServiceDesc.Streams[0], replicationv1.ReplicationService_Replicate_FullMethodName)
	if err != nil {
		return nil, err
	}
	id := p.f.o.Identity()
	hello := &replicationv1.FollowerHello{
		ClusterId: id.ClusterID[:], ClusterGeneration: id.Generation, BrokerId: p.f.o.Self, BrokerEpoch: id.BrokerEpoch,
		Lane: replicationv1.Lane_LANE_TAIL,
	}
	if n == catchUp {
		hello.Lane = replicationv1.Lane_LANE_CATCH_UP
	}
	if err := call.SendMsg(&replicationv1.ReplicateRequest{Hello: hello}); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var first wire.ReplicateResponse
	if err := call.RecvMsg(&first); err != nil {
		return nil, err
	}
	if got := first.Message.GetHello(); first.Err() != nil || first.IsPush || got == nil || got.GetBrokerId() != p.leader {
		return nil, fmt.Errorf("broker %d does not say hello: %v, %w", p.leader, got, errHello)
	}
	s := &stream{pair: p, lane: n, call: call, ctx: ctx, cancel: cancel, more: make(chan struct{}, 1), sessions: make(map[uint64]*Link)}
	s.held.room = make(chan struct{}, 1)
	return s, nil
}

var errHello = errors.New("not the leader that was called")

// wake has the sender look.
func (s *stream) wake() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// send says what there is to say until the stream ends.
func (s *stream) send() {
	for {
		for {
			req := s.next()
			if req == nil {
				break
			}
			if err := s.call.SendMsg(req); err != nil {
				s.cancel(nil) // receive has the reason
				return
			}
		}
		if s.over() {
			_ = s.call.CloseSend() // the leader ends the stream when it has heard all
			return
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.more:
		}
	}
}

// over tells whether all has been said.
func (s *stream) over() bool {
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	return s.last && len(s.closes) == 0 && len(s.words) == 0
}

// next returns what there is to say; nil: nothing.
func (s *stream) next() *replicationv1.ReplicateRequest {
	p := s.pair
	p.mu.Lock()
	defer p.mu.Unlock()
	req := &replicationv1.ReplicateRequest{}
	req.Closes, s.closes = cutAt(s.closes, perMessage)
	req.Opens, s.opens = cutAt(s.opens, perMessage)
	var acks []*Link
	acks, s.acks = cutAt(s.acks, perMessage)
	for _, l := range acks {
		l.acked = false
		if l.stream == s && l.ack.Session == l.session {
			req.Acks = append(req.Acks, ackOf(&l.ack))
		}
	}
	var words []*word
	words, s.words = cutAt(s.words, perMessage)
	for _, w := range words {
		w.on, w.saidAt = s, time.Now()
		req.Known = append(req.Known, w.known)
	}
	// Behind all closes: whoever hears it knows that they were said before.
	if s.pong != 0 && len(s.closes) == 0 {
		req.Ping = &replicationv1.Ping{EchoNs: s.pong}
		s.pong = 0
	}
	if req.Closes == nil && req.Opens == nil && req.Acks == nil && req.Known == nil && req.Ping == nil {
		return nil
	}
	return req
}

// cutAt takes the first n of a list, and leaves the rest.
func cutAt[T any](list []T, n int) (first, rest []T) {
	if len(list) <= n {
		return list, nil
	}
	return list[:n:n], list[n:]
}

// receive takes what the leader says until the stream ends.
func (s *stream) receive() error {
	watchdog := time.AfterFunc(silence, func() { s.cancel(errSilent) })
	defer watchdog.Stop()
	var r wire.ReplicateResponse
	for {
		if err := s.call.RecvMsg(&r); err != nil {
			return err
		}
		if err := r.Err(); err != nil {
			return err
		}
		if r.IsPush {
			s.pushed(&r)
		} else {
			s.told(&r.Message)
		}
		if err := s.awaitRoom(watchdog); err != nil {
			return err
		}
		watchdog.Reset(silence)
	}
}

// awaitRoom waits while the logs hold too much that they have not written.
func (s *stream) awaitRoom(watchdog *time.Timer) error {
	for {
		s.held.Lock()
		full := s.held.bytes > heldBytes
		s.held.Unlock()
		if !full {
			return nil
		}
		watchdog.Stop() // it is not the leader who keeps the other waiting
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-s.held.room:
		}
	}
}

// loan is the bytes of a push until they are written.
type loan struct {
	s    *stream
	held mem.BufferSlice
	n    int
}

// Free gives the bytes back to the transport.
func (l *loan) Free() {
	l.held.Free()
	h := &l.s.held
	h.Lock()
	h.bytes -= l.n
	h.Unlock()
	select {
	case h.room <- struct{}{}:
	default:
	}
}

// pushed hands a push to its partition.
func (s *stream) pushed(r *wire.ReplicateResponse) {
	batches, held := r.Take()
	link := s.link(r.Push.GetSession())
	if link == nil {
		held.Free()
		return
	}
	l := &loan{s, held, batches.Len()}
	s.held.Lock()
	s.held.bytes += l.n
	s.held.Unlock()
	link.p.Push(partition.Pushed{
		Push: pushOf(&r.Push), End: record.Offset(r.Push.GetBatchesEnd()), Batches: batches, Free: l,
	})
}

func (s *stream) link(session uint64) *Link {
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	return s.sessions[session]
}

// told takes all that is not a push, in the order of the fields.
func (s *stream) told(m *replicationv1.ReplicateResponse) {
	for _, o := range m.GetOpened() {
		s.opened(o)
	}
	for _, c := range m.GetCloses() {
		if l := s.link(c.GetSession()); l != nil {
			s.ended(l)
			l.p.SessionClosed(c.GetSession())
		}
	}
	for _, e := range m.GetEnds() {
		if l := s.link(e.GetSession()); l != nil {
			l.p.Push(partition.Pushed{Push: pushOf(e), End: record.Offset(e.GetFrom())})
		}
	}
	if sent := m.GetPing().GetSentNs(); sent != 0 {
		s.pair.mu.Lock()
		s.pong = sent
		s.pair.mu.Unlock()
		s.wake()
	}
}

// opened takes the answer to an open.
func (s *stream) opened(m *replicationv1.SessionOpened) {
	l := s.link(m.GetSession())
	if l == nil {
		return
	}
	o := openedOf(m)
	began := o.Error == replica.NoError && !o.Diverged && !o.Reset
	s.pair.mu.Lock()
	far := began && s.lane == tail && o.End-l.end > farBehind
	s.pair.mu.Unlock()
	switch {
	case far:
		if s.pair.move(l, catchUp) {
			s.pair.connect(l)
		}
		return
	case o.Error != replica.NoError:
		s.ended(l)
	}
	l.p.SessionOpened(o)
}

// ended notes that the session of a link is no more, and has another opened in
// a while.
func (s *stream) ended(l *Link) {
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	if l.stream == s {
		l.forget()
		l.retry()
	}
}
