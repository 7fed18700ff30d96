package wire

import (
	"bytes"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

var sampleError = &pb.RequestError{
	Code: 9, Reason: pb.ErrorReason(1), Message: "no", Retryable: true,
	Detail: &pb.RequestError_Limit{Limit: &pb.LimitViolation{Limit: "max.batch.bytes"}},
}

var sampleLeader = &pb.LeaderHint{}

func TestProduceResponseIsAsGenerated(t *testing.T) {
	for name, c := range map[string]struct {
		r    ProduceResponse
		want *pb.ProduceResponse
	}{
		"empty": {ProduceResponse{}, &pb.ProduceResponse{}},
		"an everyday ack": {
			ProduceResponse{
				CorrelationID: 7, Partition: 3, HasBaseOffset: true, BaseOffset: 1 << 40, LeaderEpoch: 5,
				HasAck: true, Ack: Ack{Scope: pb.AckScope_ACK_SCOPE_ISR, Medium: pb.AckMedium_ACK_MEDIUM_DISK, InSyncReplicas: 3},
			},
			&pb.ProduceResponse{
				CorrelationId: 7, Partition: 3, BaseOffset: proto.Int64(1 << 40), LeaderEpoch: 5,
				Ack: &pb.Ack{Scope: pb.AckScope_ACK_SCOPE_ISR, Medium: pb.AckMedium_ACK_MEDIUM_DISK, InSyncReplicas: 3},
			},
		},
		"offset 0 and an ack of nothing": {
			ProduceResponse{HasBaseOffset: true, HasAck: true},
			&pb.ProduceResponse{BaseOffset: proto.Int64(0), Ack: &pb.Ack{}},
		},
		"greatest values": {
			ProduceResponse{
				CorrelationID: math.MaxUint64, Partition: math.MaxUint32, HasBaseOffset: true, BaseOffset: math.MaxInt64,
				LeaderEpoch: math.MaxInt32, HasAck: true, Ack: Ack{InSyncReplicas: math.MaxUint32}, ThrottleMs: math.MaxUint32,
			},
			&pb.ProduceResponse{
				CorrelationId: math.MaxUint64, Partition: math.MaxUint32, BaseOffset: proto.Int64(math.MaxInt64),
				LeaderEpoch: math.MaxInt32, Ack: &pb.Ack{InSyncReplicas: math.MaxUint32}, ThrottleMs: math.MaxUint32,
			},
		},
		"failed": {
			ProduceResponse{CorrelationID: 1, Error: sampleError, Leader: sampleLeader, ThrottleMs: 9},
			&pb.ProduceResponse{CorrelationId: 1, Error: sampleError, Leader: sampleLeader, ThrottleMs: 9},
		},
		"split": {
			ProduceResponse{CorrelationID: 1, Parts: []ProducePart{
				{Partition: 300, HasBaseOffset: true, BaseOffset: 5, Records: []uint32{0, 1, 127, 128, 70_000}},
				{Records: []uint32{2}, Error: sampleError},
				{},
			}},
			&pb.ProduceResponse{CorrelationId: 1, Parts: []*pb.ProducePart{
				{Partition: 300, BaseOffset: proto.Int64(5), Records: []uint32{0, 1, 127, 128, 70_000}},
				{Records: []uint32{2}, Error: sampleError},
				{},
			}},
		},
		"drain": {
			ProduceResponse{Drain: &pb.Drain{DeadlineMs: 3000}},
			&pb.ProduceResponse{Control: &pb.ProduceResponse_Drain{Drain: &pb.Drain{DeadlineMs: 3000}}},
		},
		"reroute": {
			ProduceResponse{Reroute: &pb.Reroute{Topic: "t", Partition: 1, Leader: sampleLeader}},
			&pb.ProduceResponse{Control: &pb.ProduceResponse_Reroute{Reroute: &pb.Reroute{Topic: "t", Partition: 1, Leader: sampleLeader}}},
		},
	} {
		sameBytes(t, name, AppendProduceResponse([]byte("x"), &c.r)[1:], c.want)
		var back pb.ProduceResponse
		if err := proto.Unmarshal(AppendProduceResponse(nil, &c.r), &back); err != nil || !proto.Equal(&back, c.want) {
			t.Errorf("%s: read back as %v, %v", name, &back, err)
		}
	}
}

// sameBytes compares with the generated encoding, fields in their order.
func sameBytes(t *testing.T, name string, got []byte, m proto.Message) {
	t.Helper()
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: encoded as\n%x\ngenerated code writes\n%x", name, got, want)
	}
}

