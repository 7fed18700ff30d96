// Package record owns the bytes of Millstream: what a producer sends
// (RecordBatch), what a broker writes around it (LogBatch, SegmentInfo), and
// how both are checked, walked and summed.
//
// It refuses to own files, clocks and the generated code: it reads and writes
// protobuf wire format by hand, for records cross the broker as bytes and are
// never re-encoded.
//
// INVARIANT: what Validator accepts, every protobuf parser accepts with equal
// content. The opposite does not hold, and need not.
//
// All ranges of offsets are half-open, [start, end); all ends are exclusive.
// Times are milliseconds since 1970-01-01 UTC.
//
// The package starts no goroutine. Validator and Iterator belong to one
// goroutine each; functions are safe for concurrent use. Memory for
// decompression is shared by the process and bounded: see decoders.go.
//
// The layout is described in docs/format/segment.md, the rules of validation
// in docs/format/validation.md.
package record
