package wire

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/storage/record"
)

func TestAHeadSaysWhatTheFrameSays(t *testing.T) {
	cases := map[string]struct {
		frame *pb.FetchResponse
		want  FetchHead
	}{
		"records, the first frame": {
			&pb.FetchResponse{
				SubscriptionId: 7, Topic: "t", TopicId: make([]byte, 16), Partition: 3, FirstOffset: 10, NextOffset: 12, HighWatermark: 20, CreditUsed: 99,
				Records: []*pb.FetchedRecord{{Offset: 10, LeaderEpoch: 1}, {Offset: 11, LeaderEpoch: 2, Value: []byte("v")}},
			},
			FetchHead{SubscriptionID: 7, First: true, NextOffset: 12, HighWatermark: 20, CreditUsed: 99, Records: true, LeaderEpoch: 2},
		},
		"the end": {
			&pb.FetchResponse{SubscriptionId: 7, NextOffset: 12, Control: &pb.FetchResponse_CaughtUp{CaughtUp: &pb.CaughtUp{Finished: true}}},
			FetchHead{SubscriptionID: 7, NextOffset: 12, Finished: true},
		},
		"caught up": {
			&pb.FetchResponse{SubscriptionId: 7, NextOffset: 12, Control: &pb.FetchResponse_CaughtUp{CaughtUp: &pb.CaughtUp{}}},
			FetchHead{SubscriptionID: 7, NextOffset: 12},
		},
		"a drain":   {&pb.FetchResponse{Control: &pb.FetchResponse_Drain{Drain: &pb.Drain{}}}, FetchHead{Drain: true}},
		"a reroute": {&pb.FetchResponse{SubscriptionId: 1, Control: &pb.FetchResponse_Reroute{Reroute: &pb.Reroute{}}}, FetchHead{SubscriptionID: 1, Reroute: true}},
	}
	for name, c := range cases {
		var got FetchHead
		if err := got.Parse(mustMarshal(t, c.frame)); err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	var got FetchHead
	e := &pb.RequestError{Code: 3, Reason: pb.ErrorReason_ERROR_REASON_INVALID_FIELD, Message: "no"}
	if err := got.Parse(mustMarshal(t, &pb.FetchResponse{SubscriptionId: 2, Control: &pb.FetchResponse_Error{Error: e}})); err != nil || !proto.Equal(got.Error, e) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// The epoch is that of the last batch.
func TestAHeadKnowsTheEpochOfTheLastBatch(t *testing.T) {
	var frame []byte
	for epoch := range record.LeaderEpoch(3) {
		batch := record.AppendRecord(nil, &record.Record{Value: []byte("v")})
		h := record.Header{
			BaseOffset: record.Offset(epoch), Records: 1, LeaderEpoch: epoch + 4, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1,
		}
		frame = append(record.AppendLogBatchHeader(frame, &h, len(batch), 0), batch...)
	}
	frame = AppendFetchResponse(frame, &FetchResponse{SubscriptionID: 1, NextOffset: 3})
	var got FetchHead
	if err := got.Parse(frame); err != nil || !got.Records || got.LeaderEpoch != 6 || got.NextOffset != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAFrameThatDoesNotDecodeHasNoHead(t *testing.T) {
	whole := mustMarshal(t, &pb.FetchResponse{SubscriptionId: 7, Topic: "topic", NextOffset: 1 << 40})
	var h FetchHead
	if err := h.Parse(whole[:len(whole)-2]); err == nil {
		t.Errorf("a torn frame was read as %+v", h)
	}
	if err := h.Parse(appendBytes(nil, 10, []byte{0xff})); err == nil {
		t.Errorf("a torn error was read as %+v", h)
	}
	if err := h.Parse(appendBytes(nil, 1, []byte{0xff})); err == nil {
		t.Errorf("a torn batch was read as %+v", h)
	}
}
