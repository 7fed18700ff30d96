package reflection

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// InputError says that a request is not what the method takes.
type InputError struct {
	// Message is the number of the request, from 1.
	Message int
	// Cause is what the decoder says.
	Cause error
}

// Error says it for people.
func (e *InputError) Error() string { return fmt.Sprintf("request %d: %v", e.Message, e.Cause) }

// Unwrap returns the cause.
func (e *InputError) Unwrap() error { return e.Cause }

// Call calls a method. Requests are JSON values, one after the other, read
// from in; a method that takes one request takes the first, or an empty one.
// show is called with each answer as JSON, in order.
func (s *Server) Call(ctx context.Context, m protoreflect.MethodDescriptor, in io.Reader, show func(json []byte) error) error {
	c := &call{
		conn: s.conn, m: m, dec: json.NewDecoder(in), show: show,
		path: fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()),
	}
	var err error
	if c.types, err = typesOf(m.ParentFile()); err != nil {
		return err
	}
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return c.unary(ctx)
	}
	return c.stream(ctx)
}

// typesOf returns the messages of a file and of all that it imports, for Any.
func typesOf(file protoreflect.FileDescriptor) (*dynamicpb.Types, error) {
	files := &protoregistry.Files{}
	var add func(protoreflect.FileDescriptor) error
	add = func(f protoreflect.FileDescriptor) error {
		if _, err := files.FindFileByPath(f.Path()); err == nil {
			return nil
		}
		if err := files.RegisterFile(f); err != nil {
			return err
		}
		for i := range f.Imports().Len() {
			if err := add(f.Imports().Get(i).FileDescriptor); err != nil {
				return err
			}
		}
		return nil
	}
	if err := add(file); err != nil {
		return nil, err
	}
	return dynamicpb.NewTypes(files), nil
}

// call is one call of a method.
type call struct {
	conn  grpc.ClientConnInterface
	m     protoreflect.MethodDescriptor
	path  string
	types *dynamicpb.Types
	dec   *json.Decoder
	show  func([]byte) error
	read  int // requests read
}

// next returns the next request; io.EOF after the last.
func (c *call) next() (proto.Message, error) {
	var raw json.RawMessage
	err := c.dec.Decode(&raw)
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	c.read++
	msg := dynamicpb.NewMessage(c.m.Input())
	if err == nil {
		err = protojson.UnmarshalOptions{Resolver: c.types}.Unmarshal(raw, msg)
	}
	if err != nil {
		return nil, &InputError{Message: c.read, Cause: err}
	}
	return msg, nil
}

func (c *call) answer(msg proto.Message) error {
	b, err := protojson.MarshalOptions{Resolver: c.types, EmitDefaultValues: true}.Marshal(msg)
	if err != nil {
		return err
	}
	var out bytes.Buffer // protojson varies its blanks on purpose
	if err := json.Compact(&out, b); err != nil {
		return err
	}
	return c.show(out.Bytes())
}

func (c *call) unary(ctx context.Context) error {
	req, err := c.only()
	if err != nil {
		return err
	}
	resp := dynamicpb.NewMessage(c.m.Output())
	if err := c.conn.Invoke(ctx, c.path, req, resp); err != nil {
		return err
	}
	return c.answer(resp)
}

// only returns the one request of a method that takes one.
func (c *call) only() (proto.Message, error) {
	req, err := c.next()
	if errors.Is(err, io.EOF) {
		return dynamicpb.NewMessage(c.m.Input()), nil
	}
	return req, err
}

func (c *call) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{
		ClientStreams: c.m.IsStreamingClient(), ServerStreams: c.m.IsStreamingServer(),
	}, c.path)
	if err != nil {
		return err
	}
	go func() { // ends with the input or the stream; input that never ends is left behind
		if err := c.send(stream); err != nil {
			cancel(err)
		}
	}()
	err = c.receive(stream)
	if bad, ok := errors.AsType[*InputError](context.Cause(ctx)); ok {
		return bad
	}
	return err
}

func (c *call) send(stream grpc.ClientStream) error {
	if !c.m.IsStreamingClient() {
		req, err := c.only()
		if err == nil {
			err = stream.SendMsg(req)
		}
		if err != nil {
			return err
		}
		return stream.CloseSend()
	}
	for {
		req, err := c.next()
		if errors.Is(err, io.EOF) {
			return stream.CloseSend()
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(req); err != nil {
			return nil // the receiver has the reason
		}
	}
}

func (c *call) receive(stream grpc.ClientStream) error {
	for {
		resp := dynamicpb.NewMessage(c.m.Output())
		if err := stream.RecvMsg(resp); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := c.answer(resp); err != nil {
			return err
		}
		if !c.m.IsStreamingServer() {
			return nil
		}
	}
}
