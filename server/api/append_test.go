package api_test

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/api"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/storage/record"
)

func text(s string) *pb.AppendRecord {
	return &pb.AppendRecord{ValueForm: &pb.AppendRecord_Text{Text: s}}
}

// readAll returns what Read returns, to its end.
func readAll(t *testing.T, c pb.BrokerServiceClient, r *pb.ReadRequest) []*pb.ReadResponse {
	t.Helper()
	st, err := c.Read(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	var all []*pb.ReadResponse
	for {
		m, err := st.Recv()
		if err != nil {
			if err.Error() != "EOF" {
				t.Fatal(err)
			}
			return all
		}
		all = append(all, m)
	}
}

func TestAppendTakesPlainRecordsAndReadGivesThemBack(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	value, err := structpb.NewValue(map[string]any{"b": 1.5, "a": []any{true, nil, "<x>"}})
	if err != nil {
		t.Fatal(err)
	}
	when := time.Date(2001, 2, 3, 4, 5, 6, 7e6, time.UTC)
	sent := []*pb.AppendRecord{
		text("hello"),
		{KeyForm: &pb.AppendRecord_KeyText{KeyText: "k"}, ValueForm: &pb.AppendRecord_Value{Value: []byte{0xff, 0}}, Time: timestamppb.New(when)},
		{KeyForm: &pb.AppendRecord_Key{Key: []byte{0xfe}}, ValueForm: &pb.AppendRecord_Json{Json: value}},
		{KeyForm: &pb.AppendRecord_Key{}, Headers: []*pb.AppendHeader{
			{Key: "text", ValueForm: &pb.AppendHeader_Text{Text: "v"}}, {Key: "bytes", ValueForm: &pb.AppendHeader_Value{Value: []byte{0xff}}}, {Key: "null"},
		}},
		{ValueForm: &pb.AppendRecord_Text{}},
	}
	got, err := s.Broker.Append(t.Context(), &pb.AppendRequest{Topic: "t", Records: sent})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range got.GetPlaces() {
		if p.GetOffset() != int64(i) || p.GetPartition() != 0 || p.GetError() != nil || p.GetLeaderEpoch() == 0 {
			t.Errorf("place %d: %v", i, p)
		}
	}
	if a := got.GetAck(); a.GetScope() != pb.AckScope_ACK_SCOPE_ISR || a.GetMedium() != pb.AckMedium_ACK_MEDIUM_DISK || a.GetInSyncReplicas() != 1 {
		t.Errorf("got %v", a)
	}

	plain := readAll(t, s.Broker, &pb.ReadRequest{Topic: "t"})
	asJSON := readAll(t, s.Broker, &pb.ReadRequest{Topic: "t", Form: pb.ReadForm_READ_FORM_JSON})
	asBytes := readAll(t, s.Broker, &pb.ReadRequest{Topic: "t", Form: pb.ReadForm_READ_FORM_BYTES})
	if len(plain) != 5 || len(asJSON) != 5 || len(asBytes) != 5 {
		t.Fatalf("got %d, %d, %d records", len(plain), len(asJSON), len(asBytes))
	}
	if r := plain[0]; r.GetText() != "hello" || r.KeyForm != nil || time.Since(r.GetTime().AsTime()).Abs() > time.Minute {
		t.Errorf("got %v", r)
	}
	if r := plain[1]; r.GetKeyText() != "k" || string(r.GetValue()) != "\xff\x00" || !r.GetTime().AsTime().Equal(when) || r.GetOffset() != 1 {
		t.Errorf("got %v", r)
	}
	if r := plain[2]; string(r.GetKey()) != "\xfe" || r.GetText() != `{"a":[true,null,"<x>"],"b":1.5}` {
		t.Errorf("got %v", r)
	}
	if r := plain[3]; r.KeyForm == nil || r.GetKeyText() != "" || r.ValueForm != nil ||
		r.GetHeaders()[0].GetText() != "v" || string(r.GetHeaders()[1].GetValue()) != "\xff" || r.GetHeaders()[2].ValueForm != nil {
		t.Errorf("got %v", r)
	}
	if r := plain[4]; r.ValueForm == nil || r.KeyForm != nil {
		t.Errorf("an empty value is not null: %v", r)
	}
	if r := asJSON[2]; r.GetJson().GetStructValue().GetFields()["b"].GetNumberValue() != 1.5 {
		t.Errorf("got %v", r)
	}
	if r := asJSON[0]; r.GetText() != "hello" { // no JSON
		t.Errorf("got %v", r)
	}
	if r := asBytes[0]; string(r.GetValue()) != "hello" {
		t.Errorf("got %v", r)
	}
}

func TestAppendPartitionsAsProduceDoes(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 4)
	var records []*pb.AppendRecord
	for i := range 20 {
		records = append(records, &pb.AppendRecord{KeyForm: &pb.AppendRecord_KeyText{KeyText: fmt.Sprint("key-", i)}})
	}
	got, err := s.Broker.Append(t.Context(), &pb.AppendRequest{Topic: "t", Records: records})
	if err != nil {
		t.Fatal(err)
	}
	next := make(map[uint32]int64)
	for i, p := range got.GetPlaces() {
		if want := record.PartitionForKey(fmt.Append(nil, "key-", i), 4); p.GetPartition() != uint32(want) || p.GetOffset() != next[p.GetPartition()] {
			t.Errorf("record %d: %v, want partition %d", i, p, want)
		}
		next[p.GetPartition()]++
	}
	got, err = s.Broker.Append(t.Context(), &pb.AppendRequest{Topic: "t", Partition: new(uint32(3)), Records: records, Acks: pb.Acks_ACKS_NONE})
	if err != nil {
		t.Fatal(err)
	}
	if p := got.GetPlaces()[19]; p.GetPartition() != 3 || p.Offset != nil || got.GetAck() != nil {
		t.Errorf("got %v", p)
	}
}

