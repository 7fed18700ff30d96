package forward

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/millstream-io/millstream/server/rpc"
)

// UnreachableError says that a broker could not be asked: nothing was sent.
type UnreachableError struct {
	Broker int32
	Cause  error
}

// Error says it for people.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("broker %d, which leads, cannot be reached: %v", e.Broker, e.Cause)
}

// Unwrap returns why.
func (e *UnreachableError) Unwrap() error { return e.Cause }

// BrokenError says that a broker was asked and that its answer never came: the
// request may have been carried out.
type BrokenError struct {
	Broker int32
	Cause  error
}

// Error says it for people.
func (e *BrokenError) Error() string {
	return fmt.Sprintf("the connection to broker %d, which leads, broke: %v", e.Broker, e.Cause)
}

// Unwrap returns why.
func (e *BrokenError) Unwrap() error { return e.Cause }

// ErrPrecedingFailed says that an earlier request for the partition failed and
// none with Restart has come since. Nothing was sent.
var ErrPrecedingFailed = errors.New("an earlier request failed")

// Call asks the leader of one partition. It fails with *UnreachableError, with
// *BusyError, with *BrokenError, with the *rpc.Fault that the leader answered, or
// with the cause of ctx.
func Call(ctx context.Context, peers *Calls, to Target, method string, request, response proto.Message) error {
	return call(markLeader(ctx, to), peers, to.Leader, method, request, response)
}

// CallBroker is Call for what is not of one partition.
func CallBroker(ctx context.Context, peers *Calls, broker int32, method string, request, response proto.Message) error {
	return call(mark(ctx), peers, broker, method, request, response)
}

func call(ctx context.Context, peers *Calls, broker int32, method string, request, response proto.Message) error {
	// WHY not Invoke: it does not tell whether the request was sent.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := open(ctx, peers, broker, &grpc.StreamDesc{}, method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return ended(ctx, broker, err)
	}
	if err := stream.RecvMsg(response); err != nil {
		return ended(ctx, broker, err)
	}
	return nil
}

// open opens a stream, which counts as a call until ctx has ended. While it
// fails, nothing was sent.
//
// REQUIRES: ctx ends when the stream is not used any more.
func open(ctx context.Context, peers *Calls, broker int32, desc *grpc.StreamDesc, method string) (grpc.ClientStream, error) {
	if err := peers.begin(broker); err != nil {
		return nil, err
	}
	conn, err := peers.peers.Conn(broker)
	if err != nil {
		peers.end(broker)
		return nil, &UnreachableError{Broker: broker, Cause: err}
	}
	stream, err := conn.NewStream(ctx, desc, method)
	if err == nil {
		peers.endWith(ctx, broker)
		return stream, nil
	}
	peers.end(broker)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, &UnreachableError{Broker: broker, Cause: err}
}

// ended says what the end of a call means on which something was sent.
func ended(ctx context.Context, broker int32, err error) error {
	if f := rpc.FaultFromStatus(err); f != nil {
		return f
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &BrokenError{Broker: broker, Cause: err}
}

// Stream receives the answers of a call as bytes.
type Stream struct {
	broker int32
	stream grpc.ClientStream
	ctx    context.Context //nolint:containedctx // that of the stream
}

// Open makes a call with one request and many answers. It ends with ctx, which
// the caller ends when it receives no more. Errors are those of Call.
func Open(ctx context.Context, peers *Calls, to Target, method string, request proto.Message) (*Stream, error) {
	ctx = markLeader(ctx, to)
	stream, err := open(ctx, peers, to.Leader, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return nil, ended(ctx, to.Leader, err)
	}
	if err := stream.CloseSend(); err != nil {
		return nil, ended(ctx, to.Leader, err)
	}
	return &Stream{broker: to.Leader, stream: stream, ctx: ctx}, nil
}

// Recv returns the next answer, which the caller frees; io.EOF at the end.
func (s *Stream) Recv() (mem.BufferSlice, error) {
	var m message
	if err := s.stream.RecvMsg(&m); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, ended(s.ctx, s.broker, err)
	}
	return m.slice, nil
}

// message is a message that is bytes.
type message struct{ slice mem.BufferSlice }

// MarshalRaw hands the bytes over.
func (m *message) MarshalRaw() (mem.BufferSlice, error) { return m.slice, nil }

// UnmarshalRaw keeps a reference to the bytes.
func (m *message) UnmarshalRaw(b mem.BufferSlice) error {
	b.Ref()
	m.slice = b
	return nil
}
