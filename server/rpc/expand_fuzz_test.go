package rpc

import (
	"math"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// structBytes is what the structs of a decoded message take, those of its parts
// with it.
func structBytes(m protoreflect.Message) int {
	n := int(reflect.TypeOf(m.Interface()).Elem().Size())
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
				if f.MapValue().Message() != nil {
					n += structBytes(e.Message())
				}
				return true
			})
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				n += structBytes(v.List().Get(i).Message())
			}
		default:
			n += structBytes(v.Message())
		}
		return true
	})
	return n
}

// Whatever a request is, it is weighed before it is decoded, and weighs no less
// than its parts are found to take then.
func FuzzDecodedBytes(f *testing.F) {
	kinds := []proto.Message{&pb.FetchRequest{}, &pb.AppendRequest{}, &pb.ProduceRequest{}}
	all := shapesOf("millstream.v1.BrokerService")
	value, err := structpb.NewValue(map[string]any{"a": []any{1, "x", nil, true}, "b": map[string]any{}})
	if err != nil {
		f.Fatal(err)
	}
	for i, m := range []proto.Message{
		&pb.FetchRequest{Subscribe: []*pb.FetchSubscription{{SubscriptionId: 1, Topic: "t"}, {}}},
		&pb.AppendRequest{Topic: "t", Records: []*pb.AppendRecord{
			{ValueForm: &pb.AppendRecord_Json{Json: value}}, {ValueForm: &pb.AppendRecord_Text{Text: "x"}, Headers: []*pb.AppendHeader{{}}},
		}},
		&pb.ProduceRequest{Topic: "t", Batch: &pb.RecordBatch{}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), b)
	}
	f.Fuzz(func(t *testing.T, kind byte, msg []byte) {
		m := proto.Clone(kinds[int(kind)%len(kinds)])
		weight := all[m.ProtoReflect().Descriptor().FullName()].decodedBytes(msg, math.MaxInt)
		if proto.Unmarshal(msg, m) != nil {
			return
		}
		if least := structBytes(m.ProtoReflect()); weight < least {
			t.Errorf("it weighs %d, and takes %d", weight, least)
		}
	})
}
