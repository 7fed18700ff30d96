package record

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func validate(b []byte, lim Limits) (Summary, error) {
	var v Validator
	return v.Validate(Pieces{b}, lim)
}

func refusal(t *testing.T, b []byte, lim Limits) *InvalidBatchError {
	t.Helper()
	_, err := validate(b, lim)
	var invalid *InvalidBatchError
	if !errors.As(err, &invalid) {
		t.Fatalf("not refused: %v", err)
	}
	return invalid
}

func TestSummary(t *testing.T) {
	stamped := func(ms int64) Record { return Record{TimestampMs: ms, HasTimestamp: true} }
	bare := Record{Value: []byte("v")}
	for name, c := range map[string]struct {
		records []Record
		want    Summary
	}{
		"no timestamps":      {[]Record{bare, bare}, Summary{Records: 2}},
		"all timestamps":     {[]Record{stamped(3), stamped(9), stamped(4)}, Summary{Records: 3, MaxTimestampMs: 9, HasTimestamp: true, AllTimestamps: true}},
		"some timestamps":    {[]Record{stamped(3), bare}, Summary{Records: 2, MaxTimestampMs: 3, HasTimestamp: true}},
		"before 1970":        {[]Record{stamped(-3), stamped(-9)}, Summary{Records: 2, MaxTimestampMs: -3, HasTimestamp: true, AllTimestamps: true}},
		"at 1970 and before": {[]Record{stamped(-3), stamped(0)}, Summary{Records: 2, HasTimestamp: true, AllTimestamps: true}},
	} {
		raw := encodeAll(c.records)
		for _, k := range []Compression{None, Zstd, LZ4, Snappy} {
			b := raw
			if k != None {
				b = mustCompress(t, k, raw, uint32(len(c.records)))
			}
			want := c.want
			want.Compression, want.CRC, want.Bytes = k, UpdateCRC(0, b), len(b)
			if got, err := validate(b, Limits{}); err != nil || got != want {
				t.Errorf("%s, %s: %+v, %v; want %+v", name, k, got, err, want)
			}
		}
	}
}

func TestLimits(t *testing.T) {
	value := bytes.Repeat([]byte("v"), 1000)
	b := encodeAll([]Record{{Value: value}, {Value: value}})
	size := (&Record{Value: value}).Size()
	packed := mustCompress(t, Zstd, b, 2)

	if _, err := validate(b, Limits{MaxBatchBytes: len(b), MaxRecordBytes: size}); err != nil {
		t.Errorf("exactly at the limits: %v", err)
	}
	if _, err := validate(packed, Limits{MaxDecompressedBytes: len(b)}); err != nil {
		t.Errorf("exactly at the limit: %v", err)
	}
	for name, c := range map[string]struct {
		batch []byte
		lim   Limits
		want  InvalidBatchError
	}{
		"batch": {b, Limits{MaxBatchBytes: len(b) - 1}, InvalidBatchError{
			Kind: BatchTooLarge, Field: "batch", Limit: int64(len(b) - 1), Actual: int64(len(b)),
		}},
		"record": {b, Limits{MaxRecordBytes: size - 1}, InvalidBatchError{
			Kind: RecordTooLarge, Field: "batch.records[0]", Limit: int64(size - 1), Actual: int64(size),
		}},
		"record inside": {packed, Limits{MaxRecordBytes: size - 1}, InvalidBatchError{
			Kind: RecordTooLarge, Field: "batch.records[0]", Limit: int64(size - 1), Actual: int64(size),
		}},
		"decompressed": {packed, Limits{MaxDecompressedBytes: len(b) - 1}, InvalidBatchError{
			Kind: DecompressedTooLarge, Field: "batch.compressed", Limit: int64(len(b) - 1), Actual: int64(len(b)),
		}},
	} {
		if got := refusal(t, c.batch, c.lim); *got != c.want {
			t.Errorf("%s: %+v, want %+v", name, *got, c.want)
		}
	}
}

