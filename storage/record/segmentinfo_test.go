package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func sampleInfo() SegmentInfo {
	return SegmentInfo{
		ClusterID: [16]byte{1, 2, 3}, TopicID: TopicID{0xaa, 0xbb, 15: 0xcc}, Partition: 3, BaseOffset: 1 << 40,
		CleanGeneration: 2, KeyID: 9,
	}
}

func TestSegmentInfoIsReadByGeneratedCode(t *testing.T) {
	s := sampleInfo()
	b := AppendSegmentInfo(nil, &s)
	if len(b) != SegmentInfoSize {
		t.Fatalf("%d bytes, SegmentInfoSize is %d", len(b), SegmentInfoSize)
	}
	var m pb.Segment
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	uuid := s.UUID()
	want := &pb.SegmentInfo{
		FormatVersion: FormatVersion, Crc32C: m.GetInfo().GetCrc32C(), ClusterId: s.ClusterID[:], TopicId: s.TopicID[:],
		Partition: 3, BaseOffset: 1 << 40, CleanGeneration: 2, SegmentUuid: uuid[:], KeyId: 9,
	}
	if !proto.Equal(m.GetInfo(), want) {
		t.Fatalf("generated code reads %v, want %v", m.GetInfo(), want)
	}
	if len(m.ProtoReflect().GetUnknown())+len(m.GetInfo().ProtoReflect().GetUnknown()) != 0 {
		t.Fatal("unknown fields")
	}
}

func TestSegmentInfoRoundTrip(t *testing.T) {
	for _, s := range []SegmentInfo{{}, sampleInfo()} {
		b := AppendSegmentInfo([]byte{}, &s)
		got, size, err := ParseSegmentInfo(append(b, 1, 2, 3))
		if err != nil || got != s || size != SegmentInfoSize {
			t.Fatalf("parsed %+v, %d bytes, %v", got, size, err)
		}
	}
}

func TestSegmentInfoCutAnywhereIsShort(t *testing.T) {
	s := sampleInfo()
	b := AppendSegmentInfo(nil, &s)
	for n := range len(b) {
		if _, _, err := ParseSegmentInfo(b[:n]); !errors.Is(err, ErrShort) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
}

func TestSegmentInfoEveryFlippedBitIsFound(t *testing.T) {
	s := sampleInfo()
	whole := AppendSegmentInfo(nil, &s)
	for i := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		_, _, err := ParseSegmentInfo(b)
		var (
			corrupt *CorruptInfoError
			version *UnsupportedVersionError
		)
		inVersion := i/8 >= 3 && i/8 < 7
		if !errors.As(err, &corrupt) && (!inVersion || !errors.As(err, &version)) {
			t.Fatalf("bit %d of byte %d: %v", i%8, i/8, err)
		}
	}
}

// A segment of a later version is not called damaged, whatever that version
// has changed behind the version itself.
func TestSegmentInfoOfALaterVersion(t *testing.T) {
	s := sampleInfo()
	later := AppendSegmentInfo(nil, &s)
	binary.LittleEndian.PutUint32(later[3:], 2)
	longer := append([]byte{tagInfo, 0x80, 0x02}, later[2:]...) // a length of two bytes
	for _, b := range [][]byte{later, longer, later[:8]} {
		var version *UnsupportedVersionError
		if _, _, err := ParseSegmentInfo(b); !errors.As(err, &version) || version.Got != 2 || version.Max != FormatVersion {
			t.Fatalf("%v", err)
		}
	}
}

// An info whose checksum is right but whose identity does not follow from its
// other fields is nobody's.
func TestSegmentInfoWithAnotherIdentity(t *testing.T) {
	s := sampleInfo()
	b := AppendSegmentInfo(nil, &s)
	m := b[2:]
	m[posInfoUUID+2] ^= 1
	binary.LittleEndian.PutUint32(m[posInfoCRC+1:], infoCRC(m))
	var corrupt *CorruptInfoError
	if _, _, err := ParseSegmentInfo(b); !errors.As(err, &corrupt) {
		t.Fatal(err)
	}
	other := s
	other.CleanGeneration++
	if s.UUID() == other.UUID() {
		t.Fatal("cleaning does not change the identity")
	}
}

func TestTopicID(t *testing.T) {
	id := TopicID{0xab, 15: 0x01}
	got, err := ParseTopicID(id.String())
	if err != nil || got != id || len(id.String()) != 32 {
		t.Fatalf("%s: %v, %v", id, got, err)
	}
	for _, s := range []string{"", "AB000000000000000000000000000001", "zz000000000000000000000000000001", id.String() + "00"} {
		if _, err := ParseTopicID(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
