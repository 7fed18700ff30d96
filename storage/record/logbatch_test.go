package record

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func sampleHeader() Header {
	return Header{
		BaseOffset: 1 << 40, Records: 9, LastOffsetDelta: 8, LeaderEpoch: 7, AppendTimeMs: 1_700_000_000_000,
		MaxTimestampMs: 1_700_000_000_123, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1,
		Attributes: AppendTime, CommittedEnd: 1<<40 - 3, PrevSequence: 4, PartitioningEpoch: 5, CoordinatorEpoch: 6,
	}
}

func sampleLogBatch() (Header, []byte, []byte) {
	h := sampleHeader()
	batch := encodeAll(sampleRecords())
	whole := append(AppendLogBatchHeader(nil, &h, len(batch), UpdateCRC(0, batch)), batch...)
	return h, batch, whole
}

func compareHeader(t *testing.T, h *Header, m *pb.LogBatch) {
	t.Helper()
	got := &pb.LogBatch{
		BaseOffset: int64(h.BaseOffset), RecordCount: h.Records, LastOffsetDelta: h.LastOffsetDelta,
		LeaderEpoch: int32(h.LeaderEpoch), AppendTimeMs: h.AppendTimeMs, MaxTimestampMs: h.MaxTimestampMs,
		ProducerId: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence,
		Attributes: uint32(h.Attributes), Crc32C: h.CRC, CommittedEnd: int64(h.CommittedEnd),
		PrevSequence: h.PrevSequence, PartitioningEpoch: h.PartitioningEpoch, CoordinatorEpoch: h.CoordinatorEpoch,
	}
	want := proto.CloneOf(m)
	want.Batch, want.Origin = nil, nil
	want.ProtoReflect().SetUnknown(nil)
	// Absent means "none" to us and zero to the generated code.
	if want.GetProducerId() == 0 && got.GetProducerId() == -1 {
		got.ProducerId = 0
	}
	if want.GetProducerEpoch() == 0 && got.GetProducerEpoch() == -1 {
		got.ProducerEpoch = 0
	}
	if want.GetBaseSequence() == 0 && got.GetBaseSequence() == -1 {
		got.BaseSequence = 0
	}
	if !proto.Equal(got, want) {
		t.Fatalf("header %v, generated code reads %v", got, want)
	}
}

// reencode gives a LogBatch the order of fields in which generated code writes
// it, with the checksum that this order has.
func reencode(t testing.TB, whole []byte) []byte {
	t.Helper()
	var m pb.Segment
	if err := proto.Unmarshal(whole, &m); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time with the checksum of the first
		b, err := proto.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		var corrupt *CorruptBatchError
		if err := VerifyCRC(b); errors.As(err, &corrupt) {
			m.Batches[0].Crc32C = corrupt.Computed
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		return b
	}
	t.Fatal("no checksum fits")
	return nil
}

