package servertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/servertest"
)

// padding makes records large enough that a leader has not sent all of them when
// a reader has the first.
var padding = strings.Repeat("x", 32<<10)

// appendLarge appends records through a broker, ten at once.
func appendLarge(t *testing.T, m *servertest.Member, from, to int) {
	t.Helper()
	for from < to {
		r := &pb.AppendRequest{Topic: "orders"}
		for ; from < to && len(r.GetRecords()) < 10; from++ {
			r.Records = append(r.Records, &pb.AppendRecord{
				KeyForm: &pb.AppendRecord_KeyText{KeyText: fmt.Sprint(from)}, ValueForm: &pb.AppendRecord_Text{Text: padding},
			})
		}
		appendWhole(t, m, r)
	}
}

// appendWhole appends records, once enough replicas are in sync.
func appendWhole(t *testing.T, m *servertest.Member, r *pb.AppendRequest) {
	t.Helper()
	for begun := time.Now(); ; <-time.After(10 * time.Millisecond) {
		_, err := m.Broker.Append(t.Context(), r)
		if err == nil {
			return
		}
		f := rpc.FaultFromStatus(err)
		if f == nil || f.Reason != pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_REPLICAS || time.Since(begun) > 30*time.Second {
			t.Fatal(err)
		}
	}
}

// bystander returns a broker that has no replica of the partition.
func bystander(t *testing.T, c *servertest.Cluster) *servertest.Member {
	t.Helper()
	for _, m := range c.Members {
		s, err := m.Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool { return s.TopicByName("orders") != nil })
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(s.TopicByName("orders").Partitions[0].Replicas, m.ID) {
			return m
		}
	}
	t.Fatal("every broker has a replica")
	return nil
}

// reads receives what a Read sends, without gap or repetition, up to an offset.
func reads(t *testing.T, st grpc.ServerStreamingClient[pb.ReadResponse], from, to int) {
	t.Helper()
	for ; from < to; from++ {
		got, err := st.Recv()
		if err != nil {
			t.Fatalf("at %d: %v", from, err)
		}
		if got.GetOffset() != int64(from) || got.GetKeyText() != fmt.Sprint(from) {
			t.Fatalf("record %q at %d, want %d", got.GetKeyText(), got.GetOffset(), from)
		}
	}
}

// The leader is killed in the middle of a Read that another broker passes on:
// the client has one stream without gap or repetition, and the end that it saw.
func TestAForwardedReadOutlivesItsLeader(t *testing.T) {
	const records, more = 400, 20
	for name, end := range map[string]func(*servertest.Member){
		"killed": (*servertest.Member).Kill, "stopped": (*servertest.Member).Stop,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := servertest.StartCluster(t, servertest.ClusterOptions{Brokers: 4})
			fill(t, c, 0)
			leader := leaderOf(t, c)
			appendLarge(t, leader, 0, records)
			via := bystander(t, c)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			all, err := via.Broker.Read(ctx, &pb.ReadRequest{Topic: "orders", MinRevision: leader.Metadata.Current().Revision})
			if err != nil {
				t.Fatal(err)
			}
			following, err := via.Broker.Read(ctx, &pb.ReadRequest{Topic: "orders", Follow: true})
			if err != nil {
				t.Fatal(err)
			}
			reads(t, all, 0, 5)
			reads(t, following, 0, 5)
			end(leader)
			// Through the broker that passes on: it waits for the next leader.
			appendLarge(t, via, records, records+more)
			reads(t, all, 5, records)
			if got, err := all.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("behind the end that was seen: %v, %v", got.GetOffset(), err)
			}
			reads(t, following, 5, records+more)
		})
	}
}

// The same for a subscription with an end.
func TestAForwardedSubscriptionWithAnEndOutlivesItsLeader(t *testing.T) {
	const records = 400
	c := servertest.StartCluster(t, servertest.ClusterOptions{Brokers: 4})
	fill(t, c, 0)
	leader := leaderOf(t, c)
	appendLarge(t, leader, 0, records)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	st, err := bystander(t, c).Broker.Fetch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const window = 256 << 10
	if err := st.Send(&pb.FetchRequest{Credit: new(uint64(window)), Subscribe: []*pb.FetchSubscription{{
		Topic: "orders", Form: pb.FetchForm_FETCH_FORM_RECORDS, UntilEnd: true, MinRevision: leader.Metadata.Current().Revision,
	}}}); err != nil {
		t.Fatal(err)
	}
	next, used := 0, uint64(0)
	for finished := false; !finished; {
		m, err := st.Recv()
		if err != nil || m.GetError() != nil || m.GetReroute() != nil {
			t.Fatalf("at %d: %v, %v", next, m.GetError(), err)
		}
		for _, r := range m.GetRecords() {
			if r.GetOffset() != int64(next) || string(r.GetKey()) != fmt.Sprint(next) {
				t.Fatalf("record %q at %d, want %d", r.GetKey(), r.GetOffset(), next)
			}
			next++
		}
		if used == 0 {
			leader.Kill()
		}
		used += uint64(m.GetCreditUsed())
		finished = m.GetCaughtUp().GetFinished()
		if err := st.Send(&pb.FetchRequest{Credit: new(used + window)}); err != nil {
			t.Fatal(err)
		}
	}
	if next != records {
		t.Errorf("%d records, want %d", next, records)
	}
}

// The next leader lacks what a Read has sent already, since an operator has had
// it lead without who had everything: the Read does not go on as if nothing were.
func TestAForwardedReadOfATruncatedLogEndsDiverged(t *testing.T) {
	const before, behind = 100, 300
	c := servertest.StartCluster(t, servertest.ClusterOptions{Brokers: 3})
	if _, err := c.Members[0].Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{
		Topic: "orders", PartitionCount: 1, ReplicationFactor: 2, Config: map[string]string{"min.insync.replicas": "1"},
	}); err != nil {
		t.Fatal(err)
	}
	leader := leaderOf(t, c)
	via := bystander(t, c)
	var follower *servertest.Member
	for _, m := range c.Members {
		if m != leader && m != via {
			follower = m
		}
	}
	appendLarge(t, leader, 0, before)
	follower.Kill()
	appendLarge(t, leader, before, before+behind) // which it has alone
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	st, err := via.Broker.Read(ctx, &pb.ReadRequest{Topic: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	reads(t, st, 0, before+1)
	leader.Kill()
	follower.Start()
	recoverFrom(t, via, leader.ID)
	next := before + 1
	for {
		got, err := st.Recv()
		if err == nil {
			if got.GetOffset() != int64(next) || got.GetKeyText() != fmt.Sprint(next) {
				t.Fatalf("record %q at %d, want %d", got.GetKeyText(), got.GetOffset(), next)
			}
			next++ // was on its way
			continue
		}
		f := rpc.FaultFromStatus(err)
		if f == nil || f.Reason != pb.ErrorReason_ERROR_REASON_DIVERGED || f.Divergence.GetSafeOffset() != before {
			t.Fatalf("at %d: %v", next, err)
		}
		return
	}
}

// recoverFrom has whoever is left lead the partition, without a broker that had
// more.
func recoverFrom(t *testing.T, m *servertest.Member, lost int32) {
	t.Helper()
	for begun := time.Now(); ; <-time.After(20 * time.Millisecond) {
		_, err := m.Cluster.RecoverPartition(t.Context(), &pb.RecoverPartitionRequest{
			Topic: "orders", LostBrokerIds: []int32{lost}, AcceptLoss: true,
		})
		if err == nil {
			return
		}
		if time.Since(begun) > 20*time.Second {
			t.Fatal(err)
		}
	}
}
