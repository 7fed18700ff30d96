package record

import (
	"errors"
	"fmt"
)

// ErrShort says that the bytes end before the field does: what is there is a
// good beginning, or cannot be told from one.
var ErrShort = errors.New("record: bytes end inside a batch")

// Kind says which rule an invalid batch breaks.
type Kind uint8

// The kinds of invalid batches.
const (
	// Malformed: bytes that some protobuf parser refuses or reads otherwise.
	Malformed Kind = iota + 1
	// UnsupportedField: a field number below 1000 that the schema does not
	// define, or a field that producers may not set.
	UnsupportedField
	// WrongCount: record_count differs from the number of records.
	WrongCount
	// UnknownCompression: a compression that has no number here.
	UnknownCompression
	// BatchTooLarge: more bytes than max.batch.bytes.
	BatchTooLarge
	// RecordTooLarge: a record of more bytes than max.record.bytes.
	RecordTooLarge
	// DecompressedTooLarge: more bytes than allowed once decompressed.
	DecompressedTooLarge
	// NotUTF8: a header name that is not UTF-8.
	NotUTF8
	// EmptyBatch: no records.
	EmptyBatch
	// BadCompression: compressed bytes that do not decompress.
	BadCompression
)

var kindNames = [...]string{
	Malformed:            "malformed",
	UnsupportedField:     "unsupported field",
	WrongCount:           "wrong record count",
	UnknownCompression:   "unknown compression",
	BatchTooLarge:        "batch too large",
	RecordTooLarge:       "record too large",
	DecompressedTooLarge: "decompressed batch too large",
	NotUTF8:              "not UTF-8",
	EmptyBatch:           "no records",
	BadCompression:       "bad compressed bytes",
}

// String returns the kind in words.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// InvalidBatchError says why a producer's batch is refused.
type InvalidBatchError struct {
	Kind Kind
	// Field is the path of the field, such as "batch.records[7].headers.key".
	Field string
	// Why says more, for people.
	Why string
	// Limit and Actual are the figures of the kinds that compare two: bytes,
	// records, or the number of a field or compression. Else they are zero.
	Limit, Actual int64
	// Cause is the decompressor's error, if it was one.
	Cause error
}

// Error says what is wrong, for people.
func (e *InvalidBatchError) Error() string {
	s := e.Field + ": " + e.Kind.String()
	if e.Why != "" {
		s += ": " + e.Why
	}
	switch e.Kind {
	case BatchTooLarge, RecordTooLarge, DecompressedTooLarge:
		s += fmt.Sprintf(": %d bytes, limit %d", e.Actual, e.Limit)
	case WrongCount:
		s += fmt.Sprintf(": %d said, %d found", e.Limit, e.Actual)
	case UnsupportedField, UnknownCompression:
		s += fmt.Sprintf(": number %d", e.Actual)
	case Malformed, NotUTF8, EmptyBatch, BadCompression:
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *InvalidBatchError) Unwrap() error { return e.Cause }

// CorruptBatchError says that bytes of a log are not what a broker wrote.
type CorruptBatchError struct {
	// BaseOffset is what the header says; meaningful with a wrong checksum.
	BaseOffset Offset
	// Why says what is wrong, for people.
	Why string
	// Stored and Computed are the checksums, if they differ.
	Stored, Computed uint32
}

// Error says what is wrong, for people.
func (e *CorruptBatchError) Error() string {
	if e.Stored != e.Computed {
		return fmt.Sprintf("corrupt batch at offset %d: crc32c is %08x, stored %08x", e.BaseOffset, e.Computed, e.Stored)
	}
	return "corrupt batch: " + e.Why
}

// CorruptInfoError says that a segment does not begin with a good SegmentInfo.
type CorruptInfoError struct {
	// Why says what is wrong, for people.
	Why string
}

// Error says what is wrong, for people.
func (e *CorruptInfoError) Error() string { return "corrupt segment info: " + e.Why }

// UnsupportedVersionError says that a segment is of a later format than this
// program knows. It is not damage.
type UnsupportedVersionError struct {
	// Got is the version of the segment, Max the greatest that is known.
	Got, Max uint32
}

// Error says what is wrong, for people.
func (e *UnsupportedVersionError) Error() string {
	return fmt.Sprintf("segment format version %d: the greatest known is %d", e.Got, e.Max)
}
