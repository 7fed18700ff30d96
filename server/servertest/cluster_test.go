package servertest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
)

func TestRecordsAreOnThreeBrokersAndSurviveTheirLeader(t *testing.T) {
	c := servertest.StartCluster(t, servertest.ClusterOptions{})
	first := c.Members[0]
	if _, err := first.Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{
		Topic: "orders", PartitionCount: 1, ReplicationFactor: 3, Config: map[string]string{"min.insync.replicas": "2"},
	}); err != nil {
		t.Fatal(err)
	}
	written := 0
	for round := range 6 {
		leader := leaderOf(t, c)
		for range 20 {
			where, err := leader.Broker.Append(t.Context(), &pb.AppendRequest{
				Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: fmt.Sprint(written)}}},
			})
			if err != nil {
				t.Fatalf("round %d: append %d: %v", round, written, err)
			}
			if got := where.GetPlaces()[0].GetOffset(); got != int64(written) {
				t.Fatalf("round %d: record %d is at %d", round, written, got)
			}
			written++
		}
		leader.Stop()
		next := leaderOf(t, c)
		if next == leader {
			t.Fatalf("broker %d still leads", next.ID)
		}
		readAll(t, next, written)
		leader.Start()
		awaitInSync(t, next)
	}
}

// leaderOf waits for a leader that runs.
func leaderOf(t *testing.T, c *servertest.Cluster) *servertest.Member {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < 30*time.Second; {
		for _, m := range c.Members {
			if !m.Node.Ready() {
				continue
			}
			if p, _, err := m.Node.Partition("orders", 0); err == nil && p.State().Leading {
				return m
			}
		}
		<-time.After(time.Millisecond)
	}
	t.Fatal("nobody leads")
	return nil
}

func awaitInSync(t *testing.T, m *servertest.Member) {
	t.Helper()
	if _, err := m.Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool {
		tp := s.TopicByName("orders")
		return tp != nil && len(tp.Partitions[0].ISR) == 3
	}); err != nil {
		t.Fatal(err)
	}
}

func readAll(t *testing.T, m *servertest.Member, n int) {
	t.Helper()
	records, err := m.Broker.Read(t.Context(), &pb.ReadRequest{Topic: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	for want := range n {
		got, err := records.Recv()
		if err != nil {
			t.Fatalf("record %d of %d: %v", want, n, err)
		}
		if got.GetOffset() != int64(want) || got.GetText() != fmt.Sprint(want) {
			t.Fatalf("record %d: got %v", want, got)
		}
	}
}

// A broker is drained while it holds records: they are all there afterwards,
// and it can be forgotten.
func TestADrainedBrokerLeavesNothingBehind(t *testing.T) {
	c := servertest.StartCluster(t, servertest.ClusterOptions{Brokers: 4})
	first, last := c.Members[0], c.Members[3]
	if _, err := first.Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 1}); err != nil {
		t.Fatal(err)
	}
	leader := leaderOf(t, c)
	if leader == first { // which goes on to be asked
		first = last
	}
	const written = 50
	for i := range written {
		_, err := leader.Broker.Append(t.Context(), &pb.AppendRequest{
			Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: fmt.Sprint(i)}}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	drained, err := first.Cluster.DrainBroker(t.Context(), &pb.DrainBrokerRequest{BrokerId: leader.ID})
	if err != nil || drained.GetReplicaCount() != 1 {
		t.Fatal(drained, err)
	}
	awaitDrained(t, first, leader.ID)
	// Not the one that is drained, which may learn last that it leads no more.
	rest := &servertest.Cluster{Members: slices.DeleteFunc(slices.Clone(c.Members), func(m *servertest.Member) bool { return m == leader })}
	next := leaderOf(t, rest)
	readAll(t, next, written)
	awaitInSync(t, next)
	leader.Stop()
	remove(t, first, leader.ID)
	readAll(t, next, written)
}

// A broker whose disk is lost is replaced by one of another identity.
func TestALostBrokerIsReplaced(t *testing.T) {
	c := servertest.StartCluster(t, servertest.ClusterOptions{})
	if _, err := c.Members[0].Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 1}); err != nil {
		t.Fatal(err)
	}
	lost := leaderOf(t, c)
	for i := range 20 {
		_, err := lost.Broker.Append(t.Context(), &pb.AppendRequest{
			Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: fmt.Sprint(i)}}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	lost.Stop()
	fresh := c.Add(4)
	if drained, err := fresh.Cluster.DrainBroker(t.Context(), &pb.DrainBrokerRequest{BrokerId: lost.ID}); err != nil || drained.GetReplicaCount() != 1 {
		t.Fatal(drained, err)
	}
	awaitDrained(t, fresh, lost.ID)
	remove(t, fresh, lost.ID)
	leader := leaderOf(t, c)
	awaitInSync(t, leader)
	readAll(t, leader, 20)
}

// awaitDrained waits until a broker holds nothing of the topic orders.
func awaitDrained(t *testing.T, m *servertest.Member, id int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := m.Metadata.WaitFor(ctx, func(s *metadata.Snapshot) bool {
		p := s.TopicByName("orders").Partitions[0]
		return !slices.Contains(p.Replicas, id) && len(p.Target) == 0
	}); err != nil {
		t.Fatalf("broker %d is not drained: %v; %+v", id, err, *m.Metadata.Current().TopicByName("orders").Partitions[0])
	}
}

// remove has a broker forgotten that is stopped, as soon as that is known.
func remove(t *testing.T, m *servertest.Member, id int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := m.Metadata.WaitFor(ctx, func(s *metadata.Snapshot) bool { return s.Broker(id).Fenced }); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Cluster.RemoveBroker(t.Context(), &pb.RemoveBrokerRequest{BrokerId: id}); err != nil {
		t.Fatal(err)
	}
}
