package wire

import (
	"errors"
	"hash/crc32"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/millstream-io/millstream/clients/go/internal/faketest"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func TestProduceHeaderAndBatchAreAProduceRequest(t *testing.T) {
	batch, err := proto.Marshal(&pb.RecordBatch{Records: []*pb.Record{{Key: []byte("k"), Value: []byte("v")}}})
	if err != nil {
		t.Fatal(err)
	}
	h := ProduceHeader{
		CorrelationID: 1 << 40, Topic: "orders", TopicID: []byte("0123456789abcdef"), Partition: 300,
		Acks: int32(pb.Acks_ACKS_LEADER), BatchCRC: crc32.Checksum(batch, Castagnoli), Restart: true, MinRevision: 1 << 50,
	}
	message := append(h.AppendTo(nil, len(batch)), batch...)
	if n := len(message) - len(batch); n > h.Size() {
		t.Errorf("header has %d bytes, Size said %d", n, h.Size())
	}
	var got pb.ProduceRequest
	if err := proto.Unmarshal(message, &got); err != nil {
		t.Fatal(err)
	}
	want := &pb.ProduceRequest{
		CorrelationId: h.CorrelationID, Topic: h.Topic, TopicId: h.TopicID, Partition: proto.Uint32(300), Restart: true, MinRevision: 1 << 50,
		Acks: pb.Acks_ACKS_LEADER, BatchCrc32C: proto.Uint32(h.BatchCRC),
		Batch: &pb.RecordBatch{Records: []*pb.Record{{Key: []byte("k"), Value: []byte("v")}}},
	}
	if !proto.Equal(&got, want) {
		t.Errorf("got  %v\nwant %v", &got, want)
	}
}

