package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// FuzzValidate: what the Validator accepts, the generated code accepts with
// equal content, and so does Iterator; and the answer does not depend on where
// the pieces are cut.
func FuzzValidate(f *testing.F) {
	for _, c := range corpusCases(f) {
		f.Add(c.bytes, uint16(7))
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		checkVerdict(t, b, int(cut))
	})
}

// checkVerdict holds the property of FuzzValidate against one batch.
func checkVerdict(t *testing.T, b []byte, cut int) {
	t.Helper()
	var v Validator
	sum, err := v.Validate(Pieces{b}, Limits{})
	for _, n := range []int{1, 2, 3, 1 + cut, 1 + len(b)/2} {
		sum2, err2 := v.Validate(inPieces(b, n), Limits{})
		if sum2 != sum && err == nil {
			t.Fatalf("pieces of %d bytes: %+v, in one %+v", n, sum2, sum)
		}
		if diff := cmp.Diff(describe(err), describe(err2)); diff != "" {
			t.Fatalf("pieces of %d bytes: %s", n, diff)
		}
	}
	var invalid *InvalidBatchError
	if err != nil {
		if !errors.As(err, &invalid) || invalid.Kind == 0 || invalid.Field == "" || invalid.Error() == "" {
			t.Fatalf("untyped refusal %#v", err)
		}
		return
	}
	checkAccepted(t, b, sum)
}

func describe(err error) string {
	if err == nil {
		return "accepted"
	}
	return err.Error()
}

// checkAccepted compares what the validator counted, the generated code and
// Iterator make of an accepted batch.
func checkAccepted(t *testing.T, b []byte, sum Summary) {
	t.Helper()
	outer, err := generatedContent(b)
	if err != nil {
		t.Fatalf("the generated code refuses what we accept: %v", err)
	}
	if Compression(outer.Compression) != sum.Compression {
		t.Fatalf("compression %d, generated code says %d", sum.Compression, outer.Compression)
	}
	records := outer.Records
	if sum.Compression != None {
		packed, _ := hex.DecodeString(outer.Compressed)
		inner, err := Decompress(nil, packed, sum.Compression, MaxDecompressedBytes)
		if err != nil {
			t.Fatal(err)
		}
		in, err := generatedContent(inner)
		if err != nil {
			t.Fatalf("the generated code refuses the inside of what we accept: %v", err)
		}
		if in.Compressed != "" || in.Compression != 0 || in.RecordCount != 0 || len(outer.Records) != 0 {
			t.Fatalf("compressed batch holds %+v in %+v", in, outer)
		}
		if int(outer.RecordCount) != len(in.Records) {
			t.Fatalf("record_count %d of %d records", outer.RecordCount, len(in.Records))
		}
		records = in.Records
	}
	if len(records) != int(sum.Records) {
		t.Fatalf("counted %d records, generated code has %d", sum.Records, len(records))
	}
	var it Iterator
	iterated, err := iteratedContent(&it, b)
	if err != nil {
		t.Fatalf("iterator: %v", err)
	}
	if diff := cmp.Diff(records, iterated); diff != "" {
		t.Fatalf("iterator differs from the generated code:\n%s", diff)
	}
	checkTimes(t, &it, b, sum)
	if sum.CRC != UpdateCRC(0, b) || sum.Bytes != len(b) {
		t.Fatalf("crc or size of %+v", sum)
	}
}

func checkTimes(t *testing.T, it *Iterator, b []byte, sum Summary) {
	t.Helper()
	want := Summary{AllTimestamps: true}
	for it.Reset(b); it.Next(); {
		r := it.Record()
		if !r.HasTimestamp {
			want.AllTimestamps = false
			continue
		}
		if !want.HasTimestamp || r.TimestampMs > want.MaxTimestampMs {
			want.MaxTimestampMs = r.TimestampMs
		}
		want.HasTimestamp = true
	}
	if want.AllTimestamps != sum.AllTimestamps || want.HasTimestamp != sum.HasTimestamp || want.MaxTimestampMs != sum.MaxTimestampMs {
		t.Fatalf("timestamps %+v, want %+v", sum, want)
	}
}

