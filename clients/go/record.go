package millstream

import (
	"bytes"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Record is one record of a topic.
type Record struct {
	// Key: records of one key keep their order and their partition. nil is
	// none; empty is a key.
	Key []byte
	// Value. nil is null.
	Value []byte
	// Headers, in order; a key may occur more than once.
	Headers []Header
	// Time is when the record came to be, to the millisecond. Zero, when
	// producing: the time it is appended. Fetched records always have one.
	Time time.Time
}

// Header is a name and a value beside the value of a record.
type Header struct {
	// Key is UTF-8.
	Key string
	// Value. nil is null.
	Value []byte
}

// FetchedRecord is a record with its place. Its key, value and headers are
// BORROWED: see [Reader.Next]. Clone it to keep it.
type FetchedRecord struct {
	Record

	// Offset of the record in its partition.
	Offset    int64
	Partition uint32
	// LeaderEpoch is the epoch of the leader that appended the record; with
	// the offset it makes a [Position] to resume from.
	LeaderEpoch int32
}

// Clone returns a copy that owns its bytes.
func (r *FetchedRecord) Clone() FetchedRecord {
	c := *r
	c.Key, c.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	if r.Headers != nil {
		c.Headers = make([]Header, len(r.Headers))
		for i, h := range r.Headers {
			c.Headers[i] = Header{Key: h.Key, Value: bytes.Clone(h.Value)}
		}
	}
	return c
}

// Next returns the position after the record.
func (r *FetchedRecord) Next() Position { return AtOffset(r.Offset+1, r.LeaderEpoch) }

// Acks says how many replicas must have a batch before it is acknowledged.
type Acks = pb.Acks

// The choices of Acks.
const (
	// AcksAll: every in-sync replica. The default.
	AcksAll = pb.Acks_ACKS_ALL
	// AcksLeader: the leader alone; lost if the leader is lost.
	AcksLeader = pb.Acks_ACKS_LEADER
	// AcksNone: acknowledged when accepted; the answer has no offset.
	AcksNone = pb.Acks_ACKS_NONE
)

// Compression says how batches are compressed.
type Compression = pb.Compression

// The choices of Compression.
const (
	// CompressionNone is the default.
	CompressionNone   = pb.Compression_COMPRESSION_UNSPECIFIED
	CompressionZstd   = pb.Compression_COMPRESSION_ZSTD
	CompressionLZ4    = pb.Compression_COMPRESSION_LZ4
	CompressionSnappy = pb.Compression_COMPRESSION_SNAPPY
)
