package servertest_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
)

// A leader that is cut off from all others, and has been replaced, does not
// tell where the log ends, and delivers what it has only for the lease. Without
// the lease it would do both for ever.
func TestALeaderThatIsCutOffSaysNothingStale(t *testing.T) {
	c := servertest.StartCluster(t, servertest.ClusterOptions{})
	fill(t, c, 5)
	old := leaderOf(t, c)
	awaitInSync(t, old)
	tail := fetchFrom(t, old, &pb.FetchPosition{At: &pb.FetchPosition_Earliest{Earliest: &pb.Earliest{}}})
	nextRecords(t, tail, 5)
	old.Isolate()
	next := notLeading(c, old)
	if _, err := next.Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool {
		leader := s.TopicByName("orders").Partitions[0].Leader
		return leader >= 0 && leader != old.ID
	}); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := next.Broker.Append(t.Context(), &pb.AppendRequest{
			Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: fmt.Sprint(5 + i)}}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	if p, _, err := old.Node.Partition("orders", 0); err != nil || !p.State().Leading {
		t.Fatalf("the old leader knows that it was replaced: the test shows nothing (%v)", err)
	}
	offsets, err := old.Topic.ListOffsets(t.Context(), &pb.ListOffsetsRequest{Topic: "orders", At: &pb.ListOffsetsRequest_Latest{Latest: true}})
	if err != nil {
		t.Fatal(err)
	}
	if got := offsets.GetOffsets()[0]; got.GetError().GetReason() != pb.ErrorReason_ERROR_REASON_NOT_FRESH || !got.GetError().GetRetryable() {
		t.Errorf("asked for the end, it says %v", got)
	}
	// Who waits at its end is told, and who comes.
	wantNotFresh(t, tail, "a subscription that waits")
	wantNotFresh(t, fetchFrom(t, old, &pb.FetchPosition{At: &pb.FetchPosition_Offset{}}), "one from the start")
	wantNotFresh(t, fetchFrom(t, old, &pb.FetchPosition{At: &pb.FetchPosition_BeforeEnd{BeforeEnd: 1}}), "one before the end")
	// It was read at the new leader: that it is out of range would be wrong.
	wantNotFresh(t, fetchFrom(t, old, &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: 8}}), "one behind the end")
	records, err := old.Broker.Read(t.Context(), &pb.ReadRequest{Topic: "orders"})
	if err == nil {
		_, err = records.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("Read ends with %v", err)
	}
	reason, retry := "", false
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			reason = d.GetReason()
		case *errdetails.RetryInfo:
			retry = d.GetRetryDelay().AsDuration() > 0
		}
	}
	if reason != "NOT_FRESH" || !retry {
		t.Errorf("Read ends with reason %q, and says when to retry: %t", reason, retry)
	}
	readAll(t, next, 10)
}

// A leader that is cut off from the controllers as well has nobody else to hear
// it from: when the brokers who followed it are there again, which nobody does
// any more, they tell it that it was replaced.
func TestALeaderThatWasReplacedWhileItWasCutOffIsToldByItsFollowers(t *testing.T) {
	c := servertest.StartCluster(t, servertest.ClusterOptions{})
	fill(t, c, 5)
	old := leaderOf(t, c)
	awaitInSync(t, old)
	old.Isolate()
	next := notLeading(c, old)
	if _, err := next.Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool {
		leader := s.TopicByName("orders").Partitions[0].Leader
		return leader >= 0 && leader != old.ID
	}); err != nil {
		t.Fatal(err)
	}
	p, _, err := old.Node.Partition("orders", 0)
	if err != nil || !p.State().Leading {
		t.Fatalf("the old leader knows that it was replaced: the test shows nothing (%v)", err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := old.Broker.Append(t.Context(), &pb.AppendRequest{
			Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: "in vain"}}},
		})
		waits <- err
	}()
	old.Reunite()
	select {
	case err := <-waits:
		if err == nil {
			t.Error("what it took is acknowledged")
		}
	case <-time.After(20 * time.Second):
		t.Error("what it took waits")
	}
	if p.State().Leading {
		t.Error("it leads on")
	}
}

type fetching = interface {
	Recv() (*pb.FetchResponse, error)
}

func fetchFrom(t *testing.T, m *servertest.Member, at *pb.FetchPosition) fetching {
	t.Helper()
	stream, err := m.Broker.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.FetchRequest{Subscribe: []*pb.FetchSubscription{{Topic: "orders", Form: pb.FetchForm_FETCH_FORM_RECORDS, Position: at}}}); err != nil {
		t.Fatal(err)
	}
	return stream
}

// nextRecords returns the next records of a stream, at least so many.
func nextRecords(t *testing.T, stream fetching, n int) (out []*pb.FetchedRecord) {
	t.Helper()
	for len(out) < n {
		m, err := stream.Recv()
		if err != nil || m.GetError() != nil {
			t.Fatalf("after %d records: %v, %v", len(out), m.GetError(), err)
		}
		out = append(out, m.GetRecords()...)
	}
	return out
}

func wantNotFresh(t *testing.T, stream fetching, what string) {
	t.Helper()
	begun := time.Now()
	for time.Since(begun) < 20*time.Second {
		m, err := stream.Recv()
		switch {
		case err != nil:
			t.Fatalf("%s: the stream ends with %v", what, err)
		case m.GetError().GetReason() == pb.ErrorReason_ERROR_REASON_NOT_FRESH:
			return
		case m.GetError() != nil || len(m.GetRecords()) > 0:
			t.Fatalf("%s: it is sent %v", what, m)
		}
	}
	t.Fatalf("%s: is not told", what)
}