func TestLogBatchIsReadByGeneratedCode(t *testing.T) {
	h, batch, whole := sampleLogBatch()
	var m pb.Segment
	if err := proto.Unmarshal(whole, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.GetBatches()) != 1 {
		t.Fatalf("%d batches", len(m.GetBatches()))
	}
	compareHeader(t, &h, m.GetBatches()[0])
	var want pb.RecordBatch
	if err := proto.Unmarshal(batch, &want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(m.GetBatches()[0].GetBatch(), &want) {
		t.Fatal("the producer's batch differs")
	}
}

func TestLogBatchRoundTrip(t *testing.T) {
	h, batch, whole := sampleLogBatch()
	tail := append(bytes.Clone(whole), 0xff, 0xff)
	got, gotBatch, size, err := ParseLogBatch(tail)
	if err != nil || got != h || !bytes.Equal(gotBatch, batch) || size != len(whole) {
		t.Fatalf("parsed %+v, %d bytes, %v", got, size, err)
	}
	if err := VerifyCRC(tail); err != nil {
		t.Fatal(err)
	}
	if got, size, err := PeekLogBatch(whole[:MaxHeaderSize]); err != nil || got != h || size != len(whole) {
		t.Fatalf("peeked %+v, %d bytes, %v", got, size, err)
	}
	if h.End() != h.BaseOffset+9 {
		t.Fatalf("end %d", h.End())
	}
}

func TestLogBatchSizes(t *testing.T) {
	// Lengths of one to four bytes, on both sides of each step.
	for _, n := range []int{0, 1, 29, 30, 127, 128, 16_284, 16_285, 16_383, 16_384, 2_097_151, 2_097_152, MaxBatchBytes} {
		batch := make([]byte, n)
		h := sampleHeader()
		head := AppendLogBatchHeader(nil, &h, n, UpdateCRC(0, batch))
		if len(head) > MaxHeaderSize {
			t.Fatalf("batch of %d bytes: header of %d", n, len(head))
		}
		whole := join(head, batch)
		got, gotBatch, size, err := ParseLogBatch(whole)
		if err != nil || got != h || len(gotBatch) != n || size != len(whole) {
			t.Fatalf("batch of %d bytes: %+v %d %v", n, got, size, err)
		}
		if err := VerifyCRC(whole); err != nil {
			t.Fatalf("batch of %d bytes: %v", n, err)
		}
	}
}

func TestLogBatchInAnotherOrderOfFields(t *testing.T) {
	h, batch, whole := sampleLogBatch()
	other := reencode(t, whole)
	if bytes.Equal(other, whole) {
		t.Fatal("the order is the same")
	}
	got, gotBatch, size, err := ParseLogBatch(other)
	h.CRC = got.CRC // differs with the order
	if err != nil || got != h || size != len(other) {
		t.Fatalf("parsed %+v, %d bytes, %v", got, size, err)
	}
	var a, b pb.RecordBatch
	if proto.Unmarshal(gotBatch, &a) != nil || proto.Unmarshal(batch, &b) != nil || !proto.Equal(&a, &b) {
		t.Fatal("the batch differs")
	}
	// There the batch comes before the last field, so that a peek needs all.
	if _, size, err := PeekLogBatch(other[:MaxHeaderSize]); !errors.Is(err, ErrShort) || size != len(other) {
		t.Fatalf("peek: size %d, %v", size, err)
	}
	if got2, _, err := PeekLogBatch(other); err != nil || got2 != got {
		t.Fatalf("peek: %+v, %v", got2, err)
	}
}

// The header can grow: a field that this version does not know, ours to come
// or the user's, is passed over and covered by the checksum.
func TestLogBatchWithAFieldOfALaterVersion(t *testing.T) {
	h, batch, whole := sampleLogBatch()
	content, _, err := fieldFrame(whole)
	if err != nil {
		t.Fatal(err)
	}
	extra := protowire.AppendTag(nil, 18, protowire.BytesType)
	extra = protowire.AppendBytes(extra, []byte("later"))
	m := append(bytes.Clone(whole[content:content+headerSize]), extra...)
	m = append(m, whole[content+headerSize:]...)
	later := protowire.AppendBytes([]byte{tagBatches}, m)
	var corrupt *CorruptBatchError
	if err := VerifyCRC(later); !errors.As(err, &corrupt) || corrupt.BaseOffset != h.BaseOffset {
		t.Fatalf("the checksum does not cover the new field: %v", err)
	}
	got, gotBatch, size, err := ParseLogBatch(later)
	if err != nil || got != h || !bytes.Equal(gotBatch, batch) || size != len(later) {
		t.Fatalf("parsed %+v, %d bytes, %v", got, size, err)
	}
}

func TestLogBatchCutAnywhereIsShort(t *testing.T) {
	_, _, whole := sampleLogBatch()
	for n := range len(whole) {
		if _, _, size, err := ParseLogBatch(whole[:n]); !errors.Is(err, ErrShort) || (size != 0 && size != len(whole)) {
			t.Fatalf("first %d bytes: size %d, %v", n, size, err)
		}
		if err := VerifyCRC(whole[:n]); !errors.Is(err, ErrShort) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
		_, size, err := PeekLogBatch(whole[:n])
		if err != nil && !errors.Is(err, ErrShort) {
			t.Fatalf("peek at the first %d bytes: %v", n, err)
		}
		if err == nil && size != len(whole) {
			t.Fatalf("peek at the first %d bytes: size %d", n, size)
		}
	}
}

func TestLogBatchEveryFlippedBitIsFound(t *testing.T) {
	_, _, whole := sampleLogBatch()
	for i := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[i/8] ^= 1 << (i % 8)
		err := VerifyCRC(b)
		var corrupt *CorruptBatchError
		if !errors.As(err, &corrupt) && !errors.Is(err, ErrShort) {
			t.Fatalf("bit %d of byte %d: %v", i%8, i/8, err)
		}
		if errors.Is(err, ErrShort) && i/8 > 4 {
			t.Fatalf("bit %d of byte %d is taken for a torn tail", i%8, i/8)
		}
	}
}

