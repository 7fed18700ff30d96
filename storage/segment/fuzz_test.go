package segment_test

import (
	"bytes"
	"testing"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

var fuzzInfo = record.SegmentInfo{ClusterID: [16]byte{1}, TopicID: record.TopicID{2}, Partition: 3, BaseOffset: 9}

// FuzzIndex: any bytes as an index file are an error, or an index that is
// written again as the same bytes.
func FuzzIndex(f *testing.F) {
	f.Add(segment.AppendIndex(nil, &fuzzInfo, &segment.Index{
		End:    segment.Point{Position: 500, Offset: 12, Epoch: 4, MaxTimestampMs: 7},
		Epochs: []segment.EpochStart{{Epoch: 1, Offset: 9}, {Epoch: 4, Offset: 11}},
	}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := segment.ParseIndex(b, &fuzzInfo)
		if err != nil {
			return
		}
		if again := segment.AppendIndex(nil, &fuzzInfo, x); !bytes.Equal(again, b) {
			t.Errorf("written again as %x", again)
		}
	})
}

// fuzzBatch is a valid batch.
func fuzzBatch(base, committed record.Offset, value string) []byte {
	b := record.AppendRecord(nil, &record.Record{Value: []byte(value)})
	h := record.Header{BaseOffset: base, Records: 1, LeaderEpoch: 1, CommittedEnd: committed}
	return append(record.AppendLogBatchHeader(nil, &h, len(b), record.UpdateCRC(0, b)), b...)
}

// FuzzScan: any bytes as a tail are read to their first bad batch, and searched
// behind it, in bounded time and memory.
func FuzzScan(f *testing.F) {
	good := fuzzBatch(0, 0, "a")
	f.Add(append(bytes.Clone(good), fuzzBatch(1, 1, "b")...))
	f.Add(append(append(bytes.Clone(good), make([]byte, 50)...), fuzzBatch(9, 5, "c")...))
	f.Add(append(bytes.Clone(good), good...))
	f.Add(good[:len(good)-1])
	f.Add(bytes.Repeat([]byte{0x0a, 0x09, 0x09}, 300))
	// A record that looks like a batch.
	f.Add(fuzzBatch(0, 0, string(fuzzBatch(5, 4, "inner"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		from := segment.Point{Epoch: segment.NoEpoch}
		scan := segment.NewScanner(bytes.NewReader(b), "fuzz", from, int64(len(b)))
		end := record.Offset(0)
		for scan.Next() {
			if h := scan.Header(); h.BaseOffset != end || record.VerifyCRC(scan.Bytes()) != nil {
				t.Fatalf("batch at %d is not valid: %+v", scan.Position(), h)
			}
			end = scan.Point().Offset
		}
		switch bad := scan.Bad(); {
		case bad == nil && scan.Point().Position != int64(len(b)):
			t.Fatalf("stopped at %d of %d without a reason", scan.Point().Position, len(b))
		case bad != nil:
			if committed, sure := scan.CommittedAfter(); sure && committed < 0 {
				t.Fatalf("committed end %d", committed)
			}
		}
	})
}

// TestRecordThatLooksLikeABatch: what a producer wrote into a record is not
// taken for a batch behind a torn one, as long as the torn one's length leads
// on to a batch.
func TestRecordThatLooksLikeABatch(t *testing.T) {
	inner := string(fuzzBatch(5, 4, "inner"))
	first := fuzzBatch(0, 0, inner)
	b := append(bytes.Clone(first), fuzzBatch(1, 0, "next")...)
	b[len(first)-1] ^= 1
	scan := segment.NewScanner(bytes.NewReader(b), "test", segment.Point{Epoch: segment.NoEpoch}, int64(len(b)))
	if scan.Next() {
		t.Fatal("a changed batch is valid")
	}
	if end, sure := scan.CommittedAfter(); end != 0 || !sure {
		t.Errorf("committed end %d, %v", end, sure)
	}
}

// TestSearchBehindABadBatchIsBounded: bytes made to look like batches over and
// over do not make recovery take for ever; it says that it gave up.
func TestSearchBehindABadBatchIsBounded(t *testing.T) {
	// Each byte begins what may be a batch of almost 4 MiB.
	b := make([]byte, 0, 4<<20)
	for len(b) < 1<<20 {
		b = append(b, fuzzBatch(record.Offset(len(b)+1), 0, "x")[:100]...)
		// Claim a length that reaches far.
		at := len(b) - 100
		huge := record.AppendLogBatchHeader(nil, &record.Header{BaseOffset: record.Offset(at + 1), Records: 1, LeaderEpoch: 1}, 3<<20, 0)
		b = append(b[:at], huge...)
	}
	b = b[:cap(b)]
	scan := segment.NewScanner(bytes.NewReader(b), "test", segment.Point{Epoch: segment.NoEpoch}, int64(len(b)))
	if scan.Next() {
		t.Fatal("a batch with a wrong checksum is valid")
	}
	if end, sure := scan.CommittedAfter(); end != 0 || sure {
		t.Errorf("committed end %d, sure %v", end, sure)
	}
}
