package wire

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

// fullRequest sets every field.
func fullRequest() *pb.ProduceRequest {
	return &pb.ProduceRequest{
		CorrelationId: 1 << 60, Topic: "orders-größe", Partition: proto.Uint32(7),
		Batch: &pb.RecordBatch{Records: []*pb.Record{{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 300)}}},
		Acks:  pb.Acks_ACKS_LEADER, BatchCrc32C: proto.Uint32(0xdeadbeef), Restart: true,
		TopicId: []byte("0123456789abcdef"), ProducerId: proto.Int64(-1), ProducerEpoch: proto.Int32(-1),
		BaseSequence: proto.Int32(3), ExpectedEnd: proto.Int64(1 << 50), TransactionalId: "t", NoForward: true,
		MinRevision: 12,
	}
}

func mustMarshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// inPieces cuts b into pieces of n bytes.
func inPieces(b []byte, n int) record.Pieces {
	var p record.Pieces
	for len(b) > n {
		p, b = append(p, b[:n:n]), b[n:]
	}
	return append(p, b)
}

// generated returns the request as the generated type, to be compared.
func (r *ProduceRequest) generated(t testing.TB) *pb.ProduceRequest {
	t.Helper()
	m := &pb.ProduceRequest{
		CorrelationId: r.CorrelationID, Topic: string(r.Topic), Acks: r.Acks, Restart: r.Restart,
		TransactionalId: string(r.TransactionalID), NoForward: r.NoForward, MinRevision: r.MinRevision,
	}
	if r.HasPartition {
		m.Partition = proto.Uint32(uint32(r.Partition))
	}
	if r.HasBatch {
		m.Batch = &pb.RecordBatch{}
		if err := proto.Unmarshal(r.Batch.AppendTo(nil), m.Batch); err != nil {
			t.Fatal(err)
		}
	}
	if r.HasBatchCRC {
		m.BatchCrc32C = &r.BatchCRC
	}
	if r.HasTopicID {
		m.TopicId = r.TopicID[:]
	}
	if r.Has(FieldProducerID) {
		m.ProducerId = &r.ProducerID
	}
	if r.Has(FieldProducerEpoch) {
		m.ProducerEpoch = &r.ProducerEpoch
	}
	if r.Has(FieldBaseSequence) {
		m.BaseSequence = &r.BaseSequence
	}
	if r.Has(FieldExpectedEnd) {
		m.ExpectedEnd = &r.ExpectedEnd
	}
	if r.HasLeaderEpoch {
		m.LeaderEpoch = proto.Int32(int32(r.LeaderEpoch))
	}
	return m
}

func TestParseReadsEveryField(t *testing.T) {
	want := fullRequest()
	b := mustMarshal(t, want)
	var r ProduceRequest
	for n := 1; n <= len(b); n++ {
		if err := r.ParsePieces(inPieces(b, n)); err != nil {
			t.Fatalf("pieces of %d bytes: %v", n, err)
		}
		if got := r.generated(t); !proto.Equal(got, want) {
			t.Fatalf("pieces of %d bytes: %v, want %v", n, got, want)
		}
	}
}

func TestParseTakesBuffersOfTheTransport(t *testing.T) {
	want := fullRequest()
	b := mustMarshal(t, want)
	msg := mem.BufferSlice{mem.SliceBuffer(b[:10]), mem.SliceBuffer(b[10:])}
	var r ProduceRequest
	if err := r.Parse(msg); err != nil {
		t.Fatal(err)
	}
	if got := r.generated(t); !proto.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
}

func TestParseForgetsTheRequestBefore(t *testing.T) {
	var r ProduceRequest
	if err := r.ParsePieces(inPieces(mustMarshal(t, fullRequest()), 3)); err != nil {
		t.Fatal(err)
	}
	if err := r.ParsePieces(nil); err != nil {
		t.Fatal(err)
	}
	if got := r.generated(t); !proto.Equal(got, &pb.ProduceRequest{}) {
		t.Fatalf("%v is left", got)
	}
	if r.ReservedField() != "" {
		t.Fatalf("%s is left", r.ReservedField())
	}
}

