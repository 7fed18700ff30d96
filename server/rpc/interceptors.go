package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// ShuttingDownFault says that the server is stopping.
func ShuttingDownFault() *Fault {
	return &Fault{
		Code: codes.Unavailable, Reason: pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN,
		Message: "the server is stopping", Retryable: true, RetryAfter: retryAfterStop,
	}
}

// InternalFault says that the server failed, and not how: that is in its log.
func InternalFault() *Fault {
	return &Fault{
		Code: codes.Internal, Reason: pb.ErrorReason_ERROR_REASON_INTERNAL,
		Message: "the server failed in a way that it did not foresee; its log says how",
	}
}

// refuseSubtypes refuses calls whose messages are not protobuf before they
// become streams: gRPC would decode them as protobuf all the same.
func refuseSubtypes(ctx context.Context, in *tap.Info) (context.Context, error) {
	for _, contentType := range in.Header.Get("content-type") {
		contentType, _, _ = strings.Cut(contentType, ";")
		switch strings.TrimSpace(strings.ToLower(contentType)) {
		case "application/grpc", "application/grpc+proto":
		default:
			f := &Fault{
				Code: codes.Unimplemented, Reason: pb.ErrorReason_ERROR_REASON_INVALID_FIELD,
				Message: fmt.Sprintf("content-type %q: only application/grpc and application/grpc+proto are served", contentType),
				Field:   &pb.FieldViolation{Field: "content-type", Description: "must be application/grpc or application/grpc+proto"},
			}
			return ctx, f.GRPCStatus().Err()
		}
	}
	return ctx, nil
}

// unary is the one interceptor of unary calls.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
	defer s.finish(info.FullMethod, &err)
	if err := s.opts.Authorize(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.opts.UnaryTimeout)
		defer cancel()
	}
	return handle(ctx, req)
}

// stream is the one interceptor of streams.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	defer s.finish(info.FullMethod, &err)
	if err := s.opts.Authorize(ss.Context(), info.FullMethod); err != nil {
		return err
	}
	if !strings.HasPrefix(info.FullMethod, "/grpc.") {
		return handle(srv, ss)
	}
	return s.abandonable(srv, ss, info.FullMethod, handle)
}

// abandonable runs the handler of a stream that is not ours (health watches,
// reflection) and leaves it behind when the server stops: such handlers wait
// for their clients and would hold up the stop. When it returns, gRPC ends the
// stream, and with it whatever the handler waits for.
func (s *Server) abandonable(srv any, ss grpc.ServerStream, method string, handle grpc.StreamHandler) error {
	done := make(chan error, 1) // the handler sends once and never blocks
	s.abandoned.Go(func() {
		var err error
		defer func() { done <- err }()
		defer s.recovered(method, &err)
		err = handle(srv, ss)
	})
	select {
	case err := <-done:
		return err
	case <-s.draining:
		return ShuttingDownFault()
	}
}

// finish turns a panic into an error, and the error into the status that the
// client gets.
func (s *Server) finish(method string, err *error) {
	if r := recover(); r != nil {
		*err = s.panicked(method, r)
	}
	*err = s.statusOf(method, *err)
	s.metrics.calls.WithLabelValues(method, status.Code(*err).String()).Inc()
}

// recovered turns a panic into an error. It is to be deferred.
func (s *Server) recovered(method string, err *error) {
	if r := recover(); r != nil {
		*err = s.panicked(method, r)
	}
}

func (s *Server) panicked(method string, r any) error {
	s.metrics.panics.Inc()
	s.opts.Logger.Error("call panicked", slog.String("method", method), slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
	return InternalFault()
}

// statusOf returns err as a gRPC status, which carries a reason.
func (s *Server) statusOf(method string, err error) error {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Fault](err); ok {
		return f.GRPCStatus().Err()
	}
	if f := s.opts.FaultOf(err); f != nil {
		return f.GRPCStatus().Err()
	}
	if st, ok := status.FromError(err); ok {
		return st.Err()
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	s.opts.Logger.Error("call failed", slog.String("method", method), slog.Any("err", err))
	return InternalFault().GRPCStatus().Err()
}
