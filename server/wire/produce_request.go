package wire

import (
	"math"
	"unicode/utf8"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

// firstUserField is the least field number that is the user's: passed over,
// where smaller ones that the schema lacks are refused.
const firstUserField = 1000

// ProduceRequest is a millstream.v1.ProduceRequest whose batch is still bytes.
// It is reused: Parse overwrites everything, and allocates nothing once its
// buffers have grown. BORROWED: Topic, TransactionalID and Batch are valid
// until the next Parse, and only as long as the bytes that were parsed.
type ProduceRequest struct {
	CorrelationID uint64
	Topic         []byte
	// Partition is meaningful if HasPartition.
	Partition    record.PartitionID
	HasPartition bool
	// Batch holds the bytes of the batch, unchecked, if HasBatch.
	Batch    record.Pieces
	HasBatch bool
	// Acks is one of the enum's values.
	Acks pb.Acks
	// BatchCRC is what the client computed, if HasBatchCRC.
	BatchCRC    uint32
	HasBatchCRC bool
	Restart     bool
	// TopicID is meaningful if HasTopicID.
	TopicID    record.TopicID
	HasTopicID bool
	NoForward  bool
	// MinRevision is the least metadata revision that the client has seen.
	MinRevision int64
	// LeaderEpoch is meaningful if HasLeaderEpoch.
	LeaderEpoch    record.LeaderEpoch
	HasLeaderEpoch bool

	// The fields that are reserved. Has tells which were set.
	ProducerID      int64
	ProducerEpoch   int32
	BaseSequence    int32
	ExpectedEnd     int64
	TransactionalID []byte

	seen    uint32 // bit n: field n was there
	cur     record.Cursor
	pieces  record.Pieces
	scratch []byte // strings that lay in several pieces
}

// The field numbers of ProduceRequest that callers ask Has about.
const (
	FieldProducerID      = 9
	FieldProducerEpoch   = 10
	FieldBaseSequence    = 11
	FieldExpectedEnd     = 12
	FieldTransactionalID = 13
	fieldMinRevision     = 15
	fieldLeaderEpoch     = 16
	lastField            = fieldLeaderEpoch
)

var produceFieldNames = [lastField + 1]string{
	1: "correlation_id", 2: "topic", 3: "partition", 4: "batch", 5: "acks", 6: "batch_crc32c", 7: "restart",
	8: "topic_id", 9: "producer_id", 10: "producer_epoch", 11: "base_sequence", 12: "expected_end",
	13: "transactional_id", 14: "no_forward", 15: "min_revision",
	16: "leader_epoch",
}

var produceFieldTypes = [lastField + 1]protowire.Type{
	2: protowire.BytesType, 4: protowire.BytesType, 6: protowire.Fixed32Type, 8: protowire.BytesType,
	13: protowire.BytesType, // all others: varint
}

// Has reports whether the field of this number was set.
func (r *ProduceRequest) Has(field int) bool { return r.seen&(1<<field) != 0 }

// ReservedField returns the name of a field that was set though the schema
// reserves it; "" if none was.
func (r *ProduceRequest) ReservedField() string {
	for n := FieldProducerID; n <= FieldTransactionalID; n++ {
		if r.Has(n) && (n != FieldTransactionalID || len(r.TransactionalID) > 0) {
			return produceFieldNames[n]
		}
	}
	return ""
}

// Parse reads msg, as the transport handed it over. The error is a
// *MalformedError, an *UnsupportedFieldError or an *InvalidValueError; after
// one of the latter two the message was read to its end, so that
// CorrelationID, Topic and Partition can be answered to. BORROWED: msg, until
// the request is done with.
func (r *ProduceRequest) Parse(msg mem.BufferSlice) error {
	r.pieces = r.pieces[:0]
	for _, b := range msg {
		r.pieces = append(r.pieces, b.ReadOnlyData())
	}
	return r.ParsePieces(r.pieces)
}

// What a request keeps from one Parse to the next is bounded by these: rare
// requests allocate, all others do not.
const (
	keptPieces = 1024
	keptBytes  = 4 << 10
)

// Release drops what is BORROWED, so that nothing keeps the transport's
// buffers from being used again or freed.
func (r *ProduceRequest) Release() {
	clear(r.pieces[:cap(r.pieces)])
	clear(r.Batch[:cap(r.Batch)])
	if cap(r.pieces) > keptPieces || cap(r.Batch) > keptPieces {
		r.pieces, r.Batch = nil, nil
	}
	_ = r.ParsePieces(nil)
}

// ParsePieces is Parse for bytes that are in no buffers of the transport.
func (r *ProduceRequest) ParsePieces(msg record.Pieces) error {
	if cap(r.scratch) > keptBytes {
		r.scratch = nil
	}
	*r = ProduceRequest{Batch: r.Batch[:0], pieces: r.pieces, scratch: r.scratch[:0]}
	c := &r.cur
	c.Reset(msg)
	var refused error // the first that is not malformed
	for c.Pos() < c.Size() {
		num, typ, ok := c.Tag(c.Size())
		if !ok {
			return &MalformedError{Why: c.Why()}
		}
		if num > lastField {
			if num < firstUserField && refused == nil {
				refused = &UnsupportedFieldError{Message: "ProduceRequest", Number: int32(num)}
			}
			if !c.SkipValue(typ, c.Size()) {
				return &MalformedError{Why: c.Why()}
			}
			continue
		}
		name := produceFieldNames[num]
		switch {
		case typ != produceFieldTypes[num]:
			return &MalformedError{Field: name, Why: "wrong wire type"}
		case r.Has(int(num)):
			return &MalformedError{Field: name, Why: "more than once"}
		}
		r.seen |= 1 << num
		why := ""
		switch typ {
		case protowire.VarintType:
			x, ok := c.Varint(c.Size())
			if !ok {
				return &MalformedError{Field: name, Why: c.Why()}
			}
			why = r.setVarint(num, x)
		case protowire.Fixed32Type:
			if r.BatchCRC, ok = c.Fixed32(c.Size()); !ok {
				return &MalformedError{Field: name, Why: c.Why()}
			}
			r.HasBatchCRC = true
		default:
			n, ok := c.Length(c.Size())
			if !ok {
				return &MalformedError{Field: name, Why: c.Why()}
			}
			if why = r.setBytes(num, n); why == notUTF8 {
				return &MalformedError{Field: name, Why: why}
			}
		}
		if why == outOfRange {
			return &MalformedError{Field: name, Why: why}
		}
		if why != "" && refused == nil {
			refused = &InvalidValueError{Field: name, Why: why}
		}
	}
	return refused
}

const (
	notUTF8    = "not UTF-8"
	outOfRange = "out of the range of its type"
)

// setVarint takes a field of wire type varint; it returns what is wrong with
// its value.
func (r *ProduceRequest) setVarint(num protowire.Number, x uint64) (why string) {
	int32Range := int64(x) >= math.MinInt32 && int64(x) <= math.MaxInt32
	switch int(num) {
	case 1:
		r.CorrelationID = x
	case 3:
		if x > math.MaxUint32 {
			return outOfRange
		}
		r.Partition, r.HasPartition = record.PartitionID(x), true
	case 5:
		if !int32Range {
			return outOfRange
		}
		if _, ok := pb.Acks_name[int32(x)]; !ok {
			return "not a value of Acks"
		}
		r.Acks = pb.Acks(x)
	case 7, 14:
		if x > 1 {
			return outOfRange
		}
		if num == 7 {
			r.Restart = x == 1
		} else {
			r.NoForward = x == 1
		}
	case FieldProducerID:
		r.ProducerID = int64(x)
	case FieldProducerEpoch, FieldBaseSequence:
		if !int32Range {
			return outOfRange
		}
		if num == FieldProducerEpoch {
			r.ProducerEpoch = int32(x)
		} else {
			r.BaseSequence = int32(x)
		}
	case FieldExpectedEnd:
		r.ExpectedEnd = int64(x)
	case fieldMinRevision:
		r.MinRevision = int64(x)
	case fieldLeaderEpoch:
		if !int32Range {
			return outOfRange
		}
		r.LeaderEpoch, r.HasLeaderEpoch = record.LeaderEpoch(x), true
	}
	return ""
}

// setBytes takes the n bytes of a field of wire type bytes; it returns what is
// wrong with its value.
func (r *ProduceRequest) setBytes(num protowire.Number, n int) (why string) {
	if num == 4 {
		r.Batch, r.HasBatch = r.cur.AppendPieces(n, r.Batch), true
		return ""
	}
	var b []byte
	b, r.scratch = r.cur.Bytes(n, r.scratch)
	switch int(num) {
	case 2:
		r.Topic = b
	case 8:
		switch len(b) {
		case 0: // as if it were absent
		case len(r.TopicID):
			r.TopicID, r.HasTopicID = record.TopicID(b), true
		default:
			return "not 16 bytes"
		}
		return ""
	case FieldTransactionalID:
		r.TransactionalID = b
	}
	if !utf8.Valid(b) {
		return notUTF8
	}
	return ""
}
