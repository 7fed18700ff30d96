package ceiling

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/millstream-io/millstream/server/caller"
	"github.com/millstream-io/millstream/server/rpc"
)

// addresses are what a leader prints when it serves.
type addresses struct{ Clients, Followers string }

// leader takes the messages of one client.
type leader struct {
	spec
	store    *store
	progress *progress
	callers  caller.Func // nil: there are no certificates
	ctx      context.Context
	cancel   context.CancelCauseFunc
	lines    []line
	ready    chan struct{} // closed when all followers have come

	mu    sync.Mutex // guards what follows
	taken []bool     // by follower: it has come
	away  int        // followers that have not
}

const (
	produceMethod = "/ceiling.Clients/Produce"
	followMethod  = "/ceiling.Followers/Follow"
)

// service returns a service with one bidirectional stream.
func service(name, method string, handle func(grpc.ServerStream) error) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: method, ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, st grpc.ServerStream) error { return handle(st) },
	}}}
}

// lead serves until ctx ends.
func lead(ctx context.Context, s spec, out io.Writer, log *slog.Logger) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := &leader{
		spec: s, ctx: ctx, cancel: cancel, progress: newProgress(s.Followers, s.Need),
		lines: make([]line, s.Followers), ready: make(chan struct{}), taken: make([]bool, s.Followers), away: s.Followers,
	}
	if l.away == 0 {
		close(l.ready)
	}
	for i := range l.lines {
		l.lines[i] = make(line, s.Window)
	}
	if l.store, err = openStore(s.log(), s.bytes(), s.FromFile); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.store.close()) }()
	clients, err := rpc.NewServer(rpc.Options{Name: "clients", Logger: log})
	if err != nil {
		return err
	}
	clients.RegisterService(service("ceiling.Clients", "Produce", l.produce), l)
	o := rpc.Options{Name: "followers", Logger: log, MinPingInterval: rpc.MemberMinPingInterval}
	if s.TLS {
		source, err := s.source(log)
		if err != nil {
			return err
		}
		l.callers = source.Peer
		o.Credentials, o.Authorize = source.ServerCredentials(slog.LevelWarn), caller.Authorize(source.Peer)
	}
	followers, err := rpc.NewServer(o)
	if err != nil {
		return err
	}
	followers.RegisterService(service("ceiling.Followers", "Follow", l.follow), l)
	return serve(ctx, out, clients, followers)
}

// serve serves both, and prints where, until ctx ends.
func serve(ctx context.Context, out io.Writer, clients, followers *rpc.Server) error {
	var listeners [2]net.Listener
	for i := range listeners {
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
		if err != nil {
			return err
		}
		defer func() { _ = l.Close() }() // closed already by who served it
		listeners[i] = l
	}
	if err := json.NewEncoder(out).Encode(addresses{listeners[0].Addr().String(), listeners[1].Addr().String()}); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, s := range []*rpc.Server{clients, followers} {
		group.Go(func() error { return s.Serve(listeners[i]) })
		group.Go(func() error {
			<-ctx.Done()
			s.Stop(context.WithoutCancel(ctx))
			return nil
		})
	}
	err := group.Wait()
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// fail ends the leader: what it was asked for cannot be had any more.
func (l *leader) fail(err error) error {
	l.cancel(err)
	return status.Error(codes.Aborted, err.Error())
}

// produce takes the messages of the client and answers them.
func (l *leader) produce(stream grpc.ServerStream) error {
	select {
	case <-l.ready:
	case <-l.ctx.Done():
		return nil
	}
	group, ctx := errgroup.WithContext(stream.Context())
	group.Go(func() error { return l.receive(ctx, stream) })
	group.Go(func() error { return l.answer(ctx, stream) })
	if err := group.Wait(); err != nil {
		return l.fail(err)
	}
	return nil
}

// receive takes messages until there are no more.
func (l *leader) receive(ctx context.Context, stream grpc.ServerStream) error {
	in := inspector{size: l.Size}
	for n := range l.Messages {
		m := &message{}
		if err := stream.RecvMsg(m); err != nil {
			return fmt.Errorf("after %d messages of %d: %w", n, l.Messages, err)
		}
		pieces, err := in.check(m)
		if err != nil {
			return err
		}
		at := l.store.end
		if err := l.store.append(pieces, l.Size); err != nil {
			return err
		}
		if err := l.share(ctx, at, m); err != nil {
			return err
		}
		l.progress.own(l.store.end)
	}
	for _, line := range l.lines {
		close(line)
	}
	return nil
}

// share hands a message that is written to the followers, and frees it.
func (l *leader) share(ctx context.Context, at int64, m *message) error {
	defer m.bytes.Free()
	for _, line := range l.lines {
		s := shared{from: at}
		if !l.FromFile {
			m.bytes.Ref()
			s.msg = m
		}
		select {
		case line <- s:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// answer answers the client until all servers have all messages.
func (l *leader) answer(ctx context.Context, stream grpc.ServerStream) error {
	for answered := int64(0); ; {
		committed, everywhere := l.progress.committed()
		for answered < committed {
			answered += int64(l.Size)
			if err := stream.SendMsg(endOf(answered)); err != nil {
				return err
			}
		}
		if everywhere == l.bytes() {
			return nil
		}
		select {
		case <-l.progress.wake:
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
