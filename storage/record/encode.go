package record

import "google.golang.org/protobuf/encoding/protowire"

// Record is one record. A nil Key or Value is null; an empty one is not.
type Record struct {
	Key, Value []byte
	Headers    []RecordHeader
	// TimestampMs is when the record came to be; meaningful if HasTimestamp.
	TimestampMs  int64
	HasTimestamp bool
	// OffsetDelta is the offset in a sparse batch, counted from its base
	// offset. Zero in all others.
	OffsetDelta uint32
}

// RecordHeader is a name and a value beside the value of a record. A nil Value
// is null. Key is UTF-8.
type RecordHeader struct { //nolint:revive // Header is that of a LogBatch.
	Key, Value []byte
}

// Tags of RecordBatch, Record and Header: all field numbers are below 16, so
// each is one byte.
const (
	tagRecords     = 1<<3 | byte(protowire.BytesType)
	tagCompression = 2<<3 | byte(protowire.VarintType)
	tagCompressed  = 3<<3 | byte(protowire.BytesType)
	tagRecordCount = 4<<3 | byte(protowire.VarintType)

	tagKey         = 1<<3 | byte(protowire.BytesType)
	tagValue       = 2<<3 | byte(protowire.BytesType)
	tagHeaders     = 3<<3 | byte(protowire.BytesType)
	tagTimestamp   = 4<<3 | byte(protowire.VarintType)
	tagOffsetDelta = 5<<3 | byte(protowire.VarintType)

	tagHeaderKey   = 1<<3 | byte(protowire.BytesType)
	tagHeaderValue = 2<<3 | byte(protowire.BytesType)
)

// Size returns the number of bytes of r as a Record message.
func (r *Record) Size() int {
	n := 0
	if r.Key != nil {
		n += 1 + protowire.SizeBytes(len(r.Key))
	}
	if r.Value != nil {
		n += 1 + protowire.SizeBytes(len(r.Value))
	}
	for i := range r.Headers {
		n += 1 + protowire.SizeBytes(r.Headers[i].size())
	}
	if r.HasTimestamp {
		n += 1 + protowire.SizeVarint(uint64(r.TimestampMs))
	}
	if r.OffsetDelta != 0 {
		n += 1 + protowire.SizeVarint(uint64(r.OffsetDelta))
	}
	return n
}

func (h *RecordHeader) size() int {
	n := 0
	if len(h.Key) > 0 {
		n += 1 + protowire.SizeBytes(len(h.Key))
	}
	if h.Value != nil {
		n += 1 + protowire.SizeBytes(len(h.Value))
	}
	return n
}

// AppendRecord appends r as one `records` field of a RecordBatch. Records
// appended one after another are a RecordBatch.
func AppendRecord(dst []byte, r *Record) []byte {
	dst = append(dst, tagRecords)
	dst = protowire.AppendVarint(dst, uint64(r.Size()))
	if r.Key != nil {
		dst = appendBytes(dst, tagKey, r.Key)
	}
	if r.Value != nil {
		dst = appendBytes(dst, tagValue, r.Value)
	}
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = append(dst, tagHeaders)
		dst = protowire.AppendVarint(dst, uint64(h.size()))
		if len(h.Key) > 0 {
			dst = appendBytes(dst, tagHeaderKey, h.Key)
		}
		if h.Value != nil {
			dst = appendBytes(dst, tagHeaderValue, h.Value)
		}
	}
	if r.HasTimestamp {
		dst = append(dst, tagTimestamp)
		dst = protowire.AppendVarint(dst, uint64(r.TimestampMs))
	}
	if r.OffsetDelta != 0 {
		dst = append(dst, tagOffsetDelta)
		dst = protowire.AppendVarint(dst, uint64(r.OffsetDelta))
	}
	return dst
}

// AppendCompressedBatch appends a compressed RecordBatch that holds the given
// RecordBatch of `count` uncompressed records.
func AppendCompressedBatch(dst []byte, c Compression, records []byte, count uint32) ([]byte, error) {
	packed, err := Compress(nil, records, c)
	if err != nil {
		return dst, err
	}
	dst = append(dst, tagCompression, byte(c))
	dst = appendBytes(dst, tagCompressed, packed)
	dst = append(dst, tagRecordCount)
	return protowire.AppendVarint(dst, uint64(count)), nil
}

func appendBytes(dst []byte, tag byte, b []byte) []byte {
	dst = append(dst, tag)
	dst = protowire.AppendVarint(dst, uint64(len(b)))
	return append(dst, b...)
}
