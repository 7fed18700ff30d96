package wire

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

// keyedRecords are n records with keys that repeat, some without key, some
// with an empty one, and of forms that generated code does not write.
func keyedRecords(n int) (b []byte, keys []string) {
	for i := range n {
		r := record.Record{Value: fmt.Appendf(nil, "value %d %s", i, bytes.Repeat([]byte("x"), i%40))}
		key := fmt.Sprintf("key %d", i%13)
		switch i % 7 {
		case 3:
			key = "none"
		case 5:
			key, r.Key = "", []byte{}
		default:
			r.Key = []byte(key)
		}
		if i%5 == 0 {
			r.Headers = []record.RecordHeader{{Key: []byte("h"), Value: []byte("1")}}
			r.TimestampMs, r.HasTimestamp = int64(i), true
		}
		if i%11 == 4 && r.Key != nil {
			// The value before the key.
			content := append(bytesField(2, string(r.Value)), bytesField(1, string(r.Key))...)
			b = append(b, bytesField(1, string(content))...)
		} else {
			b = record.AppendRecord(b, &r)
		}
		keys = append(keys, key)
	}
	return b, keys
}

func TestSplitByKey(t *testing.T) {
	const partitions, keyless = 5, 4
	batch, keys := keyedRecords(500)
	var whole pb.RecordBatch
	if err := proto.Unmarshal(batch, &whole); err != nil {
		t.Fatal(err)
	}
	var s Splitter
	for _, n := range []int{1, 7, 100, 16 << 10} {
		if err := s.Split(inPieces(batch, n), partitions, keyless); err != nil {
			t.Fatal(err)
		}
		seen := map[uint32]bool{}
		for i, p := range s.Parts() {
			b := s.AppendPart([]byte("before"), i)[len("before"):]
			if len(b) != p.Bytes {
				t.Fatalf("part %d has %d bytes, said %d", i, len(b), p.Bytes)
			}
			var part pb.RecordBatch
			if err := proto.Unmarshal(b, &part); err != nil {
				t.Fatal(err)
			}
			if len(part.GetRecords()) != len(p.Records) || !slices.IsSorted(p.Records) {
				t.Fatalf("part %d: %d records, indexes %v", i, len(part.GetRecords()), p.Records)
			}
			for k, index := range p.Records {
				want := record.PartitionForKey([]byte(keys[index]), partitions)
				if keys[index] == "none" {
					want = keyless
				}
				if p.Partition != want || seen[index] || !proto.Equal(part.GetRecords()[k], whole.GetRecords()[index]) {
					t.Fatalf("pieces of %d bytes: record %d with key %q is in partition %d, want %d", n, index, keys[index], p.Partition, want)
				}
				seen[index] = true
			}
		}
		if len(seen) != len(keys) {
			t.Fatalf("%d of %d records are in a part", len(seen), len(keys))
		}
		if s.Parts()[0].Records[0] != 0 {
			t.Fatal("the first part lacks the first record")
		}
	}
}

func TestSplitToOnePartition(t *testing.T) {
	batch, _ := keyedRecords(40)
	var s Splitter
	if err := s.Split(inPieces(batch, 50), 1, 0); err != nil {
		t.Fatal(err)
	}
	if len(s.Parts()) != 1 || s.Parts()[0].Bytes != len(batch) || !bytes.Equal(s.AppendPart(nil, 0), batch) {
		t.Fatalf("%+v", s.Parts())
	}
}

// What every part would have to repeat is refused rather than lost; what only
// says again what is counted is left out.
func TestSplitOfFieldsBesideTheRecords(t *testing.T) {
	plain := record.AppendRecord(nil, &record.Record{Key: []byte("k")})
	var s Splitter
	var unsupported *UnsupportedFieldError
	if err := s.Split(record.Pieces{plain, bytesField(1000, "x")}, 3, 0); !errors.As(err, &unsupported) || unsupported.Number != 1000 {
		t.Fatalf("%v", err)
	}
	if err := s.Split(record.Pieces{varintField(2, 0), plain, varintField(4, 1)}, 3, 0); err != nil {
		t.Fatal(err)
	}
	if got := s.AppendPart(nil, 0); !bytes.Equal(got, plain) {
		t.Fatalf("%x", got)
	}
	// After a refusal nothing is left of it.
	if err := s.Split(record.Pieces{plain}, 3, 0); err != nil || len(s.Parts()) != 1 || len(s.Parts()[0].Records) != 1 {
		t.Fatalf("%+v, %v", s.Parts(), err)
	}
}

// The last field of a batch is an empty key, and an empty piece follows: an
// empty key is a key all the same.
func TestSplitEmptyKeyAtTheEnd(t *testing.T) {
	b := bytesField(1, string(append(bytesField(2, "v"), bytesField(1, "")...)))
	var s Splitter
	if err := s.Split(record.Pieces{b[:len(b)-1], b[len(b)-1:], nil}, 100, 99); err != nil {
		t.Fatal(err)
	}
	if want := record.PartitionForKey(nil, 100); s.Parts()[0].Partition != want {
		t.Fatalf("partition %d, want %d", s.Parts()[0].Partition, want)
	}
}

func TestSplitAllocatesNothing(t *testing.T) {
	batch, _ := keyedRecords(500)
	p := inPieces(batch, 1000)
	var s Splitter
	dst := make([]byte, 0, len(batch))
	if n := testing.AllocsPerRun(20, func() {
		if err := s.Split(p, 8, 0); err != nil {
			t.Fatal(err)
		}
		for i := range s.Parts() {
			dst = s.AppendPart(dst[:0], i)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSplitterKeepsLittle(t *testing.T) {
	tiny := bytes.Repeat([]byte{0x0a, 0x00}, keptRecords+1)
	var s Splitter
	if err := s.Split(record.Pieces{tiny}, 3, 1); err != nil {
		t.Fatal(err)
	}
	if len(s.Parts()) != 1 || len(s.Parts()[0].Records) != keptRecords+1 {
		t.Fatal("records are missing")
	}
	s.Release()
	if cap(s.places) != 0 || cap(s.order) != 0 || s.batch != nil {
		t.Fatal("buffers of a rare batch are kept")
	}
}

func BenchmarkSplit(b *testing.B) {
	r := record.Record{Value: bytes.Repeat([]byte("v"), 100)}
	var batch []byte
	records := 0
	for len(batch) < 256<<10 {
		r.Key = fmt.Appendf(r.Key[:0], "key-%d", records%1000)
		batch = record.AppendRecord(batch, &r)
		records++
	}
	p := inPieces(batch, 16<<10)
	var s Splitter
	dst := make([]byte, 0, len(batch))
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Split(p, 8, 0); err != nil {
			b.Fatal(err)
		}
		for i := range s.Parts() {
			dst = s.AppendPart(dst[:0], i)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(records), "ns/record")
}
