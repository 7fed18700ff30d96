package api_test

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
)

func TestAProduceStreamToAnyBrokerReachesAllLeaders(t *testing.T) {
	c := servertest.StartForwarders(t, 3, servertest.Options{})
	c.CreateTopic("t", 6)
	const each = 50
	for asked := range int32(3) {
		p := openProducer(t, c.Broker(asked+1).Broker)
		for i := range each {
			for id := range uint32(6) {
				p.send(&pb.ProduceRequest{Topic: "t", Partition: new(id), Batch: batch(fmt.Sprintf("%d-%d", asked, i))})
			}
		}
		next := make(map[uint32]int64)
		for range each * 6 {
			a := p.next()
			if a.GetError() != nil {
				t.Fatal(a.GetError())
			}
			// Answers of a partition come in its order.
			if want := int64(asked)*each + next[a.GetPartition()]; a.GetBaseOffset() != want {
				t.Fatalf("partition %d: offset %d, want %d", a.GetPartition(), a.GetBaseOffset(), want)
			}
			next[a.GetPartition()]++
		}
		p.end(0)
	}
	for id := range uint32(6) {
		values, err := readFrom(t, c.Broker(1).Broker, &pb.ReadRequest{Topic: "t", Partition: id})
		if err != nil || len(values) != 3*each {
			t.Fatalf("partition %d has %d records, %v", id, len(values), err)
		}
		for i, v := range values {
			if want := fmt.Sprintf("%d-%d", i/each, i%each); v != want {
				t.Fatalf("partition %d, offset %d is %q, want %q", id, i, v, want)
			}
		}
	}
}

func TestAForwardedAnswerSaysOnceWhereTheLeaderIs(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{})
	led := c.CreateTopic("t", 2)
	p := openProducer(t, c.Broker(1).Broker)
	for i := range 3 {
		a := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(led[2][0]), Batch: batch("x")})
		to := a.GetReroute()
		if first := i == 0; (a.GetLeader() != nil) != first || (to != nil) != first {
			t.Fatalf("answer %d has the hint %v and the reroute %v", i, a.GetLeader(), to)
		} else if first && (to.GetTopic() != "t" || to.GetPartition() != led[2][0] || to.GetLeader().GetBrokerId() != 2 ||
			to.GetLeader().GetAddress() != c.Broker(2).Address() || !proto.Equal(to.GetLeader(), a.GetLeader())) {
			t.Errorf("the hint is %v, the reroute %v", a.GetLeader(), to)
		}
	}
	if a := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(led[1][0]), Batch: batch("x")}); a.GetLeader() != nil || a.GetReroute() != nil {
		t.Errorf("what was not forwarded has the hint %v and the reroute %v", a.GetLeader(), a.GetReroute())
	}
	p.end(0)
	// Another stream has another client, for all the broker knows.
	p = openProducer(t, c.Broker(1).Broker)
	if a := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(led[2][0]), Batch: batch("x"), Acks: pb.Acks_ACKS_NONE}); a.GetReroute().GetLeader().GetBrokerId() != 2 {
		t.Errorf("without acks the answer is %v", a)
	}
	p.end(0)
}

// One answer names one partition; the others of a split request are named later,
// and none twice.
func TestEachPartitionOfASplitRequestIsNamedInTime(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{})
	led := c.CreateTopic("t", 6)
	var keys []string
	for i := range 100 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	p := openProducer(t, c.Broker(1).Broker)
	var named []uint32
	for range len(led[2]) + 2 {
		a := p.ask(&pb.ProduceRequest{Topic: "t", Batch: keyed(keys...)})
		if a.GetError() != nil || len(a.GetParts()) != 6 {
			t.Fatalf("the answer is %v", a)
		}
		if to := a.GetReroute(); to != nil {
			named = append(named, to.GetPartition())
		}
	}
	p.end(0)
	slices.Sort(named)
	if want := slices.Sorted(slices.Values(led[2])); !slices.Equal(named, want) {
		t.Errorf("named were the partitions %v, and led elsewhere are %v", named, want)
	}
}

