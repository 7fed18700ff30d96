package api_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/server/topicconfig"
	"github.com/millstream-io/millstream/storage/record"
)

func TestTopicIsCreatedDescribedChangedAndDeleted(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	create := &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 3, Config: map[string]string{"retention.ms": "5000"}, RequestId: "one"}
	made, err := s.Topic.CreateTopic(t.Context(), create)
	if err != nil {
		t.Fatal(err)
	}
	topic := made.GetTopic()
	if topic.GetTopic() != "orders" || len(topic.GetTopicId()) != 16 || topic.GetPartitionCount() != 3 || topic.GetReplicationFactor() != 1 ||
		topic.GetConfig()["retention.ms"] != "5000" || len(topic.GetConfig()) != len(topicconfig.Entries()) ||
		fmt.Sprint(topic.GetConfigSet()) != "[retention.ms]" || topic.GetPartitioning() != pb.Partitioning_PARTITIONING_MURMUR2 ||
		time.Since(topic.GetCreateTime().AsTime()).Abs() > time.Minute || topic.GetRevision() == 0 {
		t.Errorf("got %v", topic)
	}
	fill(t, s.Broker, "orders", 1, "a", "b") // it can be used at once

	// The same request again answers as the first; another one does not.
	again, err := s.Topic.CreateTopic(t.Context(), create)
	if err != nil || string(again.GetTopic().GetTopicId()) != string(topic.GetTopicId()) {
		t.Errorf("got %v, %v", again, err)
	}
	_, err = s.Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "orders"})
	wantStatus(t, err, codes.AlreadyExists, pb.ErrorReason_ERROR_REASON_TOPIC_EXISTS)

	got, err := s.Topic.GetTopic(t.Context(), &pb.GetTopicRequest{Topic: "orders", MinRevision: topic.GetRevision()})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range got.GetPartitions() {
		want := int64(0)
		if i == 1 {
			want = 2
		}
		if p.GetPartition() != uint32(i) || p.GetLeader().GetBrokerId() != 1 || p.GetLeader().GetAddress() != "broker-1.test:9650" ||
			p.GetStart() != 0 || p.Start == nil || p.GetEnd() != want || p.GetSegments() == 0 && want > 0 || (p.GetBytes() > 0) != (want > 0) ||
			fmt.Sprint(p.GetReplicas(), p.GetInSyncReplicas()) != "[1] [1]" || p.GetOfflineReason() != "" {
			t.Errorf("partition %d: %v", i, p)
		}
	}

	changed, err := s.Topic.UpdateTopicConfig(t.Context(), &pb.UpdateTopicConfigRequest{
		Topic: "orders", Set: map[string]string{"max.record.bytes": "100"}, Reset_: []string{"retention.ms"},
	})
	if err != nil || changed.GetTopic().GetConfig()["max.record.bytes"] != "100" || fmt.Sprint(changed.GetTopic().GetConfigSet()) != "[max.record.bytes]" {
		t.Fatalf("got %v, %v", changed, err)
	}
	p := openProducer(t, s.Broker)
	r := p.ask(&pb.ProduceRequest{Topic: "orders", Partition: new(uint32(0)), Batch: batch(strings.Repeat("x", 200))})
	wantError(t, r.GetError(), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_RECORD_TOO_LARGE)
	if l := r.GetError().GetLimit(); l.GetLimit() != "max.record.bytes" || l.GetMaximum() != 100 || l.GetActual() < 200 {
		t.Errorf("got %v", l)
	}
	_, err = s.Topic.UpdateTopicConfig(t.Context(), &pb.UpdateTopicConfigRequest{
		Topic: "orders", Set: map[string]string{"retention.ms": "1"}, ExpectedRevision: new(topic.GetRevision()),
	})
	wantStatus(t, err, codes.Aborted, pb.ErrorReason_ERROR_REASON_CONFLICT)

	if _, err := s.Topic.DeleteTopic(t.Context(), &pb.DeleteTopicRequest{Topic: "orders", TopicId: make([]byte, 16)}); err == nil {
		t.Error("a topic of another identity was deleted")
	}
	if _, err := s.Topic.DeleteTopic(t.Context(), &pb.DeleteTopicRequest{Topic: "orders"}); err != nil {
		t.Fatal(err)
	}
	_, err = s.Topic.GetTopic(t.Context(), &pb.GetTopicRequest{Topic: "orders"})
	wantStatus(t, err, codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)
	again, err = s.Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "orders"})
	if err != nil || string(again.GetTopic().GetTopicId()) == string(topic.GetTopicId()) {
		t.Errorf("got %v, %v", again, err)
	}
}

