package wire

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

func encoded(f *testing.F, m proto.Message) []byte {
	f.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// What both read, the heads of messages that are passed on and the generated
// code, they read alike.
func FuzzHeads(f *testing.F) {
	f.Add(encoded(f, &pb.FetchResponse{
		SubscriptionId: 7, Topic: "t", NextOffset: 9, HighWatermark: 10, CreditUsed: 11,
		Records: []*pb.FetchedRecord{{Offset: 8, LeaderEpoch: 3, Value: []byte("v")}}, Control: &pb.FetchResponse_CaughtUp{CaughtUp: &pb.CaughtUp{Finished: true}},
	}))
	f.Add(encoded(f, &pb.FetchResponse{Control: &pb.FetchResponse_Error{Error: &pb.RequestError{Code: 5, Message: "m"}}}))
	f.Add(encoded(f, &pb.ReadResponse{Partition: 1, Offset: 2, LeaderEpoch: 3, ValueForm: &pb.ReadResponse_Text{Text: "x"}}))
	f.Add([]byte("\x0a\x05ab"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var frame FetchHead
		var want pb.FetchResponse
		if frame.Parse(b) == nil && proto.Unmarshal(b, &want) == nil {
			got := []uint64{frame.SubscriptionID, uint64(frame.NextOffset), uint64(frame.HighWatermark), uint64(uint32(frame.CreditUsed))}
			for i, w := range []uint64{want.GetSubscriptionId(), uint64(want.GetNextOffset()), uint64(want.GetHighWatermark()), uint64(want.GetCreditUsed())} {
				if got[i] != w {
					t.Errorf("field %d of the frame is %d, want %d", i, got[i], w)
				}
			}
			if want.GetTopic() != "" && !frame.First || want.GetError() != nil && frame.Error == nil ||
				frame.Records != (len(want.GetBatches())+len(want.GetRecords()) > 0) {
				t.Errorf("the frame is %+v, want %v", frame, &want)
			}
		}
		var head ReadHead
		var read pb.ReadResponse
		if head.Parse(b) == nil && proto.Unmarshal(b, &read) == nil {
			if head.Offset != record.Offset(read.GetOffset()) || head.LeaderEpoch != record.LeaderEpoch(read.GetLeaderEpoch()) {
				t.Errorf("the record is at %+v, want %v", head, &read)
			}
		}
	})
}

// What a leader sends is the same in whatever pieces it comes, and the batches
// of a push are the bytes that came, to the end.
func FuzzReplicateResponse(f *testing.F) {
	f.Add(append(AppendPush(nil, &replicationv1.Push{Session: 1, LeaderEpoch: 2, From: 3}), "\x0a\x03abc"...), uint16(5))
	f.Add(encoded(f, &replicationv1.ReplicateResponse{}), uint16(0))
	f.Add([]byte{pushByte, 0xff, 0xff}, uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		at := min(int(cut), len(b))
		var whole, parted ReplicateResponse
		for r, msg := range map[*ReplicateResponse]mem.BufferSlice{
			&whole: {mem.SliceBuffer(b)}, &parted: {mem.SliceBuffer(b[:at]), mem.SliceBuffer(b[at:])},
		} {
			if err := r.UnmarshalRaw(msg); err != nil {
				t.Fatal(err)
			}
		}
		if (whole.Err() == nil) != (parted.Err() == nil) || whole.IsPush != parted.IsPush || !proto.Equal(&whole.Push, &parted.Push) {
			t.Fatalf("whole it is %v %t %v, cut at %d %v %t %v", whole.Err(), whole.IsPush, &whole.Push, at, parted.Err(), parted.IsPush, &parted.Push)
		}
		all, pieces := bytes.Join(whole.Batches, nil), bytes.Join(parted.Batches, nil)
		if !bytes.Equal(all, pieces) || whole.Err() == nil && !bytes.HasSuffix(b, all) {
			t.Fatalf("whole its batches are %q, cut at %d %q", all, at, pieces)
		}
	})
}
