package millstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/millstream-io/millstream/clients/go/internal/transport"
	"github.com/millstream-io/millstream/clients/go/internal/wire"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// fetchStream is one Fetch stream. The sender's goroutine opens it, asks and
// grants on it and waits for the receiver; the receiver's goroutine alone
// receives.
type fetchStream struct {
	grpc.ClientStream
	route  *route
	cancel context.CancelFunc
	// taken is what had been taken on the route when the stream began: that much
	// less is granted until it is freed.
	taken int64
	// left: the route has no partition any more.
	left bool
	// ended is closed by the receiver when it returns; err, drain and received
	// are set before. err is nil if the server ended the stream well.
	ended    chan struct{}
	err      error
	drain    *pb.Drain
	gone     <-chan struct{} // closed when the connection that it is on is gone
	received bool
}

// run is the sender of the client's own route: it keeps a stream open while
// the route has partitions, until every partition is over.
func (r *Reader) run() {
	defer close(r.done)
	defer close(r.frames)
	defer r.directs.Wait()
	defer r.stopConnecting()
	failures, since := 0, time.Time{}
	own := r.subs.routes.own
	for {
		if r.subs.remaining() == 0 {
			r.final = io.EOF
			return
		}
		if used, _ := r.subs.on(own); !used {
			select {
			case <-own.wake:
			case <-r.ctx.Done():
				r.final = ErrClosed
				return
			}
			continue
		}
		s, err := r.open(r.client.conn, own)
		received := false
		if err == nil {
			received, err = r.serve(s)
		}
		left := s != nil && s.left
		switch {
		case r.ctx.Err() != nil:
			r.final = ErrClosed
			return
		case r.subs.remaining() == 0 || left:
			failures, since = 0, time.Time{}
			continue
		case err != nil && !isTransient(err):
			r.final = err
			r.cancel() // ends the others
			return
		case received:
			failures, since = 0, time.Time{}
		}
		failures++
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) >= r.opts.RetryFor {
			r.final = &GaveUpError{Topic: r.opts.Topic, Reading: true, Partition: -1, Cause: err}
			r.cancel()
			return
		}
		level := slog.LevelWarn
		if err == nil {
			level = slog.LevelInfo // the server said that it would
		}
		r.client.logger.Log(r.ctx, level, "fetch stream lost", "topic", r.opts.Topic, "partitions", r.subs.subscribed(), "attempt", failures, "err", err)
		select {
		case <-time.After(backoffFor(failures)):
		case <-r.ctx.Done():
		}
	}
}

func (r *Reader) open(conn *grpc.ClientConn, rt *route) (*fetchStream, error) {
	ctx, cancel := context.WithCancel(r.ctx)
	stream, err := openStream(ctx, conn, pb.BrokerService_Fetch_FullMethodName)
	if err != nil {
		cancel()
		return nil, ErrorOf("fetch", r.opts.Topic, err)
	}
	s := &fetchStream{
		ClientStream: stream, route: rt, cancel: cancel, ended: make(chan struct{}), gone: r.client.departure(),
		taken: rt.taken.Load(),
	}
	r.subs.reset(rt)
	go r.receive(s)
	return s, nil
}

// serve asks for what is due and grants credit until the stream ends, or its
// route has no partition any more. It returns whether anything was received,
// and why the stream ended, nil if as planned.
func (r *Reader) serve(s *fetchStream) (received bool, err error) {
	defer s.cancel()
	r.ask(s)
	<-s.ended
	r.subs.reset(s.route)
	if s.err == nil && s.drain != nil && s.route == r.subs.routes.own {
		r.client.awaitDrained(r.ctx, s.drain, s.gone)
	}
	return s.received, s.err
}

// ask sends requests until there is nothing more to ask for on the route.
func (r *Reader) ask(s *fetchStream) {
	granted := int64(-1)
	for {
		used, routes := r.subs.on(s.route)
		if !used {
			s.left = true
			break
		}
		share := int64(max(r.opts.BufferBytes/routes, minFetchBytes))
		r.share.Store(share)
		m, wait := r.subs.due(s.route, &r.opts, r.topic)
		freed := s.route.freed.Load()
		if total := max(share-s.taken+freed, 0); len(m.Subscribe)+len(m.Unsubscribe) > 0 || total > granted {
			s.route.asked.Store(freed)
			granted = max(granted, total) // it never shrinks
			m.Credit = proto.Uint64(uint64(granted))
			if err := s.SendMsg(m); err != nil {
				return // why is told by the receiver.
			}
		}
		var timeout <-chan time.Time
		if wait > 0 {
			timeout = time.After(wait)
		}
		select {
		case <-s.route.wake:
		case <-timeout:
		case <-s.ended:
			return
		}
	}
	s.cancel()
}

// receive hands frames over until the stream ends.
func (r *Reader) receive(s *fetchStream) {
	defer close(s.ended)
	for {
		var in transport.Incoming
		if err := s.RecvMsg(&in); err != nil {
			if !errors.Is(err, io.EOF) {
				s.err = ErrorOf("fetch", r.opts.Topic, err)
			}
			return
		}
		if err := r.accept(s, &in); err != nil {
			s.err = err
			s.cancel()
			return
		}
	}
}

// accept takes one message.
func (r *Reader) accept(s *fetchStream, in *transport.Incoming) error {
	f, _ := r.pooled.Get().(*frame)
	f.buf = r.client.pool.Get(in.Pieces.Len())
	*f.buf = in.CopyTo((*f.buf)[:0])
	if err := f.Parse(*f.buf); err != nil {
		return fmt.Errorf("fetch %s: %w", r.opts.Topic, err)
	}
	s.received = true
	f.route = s.route
	s.route.taken.Add(int64(f.CreditUsed))
	if f.SubscriptionID == 0 {
		defer r.release(f)
		return r.control(s, f)
	}
	v, sub := r.subs.receive(f, &r.opts)
	switch v {
	case frameStale:
		r.release(f)
		return nil
	case frameRetry:
		r.release(f)
		s.route.notify()
		return nil
	case frameWanted:
	}
	select {
	case r.frames <- f:
	case <-r.ctx.Done():
		return ErrClosed
	}
	if r.subs.handed(sub) == 0 {
		r.subs.notifyAll()
	}
	return nil
}

// control takes a message to the whole stream.
func (r *Reader) control(s *fetchStream, f *frame) error {
	switch f.Control {
	case wire.ControlDrain:
		s.drain = new(pb.Drain)
		if err := proto.Unmarshal(f.ControlBytes, s.drain); err != nil {
			return &wire.MalformedError{Message: "Drain", What: err.Error()}
		}
	case wire.ControlError:
		var m pb.RequestError
		if err := proto.Unmarshal(f.ControlBytes, &m); err != nil {
			return &wire.MalformedError{Message: "RequestError", What: err.Error()}
		}
		return newError("fetch", r.opts.Topic, -1, &m)
	case wire.ControlNone, wire.ControlReroute, wire.ControlCaughtUp:
	}
	return nil
}