func TestValidateOnlyChangesNothing(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	checked, err := s.Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "t", PartitionCount: 2, ValidateOnly: true})
	if err != nil || checked.GetTopic().GetPartitionCount() != 2 {
		t.Fatalf("got %v, %v", checked, err)
	}
	if all, err := s.Topic.ListTopics(t.Context(), &pb.ListTopicsRequest{}); err != nil || len(all.GetTopics()) != 0 {
		t.Errorf("got %v, %v", all, err)
	}
	s.CreateTopic("t", 1)
	_, err = s.Topic.UpdateTopicConfig(t.Context(), &pb.UpdateTopicConfigRequest{Topic: "t", Set: map[string]string{"retention.ms": "1"}, ValidateOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Topic.GetTopic(t.Context(), &pb.GetTopicRequest{Topic: "t"}); err != nil || len(got.GetTopic().GetConfigSet()) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestListTopicsGivesPages(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	for _, name := range []string{"b.2", "a", "b.1", "b.3", "c"} {
		s.CreateTopic(name, 1)
	}
	list := func(r *pb.ListTopicsRequest) (names string, next string) {
		t.Helper()
		got, err := s.Topic.ListTopics(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range got.GetTopics() {
			names += topic.GetTopic() + " "
		}
		return names, got.GetNextPageToken()
	}
	if names, next := list(&pb.ListTopicsRequest{}); names != "a b.1 b.2 b.3 c " || next != "" {
		t.Errorf("got %q, %q", names, next)
	}
	names, next := list(&pb.ListTopicsRequest{PageSize: 2, Prefix: "b."})
	if names != "b.1 b.2 " || next == "" {
		t.Errorf("got %q, %q", names, next)
	}
	if names, next := list(&pb.ListTopicsRequest{PageSize: 2, Prefix: "b.", PageToken: next}); names != "b.3 " || next != "" {
		t.Errorf("got %q, %q", names, next)
	}
	if names, _ := list(&pb.ListTopicsRequest{PageSize: 4_000_000_000}); names != "a b.1 b.2 b.3 c " {
		t.Errorf("got %q", names)
	}
	_, err := s.Topic.ListTopics(t.Context(), &pb.ListTopicsRequest{PageToken: "!"})
	wantStatus(t, err, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD)
}

func TestListOffsetsAndDeleteRecords(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 2)
	start := time.Now()
	fill(t, s.Broker, "t", 1, "a", "b", "c", "d")
	offsets := func(r *pb.ListOffsetsRequest) []*pb.PartitionOffset {
		t.Helper()
		r.Topic = "t"
		got, err := s.Topic.ListOffsets(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return got.GetOffsets()
	}
	want := func(o *pb.PartitionOffset, partition uint32, offset int64, hasEpoch bool) {
		t.Helper()
		if o.GetError() != nil || o.GetPartition() != partition || o.GetOffset() != offset || (o.GetLeaderEpoch() >= 0) != hasEpoch {
			t.Errorf("got %v, want %d at %d", o, partition, offset)
		}
	}
	all := offsets(&pb.ListOffsetsRequest{At: &pb.ListOffsetsRequest_Latest{Latest: true}})
	want(all[0], 0, 0, false)
	want(all[1], 1, 4, true)
	want(offsets(&pb.ListOffsetsRequest{Partitions: []uint32{1}})[0], 1, 0, false)
	want(offsets(&pb.ListOffsetsRequest{Partitions: []uint32{1}, At: &pb.ListOffsetsRequest_Time{Time: timestamppb.New(start.Add(-time.Hour))}})[0], 1, 0, false)
	want(offsets(&pb.ListOffsetsRequest{Partitions: []uint32{1}, At: &pb.ListOffsetsRequest_Time{Time: timestamppb.New(start.Add(time.Hour))}})[0], 1, 4, true)
	some := offsets(&pb.ListOffsetsRequest{Partitions: []uint32{7, 1}})
	wantError(t, some[0].GetError(), codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)
	want(some[1], 1, 0, false)

	del := func(before *int64) (int64, error) {
		got, err := s.Topic.DeleteRecords(t.Context(), &pb.DeleteRecordsRequest{Topic: "t", Partition: 1, BeforeOffset: before})
		return got.GetLogStart(), err
	}
	if at, err := del(new(int64(3))); err != nil || at != 3 {
		t.Errorf("got %d, %v", at, err)
	}
	if at, err := del(new(int64(1))); err != nil || at != 3 { // it may be repeated
		t.Errorf("got %d, %v", at, err)
	}
	want(offsets(&pb.ListOffsetsRequest{Partitions: []uint32{1}})[0], 1, 3, false)
	_, err := del(nil)
	wantStatus(t, err, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD)
	for _, bad := range []int64{-1, 5} {
		_, err := del(&bad)
		e := wantStatus(t, err, codes.OutOfRange, pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE)
		if r := e.GetOffsetRange(); r.GetStart() != 3 || r.GetEnd() != 4 {
			t.Errorf("got %v", r)
		}
	}
	if all := readAll(t, s.Broker, &pb.ReadRequest{Topic: "t", Partition: 1}); len(all) != 1 || all[0].GetText() != "d" {
		t.Errorf("got %v", all)
	}
}

func TestPickPartition(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 7)
	for _, key := range []string{"", "foobar", "\x00\xff"} {
		got, err := s.Topic.PickPartition(t.Context(), &pb.PickPartitionRequest{Topic: "t", KeyForm: &pb.PickPartitionRequest_Key{Key: []byte(key)}})
		if err != nil {
			t.Fatal(err)
		}
		if want := uint32(record.PartitionForKey([]byte(key), 7)); got.GetPartition() != want || got.GetPartitionCount() != 7 ||
			got.GetLeader().GetAddress() == "" || got.GetTtl().AsDuration() <= 0 {
			t.Errorf("got %v, want partition %d", got, want)
		}
	}
	_, err := s.Topic.PickPartition(t.Context(), &pb.PickPartitionRequest{Topic: "t"})
	wantStatus(t, err, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD)
}

func TestTopicServiceRefusesBadInput(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	const (
		invalid = pb.ErrorReason_ERROR_REASON_INVALID_FIELD
		config  = pb.ErrorReason_ERROR_REASON_INVALID_CONFIG
		noSuch  = pb.ErrorReason_ERROR_REASON_UNKNOWN_CONFIG
	)
	create := func(r *pb.CreateTopicRequest) func() error {
		return func() error {
			_, err := s.Topic.CreateTopic(t.Context(), r)
			return err
		}
	}
	set := func(name, value string) func() error {
		return create(&pb.CreateTopicRequest{Topic: "x", Config: map[string]string{name: value}})
	}
	update := func(r *pb.UpdateTopicConfigRequest) func() error {
		return func() error {
			_, err := s.Topic.UpdateTopicConfig(t.Context(), r)
			return err
		}
	}
	remove := func(r *pb.DeleteTopicRequest) func() error {
		return func() error {
			_, err := s.Topic.DeleteTopic(t.Context(), r)
			return err
		}
	}
	long := strings.Repeat("x", 65)
	for name, c := range map[string]struct {
		call   func() error
		reason pb.ErrorReason
		names  string
	}{
		"..":                    {create(&pb.CreateTopicRequest{Topic: ".."}), invalid, "topic"},
		"300 bytes":             {create(&pb.CreateTopicRequest{Topic: strings.Repeat("n", 300)}), invalid, "topic"},
		"control characters":    {create(&pb.CreateTopicRequest{Topic: "a\tb"}), invalid, "topic"},
		"the system's":          {create(&pb.CreateTopicRequest{Topic: "__x"}), invalid, "topic"},
		"partitions":            {create(&pb.CreateTopicRequest{Topic: "x", PartitionCount: 10_001}), invalid, "partition_count"},
		"absurd partitions":     {create(&pb.CreateTopicRequest{Topic: "x", PartitionCount: 1<<32 - 1}), invalid, "partition_count"},
		"replicas":              {create(&pb.CreateTopicRequest{Topic: "x", ReplicationFactor: 16}), invalid, "replication_factor"},
		"request id":            {create(&pb.CreateTopicRequest{Topic: "x", RequestId: long}), invalid, "request_id"},
		"unknown config":        {set("retention.hours", "1"), noSuch, "retention.hours"},
		"negative config":       {set("retention.ms", "-2"), config, "retention.ms"},
		"absurd config":         {set("segment.bytes", "99999999999999999999"), config, "segment.bytes"},
		"compaction":            {set("cleanup.policy", "compact"), config, "cleanup.policy"},
		"update of no topic":    {update(&pb.UpdateTopicConfigRequest{Topic: ""}), invalid, "topic"},
		"update to nonsense":    {update(&pb.UpdateTopicConfigRequest{Topic: "t", Set: map[string]string{"durability": "maybe"}}), config, "durability"},
		"reset of nothing":      {update(&pb.UpdateTopicConfigRequest{Topic: "t", Reset_: []string{"nothing"}}), noSuch, "nothing"},
		"both set and reset":    {update(&pb.UpdateTopicConfigRequest{Topic: "t", Set: map[string]string{"retention.ms": "1"}, Reset_: []string{"retention.ms"}}), config, "retention.ms"},
		"negative revision":     {update(&pb.UpdateTopicConfigRequest{Topic: "t", ExpectedRevision: new(int64(-1))}), invalid, "expected_revision"},
		"update id":             {update(&pb.UpdateTopicConfigRequest{Topic: "t", RequestId: long}), invalid, "request_id"},
		"delete the system's":   {remove(&pb.DeleteTopicRequest{Topic: "__x"}), invalid, "topic"},
		"delete with a bad id":  {remove(&pb.DeleteTopicRequest{Topic: "t", TopicId: []byte("x")}), invalid, "topic_id"},
		"delete with a long id": {remove(&pb.DeleteTopicRequest{Topic: "t", RequestId: long}), invalid, "request_id"},
	} {
		t.Run(name, func(t *testing.T) {
			e := wantStatus(t, c.call(), codes.InvalidArgument, c.reason)
			if got := e.GetField().GetField(); got != c.names {
				t.Errorf("names %q, want %q", got, c.names)
			}
		})
	}
	_, err := s.Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "x", ReplicationFactor: 3})
	wantStatus(t, err, codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_BROKERS)
	if all, err := s.Topic.ListTopics(t.Context(), &pb.ListTopicsRequest{}); err != nil || len(all.GetTopics()) != 1 {
		t.Errorf("got %v, %v", all, err)
	}
}

