package record

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrUndecodable says that a batch could not be walked or decompressed. A
// batch that a broker took in and whose checksum is right is never so.
var ErrUndecodable = errors.New("record: batch cannot be decoded")

// Iterator walks the records of a RecordBatch, or of a LogBatch and then with
// offsets and times. It keeps its buffers from batch to batch and then
// allocates nothing; it belongs to one goroutine. The zero value is ready, at
// the end of nothing.
//
//	for it.Reset(batch); it.Next(); {
//		use(it.Record())
//	}
//	if err := it.Err(); err != nil { … }
//
// It trusts nothing that it is given, but does not repeat the checks of
// Validator: it may walk bytes that a Validator refuses.
type Iterator struct {
	b      []byte // what is left to walk
	record Record
	out    []byte // decompressed bytes
	err    error

	header Header // of the batch, as far as offsets and times need it
	count  uint32 // records passed
	offset Offset
	timeMs int64
}

// Reset puts the iterator before the first record of a RecordBatch. Offsets
// then count from 0, and the time of a record without timestamp is 0.
// BORROWED: batch, until the next reset.
func (it *Iterator) Reset(batch []byte) {
	it.header = Header{}
	it.open(batch)
}

// ResetLogBatch puts the iterator before the first record of a LogBatch, whose
// parts are as ParseLogBatch returned them. BORROWED: batch, until the next
// reset.
func (it *Iterator) ResetLogBatch(h *Header, batch []byte) {
	it.header = *h
	it.open(batch)
}

// Next goes to the next record. False: there is none, or Err says why.
func (it *Iterator) Next() bool {
	for len(it.b) > 0 {
		if it.b[0] != tagRecords {
			// What is beside the records is the user's, or known by now.
			_, _, n := protowire.ConsumeField(it.b)
			if n < 0 {
				return it.fail("field")
			}
			it.b = it.b[n:]
			continue
		}
		n, start := shortLength(it.b, 1)
		if n > len(it.b)-start {
			return it.fail("length of a record")
		}
		content := it.b[start : start+n : start+n]
		it.b = it.b[start+n:]
		if !it.read(content) {
			return it.fail("record")
		}
		it.place()
		return true
	}
	return false
}

// Record returns the record that Next went to. BORROWED: until the next call
// of Next or a reset.
func (it *Iterator) Record() *Record { return &it.record }

// Offset returns the offset of the record.
func (it *Iterator) Offset() Offset { return it.offset }

// TimestampMs returns the time of the record: its own, or the append time of
// its batch if it has none or the batch says so.
func (it *Iterator) TimestampMs() int64 { return it.timeMs }

// Err returns why Next stopped; nil at the end of the batch. It is an
// *InvalidBatchError if decompression was refused, else wraps ErrUndecodable.
func (it *Iterator) Err() error { return it.err }

// Left returns how many bytes are left to walk: right after a reset, those of
// the batch, decompressed.
func (it *Iterator) Left() int { return len(it.b) }

// Held returns how many bytes of memory the iterator keeps for decompressed
// batches.
func (it *Iterator) Held() int { return cap(it.out) }

// open finds out whether the batch is compressed, and if so decompresses it.
func (it *Iterator) open(batch []byte) {
	it.b, it.err = batch, nil
	it.count, it.offset, it.timeMs = 0, 0, 0
	it.record = Record{Headers: it.record.Headers[:0]}
	if len(batch) == 0 || batch[0] == tagRecords {
		return
	}
	var (
		packed      []byte
		compression uint64
		found       bool
	)
	for b := batch; len(b) > 0; {
		num, typ, n := protowire.ConsumeField(b)
		if n < 0 {
			it.fail("field")
			return
		}
		value := b[:n]
		b = b[n:]
		_, _, tag := protowire.ConsumeTag(value)
		value = value[tag:]
		switch {
		case num == 2 && typ == protowire.VarintType:
			compression, _ = protowire.ConsumeVarint(value)
		case num == 3 && typ == protowire.BytesType:
			packed, _ = protowire.ConsumeBytes(value)
			found = true
		}
	}
	if !found {
		return
	}
	if compression == uint64(None) || compression > uint64(maxCompression) {
		it.fail("compression")
		return
	}
	out, err := Decompress(it.out, packed, Compression(compression), MaxDecompressedBytes)
	if err != nil {
		it.b, it.err = nil, err
		return
	}
	it.b, it.out = out, out
}

// place gives the record that was read its offset and its time.
func (it *Iterator) place() {
	h := &it.header
	it.offset = h.BaseOffset + Offset(it.count)
	if h.Attributes.Has(Sparse) {
		it.offset = h.BaseOffset + Offset(it.record.OffsetDelta)
	}
	it.count++
	it.timeMs = h.AppendTimeMs
	if it.record.HasTimestamp && !h.Attributes.Has(AppendTime) {
		it.timeMs = it.record.TimestampMs
	}
}

// read fills it.record from the content of a `records` field.
func (it *Iterator) read(b []byte) bool {
	r := &it.record
	*r = Record{Headers: r.Headers[:0]}
	for i := 0; i < len(b); {
		switch b[i] {
		case tagKey, tagValue, tagHeaders:
			n, start := shortLength(b, i+1)
			if n > len(b)-start {
				return false
			}
			content := b[start : start+n : start+n]
			switch b[i] {
			case tagKey:
				r.Key = content
			case tagValue:
				r.Value = content
			default:
				h, ok := readHeader(content)
				if !ok {
					return false
				}
				r.Headers = append(r.Headers, h)
			}
			i = start + n
		case tagTimestamp, tagOffsetDelta:
			x, n := protowire.ConsumeVarint(b[i+1:])
			if n < 0 {
				return false
			}
			if b[i] == tagTimestamp {
				r.TimestampMs, r.HasTimestamp = int64(x), true
			} else {
				r.OffsetDelta = uint32(x)
			}
			i += 1 + n
		default:
			_, _, n := protowire.ConsumeField(b[i:])
			if n < 0 {
				return false
			}
			i += n
		}
	}
	return true
}

func readHeader(b []byte) (h RecordHeader, ok bool) {
	for i := 0; i < len(b); {
		if b[i] != tagHeaderKey && b[i] != tagHeaderValue {
			_, _, n := protowire.ConsumeField(b[i:])
			if n < 0 {
				return h, false
			}
			i += n
			continue
		}
		n, start := shortLength(b, i+1)
		if n > len(b)-start {
			return h, false
		}
		content := b[start : start+n : start+n]
		if b[i] == tagHeaderKey {
			h.Key = content
		} else {
			h.Value = content
		}
		i = start + n
	}
	return h, true
}

func (it *Iterator) fail(what string) bool {
	it.b = nil
	it.err = fmt.Errorf("%w: %s", ErrUndecodable, what)
	return false
}
