package api_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/storage/record"
)

// field is a protobuf field of wire type bytes.
func field(num protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), b)
}

func varint(num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), v)
}

// request is a ProduceRequest for partition 0 of topic t with these bytes as
// its batch.
func request(batch []byte) []byte {
	return bytes.Join([][]byte{varint(1, 1), field(2, []byte("t")), varint(3, 0), field(4, batch)}, nil)
}

// bomb is a batch that decompresses to so many bytes.
func bomb(t *testing.T, n int) []byte {
	t.Helper()
	plain := record.AppendRecord(nil, &record.Record{Value: make([]byte, 1000)})
	b, err := record.AppendCompressedBatch(nil, record.Zstd, bytes.Repeat(plain, n/len(plain)+1), uint32(n/len(plain)+1))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProduceRefusesBadInput(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	topic := s.CreateTopic("t", 2)
	good := record.AppendRecord(nil, &record.Record{Value: []byte("v")})
	with := func(change func(*pb.ProduceRequest)) []byte {
		r := &pb.ProduceRequest{CorrelationId: 1, Topic: "t", Partition: new(uint32(0)), Batch: batch("v")}
		change(r)
		return marshal(t, r)
	}
	named := func(name string) []byte { return with(func(r *pb.ProduceRequest) { r.Topic = name }) }
	compressed, err := record.AppendCompressedBatch(nil, record.LZ4, good, 1)
	if err != nil {
		t.Fatal(err)
	}
	const (
		invalid      = pb.ErrorReason_ERROR_REASON_INVALID_FIELD
		invalidBatch = pb.ErrorReason_ERROR_REASON_INVALID_BATCH
		unsupported  = pb.ErrorReason_ERROR_REASON_UNSUPPORTED_FIELD
		unknown      = pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION
	)
	cases := map[string]struct {
		request []byte
		reason  pb.ErrorReason
		names   string // of a field, limit or resource
	}{
		"unknown topic":         {named("no"), unknown, "no"},
		"unknown partition":     {with(func(r *pb.ProduceRequest) { r.Partition = new(uint32(2)) }), unknown, "t-2"},
		"absurd partition":      {with(func(r *pb.ProduceRequest) { r.Partition = new(uint32(1<<32 - 1)) }), unknown, "t-4294967295"},
		"no name":               {named(""), invalid, "topic"},
		"name ..":               {named(".."), invalid, "topic"},
		"name of 300 bytes":     {named(strings.Repeat("n", 300)), invalid, "topic"},
		"name with control":     {named("a\x00b"), invalid, "topic"},
		"name with a slash":     {named("../../etc/passwd"), invalid, "topic"},
		"other topic id":        {with(func(r *pb.ProduceRequest) { r.TopicId = make([]byte, 16) }), unknown, "t"},
		"short topic id":        {with(func(r *pb.ProduceRequest) { r.TopicId = topic.GetTopicId()[:15] }), invalid, "topic_id"},
		"absurd acks":           {with(func(r *pb.ProduceRequest) { r.Acks = 9 }), invalid, "acks"},
		"producer id":           {with(func(r *pb.ProduceRequest) { r.ProducerId = new(int64(0)) }), unsupported, "producer_id"},
		"producer epoch":        {with(func(r *pb.ProduceRequest) { r.ProducerEpoch = new(int32(0)) }), unsupported, "producer_epoch"},
		"base sequence":         {with(func(r *pb.ProduceRequest) { r.BaseSequence = new(int32(0)) }), unsupported, "base_sequence"},
		"expected end":          {with(func(r *pb.ProduceRequest) { r.ExpectedEnd = new(int64(0)) }), unsupported, "expected_end"},
		"transaction":           {with(func(r *pb.ProduceRequest) { r.TransactionalId = "x" }), unsupported, "transactional_id"},
		"field of the future":   {append(request(good), varint(999, 1)...), unsupported, "ProduceRequest.999"},
		"no batch":              {with(func(r *pb.ProduceRequest) { r.Batch = nil }), invalid, "batch"},
		"no records":            {request(nil), invalidBatch, "batch"},
		"wrong count":           {request(append(bytes.Clone(good), varint(4, 2)...)), invalidBatch, "batch.record_count"},
		"wrong crc":             {with(func(r *pb.ProduceRequest) { r.BatchCrc32C = new(uint32(7)) }), pb.ErrorReason_ERROR_REASON_CRC_MISMATCH, "batch_crc32c"},
		"unknown codec":         {request(bytes.Join([][]byte{varint(2, 9), field(3, good), varint(4, 1)}, nil)), pb.ErrorReason_ERROR_REASON_UNSUPPORTED_COMPRESSION, "batch.compression"},
		"not compressed at all": {request(bytes.Join([][]byte{varint(2, 1), field(3, []byte("garbage")), varint(4, 1)}, nil)), invalidBatch, "batch.compressed"},
		"truncated batch":       {request(good[:len(good)-1]), invalidBatch, ""},
		"garbage batch":         {request([]byte("\xff\xff\xff\xff garbage")), invalidBatch, ""},
		"offset delta":          {request(field(1, varint(5, 1))), unsupported, "batch.records[0].offset_delta"},
		"field of the record":   {request(field(1, varint(7, 1))), unsupported, ""},
		"header not UTF-8":      {request(field(1, field(3, field(1, []byte("\xff"))))), invalidBatch, ""},
		"batch too large":       {request(record.AppendRecord(nil, &record.Record{Value: make([]byte, 1<<20+1)})), pb.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE, "max.batch.bytes"},
		"batch of 5 MiB":        {request(record.AppendRecord(nil, &record.Record{Value: make([]byte, 5<<20)})), pb.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE, "max.batch.bytes"},
		"decompression bomb":    {request(bomb(t, 17<<20)), pb.ErrorReason_ERROR_REASON_DECOMPRESSED_TOO_LARGE, "max.decompressed.bytes"},
		"far too far ahead": {with(func(r *pb.ProduceRequest) { r.Batch.Records[0].TimestampMs = new(int64(1 << 60)) }),
			pb.ErrorReason_ERROR_REASON_TIMESTAMP_TOO_FAR_AHEAD, "timestamp.max.ahead.ms"},
		"compressed without partition": {bytes.Join([][]byte{varint(1, 1), field(2, []byte("t")), field(4, compressed)}, nil),
			pb.ErrorReason_ERROR_REASON_PARTITION_REQUIRED, "partition"},
		"impossible revision": {with(func(r *pb.ProduceRequest) { r.MinRevision = -1; r.Topic = "no" }), unknown, "no"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			answer := askRaw(t, s.Conn, c.request)
			e := answer.GetError()
			code := codes.InvalidArgument
			if c.reason == unknown {
				code = codes.NotFound
			}
			wantError(t, e, code, c.reason)
			if got := e.GetField().GetField() + e.GetLimit().GetLimit() + e.GetResource().GetName(); c.names != "" && got != c.names {
				t.Errorf("names %q, want %q: %v", got, c.names, e)
			}
			if answer.BaseOffset != nil || answer.GetAck() != nil {
				t.Errorf("got %v", answer)
			}
		})
	}
	// None of it changed anything.
	if at := fill(t, s.Broker, "t", 0, "first"); at != 0 {
		t.Errorf("the first good record has offset %d", at)
	}
}

