package api_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/api"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
)

// appendTo appends plain values to a partition by any broker.
func appendTo(t *testing.T, c pb.BrokerServiceClient, partition uint32, values ...string) *pb.AppendResponse {
	t.Helper()
	r := &pb.AppendRequest{Topic: "t", Partition: new(partition)}
	for _, v := range values {
		r.Records = append(r.Records, &pb.AppendRecord{ValueForm: &pb.AppendRecord_Text{Text: v}})
	}
	got, err := c.Append(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// readFrom reads a partition to its end by any broker.
func readFrom(t *testing.T, c pb.BrokerServiceClient, r *pb.ReadRequest) (values []string, err error) {
	t.Helper()
	st, err := c.Read(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for {
		m, err := st.Recv()
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			return values, err
		}
		values = append(values, m.GetText())
	}
}

func TestAnyBrokerAppendsAndReadsWhatAnotherLeads(t *testing.T) {
	c := servertest.StartForwarders(t, 3, servertest.Options{})
	led := c.CreateTopic("t", 3)
	for _, asked := range []int32{1, 2, 3} {
		for leader, partitions := range led {
			got := appendTo(t, c.Broker(asked).Broker, partitions[0], fmt.Sprint("by ", asked))
			place := got.GetPlaces()[0]
			if place.GetOffset() != int64(asked-1) || place.GetPartition() != partitions[0] {
				t.Fatalf("broker %d, asked for what %d leads, says %v", asked, leader, place)
			}
			if got.GetAck().GetScope() != pb.AckScope_ACK_SCOPE_ISR || got.GetAck().GetInSyncReplicas() != 1 {
				t.Errorf("the ack is %v", got.GetAck())
			}
		}
	}
	for _, asked := range []int32{1, 2, 3} {
		for _, partitions := range led {
			values, err := readFrom(t, c.Broker(asked).Broker, &pb.ReadRequest{Topic: "t", Partition: partitions[0]})
			if err != nil || !slices.Equal(values, []string{"by 1", "by 2", "by 3"}) {
				t.Fatalf("broker %d reads %q, %v", asked, values, err)
			}
		}
	}
}

func TestAnAppendWithKeysGoesToAllLeaders(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{})
	led := c.CreateTopic("t", 4)
	r := &pb.AppendRequest{Topic: "t"}
	for i := range 100 {
		r.Records = append(r.Records, &pb.AppendRecord{
			KeyForm: &pb.AppendRecord_KeyText{KeyText: fmt.Sprint("k", i)}, ValueForm: &pb.AppendRecord_Text{Text: fmt.Sprint(i)},
		})
	}
	got, err := c.Broker(2).Broker.Append(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	at := make(map[uint32][]string)
	for i, p := range got.GetPlaces() {
		if p.Offset == nil || p.GetOffset() != int64(len(at[p.GetPartition()])) {
			t.Fatalf("record %d is at %v, %d came before it", i, p, len(at[p.GetPartition()]))
		}
		at[p.GetPartition()] = append(at[p.GetPartition()], fmt.Sprint(i))
	}
	if len(at) != 4 {
		t.Fatalf("only %d partitions have records", len(at))
	}
	for _, partitions := range led {
		for _, id := range partitions {
			values, err := readFrom(t, c.Broker(1).Broker, &pb.ReadRequest{Topic: "t", Partition: id})
			if err != nil || !slices.Equal(values, at[id]) {
				t.Fatalf("partition %d has %q, %v; want %q", id, values, err, at[id])
			}
		}
	}
}

func TestAnyBrokerKnowsOffsetsAndDeletesRecords(t *testing.T) {
	c := servertest.StartForwarders(t, 3, servertest.Options{})
	led := c.CreateTopic("t", 3)
	for _, partitions := range led {
		appendTo(t, c.Broker(1).Broker, partitions[0], "a", "b", "c")
	}
	for _, asked := range []int32{1, 2, 3} {
		got, err := c.Broker(asked).Topic.ListOffsets(t.Context(), &pb.ListOffsetsRequest{
			Topic: "t", At: &pb.ListOffsetsRequest_Latest{Latest: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range got.GetOffsets() {
			if o.GetError() != nil || o.GetPartition() != uint32(i) || o.GetOffset() != 3 {
				t.Fatalf("broker %d says %v of partition %d", asked, o, i)
			}
		}
	}
	other := led[2][0]
	done, err := c.Broker(1).Topic.DeleteRecords(t.Context(), &pb.DeleteRecordsRequest{Topic: "t", Partition: other, BeforeOffset: new(int64(2))})
	if err != nil || done.GetLogStart() != 2 {
		t.Fatal(done, err)
	}
	values, err := readFrom(t, c.Broker(3).Broker, &pb.ReadRequest{Topic: "t", Partition: other})
	if err != nil || !slices.Equal(values, []string{"c"}) {
		t.Fatalf("what is left is %q, %v", values, err)
	}
}

// Whoever is asked says what the logs of a topic hold, unless it is to ask
// nobody, or a leader does not answer: then the metadata is there without.
func TestAnyBrokerDescribesWhatOthersLead(t *testing.T) {
	c := servertest.StartForwarders(t, 3, servertest.Options{})
	led := c.CreateTopic("t", 3)
	for _, partitions := range led {
		appendTo(t, c.Broker(1).Broker, partitions[0], "a", "b", "c")
	}
	if _, err := c.Broker(1).Topic.DeleteRecords(t.Context(), &pb.DeleteRecordsRequest{Topic: "t", Partition: led[2][0], BeforeOffset: new(int64(2))}); err != nil {
		t.Fatal(err)
	}
	// describe returns the start of each partition; -1: it is not said.
	describe := func(asked int32, only bool) []int64 {
		t.Helper()
		got, err := c.Broker(asked).Topic.GetTopic(t.Context(), &pb.GetTopicRequest{Topic: "t", MetadataOnly: only})
		if err != nil || len(got.GetPartitions()) != 3 {
			t.Fatal(got, err)
		}
		starts := make([]int64, 3)
		for i, p := range got.GetPartitions() {
			known := p.Start != nil
			if p.GetPartition() != uint32(i) || known != (p.End != nil) || known != (p.GetEnd() == 3) || known != (p.GetBytes() > 0) || known != (p.GetSegments() == 1) || p.GetOfflineReason() != "" {
				t.Errorf("broker %d says %v", asked, p)
			}
			starts[p.GetLeader().GetBrokerId()-1] = -1
			if known {
				starts[p.GetLeader().GetBrokerId()-1] = p.GetStart()
			}
		}
		return starts
	}
	for _, asked := range []int32{1, 2, 3} {
		if got := describe(asked, false); !slices.Equal(got, []int64{0, 2, 0}) {
			t.Errorf("broker %d says that the logs of leaders 1, 2, 3 begin at %v", asked, got)
		}
	}
	if got := describe(1, true); !slices.Equal(got, []int64{0, -1, -1}) {
		t.Errorf("asked for metadata alone broker 1 says %v", got)
	}
	c.Broker(1).StopController() // so that broker 3 leads, as far as anybody knows
	c.Broker(3).Stop()
	if got := describe(1, false); !slices.Equal(got, []int64{0, 2, -1}) {
		t.Errorf("without broker 3, broker 1 says %v", got)
	}
}

func TestErrorsOfTheLeaderReachTheClient(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{})
	led := c.CreateTopic("t", 2)
	other := led[2][0]
	_, err := readFrom(t, c.Broker(1).Broker, &pb.ReadRequest{Topic: "t", Partition: other, Start: &pb.ReadRequest_Offset{Offset: 7}})
	e := wantStatus(t, err, codes.OutOfRange, pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE)
	if e.GetOffsetRange() == nil {
		t.Errorf("%v has no range", e)
	}
	_, err = c.Broker(1).Broker.Append(t.Context(), &pb.AppendRequest{Topic: "t", Partition: new(other), Records: []*pb.AppendRecord{{
		ValueForm: &pb.AppendRecord_Text{Text: "x"}, Time: &timestamppb.Timestamp{Seconds: 253_402_300_000},
	}}})
	wantStatus(t, err, codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_TIMESTAMP_TOO_FAR_AHEAD)
}

// The leader is stopped: nothing was sent, so the client may come again.
func TestALeaderThatCannotBeReachedIsSaidToBeSo(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{Limits: api.Limits{RevisionWait: 1}})
	led := c.CreateTopic("t", 2)
	c.Broker(2).Stop()
	_, err := c.Broker(1).Broker.Append(t.Context(), &pb.AppendRequest{
		Topic: "t", Partition: new(led[2][0]), Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: "x"}}},
	})
	if e := wantStatus(t, err, codes.Unavailable, pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE); !e.GetRetryable() {
		t.Errorf("%v is not retryable", e)
	}
}

func TestALeaderThatCameBackIsAskedInItsNewEpoch(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{})
	led := c.CreateTopic("t", 2)
	before := appendTo(t, c.Broker(1).Broker, led[2][0], "x").GetPlaces()[0]
	c.Broker(2).Restart()
	// A partition whose leader is gone has a new epoch, too, and no leader in it:
	// an append then is refused, to come again later.
	c.Broker(1).Await(t.Context(), func(m *metadata.Snapshot) bool {
		p := m.TopicByName("t").Partition(led[2][0])
		return p.Leader == 2 && p.LeaderEpoch > before.GetLeaderEpoch() && !m.Broker(2).Fenced
	})
	after := appendTo(t, c.Broker(1).Broker, led[2][0], "y").GetPlaces()[0]
	if after.GetOffset() != 1 || after.GetLeaderEpoch() <= before.GetLeaderEpoch() {
		t.Errorf("after %v comes %v", before, after)
	}
}