func TestAppendRefusesBadInput(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Limits: api.Limits{AppendRecords: 10}})
	s.CreateTopic("t", 2, "max.record.bytes", "1000", "max.batch.bytes", "2000")
	for name, c := range map[string]struct {
		change func(*pb.AppendRequest)
		code   codes.Code
		reason pb.ErrorReason
		names  string
	}{
		"no records":   {func(r *pb.AppendRequest) { r.Records = nil }, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, "records"},
		"acks":         {func(r *pb.AppendRequest) { r.Acks = 7 }, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, "acks"},
		"too many":     {func(r *pb.AppendRequest) { r.Records = make([]*pb.AppendRecord, 11) }, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "append.records"},
		"topic":        {func(r *pb.AppendRequest) { r.Topic = "no" }, codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION, "no"},
		"partition":    {func(r *pb.AppendRequest) { r.Partition = new(uint32(2)) }, codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION, "t-2"},
		"record":       {func(r *pb.AppendRequest) { r.Records[1] = text(strings.Repeat("x", 1000)) }, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_RECORD_TOO_LARGE, "max.record.bytes"},
		"batch":        {func(r *pb.AppendRequest) { r.Records[1] = text(strings.Repeat("x", 2000)) }, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE, "max.batch.bytes"},
		"bytes in all": {func(r *pb.AppendRequest) { r.Records[1] = text(strings.Repeat("x", 3<<20)) }, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED, "append.bytes"},
		"time": {func(r *pb.AppendRequest) { r.Records[1].Time = &timestamppb.Timestamp{Nanos: -1} },
			codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, "records[1].time"},
		"time to come": {func(r *pb.AppendRequest) { r.Records[1].Time = timestamppb.New(time.Now().Add(48 * time.Hour)) },
			codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_TIMESTAMP_TOO_FAR_AHEAD, "timestamp.max.ahead.ms"},
		"json of no kind": {func(r *pb.AppendRequest) {
			r.Records[1].ValueForm = &pb.AppendRecord_Json{Json: &structpb.Value{}}
		}, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, "records[1].json"},
		"json that is no number": {func(r *pb.AppendRequest) {
			r.Records[1].ValueForm = &pb.AppendRecord_Json{Json: structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewNumberValue(math.NaN())}})}
		}, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, "records[1].json"},
		"json of no kind below": {func(r *pb.AppendRequest) {
			r.Records[1].ValueForm = &pb.AppendRecord_Json{Json: structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"a": {}}})}
		}, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD, "records[1].json"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &pb.AppendRequest{Topic: "t", Partition: new(uint32(0)), Records: []*pb.AppendRecord{text("a"), text("b")}}
			c.change(r)
			for i := range r.Records {
				if r.Records[i] == nil {
					r.Records[i] = text("x")
				}
			}
			_, err := s.Broker.Append(t.Context(), r)
			e := wantStatus(t, err, c.code, c.reason)
			if got := e.GetField().GetField() + e.GetLimit().GetLimit() + e.GetResource().GetName(); got != c.names {
				t.Errorf("names %q, want %q", got, c.names)
			}
		})
	}
	if all := readAll(t, s.Broker, &pb.ReadRequest{Topic: "t"}); len(all) != 0 {
		t.Errorf("%d records were appended", len(all))
	}
}