func TestProduceAnswerIsReadAsTheGeneratedCodeDoes(t *testing.T) {
	for _, m := range []*pb.ProduceResponse{
		{CorrelationId: 9},
		{
			CorrelationId: 9, Partition: 3, BaseOffset: proto.Int64(0), LeaderEpoch: 12, ThrottleMs: 5,
			Ack: &pb.Ack{Scope: pb.AckScope_ACK_SCOPE_ISR, Medium: pb.AckMedium_ACK_MEDIUM_DISK, InSyncReplicas: 3},
		},
		{CorrelationId: 9, Error: &pb.RequestError{Message: "no"}},
		{Control: &pb.ProduceResponse_Drain{Drain: &pb.Drain{DeadlineMs: 1}}},
		{CorrelationId: 9, Parts: []*pb.ProducePart{{Partition: 1}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var a ProduceAnswer
		if err := a.Parse(b); err != nil {
			t.Fatalf("%v: %v", m, err)
		}
		want := ProduceAnswer{
			CorrelationID: m.GetCorrelationId(), Partition: m.GetPartition(), BaseOffset: -1, LeaderEpoch: m.GetLeaderEpoch(),
			Scope: int32(m.GetAck().GetScope()), Medium: int32(m.GetAck().GetMedium()), InSync: m.GetAck().GetInSyncReplicas(),
			ThrottleMs: m.GetThrottleMs(), Unusual: m.GetError() != nil || m.GetDrain() != nil || len(m.GetParts()) > 0,
		}
		if m.BaseOffset != nil {
			want.BaseOffset = m.GetBaseOffset()
		}
		if a != want {
			t.Errorf("%v\ngave %+v\nwant %+v", m, a, want)
		}
	}
}

// stored returns a LogBatch with two records, and its bytes in a
// FetchResponse.
func stored(t testing.TB) (batch, frame []byte) {
	t.Helper()
	records, err := proto.Marshal(&pb.RecordBatch{Records: []*pb.Record{{Value: []byte("a")}, {Value: []byte("b")}}})
	if err != nil {
		t.Fatal(err)
	}
	batch = faketest.Seal(&pb.LogBatch{
		BaseOffset: 40, RecordCount: 2, LastOffsetDelta: 1, LeaderEpoch: 3, AppendTimeMs: 1e12, MaxTimestampMs: 5, ProducerId: -1,
		ProducerEpoch: -1, BaseSequence: -1, CommittedEnd: 39,
	}, records)
	frame = append([]byte{1<<3 | 2, byte(len(batch))}, batch...)
	rest, err := proto.Marshal(&pb.FetchResponse{
		SubscriptionId: 2, Partition: 1, FirstOffset: 41, NextOffset: 42, HighWatermark: 50, LogStart: 4, CreditUsed: 77, Topic: "t",
		TopicId: []byte("0123456789abcdef"), Control: &pb.FetchResponse_CaughtUp{CaughtUp: &pb.CaughtUp{Finished: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return batch, append(frame, rest...)
}

func TestFrameIsReadAsTheGeneratedCodeDoes(t *testing.T) {
	_, message := stored(t)
	var f Frame
	for range 2 { // a frame may be used again
		if err := f.Parse(message); err != nil || f.Damage != nil {
			t.Fatal(err, f.Damage)
		}
	}
	if f.SubscriptionID != 2 || f.Partition != 1 || f.FirstOffset != 41 || f.NextOffset != 42 || f.HighWatermark != 50 ||
		f.LogStart != 4 || f.CreditUsed != 77 || string(f.TopicID) != "0123456789abcdef" {
		t.Errorf("frame is %+v", f)
	}
	if f.Control != ControlCaughtUp || !Finished(f.ControlBytes) {
		t.Errorf("control is %d, finished %v", f.Control, Finished(f.ControlBytes))
	}
	if len(f.Batches) != 1 {
		t.Fatalf("%d batches", len(f.Batches))
	}
	l := &f.Batches[0]
	if l.BaseOffset != 40 || l.Next() != 42 || l.Records != 2 || l.LeaderEpoch != 3 || l.AppendTimeMs != 1e12 || l.Compression() != 0 {
		t.Errorf("batch is %+v", l)
	}
}

func TestEveryFlippedBitOfABatchIsFound(t *testing.T) {
	batch, _ := stored(t)
	for i := range batch {
		for bit := range 8 {
			bad := append([]byte(nil), batch...)
			bad[i] ^= 1 << bit
			var l LogBatch
			err := l.Parse(bad)
			if err == nil {
				t.Fatalf("bit %d of byte %d of %d was not missed", bit, i, len(batch))
			}
			var corrupt *CorruptBatchError
			var malformed *MalformedError
			if !errors.As(err, &corrupt) && !errors.As(err, &malformed) {
				t.Fatalf("byte %d: %T", i, err)
			}
		}
	}
}

func TestDamageKeepsWhatCameBeforeAndTheRestOfTheFrame(t *testing.T) {
	batch, message := stored(t)
	bad := append([]byte(nil), batch...)
	bad[len(bad)-1] ^= 1
	twice := append([]byte{1<<3 | 2, byte(len(batch))}, batch...)
	twice = append(append(twice, 1<<3|2, byte(len(bad))), bad...)
	twice = append(twice, message[2+len(batch):]...)
	var f Frame
	if err := f.Parse(twice); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptBatchError
	if !errors.As(f.Damage, &corrupt) || corrupt.BaseOffset != 40 {
		t.Errorf("damage is %v", f.Damage)
	}
	if len(f.Batches) != 1 || f.SubscriptionID != 2 {
		t.Errorf("%d batches of subscription %d", len(f.Batches), f.SubscriptionID)
	}
}

func FuzzFrame(f *testing.F) {
	_, message := stored(f)
	f.Add(message)
	f.Add([]byte{1<<3 | 2, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var frame Frame
		if frame.Parse(b) != nil {
			return
		}
		var m pb.FetchResponse
		if proto.Unmarshal(b, &m) != nil {
			return // a field inside is malformed, or the generated code is stricter
		}
		if frame.Damage == nil && len(frame.Batches) != len(m.GetBatches()) {
			t.Fatalf("%d batches, the generated code has %d", len(frame.Batches), len(m.GetBatches()))
		}
		if frame.NextOffset != m.GetNextOffset() || frame.SubscriptionID != m.GetSubscriptionId() || frame.CreditUsed != m.GetCreditUsed() {
			t.Fatalf("%+v differs from %v", frame, &m)
		}
	})
}

func FuzzProduceAnswer(f *testing.F) {
	b, err := proto.Marshal(&pb.ProduceResponse{CorrelationId: 9, Partition: 3, BaseOffset: proto.Int64(7), Ack: &pb.Ack{Scope: 2}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var a ProduceAnswer
		var m pb.ProduceResponse
		if a.Parse(b) != nil || proto.Unmarshal(b, &m) != nil || a.Unusual {
			return
		}
		if a.CorrelationID != m.GetCorrelationId() || a.LeaderEpoch != m.GetLeaderEpoch() || (a.BaseOffset >= 0) != (m.GetBaseOffset() >= 0 && m.BaseOffset != nil) {
			t.Fatalf("%+v differs from %v", a, &m)
		}
	})
}
