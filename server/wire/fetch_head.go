package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

// FetchHead is what a broker that passes a FetchResponse on has to know of it.
type FetchHead struct {
	SubscriptionID uint64
	// First says that it is the first frame of its subscription.
	First      bool
	NextOffset record.Offset
	// HighWatermark is where the log ended.
	HighWatermark record.Offset
	CreditUsed    uint64
	// Records says that the frame has batches or records, the last of which is of
	// LeaderEpoch.
	Records     bool
	LeaderEpoch record.LeaderEpoch
	// Error is why the subscription, or the request, failed; nil: it has not.
	Error *pb.RequestError
	// Drain and Reroute say that the frame has them.
	Drain, Reroute bool
	// Finished says that the subscription is complete.
	Finished bool
}

// Parse reads the head of a frame. The error is a *MalformedError.
func (h *FetchHead) Parse(b []byte) error {
	*h = FetchHead{}
	var batch, fetched []byte // the last ones
	for rest := b; len(rest) > 0; {
		num, typ, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return &MalformedError{Why: "a frame does not decode"}
		}
		size := protowire.ConsumeFieldValue(num, typ, rest[n:])
		if size < 0 {
			return &MalformedError{Why: "a frame does not decode"}
		}
		field, value := rest[:n+size], rest[n:n+size]
		rest = rest[n+size:]
		if typ == protowire.VarintType {
			x, _ := protowire.ConsumeVarint(value)
			h.setVarint(num, x)
			continue
		}
		if typ != protowire.BytesType {
			continue
		}
		content, _ := protowire.ConsumeBytes(value)
		switch int32(num) {
		case 1:
			batch = field
		case 3:
			h.First = true
		case 10:
			h.Error = &pb.RequestError{}
			if err := proto.Unmarshal(content, h.Error); err != nil {
				return &MalformedError{Field: "error", Why: err.Error()}
			}
		case 11:
			h.Drain = true
		case 12:
			h.Reroute = true
		case 13:
			h.Finished = varintOf(content, 1) == 1
		case 14:
			fetched = content
		}
	}
	switch {
	case batch != nil:
		last, _, err := record.PeekLogBatch(batch)
		if err != nil {
			return &MalformedError{Field: "batches", Why: err.Error()}
		}
		h.Records, h.LeaderEpoch = true, last.LeaderEpoch
	case fetched != nil:
		h.Records, h.LeaderEpoch = true, record.LeaderEpoch(varintOf(fetched, 3))
	}
	return nil
}

func (h *FetchHead) setVarint(num protowire.Number, x uint64) {
	switch int32(num) {
	case 2:
		h.SubscriptionID = x
	case 6:
		h.NextOffset = record.Offset(x)
	case 7:
		h.HighWatermark = record.Offset(x)
	case 9:
		h.CreditUsed = x
	}
}

// varintOf returns the varint field of a number in a message, 0 if there is
// none.
func varintOf(b []byte, want protowire.Number) (x uint64) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return x
		}
		size := protowire.ConsumeFieldValue(num, typ, b[n:])
		if size < 0 {
			return x
		}
		if num == want && typ == protowire.VarintType {
			x, _ = protowire.ConsumeVarint(b[n:])
		}
		b = b[n+size:]
	}
	return x
}
