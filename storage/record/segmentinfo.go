package record

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"

	"google.golang.org/protobuf/encoding/protowire"
)

// A SegmentInfo as this package writes it, beginning with its tag in Segment;
// see docs/format/segment.md for the positions.
const (
	tagInfo = 2<<3 | byte(protowire.BytesType) // Segment.info

	posInfoVersion    = 0
	posInfoCRC        = 5
	posInfoCluster    = 10
	posInfoTopic      = 28
	posInfoPartition  = 46
	posInfoBaseOffset = 51
	posInfoGeneration = 60
	posInfoUUID       = 65
	posInfoKeyID      = 83
	infoSize          = 88

	uuidSize = 16
)

const (
	// SegmentInfoSize is the number of bytes that AppendSegmentInfo appends:
	// the batches of a segment begin after so many.
	SegmentInfoSize = 2 + infoSize
	// FormatVersion is the version of the format that this package writes, and
	// the greatest that it reads.
	FormatVersion = 1
)

// SegmentInfo describes a segment; millstream.v1.SegmentInfo says what the
// fields mean. Format version, checksum and segment_uuid follow from the rest.
type SegmentInfo struct {
	ClusterID       [16]byte
	TopicID         TopicID
	Partition       PartitionID
	BaseOffset      Offset
	CleanGeneration uint32
	KeyID           uint32
}

// UUID returns the identity of the segment: the first 16 bytes of the SHA-256
// of topic id, partition, base offset and clean generation (integers little
// endian), marked as a UUID of version 8. Every replica derives the same.
func (s *SegmentInfo) UUID() [16]byte {
	var b [16 + 4 + 8 + 4]byte
	copy(b[:], s.TopicID[:])
	binary.LittleEndian.PutUint32(b[16:], uint32(s.Partition))
	binary.LittleEndian.PutUint64(b[20:], uint64(s.BaseOffset))
	binary.LittleEndian.PutUint32(b[28:], s.CleanGeneration)
	sum := sha256.Sum256(b[:])
	u := [uuidSize]byte(sum[:uuidSize])
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u
}

// AppendSegmentInfo appends s as the `info` field of a Segment:
// SegmentInfoSize bytes.
func AppendSegmentInfo(dst []byte, s *SegmentInfo) []byte {
	dst = append(dst, tagInfo, infoSize)
	start := len(dst)
	dst = append(dst, infoFrame[:]...)
	m := dst[start:]
	le := binary.LittleEndian
	le.PutUint32(m[posInfoVersion+1:], FormatVersion)
	copy(m[posInfoCluster+2:], s.ClusterID[:])
	copy(m[posInfoTopic+2:], s.TopicID[:])
	le.PutUint32(m[posInfoPartition+1:], uint32(s.Partition))
	le.PutUint64(m[posInfoBaseOffset+1:], uint64(s.BaseOffset))
	le.PutUint32(m[posInfoGeneration+1:], s.CleanGeneration)
	uuid := s.UUID()
	copy(m[posInfoUUID+2:], uuid[:])
	le.PutUint32(m[posInfoKeyID+1:], s.KeyID)
	le.PutUint32(m[posInfoCRC+1:], infoCRC(m))
	return dst
}

