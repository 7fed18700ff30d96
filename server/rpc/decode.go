package rpc

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// MalformedFault says that the bytes of a message do not decode.
func MalformedFault(cause error) *Fault {
	return &Fault{
		Code: codes.InvalidArgument, Reason: pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST,
		Message: fmt.Sprintf("the request does not decode: %v", cause),
	}
}

// RequestTooLargeFault says that a message is larger than a server takes.
func RequestTooLargeFault(maximum, actual int) *Fault {
	return LimitFault(codes.ResourceExhausted, "max.request.bytes", int64(maximum), int64(actual),
		fmt.Sprintf("the request has %d bytes, more than the %d that the server takes (max.request.bytes)", actual, maximum))
}

// ExpandsFault says that a message is of so many parts that it would take more
// memory than a server gives to one, though it is not too large.
func ExpandsFault(maximum, actual int) *Fault {
	return LimitFault(codes.InvalidArgument, "max.decoded.bytes", int64(maximum), int64(actual),
		fmt.Sprintf("the request is of so many parts that it would take more than %d bytes of memory (max.decoded.bytes)", maximum))
}

// LimitFault says that a limit is exceeded.
func LimitFault(code codes.Code, limit string, maximum, actual int64, message string) *Fault {
	return &Fault{
		Code: code, Reason: pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, Message: message,
		Limit:    &pb.LimitViolation{Limit: limit, Maximum: maximum, Actual: actual},
		Metadata: map[string]string{limit: fmt.Sprint(maximum)},
	}
}

// decoding is a message being decoded whose failure is kept aside.
//
// WHY: when a codec fails, gRPC ends the call with INTERNAL before any
// interceptor or handler runs; a request that does not decode is the client's
// fault and has to be told so.
type decoding struct {
	into   any
	max    int
	shapes shapes
	pool   *BufferPool
	fault  *Fault
}

// UnmarshalRaw decodes the message and never fails.
func (d *decoding) UnmarshalRaw(msg mem.BufferSlice) error {
	n := msg.Len()
	if n > d.max {
		d.fault = RequestTooLargeFault(d.max, n)
		return nil
	}
	if n > expansionFrom {
		b := msg.MaterializeToBuffer(d.pool)
		defer b.Free()
		msg = mem.BufferSlice{b}
		if d.fault = d.expands(b.ReadOnlyData()); d.fault != nil {
			return nil
		}
	}
	if err := (codec{pool: d.pool}).Unmarshal(msg, d.into); err != nil {
		d.fault = MalformedFault(err)
	}
	return nil
}

// expands says if a message would take too much memory.
func (d *decoding) expands(msg []byte) *Fault {
	m := messageOf(d.into)
	if m == nil {
		return nil
	}
	s, most := d.shapes[m.ProtoReflect().Descriptor().FullName()], expansion*d.max
	if s == nil {
		return nil
	}
	if n := s.decodedBytes(msg, most); n > most {
		return ExpandsFault(most, n)
	}
	return nil
}

// decodingStream gives every message that it receives a typed decoding error.
type decodingStream struct {
	grpc.ServerStream
	ctx    context.Context
	max    int
	shapes shapes
	pool   *BufferPool
}

// Context returns the call's, in which CutConnection finds the server.
func (s *decodingStream) Context() context.Context { return s.ctx }

// RecvMsg receives a message. A RawUnmarshaler decodes for itself.
func (s *decodingStream) RecvMsg(m any) error {
	if _, ok := m.(RawUnmarshaler); ok {
		return s.ServerStream.RecvMsg(m)
	}
	d := decoding{into: m, max: s.max, shapes: s.shapes, pool: s.pool}
	if err := s.ServerStream.RecvMsg(&d); err != nil {
		return err
	}
	if d.fault != nil {
		return d.fault
	}
	return nil
}

// decodable returns a copy of desc whose methods answer MALFORMED_REQUEST.
func decodable(desc *grpc.ServiceDesc, maxRequestBytes int, pool *BufferPool, conns *connections) *grpc.ServiceDesc {
	d, all := *desc, shapesOf(desc.ServiceName)
	d.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		d.Methods[i] = grpc.MethodDesc{
			MethodName: m.MethodName,
			Handler: func(srv any, ctx context.Context, dec func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
				return m.Handler(srv, ctx, func(v any) error {
					d := decoding{into: v, max: maxRequestBytes, shapes: all, pool: pool}
					if err := dec(&d); err != nil {
						return err
					}
					if d.fault != nil {
						return d.fault.GRPCStatus().Err()
					}
					return nil
				}, i)
			},
		}
	}
	d.Streams = make([]grpc.StreamDesc, len(desc.Streams))
	for i, m := range desc.Streams {
		d.Streams[i] = m
		d.Streams[i].Handler = func(srv any, ss grpc.ServerStream) error {
			return m.Handler(srv, &decodingStream{ServerStream: ss, ctx: withConnections(ss.Context(), conns), max: maxRequestBytes, shapes: all, pool: pool})
		}
	}
	return &d
}
