package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Every field number here is below 16, so that a tag is one byte.

func appendTag(dst []byte, num byte, typ protowire.Type) []byte {
	return append(dst, num<<3|byte(typ))
}

// appendUint appends a field of wire type varint, unless it is zero.
func appendUint(dst []byte, num byte, x uint64) []byte {
	if x == 0 {
		return dst
	}
	return appendVarint(dst, num, x)
}

func sizeUint(x uint64) int {
	if x == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(x)
}

// appendVarint appends a field of wire type varint, also if it is zero.
func appendVarint(dst []byte, num byte, x uint64) []byte {
	return protowire.AppendVarint(appendTag(dst, num, protowire.VarintType), x)
}

// appendLen appends the tag and the length of a field of wire type bytes.
func appendLen(dst []byte, num byte, n int) []byte {
	return protowire.AppendVarint(appendTag(dst, num, protowire.BytesType), uint64(n))
}

func appendBytes(dst []byte, num byte, b []byte) []byte {
	return append(appendLen(dst, num, len(b)), b...)
}

// appendMessage appends a field of a generated type.
func appendMessage(dst []byte, num byte, m proto.Message) []byte {
	return appendBytes(dst, num, marshal(m))
}

// marshal encodes the messages that only rare answers have.
func marshal(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err == nil {
		return b
	}
	// A string that is not UTF-8 does this, and nothing else. An error is then
	// sent without its words: it is the answer to a request, and without an
	// answer the client waits for ever.
	if e, ok := m.(*pb.RequestError); ok {
		bare := &pb.RequestError{Code: e.GetCode(), Reason: e.GetReason(), Retryable: e.GetRetryable()}
		return marshal(bare)
	}
	return nil
}

func number(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