func TestARequestWithoutPartitionIsDividedAmongLeaders(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{})
	c.CreateTopic("t", 4)
	var keys []string
	for i := range 100 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	p := openProducer(t, c.Broker(1).Broker)
	a := p.ask(&pb.ProduceRequest{Topic: "t", Batch: keyed(keys...)})
	if a.GetError() != nil || len(a.GetParts()) != 4 {
		t.Fatalf("the answer is %v", a)
	}
	p.end(0)
	for _, part := range a.GetParts() {
		var want []string
		for _, k := range part.GetRecords() {
			want = append(want, keys[k])
		}
		values, err := readFrom(t, c.Broker(2).Broker, &pb.ReadRequest{Topic: "t", Partition: part.GetPartition()})
		if err != nil || !slices.Equal(values, want) {
			t.Fatalf("partition %d has %q, %v; want %q", part.GetPartition(), values, err, want)
		}
	}
}

func TestNoForwardIsToldWhoLeads(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{})
	led := c.CreateTopic("t", 2)
	p := openProducer(t, c.Broker(1).Broker)
	a := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(led[2][0]), Batch: batch("x"), NoForward: true})
	wantError(t, a.GetError(), codes.FailedPrecondition, pb.ErrorReason_ERROR_REASON_NOT_LEADER)
	if a.GetError().GetLeader().GetBrokerId() != 2 {
		t.Errorf("the error says %v", a.GetError())
	}
	a = p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(led[2][0]), Batch: batch("x"), Restart: true, LeaderEpoch: new(int32(1))})
	wantError(t, a.GetError(), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_UNSUPPORTED_FIELD)
	p.end(0)
}

// What fails at the leader refuses what comes after it, at whichever broker it
// is then, until a restart.
func TestTheOrderOfAPartitionHoldsThroughForwarding(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{})
	led := c.CreateTopic("t", 2)
	id := led[2][0]
	p := openProducer(t, c.Broker(1).Broker)
	if a := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(id), Batch: batch("a")}); a.GetError() != nil {
		t.Fatal(a.GetError())
	}
	c.Broker(2).Stop()
	a := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(id), Batch: batch("b")})
	if a.GetError() == nil {
		t.Fatalf("%v was acknowledged by a broker that has stopped", a)
	}
	a = p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(id), Batch: batch("c")})
	wantError(t, a.GetError(), codes.Aborted, pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED)
	c.Broker(2).Restart()
	epoch := c.Broker(2).Metadata.Current().TopicByName("t").Partition(id).LeaderEpoch
	c.Broker(1).Await(t.Context(), func(m *metadata.Snapshot) bool { return m.TopicByName("t").Partition(id).LeaderEpoch >= epoch })
	a = p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(id), Batch: batch("d")})
	wantError(t, a.GetError(), codes.Aborted, pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED)
	a = p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(id), Batch: batch("e"), Restart: true})
	if a.GetError() != nil {
		t.Fatal(a.GetError())
	}
	p.end(0)
	values, err := readFrom(t, c.Broker(1).Broker, &pb.ReadRequest{Topic: "t", Partition: id})
	if err != nil || !slices.Equal(values, []string{"a", "e"}) {
		t.Fatalf("the partition has %q, %v", values, err)
	}
}

func TestForwardedRequestsWithoutAcksAreAnsweredAndArrive(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{})
	led := c.CreateTopic("t", 2)
	p := openProducer(t, c.Broker(1).Broker)
	for range 20 {
		a := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(led[2][0]), Batch: batch("x"), Acks: pb.Acks_ACKS_NONE})
		if a.GetError() != nil || a.BaseOffset != nil {
			t.Fatalf("the answer is %v", a)
		}
	}
	// Behind them, so that they are written when it is acknowledged.
	if a := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(led[2][0]), Batch: batch("y")}); a.GetBaseOffset() != 20 {
		t.Fatalf("what comes after 20 records is at %v", a)
	}
	p.end(0)
}
