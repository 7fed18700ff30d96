// Package wire writes and reads the two hot messages, ProduceRequest and
// FetchResponse, and the batches inside them, without reflection. It knows
// bytes only: no connection, no topic, no goroutine.
//
// INVARIANT: nothing that a server sends makes it panic or allocate more than
// a constant times what was received; what does not decode is a
// *MalformedError. Slices that it returns are BORROWED from the message they
// were found in.
package wire

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// MalformedError says that bytes from a server do not decode, or contradict
// themselves.
type MalformedError struct {
	// Message is the name of the message.
	Message string
	// What is wrong with it.
	What string
}

// Error says what is wrong.
func (e *MalformedError) Error() string { return fmt.Sprintf("malformed %s: %s", e.Message, e.What) }

// CorruptBatchError says that the CRC of a stored batch does not match its
// bytes.
type CorruptBatchError struct {
	// BaseOffset as the damaged header has it.
	BaseOffset int64
	// Want is the CRC in the header, Got that of the bytes.
	Want, Got uint32
}

// Error says which batch it is.
func (e *CorruptBatchError) Error() string {
	return fmt.Sprintf("corrupt batch at offset %d: crc32c is %08x, the header says %08x", e.BaseOffset, e.Got, e.Want)
}

// field is one field of a message. Of varint and bytes, and of fixed widths,
// the one is set that the wire type says.
type field struct {
	number   int32 // not a protowire.Number, whose constants are no cases of a switch
	kind     protowire.Type
	number64 uint64
	bytes    []byte
	size     int // bytes that the field takes, tag included
}

// next reads the field at the beginning of b. ok is false when b holds no
// whole field.
func next(b []byte) (f field, ok bool) {
	num, kind, n := protowire.ConsumeTag(b)
	if n < 0 {
		return field{}, false
	}
	f = field{number: int32(num), kind: kind}
	m := 0
	switch kind {
	case protowire.VarintType:
		f.number64, m = protowire.ConsumeVarint(b[n:])
	case protowire.Fixed32Type:
		var v uint32
		v, m = protowire.ConsumeFixed32(b[n:])
		f.number64 = uint64(v)
	case protowire.Fixed64Type:
		f.number64, m = protowire.ConsumeFixed64(b[n:])
	case protowire.BytesType:
		f.bytes, m = protowire.ConsumeBytes(b[n:])
	default:
		m = protowire.ConsumeFieldValue(num, kind, b[n:])
	}
	if m < 0 {
		return field{}, false
	}
	f.size = n + m
	return f, true
}
