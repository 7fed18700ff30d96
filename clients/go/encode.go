package millstream

import (
	"encoding/binary"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The tags of RecordBatch.records and of the fields of Record and Header, one
// byte each.
const (
	tagRecords     = 1<<3 | byte(protowire.BytesType)
	tagKey         = 1<<3 | byte(protowire.BytesType)
	tagValue       = 2<<3 | byte(protowire.BytesType)
	tagHeaders     = 3<<3 | byte(protowire.BytesType)
	tagTimestamp   = 4<<3 | byte(protowire.VarintType)
	tagOffsetDelta = 5<<3 | byte(protowire.VarintType)
	tagHeaderKey   = 1<<3 | byte(protowire.BytesType)
	tagHeaderValue = 2<<3 | byte(protowire.BytesType)
)

// sizeBytes returns the size of a field of n bytes with a tag of one byte.
func sizeBytes(n int) int { return 1 + protowire.SizeVarint(uint64(n)) + n }

// recordSize returns the size of a record's message.
func recordSize(r *Record) int {
	n := 0
	if r.Key != nil {
		n = sizeBytes(len(r.Key))
	}
	if r.Value != nil {
		n += sizeBytes(len(r.Value))
	}
	if len(r.Headers) > 0 || !r.Time.IsZero() {
		n += restSize(r)
	}
	return n
}

// restSize returns the size of what few records have: headers and a time.
func restSize(r *Record) int {
	n := 0
	for i := range r.Headers {
		n += sizeBytes(headerSize(&r.Headers[i]))
	}
	if !r.Time.IsZero() {
		n += 1 + protowire.SizeVarint(uint64(r.Time.UnixMilli()))
	}
	return n
}

func headerSize(h *Header) int {
	n := sizeBytes(len(h.Key))
	if h.Value != nil {
		n += sizeBytes(len(h.Value))
	}
	return n
}

// putRecord writes a record whose message has n bytes as one field `records`
// of a RecordBatch.
//
// REQUIRES: dst has sizeBytes(n) bytes.
func putRecord(dst []byte, r *Record, n int) {
	dst[0] = tagRecords
	i := 1 + putVarint(dst[1:], uint64(n))
	if r.Key != nil {
		i += putBytes(dst[i:], tagKey, r.Key)
	}
	if r.Value != nil {
		i += putBytes(dst[i:], tagValue, r.Value)
	}
	if len(r.Headers) > 0 || !r.Time.IsZero() {
		putRest(dst[i:], r)
	}
}

func putRest(dst []byte, r *Record) {
	i := 0
	for j := range r.Headers {
		h := &r.Headers[j]
		dst[i] = tagHeaders
		i++
		i += putVarint(dst[i:], uint64(headerSize(h)))
		dst[i] = tagHeaderKey
		i++
		i += putVarint(dst[i:], uint64(len(h.Key)))
		i += copy(dst[i:], h.Key)
		if h.Value != nil {
			i += putBytes(dst[i:], tagHeaderValue, h.Value)
		}
	}
	if !r.Time.IsZero() {
		dst[i] = tagTimestamp
		putVarint(dst[i+1:], uint64(r.Time.UnixMilli()))
	}
}

func putBytes(dst []byte, tag byte, b []byte) int {
	dst[0] = tag
	i := 1 + putVarint(dst[1:], uint64(len(b)))
	return i + copy(dst[i:], b)
}

func putVarint(dst []byte, v uint64) int {
	if v < 1<<7 {
		dst[0] = byte(v)
		return 1
	}
	return binary.PutUvarint(dst, v)
}

// checkRest refuses what a broker would refuse together with all the other
// records of the batch.
func checkRest(r *Record) error {
	for i := range r.Headers {
		if !utf8.ValidString(r.Headers[i].Key) {
			return &InvalidRecordError{Field: "headers.key", What: "is not UTF-8"}
		}
	}
	if !r.Time.IsZero() && r.Time.UnixMilli() < 0 {
		return &InvalidRecordError{Field: "time", What: "is before 1970"}
	}
	return nil
}