// Whatever is asked for, nothing is accepted above the greatest limits.
func TestLimitsHaveLimits(t *testing.T) {
	huge := Limits{MaxBatchBytes: 1 << 40, MaxRecordBytes: 1 << 40, MaxDecompressedBytes: 1 << 40}
	for name, c := range map[string]struct {
		batch []byte
		kind  Kind
	}{
		"batch":        {make([]byte, MaxBatchBytes+1), BatchTooLarge},
		"record":       {AppendRecord(nil, &Record{Value: make([]byte, MaxRecordBytes)}), RecordTooLarge},
		"decompressed": {mustCompress(t, LZ4, bombOf(MaxDecompressedBytes), 17), DecompressedTooLarge},
	} {
		if got := refusal(t, c.batch, huge); got.Kind != c.kind {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRefusalNamesTheRecord(t *testing.T) {
	good := AppendRecord(nil, &Record{Value: []byte("v")})
	bad := recordOf(bytesField(3, bytesField(1, str("\xff"))))
	batch := join(bytes.Repeat(good, 41), bad, good)
	for _, b := range [][]byte{batch, mustCompress(t, Snappy, batch, 43)} {
		got := refusal(t, b, Limits{})
		if got.Kind != NotUTF8 || got.Field != "batch.records[41].headers.key" {
			t.Errorf("%v", got)
		}
	}
}

func TestRefusalSaysWhatItCounted(t *testing.T) {
	b := mustCompress(t, Zstd, encodeAll(sampleRecords()), 8)
	got := refusal(t, b, Limits{})
	if got.Kind != WrongCount || got.Limit != 8 || got.Actual != 9 || got.Error() != "batch.record_count: wrong record count: 8 said, 9 found" {
		t.Errorf("%v", got)
	}
}

// The checksum is there also when the batch is refused: the caller tells bytes
// that were damaged on their way from a producer that writes wrong ones.
func TestRefusalKeepsTheChecksum(t *testing.T) {
	b := []byte("garbage that is no batch")
	if sum, err := validate(b, Limits{}); err == nil || sum.CRC != UpdateCRC(0, b) || sum.Bytes != len(b) {
		t.Errorf("%+v, %v", sum, err)
	}
}

// A validator that has refused a batch knows nothing of it at the next.
func TestValidatorIsReused(t *testing.T) {
	var v Validator
	good := Pieces{encodeAll(sampleRecords())}
	want, err := v.Validate(good, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range corpusCases(t) {
		_, _ = v.Validate(Pieces{c.bytes}, Limits{MaxRecordBytes: 100})
		if got, err := v.Validate(good, Limits{}); err != nil || got != want {
			t.Fatalf("after %s: %+v, %v", c.name, got, err)
		}
	}
}

func TestValidatorKeepsNothingBorrowed(t *testing.T) {
	var v Validator
	if _, err := v.Validate(inPieces(mustCompress(t, Zstd, encodeAll(sampleRecords()), 9), 5), Limits{}); err != nil {
		t.Fatal(err)
	}
	for _, p := range v.packed[:cap(v.packed)] {
		if p != nil {
			t.Fatal("a piece is still held")
		}
	}
	if v.one[0] != nil || v.cur.b != nil || v.cur.rest != nil {
		t.Fatal("bytes are still held")
	}
}

// A record as long as records may be lies in many pieces; nothing of it is
// copied to check it.
func TestLargeRecordInManyPieces(t *testing.T) {
	r := Record{Key: []byte("k"), Headers: []RecordHeader{{Key: []byte(strings.Repeat("é", 20_000)), Value: []byte("x")}}}
	r.Value = make([]byte, MaxRecordBytes-r.Size()-5)
	b := AppendRecord(nil, &r)
	var v Validator
	for _, n := range []int{1, 7, 1024, 16 << 10} {
		if sum, err := v.Validate(inPieces(b, n), Limits{}); err != nil || sum.Records != 1 {
			t.Fatalf("pieces of %d bytes: %+v, %v", n, sum, err)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	rs := sampleRecords()
	raw := encodeAll(rs)
	var big []byte
	for range 100 {
		big = append(big, raw...)
	}
	user := bytes.Repeat(recordOf(bytesField(1, str("k")), varintField(1000, 1)), 300)
	for name, p := range map[string]Pieces{
		"one piece":   {big},
		"pieces":      inPieces(big, 100),
		"user fields": {user},
	} {
		var v Validator
		if n := testing.AllocsPerRun(20, func() {
			if _, err := v.Validate(p, Limits{}); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("validate %s: %v allocations", name, n)
		}
	}
	for _, c := range []Compression{None, Zstd, LZ4, Snappy} {
		b := big
		if c != None {
			b = mustCompress(t, c, big, uint32(100*len(rs)))
		}
		var (
			v  Validator
			it Iterator
		)
		p := inPieces(b, 1000)
		run := func() {
			if _, err := v.Validate(p, Limits{}); err != nil {
				t.Fatal(err)
			}
			for it.Reset(b); it.Next(); {
			}
		}
		if n := testing.AllocsPerRun(20, run); n != 0 {
			t.Errorf("%s: %v allocations", c, n)
		}
	}
}

func TestReadingALogBatchAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	h, batch, whole := sampleLogBatch()
	dst := make([]byte, 0, MaxHeaderSize)
	crc := UpdateCRC(0, batch)
	if n := testing.AllocsPerRun(50, func() {
		dst = AppendLogBatchHeader(dst[:0], &h, len(batch), crc)
		if _, _, _, err := ParseLogBatch(whole); err != nil {
			t.Fatal(err)
		}
		if _, _, err := PeekLogBatch(whole); err != nil {
			t.Fatal(err)
		}
		if err := VerifyCRC(whole); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
