package wire

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

func TestAForwardedRequestIsReadAsItWasMeant(t *testing.T) {
	batch := mustMarshal(t, &pb.RecordBatch{Records: []*pb.Record{{Value: []byte("hello")}, {Value: []byte("world")}}})
	for name, want := range map[string]*pb.ProduceRequest{
		"everything": {
			CorrelationId: 1 << 60, Topic: "t", TopicId: bytes.Repeat([]byte{7}, 16), Partition: new(uint32(3)), Acks: pb.Acks_ACKS_LEADER,
			BatchCrc32C: new(uint32(0xdeadbeef)), Restart: true, MinRevision: 9, LeaderEpoch: new(int32(1 << 30)),
		},
		"the least": {
			CorrelationId: 1, Topic: "t", TopicId: make([]byte, 16), Partition: new(uint32(0)), BatchCrc32C: new(uint32(0)), LeaderEpoch: new(int32(0)),
		},
	} {
		f := ForwardedProduce{
			CorrelationID: want.GetCorrelationId(), Topic: want.GetTopic(), TopicID: record.TopicID(want.GetTopicId()),
			Partition: record.PartitionID(want.GetPartition()), Acks: want.GetAcks(), BatchCRC: want.GetBatchCrc32C(),
			Restart: want.GetRestart(), MinRevision: want.GetMinRevision(), LeaderEpoch: record.LeaderEpoch(want.GetLeaderEpoch()),
		}
		b := AppendForwardedProduce(nil, &f, record.Pieces{batch[:3], batch[3:]})
		if most := MaxForwardedProduceSize + len(f.Topic) + len(batch); len(b) > most {
			t.Errorf("%s: %d bytes, more than %d", name, len(b), most)
		}
		want.Batch = &pb.RecordBatch{}
		if err := proto.Unmarshal(batch, want.Batch); err != nil {
			t.Fatal(err)
		}
		got := &pb.ProduceRequest{}
		if err := proto.Unmarshal(b, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, want)
		}
		var q ProduceRequest
		if err := q.ParsePieces(record.Pieces{b}); err != nil || q.LeaderEpoch != f.LeaderEpoch || !q.HasLeaderEpoch ||
			q.MinRevision != f.MinRevision || !bytes.Equal(slices.Concat(q.Batch...), batch) {
			t.Errorf("%s: read as %+v, %v", name, q, err)
		}
	}
}
