package record

import (
	"encoding/binary"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
)

// A LogBatch as this package writes it, beginning with its tag in Segment (and
// in FetchResponse, where `batches` has the same number):
//
//	+----+--------+--------------------------------+----+--------+---------+
//	| 0a | length | fixed header, headerSize bytes | 7a | length | batch   |
//	+----+--------+--------------------------------+----+--------+---------+
//	 tag  varint   fields 1 to 14, 16               tag  varint   producer's
//
// The positions inside the fixed header are the constants below; see
// docs/format/segment.md. A reader that does not find them walks the fields.
const (
	tagBatches = 1<<3 | byte(protowire.BytesType)  // Segment.batches
	tagBatch   = 15<<3 | byte(protowire.BytesType) // LogBatch.batch

	posBaseOffset        = 0
	posRecordCount       = 9
	posLastOffsetDelta   = 14
	posLeaderEpoch       = 19
	posAppendTime        = 24
	posMaxTimestamp      = 33
	posProducerID        = 42
	posProducerEpoch     = 51
	posBaseSequence      = 56
	posAttributes        = 61
	posCRC               = 66
	posCommittedEnd      = 71
	posPrevSequence      = 80
	posPartitioningEpoch = 85
	posCoordinatorEpoch  = 90
	headerSize           = 96

	crcFieldSize = 5 // tag and value of crc32c
	maxLenSize   = 5 // bytes of the longest length
)

// MaxHeaderSize is the most bytes that come before the producer's bytes in a
// LogBatch that this package writes, from the tag of `batches` on.
const MaxHeaderSize = 1 + maxLenSize + headerSize + 1 + maxLenSize

// Header is a LogBatch without its batch. millstream.v1.LogBatch says what the
// fields mean.
type Header struct {
	BaseOffset        Offset
	Records           uint32
	LastOffsetDelta   uint32
	LeaderEpoch       LeaderEpoch
	AppendTimeMs      int64
	MaxTimestampMs    int64
	ProducerID        int64
	ProducerEpoch     int32
	BaseSequence      int32
	Attributes        Attributes
	CRC               uint32
	CommittedEnd      Offset
	PrevSequence      int32
	PartitioningEpoch uint32
	CoordinatorEpoch  int32
}

// End returns the offset after the last one that the batch uses.
func (h *Header) End() Offset { return h.BaseOffset + Offset(h.LastOffsetDelta) + 1 }

// AppendLogBatchHeader appends all of a LogBatch that comes before the
// producer's bytes: the tag of `batches`, the length, the fixed header, the
// tag of `batch` and the length of the batch. batchLen and batchCRC are the
// length and the CRC-32C of the producer's bytes. ENSURES: h.CRC is the
// checksum of the whole.
func AppendLogBatchHeader(dst []byte, h *Header, batchLen int, batchCRC uint32) []byte {
	inner := headerSize + 1 + protowire.SizeVarint(uint64(batchLen)) + batchLen
	dst = append(dst, tagBatches)
	dst = protowire.AppendVarint(dst, uint64(inner))
	start := len(dst)
	dst = append(dst, fixedHeader[:]...)
	f := dst[start : start+headerSize]
	le := binary.LittleEndian
	le.PutUint64(f[posBaseOffset+1:], uint64(h.BaseOffset))
	le.PutUint32(f[posRecordCount+1:], h.Records)
	le.PutUint32(f[posLastOffsetDelta+1:], h.LastOffsetDelta)
	le.PutUint32(f[posLeaderEpoch+1:], uint32(h.LeaderEpoch))
	le.PutUint64(f[posAppendTime+1:], uint64(h.AppendTimeMs))
	le.PutUint64(f[posMaxTimestamp+1:], uint64(h.MaxTimestampMs))
	le.PutUint64(f[posProducerID+1:], uint64(h.ProducerID))
	le.PutUint32(f[posProducerEpoch+1:], uint32(h.ProducerEpoch))
	le.PutUint32(f[posBaseSequence+1:], uint32(h.BaseSequence))
	le.PutUint32(f[posAttributes+1:], uint32(h.Attributes))
	le.PutUint64(f[posCommittedEnd+1:], uint64(h.CommittedEnd))
	le.PutUint32(f[posPrevSequence+1:], uint32(h.PrevSequence))
	le.PutUint32(f[posPartitioningEpoch+1:], h.PartitioningEpoch)
	le.PutUint32(f[posCoordinatorEpoch+2:], uint32(h.CoordinatorEpoch))
	dst = append(dst, tagBatch)
	dst = protowire.AppendVarint(dst, uint64(batchLen))

	m := dst[start:]
	crc := crc32.Update(batchCRC, castagnoli, m[:posCRC])
	h.CRC = crc32.Update(crc, castagnoli, m[posCommittedEnd:])
	le.PutUint32(m[posCRC+1:], h.CRC)
	return dst
}

// fixedHeader holds the tags of the fixed header at their places.
var fixedHeader = [headerSize]byte{
	posBaseOffset:           1<<3 | byte(protowire.Fixed64Type),
	posRecordCount:          2<<3 | byte(protowire.Fixed32Type),
	posLastOffsetDelta:      3<<3 | byte(protowire.Fixed32Type),
	posLeaderEpoch:          4<<3 | byte(protowire.Fixed32Type),
	posAppendTime:           5<<3 | byte(protowire.Fixed64Type),
	posMaxTimestamp:         6<<3 | byte(protowire.Fixed64Type),
	posProducerID:           7<<3 | byte(protowire.Fixed64Type),
	posProducerEpoch:        8<<3 | byte(protowire.Fixed32Type),
	posBaseSequence:         9<<3 | byte(protowire.Fixed32Type),
	posAttributes:           10<<3 | byte(protowire.Fixed32Type),
	posCRC:                  11<<3 | byte(protowire.Fixed32Type),
	posCommittedEnd:         12<<3 | byte(protowire.Fixed64Type),
	posPrevSequence:         13<<3 | byte(protowire.Fixed32Type),
	posPartitioningEpoch:    14<<3 | byte(protowire.Fixed32Type),
	posCoordinatorEpoch:     (16<<3|byte(protowire.Fixed32Type))&0x7f | 0x80,
	posCoordinatorEpoch + 1: 16 >> 4,
}
