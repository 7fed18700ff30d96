package servertest_test

import (
	"testing"

	"go.uber.org/goleak"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatIsAppendedIsThereAfterARestart(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("orders", 1)
	where, err := s.Broker.Append(t.Context(), &pb.AppendRequest{
		Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: "hello"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := where.GetPlaces()[0]; got.GetOffset() != 0 || where.GetAck().GetMedium() != pb.AckMedium_ACK_MEDIUM_DISK {
		t.Errorf("got %v", where)
	}
	before := where.GetPlaces()[0].GetLeaderEpoch()
	s.Restart()
	records, err := s.Broker.Read(t.Context(), &pb.ReadRequest{Topic: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := records.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if got.GetText() != "hello" || got.GetLeaderEpoch() != before {
		t.Errorf("got %v", got)
	}
	// Every incarnation leads in an epoch of its own (rule H6).
	described, err := s.Topic.GetTopic(t.Context(), &pb.GetTopicRequest{Topic: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	if now := described.GetPartitions()[0].GetLeader().GetLeaderEpoch(); now <= before {
		t.Errorf("leader epoch %d after a restart, %d before", now, before)
	}
}
