package record

import (
	"bytes"
	"os"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// The golden segment of format version 1: every version of this package reads
// it, and as long as FormatVersion is 1 writes the same bytes.
const (
	goldenSegment = "testdata/segment-v1.log"
	goldenText    = "testdata/segment-v1.txtpb"
)

// goldenHeaders are the headers of the batches in the golden segment, and how
// each is compressed.
func goldenHeaders() []Header {
	dense := Header{
		BaseOffset: 1 << 40, Records: 9, LastOffsetDelta: 8, LeaderEpoch: 7, AppendTimeMs: 1_700_000_000_500,
		MaxTimestampMs: 1_700_000_000_123, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1,
		CommittedEnd: 1<<40 - 3,
	}
	packed := dense
	packed.BaseOffset += 9
	packed.AppendTimeMs++
	packed.CommittedEnd += 9
	packed.LeaderEpoch++
	packed.Attributes = Attributes(0).WithCompression(Zstd)
	full := packed
	full.BaseOffset += 9
	full.ProducerID, full.ProducerEpoch, full.BaseSequence, full.PrevSequence = 1<<50, 3, 42, 41
	full.PartitioningEpoch, full.CoordinatorEpoch = 2, 1
	full.Attributes = AppendTime | Transactional
	return []Header{dense, packed, full}
}

// writeGolden writes the segment anew, around these batches.
func writeGolden(batches [][]byte) []byte {
	info := sampleInfo()
	b := AppendSegmentInfo(nil, &info)
	for i, h := range goldenHeaders() {
		b = AppendLogBatchHeader(b, &h, len(batches[i]), UpdateCRC(0, batches[i]))
		b = append(b, batches[i]...)
	}
	return b
}

func TestGoldenSegment(t *testing.T) {
	if *update {
		updateGolden(t)
	}
	b, err := os.ReadFile(goldenSegment)
	if err != nil {
		t.Fatal(err)
	}
	info, size, err := ParseSegmentInfo(b)
	if err != nil || info != sampleInfo() {
		t.Fatalf("info %+v, %v", info, err)
	}
	var batches [][]byte
	for rest := b[size:]; len(rest) > 0; rest = rest[size:] {
		var (
			h     Header
			batch []byte
		)
		if err := VerifyCRC(rest); err != nil {
			t.Fatal(err)
		}
		if h, batch, size, err = ParseLogBatch(rest); err != nil {
			t.Fatal(err)
		}
		want := goldenHeaders()[len(batches)]
		if want.CRC = h.CRC; h != want {
			t.Fatalf("batch %d: %+v, want %+v", len(batches), h, want)
		}
		var v Validator
		sum, err := v.Validate(Pieces{batch}, Limits{})
		if err != nil || sum.Records != h.Records || sum.Compression != h.Attributes.Compression() {
			t.Fatalf("batch %d: %+v, %v", len(batches), sum, err)
		}
		batches = append(batches, batch)
	}
	if len(batches) != len(goldenHeaders()) {
		t.Fatalf("%d batches", len(batches))
	}
	if again := writeGolden(batches); !bytes.Equal(again, b) {
		t.Fatal("the same segment is written otherwise now")
	}
}

func goldenMessage(t *testing.T) *pb.Segment {
	t.Helper()
	text, err := os.ReadFile(goldenText)
	if err != nil {
		t.Fatal(err)
	}
	var want pb.Segment
	if err := prototext.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	return &want
}

func TestGoldenSegmentIsReadByGeneratedCode(t *testing.T) {
	b, err := os.ReadFile(goldenSegment)
	if err != nil {
		t.Fatal(err)
	}
	var got pb.Segment
	if err := proto.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(&got, goldenMessage(t)) {
		t.Fatalf("read as\n%s", prototext.Format(&got))
	}
}

func TestGoldenSegmentIsReadByProtoc(t *testing.T) {
	needs(t, "protoc", "--version")
	var got pb.Segment
	protocDecode(t, goldenSegment, &got)
	if !proto.Equal(&got, goldenMessage(t)) {
		t.Fatalf("read as\n%s", prototext.Format(&got))
	}
}

func updateGolden(t *testing.T) {
	t.Helper()
	all := encodeAll(sampleRecords())
	b := writeGolden([][]byte{all, mustCompress(t, Zstd, all, 9), all})
	var m pb.Segment
	if err := proto.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenSegment, b, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenText, []byte(prototext.Format(&m)), 0o644); err != nil {
		t.Fatal(err)
	}
}
