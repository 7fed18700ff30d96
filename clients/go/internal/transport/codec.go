// Package transport is what the client puts under gRPC: a codec that lets the
// two hot messages pass as bytes, and a pool of buffers that are not cleared.
//
// It owns no connection and starts no goroutine. Its one invariant: a buffer
// that was given to gRPC is not written to until gRPC has freed it.
package transport

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto" // registers the codec that the rest falls back to.
	"google.golang.org/grpc/mem"
)

// Outgoing is a message that is bytes already. The codec gives them to gRPC,
// which frees them when they are written.
type Outgoing struct{ Bytes mem.BufferSlice }

// Incoming takes a message as it came, in pieces. Whoever received it frees
// it.
type Incoming struct{ Pieces mem.BufferSlice }

// CopyTo appends the message to dst and frees the pieces.
func (in *Incoming) CopyTo(dst []byte) []byte {
	for _, p := range in.Pieces {
		dst = append(dst, p.ReadOnlyData()...)
	}
	in.Free()
	return dst
}

// Free gives the pieces back.
func (in *Incoming) Free() {
	in.Pieces.Free()
	in.Pieces = nil
}

// Codec passes *Outgoing and *Incoming through untouched and encodes every
// other message as ordinary protobuf.
type Codec struct{}

var _ encoding.CodecV2 = Codec{}

// Name returns the name of the protobuf codec: nothing on the wire differs.
func (Codec) Name() string { return proto.Name }

// Marshal returns the bytes of v.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*Outgoing); ok {
		return m.Bytes, nil
	}
	out, err := encoding.GetCodecV2(proto.Name).Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding %T: %w", v, err)
	}
	return out, nil
}

// Unmarshal fills v from pieces, which gRPC frees afterwards.
func (Codec) Unmarshal(pieces mem.BufferSlice, v any) error {
	if m, ok := v.(*Incoming); ok {
		pieces.Ref()
		m.Pieces = pieces
		return nil
	}
	if err := encoding.GetCodecV2(proto.Name).Unmarshal(pieces, v); err != nil {
		return fmt.Errorf("decoding %T: %w", v, err)
	}
	return nil
}
