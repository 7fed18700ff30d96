package wire

import (
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
)

// Bits of LogBatch.attributes.
const (
	compressionMask     = 1<<3 - 1
	formatMask          = 1<<7 - 1<<3
	attributeEncrypted  = 1 << 7
	attributeControl    = 1 << 10
	attributeSparse     = 1 << 11
	attributeAppendTime = 1 << 12
)

// Field numbers of LogBatch.
const (
	logBaseOffset      = 1
	logRecordCount     = 2
	logLastOffsetDelta = 3
	logLeaderEpoch     = 4
	logAppendTime      = 5
	logAttributes      = 10
	logCRC             = 11
	logBatch           = 15
)

// Castagnoli is the table of CRC-32C.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)

// LogBatch is a stored batch: what a reader needs of its header, and the
// producer's bytes.
type LogBatch struct {
	BaseOffset   int64
	Records      uint32
	LastDelta    uint32
	LeaderEpoch  int32
	AppendTimeMs int64
	Attributes   uint32
	// Bytes of the RecordBatch. BORROWED from the message.
	Bytes []byte
}

// Compression returns the number of the batch's Compression.
func (l *LogBatch) Compression() int32 { return int32(l.Attributes & compressionMask) }

// IsControl reports whether the batch holds no records of a user.
func (l *LogBatch) IsControl() bool { return l.Attributes&attributeControl != 0 }

// IsSparse reports whether each record carries its own offset delta.
func (l *LogBatch) IsSparse() bool { return l.Attributes&attributeSparse != 0 }

// HasAppendTime reports whether the time of every record is the append time.
func (l *LogBatch) HasAppendTime() bool { return l.Attributes&attributeAppendTime != 0 }

// IsReadable reports whether this version of the client can read the batch:
// not if it is encrypted or of another payload format.
func (l *LogBatch) IsReadable() bool { return l.Attributes&(formatMask|attributeEncrypted) == 0 }

// Next returns the offset after the last one that the batch uses.
func (l *LogBatch) Next() int64 { return l.BaseOffset + int64(l.LastDelta) + 1 }

// Parse reads the bytes of one LogBatch and checks its CRC.
func (l *LogBatch) Parse(b []byte) error {
	*l = LogBatch{}
	var want uint32
	crcAt, batchAt, batchEnd := -1, -1, -1
	for at := 0; at < len(b); {
		f, ok := next(b[at:])
		if !ok {
			return &MalformedError{Message: "LogBatch", What: "does not decode"}
		}
		switch f.number {
		case logBaseOffset:
			l.BaseOffset = int64(f.number64)
		case logRecordCount:
			l.Records = uint32(f.number64)
		case logLastOffsetDelta:
			l.LastDelta = uint32(f.number64)
		case logLeaderEpoch:
			l.LeaderEpoch = int32(f.number64)
		case logAppendTime:
			l.AppendTimeMs = int64(f.number64)
		case logAttributes:
			l.Attributes = uint32(f.number64)
		case logCRC:
			if f.kind != protowire.Fixed32Type || crcAt >= 0 {
				return &MalformedError{Message: "LogBatch", What: "crc32c is not one fixed32"}
			}
			want, crcAt = uint32(f.number64), at
		case logBatch:
			if f.kind != protowire.BytesType || batchAt >= 0 {
				return &MalformedError{Message: "LogBatch", What: "batch is not one message"}
			}
			l.Bytes = f.bytes
			batchAt, batchEnd = at+f.size-len(f.bytes), at+f.size
		}
		at += f.size
	}
	if crcAt < 0 || batchAt < 0 {
		return &MalformedError{Message: "LogBatch", What: "crc32c or batch is missing"}
	}
	if l.BaseOffset < 0 || l.Records == 0 && !l.IsControl() || uint64(l.LastDelta)+1 < uint64(l.Records) {
		return &MalformedError{Message: "LogBatch", What: "offsets and record count do not agree"}
	}
	if got := logCRCOf(b, crcAt, batchAt, batchEnd); got != want {
		return &CorruptBatchError{BaseOffset: l.BaseOffset, Want: want, Got: got}
	}
	return nil
}

// crcFieldSize is the size of the field crc32c: a tag of one byte and four
// bytes.
const crcFieldSize = 5

// logCRCOf computes the CRC-32C of the batch's bytes b[batchAt:batchEnd],
// continued over all other bytes in order but the field at crcAt.
func logCRCOf(b []byte, crcAt, batchAt, batchEnd int) uint32 {
	crc := crc32.Update(0, Castagnoli, b[batchAt:batchEnd])
	first, second := [2]int{crcAt, crcAt + crcFieldSize}, [2]int{batchAt, batchEnd}
	if batchAt < crcAt {
		first, second = second, first
	}
	crc = crc32.Update(crc, Castagnoli, b[:first[0]])
	crc = crc32.Update(crc, Castagnoli, b[first[1]:second[0]])
	return crc32.Update(crc, Castagnoli, b[second[1]:])
}
