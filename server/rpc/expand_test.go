package rpc

import (
	"bytes"
	"context"
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// nest returns b as the field of that number of another message.
func nest(number protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
}

func TestAMessageOfManyPartsIsNotDecoded(t *testing.T) {
	none := func(number protowire.Number, n int) []byte { return bytes.Repeat(nest(number, nil), n) }
	const limit, n = 1 << 20, 500_000
	const broker, topics = "millstream.v1.BrokerService", "millstream.v1.TopicService"
	for name, c := range map[string]struct {
		service string
		into    proto.Message
		msg     []byte
	}{
		"subscriptions":  {broker, &pb.FetchRequest{}, none(1, n)},
		"records":        {broker, &pb.AppendRequest{}, none(3, n)},
		"headers":        {broker, &pb.AppendRequest{}, nest(3, none(6, n))},
		"JSON values":    {broker, &pb.AppendRequest{}, nest(3, nest(5, nest(6, none(1, n))))},
		"fields of JSON": {broker, &pb.AppendRequest{}, nest(3, nest(5, nest(5, none(1, n))))},
		"settings":       {topics, &pb.CreateTopicRequest{}, none(4, n)},
	} {
		t.Run(name, func(t *testing.T) {
			d := decoding{into: c.into, max: limit, shapes: shapesOf(c.service), pool: &sharedPool}
			r := raw(c.msg)
			msg, err := r.MarshalRaw()
			if err != nil {
				t.Fatal(err)
			}
			if err := d.UnmarshalRaw(msg); err != nil {
				t.Fatal(err)
			}
			if d.fault == nil || d.fault.Code != codes.InvalidArgument || d.fault.Limit.GetLimit() != "max.decoded.bytes" {
				t.Fatalf("%d bytes: %v", len(c.msg), d.fault)
			}
			if proto.Size(c.into) != 0 {
				t.Error("it was decoded")
			}
		})
	}
}

// What can be carried out is decoded, as dense as it may be.
func TestTheDensestGoodRequestsAreDecoded(t *testing.T) {
	numbers := &structpb.ListValue{}
	for range 95_000 {
		numbers.Values = append(numbers.Values, structpb.NewNumberValue(math.Pi))
	}
	records := make([]*pb.AppendRecord, 10_000)
	for i := range records {
		records[i] = &pb.AppendRecord{ValueForm: &pb.AppendRecord_Text{Text: "x"}, Headers: []*pb.AppendHeader{{}, {}, {}}}
	}
	subscriptions := make([]*pb.FetchSubscription, 10_000)
	for i := range subscriptions {
		subscriptions[i] = &pb.FetchSubscription{SubscriptionId: uint64(i + 1), Topic: "t", Partition: uint32(i)}
	}
	all := shapesOf("millstream.v1.BrokerService")
	for name, m := range map[string]proto.Message{
		"JSON numbers":  &pb.AppendRequest{Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Json{Json: structpb.NewListValue(numbers)}}}},
		"records":       &pb.AppendRequest{Records: records},
		"text":          &pb.AppendRequest{Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: strings.Repeat("x", 1_000_000)}}}},
		"subscriptions": &pb.FetchRequest{Subscribe: subscriptions},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			out := m.ProtoReflect().New().Interface()
			d := decoding{into: out, max: 1 << 20, shapes: all, pool: &sharedPool}
			r := raw(b)
			msg, err := r.MarshalRaw()
			if err != nil {
				t.Fatal(err)
			}
			if err := d.UnmarshalRaw(msg); err != nil || d.fault != nil {
				t.Fatalf("%d bytes: %v, %v", len(b), err, d.fault)
			}
			if !proto.Equal(out, m) {
				t.Error("it was decoded otherwise")
			}
		})
	}
}

func TestAClientIsToldOfAMessageOfManyParts(t *testing.T) {
	svc := &scripted{
		get: func(context.Context, *pb.GetTopicRequest) (*pb.GetTopicResponse, error) {
			return &pb.GetTopicResponse{}, nil
		},
		fetch: func(st grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error {
			_, err := st.Recv()
			return err
		},
	}
	_, conn := serve(t, svc, Options{MaxRequestBytes: 1 << 20})
	many := raw(bytes.Repeat(nest(1, nil), 500_000))
	st, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, pb.BrokerService_Fetch_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.SendMsg(many); err != nil {
		t.Fatal(err)
	}
	var answer raw
	err = st.RecvMsg(&answer)
	if s := status.Convert(err); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), "max.decoded.bytes") {
		t.Errorf("Fetch: %v", err)
	}
}