func TestClusterDescribesItself(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 3)
	got, err := s.Cluster.DescribeCluster(t.Context(), &pb.DescribeClusterRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.GetClusterId()) != 16 || len(got.GetBrokers()) != 1 || got.GetTopicCount() != 1 || got.GetPartitionCount() != 3 ||
		got.GetVersion() != "test" || got.GetAnsweringBrokerId() != 1 || got.GetActiveControllerId() < 0 || got.GetRevision() == 0 {
		t.Errorf("got %v", got)
	}
	list, err := s.Cluster.ListBrokers(t.Context(), &pb.ListBrokersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	b := list.GetBrokers()[0]
	if b.GetBrokerId() != 1 || b.GetState() != pb.BrokerState_BROKER_STATE_ACTIVE || b.GetLeaderCount() != 3 || b.GetReplicaCount() != 3 || b.GetBrokerEpoch() == 0 {
		t.Errorf("got %v", b)
	}
	const lost = "/data/topics/00112233445566778899aabbccddeeff-7"
	if err := s.FS.MkdirAll(lost, 0o755); err != nil {
		t.Fatal(err)
	}
	file, err := s.FS.OpenFile(lost+"/x.log", os.O_CREATE|os.O_RDWR, 0o644)
	if err == nil {
		err = errors.Join(file.Truncate(123), file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	orphans, err := s.Cluster.ListOrphans(t.Context(), &pb.ListOrphansRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if o := orphans.GetOrphans(); len(o) != 1 || o[0].GetPartition() != 7 || len(o[0].GetTopicId()) != 16 || o[0].GetBrokerId() != 1 ||
		o[0].GetBytes() != 123 || o[0].GetTrash() || o[0].GetDirectory() != lost {
		t.Errorf("got %v", o)
	}
}
