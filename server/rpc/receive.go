package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// transportStream is what gRPC's transport knows of a stream, beside what it
// promises to.
type transportStream interface {
	// ReadMessageHeader waits for the five bytes before a message.
	ReadMessageHeader(header []byte) error
	// Read waits for n bytes of a message.
	Read(n int) (mem.BufferSlice, error)
	// RecvCompress names how messages are compressed.
	RecvCompress() string
}

// MessageStep is the most of a message that a Receiver takes from the transport
// without having asked for it, and how much of a larger one it takes at once:
// less than a stream's window, which the transport may fill anyway and so never
// has to widen.
const MessageStep = 256 << 10

// Receiver receives the messages of a stream as bytes. It asks before it takes
// a large one, when its size is known and none of it is taken yet; so a stream
// that says nothing costs nothing, and what many streams send at once can be
// bounded.
//
// WHY not RecvMsg: it says how large a message is when all of it is in memory.
// Where the transport is not gRPC's own (fakes), it is RecvMsg that is used, and
// nothing is asked.
//
// It belongs to one goroutine.
type Receiver struct {
	stream    grpc.ServerStream
	transport transportStream // nil: unknown
	max       int
	timeout   time.Duration
	stall     *time.Timer // nil: no large message has come
	slow      func()
	header    [5]byte
}

// NewReceiver returns a receiver of messages of at most so many bytes. slow is
// called if a large message does not get on by MessageStep within the timeout;
// it is to end the stream.
func NewReceiver(stream grpc.ServerStream, maxBytes int, timeout time.Duration, slow func()) *Receiver {
	r := &Receiver{stream: stream, max: maxBytes, timeout: timeout, slow: slow}
	r.transport, _ = grpc.ServerTransportStreamFromContext(stream.Context()).(transportStream)
	return r
}

// Asks tells whether the receiver can ask before it takes a message.
func (r *Receiver) Asks() bool { return r.transport != nil }

// Receive receives the next message; the caller frees it. ask is called before
// one of more than MessageStep bytes is taken, with what it needs: its size, or
// the greatest if it has to be decompressed. The error is io.EOF at the client's
// half-close, that of ask, a *Fault, or a status.
func (r *Receiver) Receive(ask func(bytes int) error) (mem.BufferSlice, error) {
	if r.transport == nil {
		var m kept
		err := r.stream.RecvMsg(&m)
		return m.msg, err
	}
	if err := r.transport.ReadMessageHeader(r.header[:]); err != nil {
		return nil, r.failed(err, io.EOF)
	}
	compressed, n := r.header[0] == 1, int64(binary.BigEndian.Uint32(r.header[1:]))
	switch {
	case r.header[0] > 1:
		return nil, MalformedFault(fmt.Errorf("the flags of the message are %d", r.header[0]))
	case n > int64(r.max):
		return nil, RequestTooLargeFault(r.max, int(n))
	}
	need := int(n)
	if compressed {
		need = r.max
	}
	if need > MessageStep {
		if err := ask(need); err != nil {
			return nil, err
		}
	}
	msg, err := r.body(int(n))
	if err != nil || !compressed {
		return msg, err
	}
	defer msg.Free()
	return r.decompress(msg)
}

// body takes a message of that size.
func (r *Receiver) body(n int) (mem.BufferSlice, error) {
	if n <= MessageStep {
		msg, err := r.transport.Read(n)
		if err != nil {
			return nil, r.failed(err, io.ErrUnexpectedEOF)
		}
		return msg, nil
	}
	if r.stall == nil {
		r.stall = time.AfterFunc(r.timeout, r.slow)
	}
	defer r.stall.Stop()
	var msg mem.BufferSlice
	for n > 0 {
		r.stall.Reset(r.timeout)
		part, err := r.transport.Read(min(n, MessageStep))
		if err != nil {
			msg.Free()
			return nil, r.failed(err, io.ErrUnexpectedEOF)
		}
		msg = append(msg, part...)
		n -= min(n, MessageStep)
	}
	return msg, nil
}

func (r *Receiver) decompress(msg mem.BufferSlice) (mem.BufferSlice, error) {
	name := r.transport.RecvCompress()
	c := encoding.GetCompressor(name)
	if c == nil {
		return nil, status.Errorf(codes.Unimplemented, "the message is compressed by %q, which is not known", name)
	}
	raw := msg.Reader()
	defer func() { _ = raw.Close() }() // gives its buffers back, and cannot fail
	plain, err := c.Decompress(raw)
	if err != nil {
		return nil, MalformedFault(err)
	}
	if closer, ok := plain.(io.Closer); ok {
		defer func() { _ = closer.Close() }() // a reader in memory
	}
	out, err := mem.ReadAll(io.LimitReader(plain, int64(r.max)+1), &sharedPool)
	switch {
	case err != nil:
		out.Free()
		return nil, MalformedFault(err)
	case out.Len() > r.max:
		n := out.Len()
		out.Free()
		return nil, RequestTooLargeFault(r.max, n)
	}
	return out, nil
}

// failed says what an error of the transport means; eof is what its end means
// here.
func (r *Receiver) failed(err, eof error) error {
	ctx := r.stream.Context()
	switch {
	case errors.Is(err, io.EOF) && eof == io.EOF: //nolint:errorlint // the very value that a caller compares with
		return io.EOF
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return MalformedFault(io.ErrUnexpectedEOF)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unavailable, err.Error())
}

// kept keeps the bytes of a message.
type kept struct{ msg mem.BufferSlice }

// UnmarshalRaw keeps a reference to the message.
func (k *kept) UnmarshalRaw(msg mem.BufferSlice) error {
	msg.Ref()
	k.msg = msg
	return nil
}
