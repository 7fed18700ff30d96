package wire

import (
	"errors"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	"github.com/millstream-io/millstream/storage/record"
)

// A ReplicateResponse with batches begins with its field push, so that all
// that follows it is the batches, as they stand in the log.

const (
	pushField   = 2
	batchesByte = 1<<3 | byte(protowire.BytesType)
	pushByte    = pushField<<3 | byte(protowire.BytesType)
	// maxPushBytes bounds the encoded Push: a varint and six fixed fields.
	maxPushBytes = 66
)

// MaxPushSize is the most bytes that AppendPush appends.
const MaxPushSize = maxPushBytes + 2

// AppendPush appends the field push of a ReplicateResponse; the bytes of the
// batches follow.
func AppendPush(dst []byte, p *replicationv1.Push) []byte { return appendMessage(dst, pushField, p) }

// ReplicateResponse is what a leader said: a Push with its batches, or
// anything else as Message. It is for one goroutine, and used again.
type ReplicateResponse struct {
	// IsPush says that it is a push.
	IsPush bool
	// Push is its header.
	Push replicationv1.Push
	// Batches are its bytes. BORROWED until Free.
	Batches record.Pieces
	// Message is what else it is.
	Message replicationv1.ReplicateResponse

	held mem.BufferSlice
	bad  error
}

// errPush says that a push is none.
var errPush = errors.New("push does not decode")

// UnmarshalRaw takes a message from the transport, and keeps the bytes of the
// batches. It does not fail: Err does.
func (r *ReplicateResponse) UnmarshalRaw(msg mem.BufferSlice) error {
	r.IsPush, r.Batches, r.held, r.bad = false, nil, nil, nil
	first := leading(msg)
	if len(first) == 0 || first[0] != pushByte {
		b := msg.MaterializeToBuffer(mem.DefaultBufferPool())
		defer b.Free()
		r.bad = proto.Unmarshal(b.ReadOnlyData(), &r.Message)
		return nil
	}
	push, n := protowire.ConsumeBytes(first[1:])
	if n < 0 || len(push) > maxPushBytes {
		r.bad = errPush
		return nil
	}
	if r.bad = proto.Unmarshal(push, &r.Push); r.bad != nil {
		return nil
	}
	r.IsPush = true
	skip := 1 + n
	for _, b := range msg {
		data := b.ReadOnlyData()
		if skip >= len(data) {
			skip -= len(data)
			continue
		}
		r.Batches = append(r.Batches, data[skip:])
		skip = 0
	}
	if len(r.Batches) > 0 && r.Batches[0][0] != batchesByte {
		r.bad = errPush
		return nil
	}
	msg.Ref()
	r.held = msg
	return nil
}

// Err returns why the message is none.
func (r *ReplicateResponse) Err() error { return r.bad }

// Take hands the bytes of the batches over to who frees them.
func (r *ReplicateResponse) Take() (record.Pieces, mem.BufferSlice) {
	b, held := r.Batches, r.held
	r.Batches, r.held = nil, nil
	return b, held
}

// leading returns the first bytes of a message, enough for the header of a
// push.
func leading(msg mem.BufferSlice) []byte {
	const enough = MaxPushSize
	var copied []byte
	for _, b := range msg {
		data := b.ReadOnlyData()
		if copied == nil && len(data) >= enough {
			return data[:enough]
		}
		copied = append(copied, data[:min(len(data), enough-len(copied))]...)
		if len(copied) == enough {
			break
		}
	}
	return copied
}
