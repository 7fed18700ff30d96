package servertest_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
)

// A move is as fast as was asked, or as controllers are set, and says what is left;
// producers do not wait for it.
func TestAMoveIsThrottled(t *testing.T) {
	const rate, records, size = 500_000, 20, 100_000
	for name, c := range map[string]struct{ asked, set uint64 }{"by the command": {rate, 0}, "by the controllers": {0, rate}} {
		t.Run(name, func(t *testing.T) {
			cl := servertest.StartCluster(t, servertest.ClusterOptions{Brokers: 4, MoveBytes: c.set})
			first := cl.Members[0]
			if _, err := first.Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 1}); err != nil {
				t.Fatal(err)
			}
			leader := leaderOf(t, cl)
			add := func() {
				t.Helper()
				if _, err := leader.Broker.Append(t.Context(), &pb.AppendRequest{
					Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Value{Value: bytes.Repeat([]byte{7}, size)}}},
				}); err != nil {
					t.Fatal(err)
				}
			}
			for range records {
				add()
			}
			was := leader.Metadata.Current().TopicByName("orders").Partitions[0].Replicas
			var added int32
			for _, m := range cl.Members {
				if !slices.Contains(was, m.ID) {
					added = m.ID
				}
			}
			to := []int32{leader.ID, added}
			for _, id := range was {
				if id != leader.ID && len(to) < 3 {
					to = append(to, id)
				}
			}
			begun := time.Now()
			if _, err := leader.Cluster.ReassignPartitions(t.Context(), &pb.ReassignPartitionsRequest{
				Reassignments: []*pb.Reassignment{{Topic: "orders", Replicas: to}}, BytesPerSecond: c.asked,
			}); err != nil {
				t.Fatal(err)
			}
			add() // in the middle of it
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("an append waited %v for a move", took)
			}
			told := awaitProgress(t, leader, added)
			if told.GetBytesLeft() > (records+1)*(size+1000) || told.GetRecordsLeft() > records+1 {
				t.Errorf("more is left than there is: %v", told)
			}
			if _, err := leader.Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool {
				p := s.TopicByName("orders").Partitions[0]
				return len(p.Target) == 0 && slices.Contains(p.ISR, added)
			}); err != nil {
				t.Fatal(err)
			}
			// What there was before, less the burst and the last push.
			if took, least := time.Since(begun), (records*size-rate/4-256<<10)*time.Second/rate; took < least {
				t.Errorf("%d bytes were moved in %v, at %d a second", records*size, took, rate)
			}
		})
	}
}

// awaitProgress waits until it is told what a replica that is added lacks.
func awaitProgress(t *testing.T, m *servertest.Member, added int32) *pb.FillProgress {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < 10*time.Second; {
		<-time.After(10 * time.Millisecond)
		list, err := m.Cluster.ListReassignments(t.Context(), &pb.ListReassignmentsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.GetReassignments() {
			for _, p := range o.GetProgress() {
				if p.GetBrokerId() == added && p.GetBytesLeft() > 0 && p.GetRecordsLeft() > 0 {
					return p
				}
			}
		}
	}
	t.Fatal("nobody says how far the move is")
	return nil
}