func TestLogBatchImpossibleHeaders(t *testing.T) {
	for name, change := range map[string]func(*Header){
		"negative base offset":       func(h *Header) { h.BaseOffset = -1 },
		"impossible delta":           func(h *Header) { h.LastOffsetDelta = 1 << 31 },
		"offsets beyond 2^63":        func(h *Header) { h.BaseOffset, h.LastOffsetDelta = 1<<63-1, 0 },
		"negative leader epoch":      func(h *Header) { h.LeaderEpoch = -1 },
		"offsets just beyond 2^63":   func(h *Header) { h.BaseOffset, h.LastOffsetDelta = 1<<63-10, 9 },
		"offsets far beyond 2^63":    func(h *Header) { h.BaseOffset, h.LastOffsetDelta = 1<<63-10, 1<<31-1 },
		"base offset most negative":  func(h *Header) { h.BaseOffset = -1 << 63 },
		"leader epoch most negative": func(h *Header) { h.LeaderEpoch = -1 << 31 },
	} {
		h := sampleHeader()
		change(&h)
		var corrupt *CorruptBatchError
		if _, _, _, err := ParseLogBatch(AppendLogBatchHeader(nil, &h, 0, 0)); !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLogBatchGarbage(t *testing.T) {
	for name, b := range map[string][]byte{
		"zeros":                  make([]byte, 200),
		"length beyond the most": {tagBatches, 0xff, 0xff, 0xff, 0x7f},
		"length of five bytes":   {tagBatches, 0x80, 0x80, 0x80, 0x80, 0x01},
		"length not minimal":     {tagBatches, 0x85, 0x00, 1, 2, 3, 4, 5},
		"another field":          {tagInfo, 0x01, 0x00},
		"no header":              {tagBatches, 0x02, tagBatch, 0x00},
		"a group":                {tagBatches, 0x02, 0x0b, 0x0c},
		"batch beyond its field": {tagBatches, 0x02, tagBatch, 0x01},
		"a header field twice":   append([]byte{tagBatches, 18}, bytes.Repeat([]byte{0x09, 0, 0, 0, 0, 0, 0, 0, 0}, 2)...),
	} {
		var corrupt *CorruptBatchError
		if _, _, _, err := ParseLogBatch(b); !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := PeekLogBatch(b); !errors.As(err, &corrupt) {
			t.Errorf("%s: peek: %v", name, err)
		}
	}
}

func TestIteratorOffsetsAndTimes(t *testing.T) {
	type seen struct {
		Offset Offset
		TimeMs int64
	}
	rs := []Record{
		{Value: []byte("a"), TimestampMs: 50, HasTimestamp: true},
		{Value: []byte("b")},
		{Value: []byte("c"), OffsetDelta: 7},
	}
	for name, c := range map[string]struct {
		attributes Attributes
		want       []seen
	}{
		"dense":       {0, []seen{{100, 50}, {101, 900}, {102, 900}}},
		"sparse":      {Sparse, []seen{{100, 50}, {100, 900}, {107, 900}}},
		"append time": {AppendTime, []seen{{100, 900}, {101, 900}, {102, 900}}},
	} {
		h := Header{BaseOffset: 100, AppendTimeMs: 900, Attributes: c.attributes}
		var (
			it  Iterator
			got []seen
		)
		for it.ResetLogBatch(&h, encodeAll(rs)); it.Next(); {
			got = append(got, seen{it.Offset(), it.TimestampMs()})
		}
		if diff := cmp.Diff(c.want, got); diff != "" || it.Err() != nil {
			t.Errorf("%s: %v\n%s", name, it.Err(), diff)
		}
	}
}
