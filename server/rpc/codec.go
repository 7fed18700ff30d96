package rpc

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// RawMarshaler is a message that brings its own encoding.
type RawMarshaler interface {
	// MarshalRaw returns the encoded message. The transport takes over one
	// reference to each buffer and frees it when the bytes are written, which
	// may be after SendMsg has returned.
	MarshalRaw() (mem.BufferSlice, error)
}

// RawUnmarshaler is a message that decodes itself, or keeps the bytes.
type RawUnmarshaler interface {
	// UnmarshalRaw receives the bytes of a message. They are BORROWED: to keep
	// them it takes a reference (msg.Ref) and frees it later. The slice itself
	// may be kept.
	//
	// An error ends a stream with INTERNAL before its handler can say anything
	// better, so an implementation that can be given bad bytes returns nil and
	// remembers.
	UnmarshalRaw(msg mem.BufferSlice) error
}

// codec passes RawMarshaler and RawUnmarshaler through and does protobuf for
// all else. It stands in for gRPC's codec of the same name.
type codec struct{ pool *BufferPool }

// Codec returns the codec of all servers and clients of Millstream: protobuf,
// but for messages that are RawMarshaler or RawUnmarshaler.
func Codec() encoding.CodecV2 { return codec{pool: &sharedPool} }

// Name returns the content subtype, as gRPC's own protobuf codec has it.
func (codec) Name() string { return "proto" }

// Marshal encodes v.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(RawMarshaler); ok {
		return m.MarshalRaw()
	}
	m := messageOf(v)
	if m == nil {
		return nil, fmt.Errorf("marshal: %T is no protobuf message", v)
	}
	opts := proto.MarshalOptions{UseCachedSize: true}
	size := proto.Size(m) // caches the sizes
	if mem.IsBelowBufferPoolingThreshold(size) {
		b, err := opts.Marshal(m)
		if err != nil {
			return nil, err
		}
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	b := c.pool.Get(size)
	if _, err := opts.MarshalAppend((*b)[:0], m); err != nil {
		c.pool.Put(b)
		return nil, err
	}
	return mem.BufferSlice{mem.NewBuffer(b, c.pool)}, nil
}

// Unmarshal decodes msg into v.
func (c codec) Unmarshal(msg mem.BufferSlice, v any) error {
	if m, ok := v.(RawUnmarshaler); ok {
		return m.UnmarshalRaw(msg)
	}
	m := messageOf(v)
	if m == nil {
		return fmt.Errorf("unmarshal: %T is no protobuf message", v)
	}
	b := msg.MaterializeToBuffer(c.pool)
	defer b.Free()
	return proto.Unmarshal(b.ReadOnlyData(), m)
}

func messageOf(v any) proto.Message {
	switch m := v.(type) {
	case proto.Message:
		return m
	case protoadapt.MessageV1:
		return protoadapt.MessageV2Of(m)
	default:
		return nil
	}
}