func TestReleaseKeepsNothingBorrowed(t *testing.T) {
	var r ProduceRequest
	b := mustMarshal(t, fullRequest())
	for _, n := range []int{len(b), 7} {
		if err := r.Parse(mem.BufferSlice{mem.SliceBuffer(b[:n]), mem.SliceBuffer(b[n:])}); err != nil {
			t.Fatal(err)
		}
		r.Release()
		if !proto.Equal(r.generated(t), &pb.ProduceRequest{}) {
			t.Fatalf("%v is left", r.generated(t))
		}
		for _, p := range append(r.pieces[:cap(r.pieces)], r.Batch[:cap(r.Batch)]...) {
			if p != nil {
				t.Fatal("a piece is still held")
			}
		}
	}
	// A request of very many pieces does not make those after it expensive.
	if err := r.ParsePieces(inPieces(bytes.Repeat(varintField(1000, 1), 10), 1)); err != nil {
		t.Fatal(err)
	}
	r.pieces = make(record.Pieces, keptPieces+1)
	if r.Release(); cap(r.pieces) != 0 {
		t.Fatal("many pieces are kept")
	}
}

func TestBatchIsBorrowedNotCopied(t *testing.T) {
	b := mustMarshal(t, fullRequest())
	var r ProduceRequest
	if err := r.ParsePieces(record.Pieces{b}); err != nil {
		t.Fatal(err)
	}
	if len(r.Batch) != 1 || &r.Batch[0][0] != &b[bytes.Index(b, r.Batch[0])] {
		t.Fatal("the batch was copied")
	}
}

func TestReservedFields(t *testing.T) {
	for want, m := range map[string]*pb.ProduceRequest{
		"":                 {Topic: "t", Partition: proto.Uint32(0)},
		"producer_id":      {ProducerId: proto.Int64(0)},
		"producer_epoch":   {ProducerEpoch: proto.Int32(0)},
		"base_sequence":    {BaseSequence: proto.Int32(-1)},
		"expected_end":     {ExpectedEnd: proto.Int64(0)},
		"transactional_id": {TransactionalId: "x"},
	} {
		var r ProduceRequest
		if err := r.ParsePieces(record.Pieces{mustMarshal(t, m)}); err != nil {
			t.Fatal(err)
		}
		if got := r.ReservedField(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func varintField(num protowire.Number, x uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), x)
}

func bytesField(num protowire.Number, b string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), b)
}

func TestMalformedRequests(t *testing.T) {
	good := mustMarshal(t, &pb.ProduceRequest{CorrelationId: 5, Topic: "t"})
	for name, c := range map[string]struct {
		bytes []byte
		field string
	}{
		"garbage":                    {[]byte("\xff\xff\xff\xff\xff\xff"), ""},
		"tag overlong":               {[]byte{0x88, 0x00, 0x01}, ""},
		"tag above 32 bits":          {append(protowire.AppendVarint(nil, 1<<32|8), 1), ""},
		"group":                      {[]byte{0x0b, 0x0c}, ""},
		"cut":                        {good[:len(good)-1], "topic"},
		"batch as varint":            {varintField(4, 1), "batch"},
		"batch twice":                {append(bytesField(4, ""), bytesField(4, "")...), "batch"},
		"topic twice":                {append(bytesField(2, "a"), bytesField(2, "b")...), "topic"},
		"correlation twice":          {append(varintField(1, 1), varintField(1, 1)...), "correlation_id"},
		"topic is not UTF-8":         {bytesField(2, "\xff"), "topic"},
		"transaction is not UTF-8":   {bytesField(13, "\xff"), "transactional_id"},
		"partition 2^32":             {varintField(3, 1<<32), "partition"},
		"acks out of range":          {varintField(5, 1<<32), "acks"},
		"epoch out of range":         {varintField(10, 1<<31), "producer_epoch"},
		"restart 2":                  {varintField(7, 2), "restart"},
		"no_forward 2^32":            {varintField(14, 1<<32), "no_forward"},
		"crc as varint":              {varintField(6, 1), "batch_crc32c"},
		"crc cut":                    {[]byte{6<<3 | 5, 1, 2}, "batch_crc32c"},
		"user field cut":             {protowire.AppendTag(nil, 1000, protowire.Fixed64Type), ""},
		"varint overlong":            {[]byte{0x08, 0x81, 0x00}, "correlation_id"},
		"length beyond the message":  {[]byte{0x12, 0x05, 't'}, "topic"},
		"garbage behind unsupported": {append(varintField(17, 1), 0xff), ""},
	} {
		var r ProduceRequest
		var malformed *MalformedError
		if err := r.ParsePieces(inPieces(c.bytes, 2)); !errors.As(err, &malformed) || malformed.Field != c.field || malformed.Error() == "" {
			t.Errorf("%s: %v, want field %q", name, err, c.field)
		}
	}
}