// An error whose words cannot be sent is sent without them: a request must be
// answered.
func TestErrorThatIsNotUTF8(t *testing.T) {
	bad := &pb.RequestError{Code: 3, Message: "topic \xff", Retryable: true}
	want := &pb.RequestError{Code: 3, Retryable: true}
	r := ProduceResponse{CorrelationID: 4, Error: bad, Parts: []ProducePart{{Partition: 1, Error: bad}}}
	sameBytes(t, "bad words", AppendProduceResponse(nil, &r), &pb.ProduceResponse{
		CorrelationId: 4, Error: want, Parts: []*pb.ProducePart{{Partition: 1, Error: want}},
	})
}

func TestFetchResponseIsAsGenerated(t *testing.T) {
	id := record.TopicID{1, 2, 15: 3}
	for name, c := range map[string]struct {
		r    FetchResponse
		want *pb.FetchResponse
	}{
		"empty": {FetchResponse{}, &pb.FetchResponse{}},
		"first frame": {
			FetchResponse{
				SubscriptionID: 4, Topic: "t", Partition: 3, FirstOffset: 10, NextOffset: 20, HighWatermark: 30, LogStart: 1,
				CreditUsed: 5000, TopicID: id, HasTopicID: true,
			},
			&pb.FetchResponse{
				SubscriptionId: 4, Topic: "t", Partition: 3, FirstOffset: 10, NextOffset: 20, HighWatermark: 30, LogStart: 1,
				CreditUsed: 5000, TopicId: id[:],
			},
		},
		"greatest values": {
			FetchResponse{
				SubscriptionID: math.MaxUint64, Partition: math.MaxUint32, FirstOffset: math.MaxInt64, NextOffset: math.MaxInt64,
				HighWatermark: math.MaxInt64, LogStart: math.MaxInt64, CreditUsed: math.MaxUint32, HasTopicID: true,
				CaughtUp: true, Finished: true,
			},
			&pb.FetchResponse{
				SubscriptionId: math.MaxUint64, Partition: math.MaxUint32, FirstOffset: math.MaxInt64, NextOffset: math.MaxInt64,
				HighWatermark: math.MaxInt64, LogStart: math.MaxInt64, CreditUsed: math.MaxUint32, TopicId: make([]byte, 16),
				Control: &pb.FetchResponse_CaughtUp{CaughtUp: &pb.CaughtUp{Finished: true}},
			},
		},
		"error": {
			FetchResponse{SubscriptionID: 1, Error: sampleError},
			&pb.FetchResponse{SubscriptionId: 1, Control: &pb.FetchResponse_Error{Error: sampleError}},
		},
		"drain": {
			FetchResponse{Drain: &pb.Drain{DeadlineMs: 1}},
			&pb.FetchResponse{Control: &pb.FetchResponse_Drain{Drain: &pb.Drain{DeadlineMs: 1}}},
		},
		"reroute": {
			FetchResponse{Reroute: &pb.Reroute{Topic: "t"}},
			&pb.FetchResponse{Control: &pb.FetchResponse_Reroute{Reroute: &pb.Reroute{Topic: "t"}}},
		},
		"caught up": {
			FetchResponse{NextOffset: 9, CaughtUp: true},
			&pb.FetchResponse{NextOffset: 9, Control: &pb.FetchResponse_CaughtUp{CaughtUp: &pb.CaughtUp{}}},
		},
	} {
		got := AppendFetchResponse(nil, &c.r)
		if name == "greatest values" && len(got) > MaxFetchResponseSize {
			t.Errorf("%d bytes, MaxFetchResponseSize is %d", len(got), MaxFetchResponseSize)
		}
		// The generated code for Go writes oneofs last.
		if c.want.Control == nil || !c.r.HasTopicID {
			sameBytes(t, name, got, c.want)
		}
		var back pb.FetchResponse
		if err := proto.Unmarshal(got, &back); err != nil || !proto.Equal(&back, c.want) || len(got) != proto.Size(c.want) {
			t.Errorf("%s: %d bytes, read back as %v, %v", name, len(got), &back, err)
		}
	}
}

// A frame of batches: bytes of a segment, then the fields.
func TestFetchFrameOfBatches(t *testing.T) {
	batch := record.AppendRecord(nil, &record.Record{Key: []byte("k"), Value: []byte("v")})
	h := record.Header{BaseOffset: 5, Records: 1, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}
	segment := append(record.AppendLogBatchHeader(nil, &h, len(batch), record.UpdateCRC(0, batch)), batch...)
	frame := append(bytes.Clone(segment), segment...)
	frame = AppendFetchResponse(frame, &FetchResponse{SubscriptionID: 1, FirstOffset: 5, NextOffset: 6})

	var got pb.FetchResponse
	if err := proto.Unmarshal(frame, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.GetBatches()) != 2 || got.GetBatches()[0].GetBaseOffset() != 5 || got.GetNextOffset() != 6 ||
		string(got.GetBatches()[1].GetBatch().GetRecords()[0].GetKey()) != "k" {
		t.Fatalf("%v", &got)
	}
	sameBytes(t, "field order", AppendFetchResponse(nil, &FetchResponse{FirstOffset: 5}), &pb.FetchResponse{FirstOffset: 5})
}

