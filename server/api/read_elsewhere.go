package api

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/rpc"
)

// cutShort is why a Read of another broker ended before its end. It hides the
// cause from run, which would begin again.
type cutShort struct{ cause error }

// Error says it for people.
func (e *cutShort) Error() string { return e.cause.Error() }

// readElsewhere passes on what the leader of a partition answers to a Read. sent
// says whether the client was sent any of it.
func (s *BrokerService) readElsewhere(ctx context.Context, cancel context.CancelCauseFunc, r *pb.ReadRequest, stream grpc.ServerStream, to forward.Target) (sent bool, err error) {
	q, ok := proto.Clone(r).(*pb.ReadRequest)
	if !ok {
		return false, rpc.InternalFault()
	}
	q.MinRevision = max(q.GetMinRevision(), to.Revision)
	// Of its own, so that the leader stops when the client does not take what
	// came.
	ctx, end := context.WithCancel(ctx)
	defer end()
	from, err := forward.Open(ctx, s.peers, to, pb.BrokerService_Read_FullMethodName, q)
	if err != nil {
		return false, err
	}
	s.metrics.forwarded.Inc()
	out := newFrameWriter(stream, s.limits.StallTimeout, s.endStalled(cancel))
	type outcome struct {
		sent bool
		err  error
	}
	done := make(chan outcome, 1) // sent once
	s.streams.Go(func() {
		sent, err := passOn(from, out)
		done <- outcome{sent, err}
	})
	draining := s.draining
	if !r.GetFollow() {
		draining = nil // it ends by itself, or is cut
	}
	select {
	case o := <-done:
		return o.sent, o.err
	case <-ctx.Done():
		return true, context.Cause(ctx)
	case <-draining:
		return true, rpc.ShuttingDownFault()
	}
}

// passOn sends what comes until it ends.
func passOn(from *forward.Stream, out *frameWriter) (sent bool, err error) {
	for {
		msg, err := from.Recv()
		if errors.Is(err, io.EOF) {
			return sent, nil
		}
		if err != nil {
			return sent, err
		}
		if err := out.write(bytesOf(out, msg)); err != nil {
			return true, err
		}
		sent = true
	}
}

// bytesOf copies a message to a buffer of the writer's, and frees it.
func bytesOf(w *frameWriter, msg mem.BufferSlice) *[]byte {
	b := w.buffer(msg.Len())
	*b = (*b)[:msg.Len()]
	msg.CopyTo(*b)
	msg.Free()
	return b
}
