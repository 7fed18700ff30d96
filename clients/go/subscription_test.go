package millstream

import (
	"testing"

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
