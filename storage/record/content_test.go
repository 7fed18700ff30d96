package record

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// batchContent is what a batch says, in the form of testdata/corpus/manifest.json:
// the form in which other languages are asked for the same.
type batchContent struct {
	Compression uint32          `json:"compression"`
	Compressed  string          `json:"compressed"` // hexadecimal
	RecordCount uint32          `json:"record_count"`
	Records     []recordContent `json:"records"`
}

type recordContent struct {
	Key         *string         `json:"key"`   // hexadecimal; null: absent
	Value       *string         `json:"value"` // hexadecimal; null: absent
	Headers     []headerContent `json:"headers"`
	TimestampMs *string         `json:"timestamp_ms"` // decimal; null: absent
}

type headerContent struct {
	Key   string  `json:"key"`   // hexadecimal
	Value *string `json:"value"` // hexadecimal; null: absent
}

func hexOrNil(b []byte) *string {
	if b == nil {
		return nil
	}
	s := hex.EncodeToString(b)
	return &s
}

// generatedContent is what the generated code makes of a batch.
func generatedContent(b []byte) (*batchContent, error) {
	var m pb.RecordBatch
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, err
	}
	c := &batchContent{
		Compression: uint32(m.GetCompression()), Compressed: hex.EncodeToString(m.GetCompressed()),
		RecordCount: m.GetRecordCount(), Records: []recordContent{},
	}
	for _, r := range m.GetRecords() {
		rc := recordContent{Key: hexOrNil(r.GetKey()), Value: hexOrNil(r.GetValue()), Headers: []headerContent{}}
		if r.TimestampMs != nil {
			s := strconv.FormatInt(r.GetTimestampMs(), 10)
			rc.TimestampMs = &s
		}
		if r.GetOffsetDelta() != 0 {
			return nil, fmt.Errorf("offset delta %d", r.GetOffsetDelta())
		}
		for _, h := range r.GetHeaders() {
			rc.Headers = append(rc.Headers, headerContent{Key: hex.EncodeToString([]byte(h.GetKey())), Value: hexOrNil(h.GetValue())})
		}
		c.Records = append(c.Records, rc)
	}
	return c, nil
}

// iteratedContent is what Iterator makes of the records of a batch.
func iteratedContent(it *Iterator, b []byte) ([]recordContent, error) {
	rs := []recordContent{}
	for it.Reset(b); it.Next(); {
		r := it.Record()
		rc := recordContent{Key: hexOrNil(r.Key), Value: hexOrNil(r.Value), Headers: []headerContent{}}
		if r.HasTimestamp {
			s := strconv.FormatInt(r.TimestampMs, 10)
			rc.TimestampMs = &s
		}
		for _, h := range r.Headers {
			rc.Headers = append(rc.Headers, headerContent{Key: hex.EncodeToString(h.Key), Value: hexOrNil(h.Value)})
		}
		rs = append(rs, rc)
	}
	return rs, it.Err()
}

// inPieces cuts b into pieces of n bytes, with an empty one among them.
func inPieces(b []byte, n int) Pieces {
	p := Pieces{}
	for len(b) > n {
		p = append(p, b[:n:n])
		b = b[n:]
		if len(p) == 2 {
			p = append(p, nil)
		}
	}
	return append(p, b, nil)
}

// sampleRecords are records of every shape.
func sampleRecords() []Record {
	return []Record{
		{Key: []byte("key"), Value: []byte("value")},
		{Value: []byte("no key")},
		{Key: []byte("tombstone")},
		{Key: []byte{}, Value: []byte{}},
		{},
		{Value: bytes.Repeat([]byte("long "), 300), TimestampMs: 1_700_000_000_123, HasTimestamp: true},
		{TimestampMs: 0, HasTimestamp: true},
		{TimestampMs: -5, HasTimestamp: true},
		{Key: []byte("k"), Headers: []RecordHeader{
			{Key: []byte("trace"), Value: []byte{0, 1, 2}},
			{Key: []byte("trace"), Value: nil},
			{Key: []byte("größe"), Value: []byte{}},
			{Key: nil, Value: []byte("nameless")},
			{},
		}},
	}
}

func encodeAll(rs []Record) []byte {
	var b []byte
	for i := range rs {
		b = AppendRecord(b, &rs[i])
	}
	return b
}

func mustCompress(t testing.TB, c Compression, records []byte, count uint32) []byte {
	t.Helper()
	b, err := AppendCompressedBatch(nil, c, records, count)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