// ParseSegmentInfo reads the `info` field that a segment begins with. size is
// its number of bytes, tag and length included. The error is ErrShort, a
// *CorruptInfoError, or a *UnsupportedVersionError, which is not damage.
func ParseSegmentInfo(b []byte) (s SegmentInfo, size int, err error) {
	// The version is looked at before anything that a later version may have
	// changed, so that a later version is never called damage.
	if len(b) > 0 && b[0] != tagInfo {
		return SegmentInfo{}, 0, &CorruptInfoError{Why: "the file does not begin with a segment info"}
	}
	var length uint64
	n := 0
	if len(b) > 0 {
		length, n = protowire.ConsumeVarint(b[1:])
	}
	if n <= 0 || len(b) < 1+n+posInfoCRC {
		if len(b) > maxLenSize+posInfoCRC {
			return SegmentInfo{}, 0, &CorruptInfoError{Why: "no length"}
		}
		return SegmentInfo{}, 0, ErrShort
	}
	le := binary.LittleEndian
	version := le.Uint32(b[1+n+posInfoVersion+1:])
	switch {
	case b[1+n] != infoFrame[posInfoVersion]:
		return SegmentInfo{}, 0, &CorruptInfoError{Why: "the info does not begin with a format version"}
	case version == 0:
		return SegmentInfo{}, 0, &CorruptInfoError{Why: "format version 0"}
	case version > FormatVersion:
		return SegmentInfo{}, 0, &UnsupportedVersionError{Got: version, Max: FormatVersion}
	case n != 1 || length != infoSize:
		return SegmentInfo{}, 0, &CorruptInfoError{Why: "wrong length"}
	case len(b) < SegmentInfoSize:
		return SegmentInfo{}, 0, ErrShort
	}
	m := b[2:SegmentInfoSize]
	if le.Uint32(m[posInfoCRC+1:]) != infoCRC(m) {
		return SegmentInfo{}, 0, &CorruptInfoError{Why: "wrong checksum"}
	}
	for _, p := range infoTags {
		if m[p] != infoFrame[p] {
			return SegmentInfo{}, 0, &CorruptInfoError{Why: "unknown layout"}
		}
	}
	s = SegmentInfo{
		ClusterID:       [16]byte(m[posInfoCluster+2:]),
		TopicID:         TopicID(m[posInfoTopic+2:]),
		Partition:       PartitionID(le.Uint32(m[posInfoPartition+1:])),
		BaseOffset:      Offset(le.Uint64(m[posInfoBaseOffset+1:])),
		CleanGeneration: le.Uint32(m[posInfoGeneration+1:]),
		KeyID:           le.Uint32(m[posInfoKeyID+1:]),
	}
	if s.BaseOffset < 0 {
		return SegmentInfo{}, 0, &CorruptInfoError{Why: "negative base offset"}
	}
	if s.UUID() != [uuidSize]byte(m[posInfoUUID+2:]) {
		return SegmentInfo{}, 0, &CorruptInfoError{Why: "segment uuid does not follow from the rest"}
	}
	return s, SegmentInfoSize, nil
}

func infoCRC(m []byte) uint32 {
	crc := crc32.Update(0, castagnoli, m[:posInfoCRC])
	return crc32.Update(crc, castagnoli, m[posInfoCluster:])
}

// infoFrame holds the tags and lengths of a SegmentInfo at their places.
var infoFrame = [infoSize]byte{
	posInfoVersion:     1<<3 | byte(protowire.Fixed32Type),
	posInfoCRC:         2<<3 | byte(protowire.Fixed32Type),
	posInfoCluster:     3<<3 | byte(protowire.BytesType),
	posInfoCluster + 1: uuidSize,
	posInfoTopic:       4<<3 | byte(protowire.BytesType),
	posInfoTopic + 1:   uuidSize,
	posInfoPartition:   5<<3 | byte(protowire.Fixed32Type),
	posInfoBaseOffset:  6<<3 | byte(protowire.Fixed64Type),
	posInfoGeneration:  7<<3 | byte(protowire.Fixed32Type),
	posInfoUUID:        8<<3 | byte(protowire.BytesType),
	posInfoUUID + 1:    uuidSize,
	posInfoKeyID:       9<<3 | byte(protowire.Fixed32Type),
}

// infoTags are the places of infoFrame that are not zero.
var infoTags = [...]int{
	posInfoVersion, posInfoCRC, posInfoCluster, posInfoCluster + 1, posInfoTopic, posInfoTopic + 1,
	posInfoPartition, posInfoBaseOffset, posInfoGeneration, posInfoUUID, posInfoUUID + 1, posInfoKeyID,
}
