package storagetest

import (
	"fmt"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// BatchOption changes what NewBatch makes.
type BatchOption func(*commitlog.Batch, []record.Record)

// NewBatch returns a valid batch of n records whose values begin with name, as
// if a Validator had seen it.
func NewBatch(name string, n int, options ...BatchOption) *commitlog.Batch {
	records := make([]record.Record, n)
	for i := range records {
		records[i].Value = fmt.Appendf(nil, "%s-%d", name, i)
	}
	b := &commitlog.Batch{}
	for _, o := range options {
		o(b, records)
	}
	var bytes []byte
	s := &b.Summary
	s.Records, s.AllTimestamps = uint32(n), true
	for i := range records {
		r := &records[i]
		bytes = record.AppendRecord(bytes, r)
		switch {
		case !r.HasTimestamp:
			s.AllTimestamps = false
		case !s.HasTimestamp || r.TimestampMs > s.MaxTimestampMs:
			s.HasTimestamp, s.MaxTimestampMs = true, r.TimestampMs
		}
	}
	b.Pieces = record.Pieces{bytes}
	s.Bytes, s.CRC = len(bytes), b.Pieces.CRC()
	return b
}

// Sized pads each value to so many bytes.
func Sized(bytes int) BatchOption {
	return func(_ *commitlog.Batch, records []record.Record) {
		for i := range records {
			for len(records[i].Value) < bytes {
				records[i].Value = append(records[i].Value, byte('a'+len(records[i].Value)%26))
			}
		}
	}
}

// At gives the records timestamps, one for each; records beyond them have
// none.
func At(ms ...int64) BatchOption {
	return func(_ *commitlog.Batch, records []record.Record) {
		for i := range min(len(ms), len(records)) {
			records[i].TimestampMs, records[i].HasTimestamp = ms[i], true
		}
	}
}

// InPieces cuts the bytes of b into pieces of n bytes, as a transport might.
func InPieces(b *commitlog.Batch, n int) *commitlog.Batch {
	bytes := b.Pieces.AppendTo(nil)
	b.Pieces = nil
	for len(bytes) > 0 {
		k := min(n, len(bytes))
		b.Pieces = append(b.Pieces, bytes[:k:k])
		bytes = bytes[k:]
	}
	return b
}
