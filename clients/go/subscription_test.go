package millstream

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millstream-io/millstream/clients/go/internal/wire"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// A receiver may be held up between the two steps of taking a frame. What the
// next route delivers must not overtake it.
func TestAPartitionThatMovesIsNotReadElsewhereBeforeItsLastFrameIsHandedOver(t *testing.T) {
	var q subscriptions
	q.routes.own = newRoute("any:1")
	q.routes.begin = func(*route) {} // it is there when the test says so
	q.add(0, Earliest())
	o, topic := &ReaderOptions{Topic: "t"}, &pb.Topic{}
	m, _ := q.due(q.routes.own, o, topic)
	if len(m.GetSubscribe()) != 1 {
		t.Fatalf("asked for %v", m)
	}
	f := &frame{Frame: wire.Frame{SubscriptionID: m.GetSubscribe()[0].GetSubscriptionId(), NextOffset: 7, Leader: []byte("leader:1")}}
	v, s := q.receive(f, o)
	if v != frameWanted {
		t.Fatalf("the frame is not wanted: %v", v)
	}
	direct := q.routes.direct["leader:1"]
	q.arrive(direct)
	if s.route != direct {
		t.Fatal("the partition has not moved")
	}
	<-direct.wake
	if m, _ := q.due(direct, o, topic); len(m.GetSubscribe()) != 0 {
		t.Errorf("asked the leader for %v while a frame is not handed over", m.GetSubscribe())
	}
	if left := q.handed(s); left != 1 {
		t.Errorf("%d partitions are left", left)
	}
	<-direct.wake
	m, _ = q.due(direct, o, topic)
	if len(m.GetSubscribe()) != 1 || m.GetSubscribe()[0].GetPosition().GetOffset() != 7 {
		t.Errorf("asked the leader for %v", m.GetSubscribe())
	}
}

// Past a divergence the end is the one that the log has then, also for the frame
// that says so.
func TestPastADivergenceTheEndIsThatOfTheLog(t *testing.T) {
	var q subscriptions
	q.routes.own = newRoute("any:1")
	q.add(0, Earliest())
	o, topic := &ReaderOptions{Topic: "t", UntilEnd: true, PastDivergence: true, RetryFor: time.Hour}, &pb.Topic{}
	ask := func() *pb.FetchSubscription {
		t.Helper()
		for _, s := range q.all {
			s.notBefore = time.Time{}
		}
		m, _ := q.due(q.routes.own, o, topic)
		if len(m.GetSubscribe()) != 1 {
			t.Fatalf("asked for %v", m)
		}
		return m.GetSubscribe()[0]
	}
	take := func(f wire.Frame) *frame {
		t.Helper()
		got := &frame{Frame: f}
		if _, s := q.receive(got, o); s == nil {
			t.Fatal("the frame is of no subscription")
		} else {
			q.handed(s)
		}
		return got
	}
	first := ask()
	if f := take(wire.Frame{SubscriptionID: first.GetSubscriptionId(), NextOffset: 7, HighWatermark: 9}); f.to != 9 {
		t.Errorf("records from %d on are not wanted", f.to)
	}
	q.reset(q.routes.own) // the stream ends
	second := ask()
	if second.GetEnd() != 9 || second.GetPosition().GetOffset() != 7 {
		t.Errorf("asked for %v", second)
	}
	said, err := proto.Marshal(&pb.RequestError{
		Reason: pb.ErrorReason_ERROR_REASON_DIVERGED, Detail: &pb.RequestError_Divergence{Divergence: &pb.Divergence{SafeOffset: 5}},
	})
	if err != nil {
		t.Fatal(err)
	}
	take(wire.Frame{SubscriptionID: second.GetSubscriptionId(), Control: wire.ControlError, ControlBytes: said})
	third := ask()
	if third.End != nil || third.GetPosition().GetOffset() != 5 {
		t.Errorf("asked for %v", third)
	}
	if f := take(wire.Frame{SubscriptionID: third.GetSubscriptionId(), NextOffset: 12, HighWatermark: 14}); f.to != 14 || q.all[0].over {
		t.Errorf("records from %d on are not wanted, over %v", f.to, q.all[0].over)
	}
}
