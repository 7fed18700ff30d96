package record

import "google.golang.org/protobuf/encoding/protowire"

// batchFrame is where the parts of a LogBatch are that its checksum treats
// apart: the bytes of `batch` and the field of `crc32c`.
type batchFrame struct {
	start, end int
	crcTag     int
}

// logBatchWalk reads a LogBatch field by field.
type logBatchWalk struct {
	h      *Header
	c      Cursor
	length int    // of the LogBatch, of which the cursor has the beginning
	seen   uint32 // bit n: field n was there
	frame  batchFrame
}

// walkLogBatch reads a LogBatch of any layout: m is its beginning, length that
// of the whole. It returns ErrShort if something that it needs is missing.
func walkLogBatch(h *Header, m []byte, length int) (batchFrame, error) {
	*h = Header{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}
	w := logBatchWalk{h: h, length: length}
	w.c.Reset(Pieces{m})
	for w.c.Pos() < length {
		if w.c.Pos() == len(m) {
			return w.frame, ErrShort
		}
		if w.field() {
			continue
		}
		if w.batchIsLast() {
			break
		}
		// A rule may look broken only because bytes are missing: with all of
		// them the answer is exact.
		if len(m) < length {
			return w.frame, ErrShort
		}
		return w.frame, &CorruptBatchError{Why: w.c.Why()}
	}
	if w.seen&needed != needed {
		return w.frame, &CorruptBatchError{Why: "a field of the header is missing"}
	}
	return w.frame, nil
}

// batchIsLast reports whether the batch was found and ends the LogBatch, in
// which case its bytes need not be there.
func (w *logBatchWalk) batchIsLast() bool { return w.frame.end == w.length && w.frame.start > 0 }

// field reads one field. False: it breaks a rule, or bytes are missing.
func (w *logBatchWalk) field() bool {
	c, at := &w.c, w.c.Pos()
	num, typ, ok := c.Tag(c.Size())
	if !ok {
		return false
	}
	if num < protowire.Number(len(logBatchTypes)) {
		if typ != logBatchTypes[num] {
			return c.fail("a field of another wire type")
		}
		if w.seen&(1<<num) != 0 {
			return c.fail("a field twice")
		}
		w.seen |= 1 << num
	}
	switch {
	case num == 11:
		w.frame.crcTag = at
		w.h.CRC, ok = c.Fixed32(c.Size())
	case num == 15:
		var n int
		if n, ok = c.lengthWithin(c.Size(), w.length); ok {
			w.frame.start, w.frame.end = c.Pos(), c.Pos()+n
			if n > c.Size()-c.Pos() {
				return c.fail("a batch that ends later")
			}
			c.Skip(n)
		}
	case typ == protowire.Fixed64Type && num < protowire.Number(len(logBatchTypes)):
		var x uint64
		if x, ok = c.Fixed64(c.Size()); ok {
			w.h.set64(num, x)
		}
	case typ == protowire.Fixed32Type && num < protowire.Number(len(logBatchTypes)):
		var x uint32
		if x, ok = c.Fixed32(c.Size()); ok {
			w.h.set32(num, x)
		}
	default:
		ok = c.SkipValue(typ, c.Size())
	}
	return ok
}

// logBatchTypes are the wire types of the fields of LogBatch.
var logBatchTypes = [18]protowire.Type{
	1: protowire.Fixed64Type, 2: protowire.Fixed32Type, 3: protowire.Fixed32Type, 4: protowire.Fixed32Type,
	5: protowire.Fixed64Type, 6: protowire.Fixed64Type, 7: protowire.Fixed64Type, 8: protowire.Fixed32Type,
	9: protowire.Fixed32Type, 10: protowire.Fixed32Type, 11: protowire.Fixed32Type, 12: protowire.Fixed64Type,
	13: protowire.Fixed32Type, 14: protowire.Fixed32Type, 15: protowire.BytesType, 16: protowire.Fixed32Type,
	17: protowire.BytesType,
}

// needed are the fields without which nothing can be done with a batch.
const needed = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<10 | 1<<11 | 1<<15

func (h *Header) set64(num protowire.Number, x uint64) {
	switch int(num) {
	case 1:
		h.BaseOffset = Offset(x)
	case 5:
		h.AppendTimeMs = int64(x)
	case 6:
		h.MaxTimestampMs = int64(x)
	case 7:
		h.ProducerID = int64(x)
	case 12:
		h.CommittedEnd = Offset(x)
	}
}

func (h *Header) set32(num protowire.Number, x uint32) {
	switch int(num) {
	case 2:
		h.Records = x
	case 3:
		h.LastOffsetDelta = x
	case 4:
		h.LeaderEpoch = LeaderEpoch(x)
	case 8:
		h.ProducerEpoch = int32(x)
	case 9:
		h.BaseSequence = int32(x)
	case 10:
		h.Attributes = Attributes(x)
	case 13:
		h.PrevSequence = int32(x)
	case 14:
		h.PartitioningEpoch = x
	case 16:
		h.CoordinatorEpoch = int32(x)
	}
}
