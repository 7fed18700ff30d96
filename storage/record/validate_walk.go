package record

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// firstUserField is the least field number that is the user's: kept, never
// read. Numbers below it that the schema lacks are refused, so that they can
// be given a meaning later.
const firstUserField = 1000

// walk checks the fields of a RecordBatch: of the batch as sent, or of the
// inner one, which may hold only records.
//
// Nearly all records have the form that generated code writes and lie in one
// piece: plainRecord knows that form, and says nothing of any other. All the
// rest goes to field, which alone knows the rules.
func (v *Validator) walk(batch Pieces, inner bool) bool {
	c := &v.cur
	c.Reset(batch)
	for c.Pos() < c.Size() {
		c.advance(v.plainRecords(c.b))
		if c.Pos() < c.Size() && !v.field(c, inner) {
			return false
		}
	}
	return true
}

// field checks one field of a RecordBatch.
func (v *Validator) field(c *Cursor, inner bool) bool {
	num, typ, ok := c.Tag(c.Size())
	if !ok {
		return v.malformed(inBatch, c.Why())
	}
	switch {
	case num == 1 && typ == protowire.BytesType:
		return v.record(c)
	case inner:
		return v.fail(InvalidBatchError{
			Kind: UnsupportedField, Field: "batch.compressed", Why: "holds more than records", Actual: int64(num),
		})
	case num == 2 && typ == protowire.VarintType && !v.top.hasCompression:
		v.top.hasCompression = true
		v.top.compression, ok = c.Varint(c.Size())
	case num == 3 && typ == protowire.BytesType && !v.top.hasCompressed:
		v.top.hasCompressed = true
		var n int
		if n, ok = c.Length(c.Size()); ok {
			v.packed = c.AppendPieces(n, v.packed[:0])
		}
	case num == 4 && typ == protowire.VarintType && !v.top.hasCount:
		v.top.hasCount = true
		var n uint64
		if n, ok = c.Varint(c.Size()); ok && n >= 1<<32 {
			return v.malformed(inCount, "2^32 or more")
		}
		v.top.count = uint32(n)
	case num <= 4:
		return v.misused(inBatch, num)
	default:
		return v.foreign(c, inBatch, num, typ, c.Size())
	}
	if !ok {
		return v.malformed(inBatch, c.Why())
	}
	return true
}

// record checks one `records` field, whose tag has been read.
func (v *Validator) record(c *Cursor) bool {
	n, ok := c.Length(c.Size())
	if !ok {
		return v.malformed(inRecord, c.Why())
	}
	if n > v.lim.MaxRecordBytes {
		return v.fail(InvalidBatchError{
			Kind: RecordTooLarge, Field: v.path(inRecord),
			Limit: int64(v.lim.MaxRecordBytes), Actual: int64(n),
		})
	}
	var (
		end  = c.Pos() + n
		seen [6]bool
	)
	for c.Pos() < end {
		num, typ, ok := c.Tag(end)
		if !ok {
			return v.malformed(inRecord, c.Why())
		}
		if num < protowire.Number(len(seen)) && num != 3 {
			if seen[num] {
				return v.misused(inRecord, num)
			}
			seen[num] = true
		}
		switch {
		case (num == 1 || num == 2) && typ == protowire.BytesType:
			ok = c.SkipValue(typ, end)
		case num == 3 && typ == protowire.BytesType:
			if !v.header(c, end) {
				return false
			}
		case num == 4 && typ == protowire.VarintType:
			var x uint64
			if x, ok = c.Varint(end); ok {
				v.stamp(int64(x))
			}
		case num == 5:
			return v.fail(InvalidBatchError{
				Kind: UnsupportedField, Field: v.path(inOffsetDelta), Why: "written by brokers only", Actual: 5,
			})
		case num < 5:
			return v.misused(inRecord, num)
		default:
			if !v.foreign(c, inRecord, num, typ, end) {
				return false
			}
		}
		if !ok {
			return v.malformed(inRecord, c.Why())
		}
	}
	v.sum.Records++
	return true
}

// header checks one `headers` field of a record that ends at recordEnd.
func (v *Validator) header(c *Cursor, recordEnd int) bool {
	n, ok := c.Length(recordEnd)
	if !ok {
		return v.malformed(inHeader, c.Why())
	}
	var (
		end  = c.Pos() + n
		seen [3]bool
	)
	for c.Pos() < end {
		num, typ, ok := c.Tag(end)
		if !ok {
			return v.malformed(inHeader, c.Why())
		}
		if num < protowire.Number(len(seen)) {
			if seen[num] || typ != protowire.BytesType {
				return v.misused(inHeader, num)
			}
			seen[num] = true
		}
		switch num {
		case 1:
			if n, ok = c.Length(end); ok && !c.utf8(n) {
				return v.fail(InvalidBatchError{Kind: NotUTF8, Field: v.path(inHeaderKey)})
			}
		case 2:
			ok = c.SkipValue(typ, end)
		default:
			if !v.foreign(c, inHeader, num, typ, end) {
				return false
			}
		}
		if !ok {
			return v.malformed(inHeader, c.Why())
		}
	}
	return true
}

// stamp takes note of the timestamp of a record.
func (v *Validator) stamp(ms int64) {
	v.stamped++
	if !v.sum.HasTimestamp || ms > v.sum.MaxTimestampMs {
		v.sum.MaxTimestampMs, v.sum.HasTimestamp = ms, true
	}
}

// foreign checks a field that the schema does not define.
func (v *Validator) foreign(c *Cursor, p place, num protowire.Number, typ protowire.Type, end int) bool {
	if num < firstUserField {
		return v.fail(InvalidBatchError{Kind: UnsupportedField, Field: v.path(p), Actual: int64(num)})
	}
	if !c.SkipValue(typ, end) {
		return v.malformed(p, c.Why())
	}
	return true
}

// misused refuses a field of the schema that came twice or with another wire
// type.
func (v *Validator) misused(p place, num protowire.Number) bool {
	return v.malformed(p, fmt.Sprintf("field %d twice or of another wire type", num))
}

func (v *Validator) malformed(p place, why string) bool {
	return v.fail(InvalidBatchError{Kind: Malformed, Field: v.path(p), Why: why})
}

// place is where in a batch something is wrong.
type place uint8

const (
	inBatch place = iota
	inCompression
	inCompressed
	inCount
	inRecord
	inOffsetDelta
	inHeader
	inHeaderKey
)

var paths = [...]string{
	inBatch:       "batch",
	inCompression: "batch.compression",
	inCompressed:  "batch.compressed",
	inCount:       "batch.record_count",
	inRecord:      "",
	inOffsetDelta: ".offset_delta",
	inHeader:      ".headers",
	inHeaderKey:   ".headers.key",
}

// path names a place of the record that is being checked. It allocates.
func (v *Validator) path(p place) string {
	if p < inRecord {
		return paths[p]
	}
	return fmt.Sprintf("batch.records[%d]%s", v.sum.Records, paths[p])
}