// askRaw sends one request on a stream of its own.
func askRaw(t *testing.T, conn *grpc.ClientConn, request []byte) *pb.ProduceResponse {
	t.Helper()
	st := rawStream(t, conn, pb.BrokerService_Produce_FullMethodName)
	if err := st.SendMsg(raw(request)); err != nil {
		t.Fatal(err)
	}
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	answer := &pb.ProduceResponse{}
	if err := st.RecvMsg(answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func rawStream(t *testing.T, conn *grpc.ClientConn, method string) grpc.ClientStream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	st, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestWhatCannotBeAnsweredEndsTheStream(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	good := record.AppendRecord(nil, &record.Record{Value: []byte("v")})
	for name, c := range map[string]struct {
		method  string
		request []byte
		reason  pb.ErrorReason
	}{
		"garbage":              {pb.BrokerService_Produce_FullMethodName, []byte("\xff\xff\xff garbage"), pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST},
		"truncated":            {pb.BrokerService_Produce_FullMethodName, request(good)[:10], pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST},
		"two batches":          {pb.BrokerService_Produce_FullMethodName, append(request(good), field(4, good)...), pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST},
		"no correlation id":    {pb.BrokerService_Produce_FullMethodName, request(good)[2:], pb.ErrorReason_ERROR_REASON_INVALID_FIELD},
		"garbage for Fetch":    {pb.BrokerService_Fetch_FullMethodName, []byte("\xff\xff\xff garbage"), pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST},
		"name not UTF-8":       {pb.BrokerService_Fetch_FullMethodName, field(1, field(2, []byte("\xff"))), pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST},
		"garbage for Read":     {pb.BrokerService_Read_FullMethodName, []byte("\xff\xff\xff garbage"), pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST},
		"garbage for Append":   {pb.BrokerService_Append_FullMethodName, []byte("\xff\xff\xff garbage"), pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST},
		"garbage for topics":   {pb.TopicService_CreateTopic_FullMethodName, []byte("\xff\xff\xff garbage"), pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST},
		"garbage for clusters": {pb.ClusterService_ListBrokers_FullMethodName, []byte("\x0a\xff"), pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST},
	} {
		t.Run(name, func(t *testing.T) {
			st := rawStream(t, s.Conn, c.method)
			if err := st.SendMsg(raw(c.request)); err != nil {
				t.Fatal(err)
			}
			if err := st.CloseSend(); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, st.RecvMsg(&raw{}), codes.InvalidArgument, c.reason)
		})
	}
}

// What does not decode is the client's fault on every method there is, and is
// said alike.
func TestGarbageIsMalformedOnEveryMethod(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	count := 0
	for _, file := range []protoreflect.FileDescriptor{
		pb.File_millstream_v1_broker_service_proto, pb.File_millstream_v1_topic_service_proto, pb.File_millstream_v1_cluster_service_proto,
	} {
		service := file.Services().Get(0)
		for i := range service.Methods().Len() {
			method := fmt.Sprintf("/%s/%s", service.FullName(), service.Methods().Get(i).Name())
			count++
			for what, garbage := range map[string]string{
				"garbage": "\xff\xff\xff garbage", "truncated": "\x0a\x05t", "field 0": "\x00\x01", "end of a group alone": "\x0c",
			} {
				st := rawStream(t, s.Conn, method)
				if err := st.SendMsg(raw(garbage)); err != nil {
					t.Fatal(err)
				}
				if err := st.CloseSend(); err != nil {
					t.Fatal(err)
				}
				t.Logf("%s: %s", method, what)
				wantStatus(t, st.RecvMsg(&raw{}), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST)
			}
		}
	}
	if count < 15 {
		t.Errorf("only %d methods", count)
	}
}

// Whatever is asked of a topic that does not exist, it is not made.
func TestTopicsAreNeverCreatedByATypo(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("flights", 1)
	const typo = "fligths"
	ctx := t.Context()
	for name, ask := range map[string]func() error{
		"Append": func() error {
			_, err := s.Broker.Append(ctx, &pb.AppendRequest{Topic: typo, Records: []*pb.AppendRecord{{}}})
			return err
		},
		"Read": func() error {
			st, err := s.Broker.Read(ctx, &pb.ReadRequest{Topic: typo, Follow: true})
			if err == nil {
				_, err = st.Recv()
			}
			return err
		},
		"GetTopic": func() error {
			_, err := s.Topic.GetTopic(ctx, &pb.GetTopicRequest{Topic: typo})
			return err
		},
		"UpdateTopicConfig": func() error {
			_, err := s.Topic.UpdateTopicConfig(ctx, &pb.UpdateTopicConfigRequest{Topic: typo, Set: map[string]string{"retention.ms": "1"}})
			return err
		},
		"DeleteTopic": func() error {
			_, err := s.Topic.DeleteTopic(ctx, &pb.DeleteTopicRequest{Topic: typo})
			return err
		},
		"ListOffsets": func() error {
			_, err := s.Topic.ListOffsets(ctx, &pb.ListOffsetsRequest{Topic: typo})
			return err
		},
		"DeleteRecords": func() error {
			_, err := s.Topic.DeleteRecords(ctx, &pb.DeleteRecordsRequest{Topic: typo, BeforeOffset: new(int64(0))})
			return err
		},
		"PickPartition": func() error {
			_, err := s.Topic.PickPartition(ctx, &pb.PickPartitionRequest{Topic: typo, KeyForm: &pb.PickPartitionRequest_KeyText{KeyText: "k"}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := wantStatus(t, ask(), codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)
			if e.GetResource().GetName() != typo {
				t.Errorf("names %v", e.GetResource())
			}
		})
	}
	r := openProducer(t, s.Broker).ask(&pb.ProduceRequest{Topic: typo, Batch: batch("v")})
	wantError(t, r.GetError(), codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)
	f := openFetcher(t, s.Broker)
	f.subscribe(&pb.FetchSubscription{Topic: typo})
	wantError(t, f.next().GetError(), codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)

	all, err := s.Topic.ListTopics(ctx, &pb.ListTopicsRequest{IncludeInternal: true})
	if err != nil || len(all.GetTopics()) != 1 {
		t.Errorf("got %v, %v", all, err)
	}
}

func TestFetchRefusesBadInput(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	fill(t, s.Broker, "t", 0, "a", "b")
	at := func(p *pb.FetchPosition) *pb.FetchSubscription { return &pb.FetchSubscription{Topic: "t", Position: p} }
	const (
		invalid = pb.ErrorReason_ERROR_REASON_INVALID_FIELD
		unknown = pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION
		outside = pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE
	)
	for name, c := range map[string]struct {
		want   *pb.FetchSubscription
		code   codes.Code
		reason pb.ErrorReason
		names  string
	}{
		"unknown topic":     {&pb.FetchSubscription{Topic: "no"}, codes.NotFound, unknown, "no"},
		"unknown partition": {&pb.FetchSubscription{Topic: "t", Partition: 1}, codes.NotFound, unknown, "t-1"},
		"bad name":          {&pb.FetchSubscription{Topic: "a\nb"}, codes.InvalidArgument, invalid, "topic"},
		"other topic id":    {&pb.FetchSubscription{Topic: "t", TopicId: make([]byte, 16)}, codes.NotFound, unknown, "t"},
		"short topic id":    {&pb.FetchSubscription{Topic: "t", TopicId: []byte("x")}, codes.InvalidArgument, invalid, "topic_id"},
		"form":              {&pb.FetchSubscription{Topic: "t", Form: 9}, codes.InvalidArgument, invalid, "form"},
		"small frames":      {&pb.FetchSubscription{Topic: "t", MaxFrameBytes: 4095}, codes.InvalidArgument, invalid, "max_frame_bytes"},
		"large frames":      {&pb.FetchSubscription{Topic: "t", MaxFrameBytes: 3<<20 + 1}, codes.InvalidArgument, invalid, "max_frame_bytes"},
		"beyond the end":    {at(&pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: 3}}), codes.OutOfRange, outside, ""},
		"negative offset":   {at(&pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: -1}}), codes.OutOfRange, outside, ""},
		"negative distance": {at(&pb.FetchPosition{At: &pb.FetchPosition_BeforeEnd{BeforeEnd: -1}}), codes.InvalidArgument, invalid, "position.before_end"},
		"no time": {at(&pb.FetchPosition{At: &pb.FetchPosition_Time{Time: &timestamppb.Timestamp{Nanos: -1}}}),
			codes.InvalidArgument, invalid, "position.time"},
		"epoch without offset": {at(&pb.FetchPosition{LeaderEpoch: new(int32(1))}), codes.InvalidArgument, invalid, "position.leader_epoch"},
		"negative epoch": {at(&pb.FetchPosition{At: &pb.FetchPosition_Offset{}, LeaderEpoch: new(int32(-2))}),
			codes.InvalidArgument, invalid, "leader_epoch"},
	} {
		t.Run(name, func(t *testing.T) {
			f := openFetcher(t, s.Broker)
			c.want.SubscriptionId = 5
			f.subscribe(c.want)
			r := f.next()
			wantError(t, r.GetError(), c.code, c.reason)
			if got := r.GetError().GetField().GetField() + r.GetError().GetResource().GetName(); got != c.names {
				t.Errorf("names %q, want %q", got, c.names)
			}
			if o := r.GetError().GetOffsetRange(); c.reason == outside && (o.GetStart() != 0 || o.GetEnd() != 2) {
				t.Errorf("got the range %v", o)
			}
			if r.GetSubscriptionId() != 5 {
				t.Errorf("got %v", r)
			}
			// The stream goes on.
			f.subscribe(&pb.FetchSubscription{SubscriptionId: 5, Topic: "t", UntilEnd: true})
			if r := f.next(); len(values(t, r)) != 2 {
				t.Errorf("got %v", r)
			}
		})
	}
}
