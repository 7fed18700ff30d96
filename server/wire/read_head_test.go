package wire

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func TestTheHeadOfARecordIsRead(t *testing.T) {
	for _, m := range []*pb.ReadResponse{
		{},
		{Partition: 7, Offset: 1 << 40, LeaderEpoch: 1 << 30},
		{
			Offset: 3, Time: timestamppb.Now(), LeaderEpoch: 2, KeyForm: &pb.ReadResponse_KeyText{KeyText: "k"},
			ValueForm: &pb.ReadResponse_Value{Value: []byte{0x10, 0x63}}, Headers: []*pb.AppendHeader{{Key: "h"}},
		},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		h := ReadHead{Offset: 99, LeaderEpoch: 99}
		if err := h.Parse(b); err != nil || int64(h.Offset) != m.GetOffset() || int32(h.LeaderEpoch) != m.GetLeaderEpoch() {
			t.Errorf("%v is read as %+v, %v", m, h, err)
		}
		for n := range b {
			// Cut anywhere: an error, or the fields before.
			if err := h.Parse(b[:n]); err != nil {
				if _, ok := errors.AsType[*MalformedError](err); !ok {
					t.Errorf("cut at %d: %v", n, err)
				}
			}
		}
	}
	for _, bad := range [][]byte{{0x10}, {0x10, 0x80}, {0x4a, 9, 1}, {0}} {
		var h ReadHead
		if err := h.Parse(bad); err == nil {
			t.Errorf("%x is read as %+v", bad, h)
		}
	}
}