// What is refused for its meaning is read to its end, so that the answer can
// name the request and its partition.
func TestRefusedRequestsCanBeAnswered(t *testing.T) {
	rest := mustMarshal(t, &pb.ProduceRequest{CorrelationId: 5, Topic: "t", Partition: proto.Uint32(3)})
	for name, c := range map[string]struct {
		field []byte
		want  error
	}{
		"unknown field":     {varintField(17, 1), &UnsupportedFieldError{Message: "ProduceRequest", Number: 17}},
		"unknown 999":       {bytesField(999, "x"), &UnsupportedFieldError{Message: "ProduceRequest", Number: 999}},
		"unknown acks":      {varintField(5, 4), &InvalidValueError{Field: "acks", Why: "not a value of Acks"}},
		"negative acks":     {varintField(5, 1<<64-1), &InvalidValueError{Field: "acks", Why: "not a value of Acks"}},
		"topic id too long": {bytesField(8, "0123456789abcdef0"), &InvalidValueError{Field: "topic_id", Why: "not 16 bytes"}},
	} {
		var r ProduceRequest
		err := r.ParsePieces(record.Pieces{c.field, rest})
		if err == nil || err.Error() != c.want.Error() || r.CorrelationID != 5 || string(r.Topic) != "t" || r.Partition != 3 {
			t.Errorf("%s: %v, want %v; read %+v", name, err, c.want, r.generated(t))
		}
	}
}

func TestUserFieldsArePassedOver(t *testing.T) {
	b := append(bytesField(1000, "\x0b\xff"), mustMarshal(t, fullRequest())...)
	b = append(b, varintField(protowire.MaxValidNumber, 1)...)
	var r ProduceRequest
	if err := r.ParsePieces(inPieces(b, 4)); err != nil || !proto.Equal(r.generated(t), fullRequest()) {
		t.Fatalf("%v", err)
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	p := inPieces(mustMarshal(t, fullRequest()), 16)
	var r ProduceRequest
	if n := testing.AllocsPerRun(50, func() {
		if err := r.ParsePieces(p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParseProduceRequest: what Parse accepts, the generated code accepts with
// equal content, and the answer does not depend on where the pieces are cut.
func FuzzParseProduceRequest(f *testing.F) {
	f.Add(mustMarshal(f, fullRequest()), uint16(3))
	f.Add(append(varintField(1000, 5), bytesField(2, "t")...), uint16(1))
	f.Add(varintField(5, 9), uint16(1))
	f.Add(varintField(16, 0), uint16(1)) // there, and zero
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		var whole, cutUp ProduceRequest
		err := whole.ParsePieces(record.Pieces{b})
		err2 := cutUp.ParsePieces(inPieces(b, 1+int(cut)))
		if (err == nil) != (err2 == nil) || (err != nil && err.Error() != err2.Error()) {
			t.Fatalf("in one piece %v, in pieces %v", err, err2)
		}
		var malformed *MalformedError
		if errors.As(err, &malformed) {
			return
		}
		// Also what is refused for its meaning is read alike.
		var want pb.ProduceRequest
		if err := proto.Unmarshal(b, &want); err != nil {
			var v record.Validator
			if _, verr := v.Validate(whole.Batch, record.Limits{}); verr == nil || !whole.HasBatch {
				t.Fatalf("the generated code refuses: %v", err)
			}
			return
		}
		want.ProtoReflect().SetUnknown(nil)
		if err != nil { // which need not be the only thing that was refused
			want.Acks, want.TopicId = whole.Acks, whole.generated(t).TopicId
		}
		if len(want.GetTopicId()) == 0 {
			want.TopicId = nil
		}
		for _, r := range []*ProduceRequest{&whole, &cutUp} {
			if got := r.generated(t); !proto.Equal(got, &want) {
				t.Fatalf("read %v, generated code %v", got, &want)
			}
		}
	})
}

func BenchmarkParseProduceRequest(b *testing.B) {
	m := fullRequest()
	m.Batch.Records[0].Value = make([]byte, 256<<10)
	p := inPieces(mustMarshal(b, m), 16<<10)
	var r ProduceRequest
	b.ReportAllocs()
	for b.Loop() {
		if err := r.ParsePieces(p); err != nil {
			b.Fatal(err)
		}
	}
}