func TestReadBeginsAndEndsWhereItIsAsked(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 2)
	for i := range 10 {
		fill(t, s.Broker, "t", 1, fmt.Sprint(2*i), fmt.Sprint(2*i+1))
	}
	for name, c := range map[string]struct {
		r     *pb.ReadRequest
		first int
		count int
	}{
		"all":            {&pb.ReadRequest{}, 0, 20},
		"offset":         {&pb.ReadRequest{Start: &pb.ReadRequest_Offset{Offset: 7}}, 7, 13},
		"some":           {&pb.ReadRequest{Start: &pb.ReadRequest_Offset{Offset: 7}, MaxRecords: 4}, 7, 4},
		"before the end": {&pb.ReadRequest{Start: &pb.ReadRequest_BeforeEnd{BeforeEnd: 3}}, 17, 3},
		"latest":         {&pb.ReadRequest{Start: &pb.ReadRequest_Latest{Latest: true}}, 20, 0},
		"not latest":     {&pb.ReadRequest{Start: &pb.ReadRequest_Latest{}}, 0, 20},
		"time":           {&pb.ReadRequest{Start: &pb.ReadRequest_Time{Time: timestamppb.New(time.Now().Add(time.Hour))}}, 20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.r.Topic, c.r.Partition = "t", 1
			all := readAll(t, s.Broker, c.r)
			if len(all) != c.count {
				t.Fatalf("got %d records", len(all))
			}
			for i, r := range all {
				if r.GetText() != fmt.Sprint(c.first+i) || r.GetOffset() != int64(c.first+i) || r.GetPartition() != 1 {
					t.Errorf("record %d: %v", i, r)
				}
			}
		})
	}
}

// The log has more than the transport holds, so that the server still reads
// when records are appended behind the end that the call saw.
func TestReadEndsAtTheEndSeenAtItsStart(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	const before = 32
	large := strings.Repeat("x", 512<<10)
	for range before {
		fill(t, s.Broker, "t", 0, large)
	}
	st, err := s.Broker.Read(t.Context(), &pb.ReadRequest{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); err != nil {
		t.Fatal(err)
	}
	fill(t, s.Broker, "t", 0, "too late", "too late")
	for got := 1; ; got++ {
		_, err := st.Recv()
		if errors.Is(err, io.EOF) {
			if got != before {
				t.Errorf("got %d records, want %d", got, before)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadFollows(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	fill(t, s.Broker, "t", 0, "before")
	st, err := s.Broker.Read(t.Context(), &pb.ReadRequest{Topic: "t", Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"before"}
	for i := range 20 {
		want = append(want, fmt.Sprint(i))
	}
	for i, v := range want {
		if i > 0 {
			fill(t, s.Broker, "t", 0, v)
		}
		r, err := st.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if r.GetText() != v {
			t.Fatalf("got %v, want %q", r, v)
		}
	}
	s.Stop()
	_, err = st.Recv()
	wantStatus(t, err, codes.Unavailable, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
}

func TestReadRefusesBadInput(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	for name, c := range map[string]struct {
		r      *pb.ReadRequest
		code   codes.Code
		reason pb.ErrorReason
	}{
		"topic":         {&pb.ReadRequest{Topic: "no"}, codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION},
		"partition":     {&pb.ReadRequest{Topic: "t", Partition: 9}, codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION},
		"offset":        {&pb.ReadRequest{Topic: "t", Start: &pb.ReadRequest_Offset{Offset: 1}}, codes.OutOfRange, pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE},
		"form":          {&pb.ReadRequest{Topic: "t", Form: 9}, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD},
		"epoch alone":   {&pb.ReadRequest{Topic: "t", LeaderEpoch: new(int32(1))}, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD},
		"negative back": {&pb.ReadRequest{Topic: "t", Start: &pb.ReadRequest_BeforeEnd{BeforeEnd: -5}}, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD},
		"other history": {&pb.ReadRequest{Topic: "t", Start: &pb.ReadRequest_Offset{Offset: 5}, LeaderEpoch: new(int32(9))}, codes.Aborted, pb.ErrorReason_ERROR_REASON_DIVERGED},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := s.Broker.Read(t.Context(), c.r)
			if err != nil {
				t.Fatal(err)
			}
			_, err = st.Recv()
			wantStatus(t, err, c.code, c.reason)
		})
	}
}

func TestUnwieldyJSONIsShownAsText(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	deep, shallow := strings.Repeat("[", 40)+strings.Repeat("]", 40), strings.Repeat("[", 20)+strings.Repeat("]", 20)
	large := "[" + strings.Repeat("1,", 400_000) + "1]" // as messages more than a client takes
	fill(t, s.Broker, "t", 0, deep, shallow)
	fill(t, s.Broker, "t", 0, large)
	all := readAll(t, s.Broker, &pb.ReadRequest{Topic: "t", Form: pb.ReadForm_READ_FORM_JSON})
	if all[0].GetText() != deep || all[1].GetJson() == nil || all[2].GetText() != large {
		t.Error("too deep or too large a value is not shown as text, or a small one is")
	}
}