// FuzzParseLogBatch: never a panic; what has a good checksum, the generated
// code reads with the same header; Peek agrees with Parse.
func FuzzParseLogBatch(f *testing.F) {
	h := sampleHeader()
	batch := encodeAll(sampleRecords())
	whole := append(AppendLogBatchHeader(nil, &h, len(batch), UpdateCRC(0, batch)), batch...)
	f.Add(whole)
	f.Add(reencode(f, whole))
	f.Add(whole[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, batch, size, err := ParseLogBatch(b)
		if err := VerifyCRC(b); err == nil && size > len(b) {
			t.Fatal("a checksum of bytes that are not there")
		}
		checkPeek(t, b, h, size, err)
		var corrupt *CorruptBatchError
		switch {
		case errors.Is(err, ErrShort):
			if size != 0 && size <= len(b) {
				t.Fatalf("short, but %d of %d bytes are enough", size, len(b))
			}
			return
		case err != nil:
			if !errors.As(err, &corrupt) || corrupt.Error() == "" {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		var m pb.Segment
		if err := proto.Unmarshal(b[:size], &m); err != nil {
			// In the fixed layout only the batch can be what it refuses.
			var v Validator
			if _, verr := v.Validate(Pieces{batch}, Limits{}); verr == nil && fixedAt(b) {
				t.Fatalf("generated code refuses: %v", err)
			}
			return
		}
		compareHeader(t, &h, m.GetBatches()[0])
	})
}

func checkPeek(t *testing.T, b []byte, h Header, size int, parseErr error) {
	t.Helper()
	h2, size2, err := PeekLogBatch(b)
	if parseErr == nil && (err != nil || h2 != h || size2 != size) {
		t.Fatalf("peek %+v %d %v, parse %+v %d", h2, size2, err, h, size)
	}
	if size > MaxHeaderSize && parseErr == nil && fixedAt(b) {
		if h3, size3, err := PeekLogBatch(b[:MaxHeaderSize]); err != nil || h3 != h || size3 != size {
			t.Fatalf("peek of %d bytes: %+v %d %v", MaxHeaderSize, h3, size3, err)
		}
	}
}

func fixedAt(b []byte) bool {
	content, size, err := fieldFrame(b)
	if err != nil {
		return false
	}
	_, ok := fixedLayout(b[content:size], size-content)
	return ok
}

// FuzzSegmentInfo: never a panic; what is accepted is what would be written.
func FuzzSegmentInfo(f *testing.F) {
	s := sampleInfo()
	f.Add(AppendSegmentInfo(nil, &s))
	f.Add([]byte{tagInfo, 0x80, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, size, err := ParseSegmentInfo(b)
		if err != nil {
			return
		}
		if again := AppendSegmentInfo(nil, &s); !bytes.Equal(again, b[:size]) {
			t.Fatalf("accepted %x, would write %x", b[:size], again)
		}
	})
}

// FuzzDecompress: never a panic, never more than the limit, and what comes out
// goes in again.
func FuzzDecompress(f *testing.F) {
	for _, c := range []Compression{None, Zstd, LZ4, Snappy} {
		for _, src := range [][]byte{nil, []byte("a"), bytes.Repeat([]byte("abcdefgh"), 400)} {
			b, err := Compress(nil, src, c)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, uint8(c))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, c uint8) {
		const limit = 1 << 20
		out, err := Decompress(nil, b, Compression(c), limit)
		if err != nil {
			var invalid *InvalidBatchError
			if !errors.As(err, &invalid) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if len(out) > limit {
			t.Fatalf("%d bytes", len(out))
		}
		packed, err := Compress(nil, out, Compression(c))
		if err != nil {
			t.Fatal(err)
		}
		again, err := Decompress(nil, packed, Compression(c), limit)
		if err != nil || !bytes.Equal(again, out) {
			t.Fatalf("round trip of %d bytes: %v", len(out), err)
		}
	})
}

// FuzzIterator: any bytes at all end in records and an end, or an error.
func FuzzIterator(f *testing.F) {
	for _, c := range corpusCases(f) {
		f.Add(c.bytes, uint32(0))
		f.Add(c.bytes, uint32(Sparse|AppendTime))
	}
	f.Fuzz(func(t *testing.T, b []byte, attributes uint32) {
		h := Header{BaseOffset: 10, Attributes: Attributes(attributes)}
		var (
			it Iterator
			n  int
		)
		for it.ResetLogBatch(&h, b); it.Next(); n++ {
			if it.Offset() < h.BaseOffset {
				t.Fatalf("record %d at offset %d", n, it.Offset())
			}
		}
		var invalid *InvalidBatchError
		if err := it.Err(); err != nil && !errors.Is(err, ErrUndecodable) && !errors.As(err, &invalid) {
			t.Fatalf("untyped error %v", err)
		}
		if it.Next() {
			t.Fatal("a record after the end")
		}
	})
}