func TestFetchedRecordIsAsGenerated(t *testing.T) {
	records := []*record.Record{
		{},
		{Key: []byte{}, Value: []byte{}},
		{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 300), Headers: []record.RecordHeader{
			{Key: []byte("h"), Value: []byte("1")}, {Key: []byte("null")}, {Value: []byte{}}, {},
		}},
	}
	want := &pb.FetchResponse{SubscriptionId: 2, Records: []*pb.FetchedRecord{
		{Offset: 10, TimestampMs: -5, LeaderEpoch: 3},
		{Offset: 11, TimestampMs: -5, LeaderEpoch: 3, Key: []byte{}, Value: []byte{}},
		{Offset: 12, TimestampMs: -5, LeaderEpoch: 3, Key: []byte("k"), Value: bytes.Repeat([]byte("v"), 300), Headers: []*pb.Header{
			{Key: "h", Value: []byte("1")}, {Key: "null"}, {Value: []byte{}}, {},
		}},
	}}
	frame := AppendFetchResponse(nil, &FetchResponse{SubscriptionID: 2})
	for i, r := range records {
		f := FetchedRecord{Offset: record.Offset(10 + i), TimestampMs: -5, LeaderEpoch: 3, Record: r}
		before := len(frame)
		frame = AppendFetchedRecord(frame, &f)
		if len(frame)-before != f.Size() {
			t.Errorf("record %d: %d bytes, Size says %d", i, len(frame)-before, f.Size())
		}
	}
	sameBytes(t, "records", frame, want)
}

func TestEverydayAnswersAllocateNothing(t *testing.T) {
	dst := make([]byte, 0, 1024)
	ack := ProduceResponse{
		CorrelationID: 7, Partition: 3, HasBaseOffset: true, BaseOffset: 1 << 40, LeaderEpoch: 5, HasAck: true,
		Ack:   Ack{Scope: pb.AckScope_ACK_SCOPE_ISR, Medium: pb.AckMedium_ACK_MEDIUM_DISK, InSyncReplicas: 3},
		Parts: []ProducePart{{Partition: 1, HasBaseOffset: true, Records: []uint32{1, 2, 3}}},
	}
	fetch := FetchResponse{SubscriptionID: 4, Topic: "t", FirstOffset: 10, NextOffset: 20, CaughtUp: true, HasTopicID: true}
	rec := FetchedRecord{Offset: 9, Record: &record.Record{Key: []byte("k"), Value: []byte("v")}}
	if n := testing.AllocsPerRun(50, func() {
		dst = AppendProduceResponse(dst[:0], &ack)
		dst = AppendFetchResponse(dst[:0], &fetch)
		dst = AppendFetchedRecord(dst, &rec)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppendProduceResponse(b *testing.B) {
	r := ProduceResponse{
		CorrelationID: 7000, Partition: 3, HasBaseOffset: true, BaseOffset: 1 << 40, LeaderEpoch: 5, HasAck: true,
		Ack: Ack{Scope: pb.AckScope_ACK_SCOPE_ISR, Medium: pb.AckMedium_ACK_MEDIUM_MEMORY, InSyncReplicas: 1},
	}
	dst := make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendProduceResponse(dst[:0], &r)
	}
}

func BenchmarkAppendFetchResponse(b *testing.B) {
	r := FetchResponse{SubscriptionID: 4, Partition: 3, FirstOffset: 1 << 40, NextOffset: 1<<40 + 300, HighWatermark: 1<<40 + 9000, CreditUsed: 1 << 20}
	dst := make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendFetchResponse(dst[:0], &r)
	}
}

func TestALeaderIsAppendedToAFrame(t *testing.T) {
	b := AppendFetchResponse(nil, &FetchResponse{SubscriptionID: 3, NextOffset: 7})
	b = AppendFetchLeader(b, &pb.LeaderHint{BrokerId: 2, Address: "b:1", LeaderEpoch: 5})
	want := &pb.FetchResponse{SubscriptionId: 3, NextOffset: 7, Leader: &pb.LeaderHint{BrokerId: 2, Address: "b:1", LeaderEpoch: 5}}
	var got pb.FetchResponse
	if err := proto.Unmarshal(b, &got); err != nil || !proto.Equal(&got, want) {
		t.Errorf("got %v, %v; want %v", &got, err, want)
	}
	if b := AppendFetchLeader(nil, &pb.LeaderHint{Address: "\xff"}); len(b) != 0 {
		t.Errorf("a hint that cannot be encoded became %x", b)
	}
}
