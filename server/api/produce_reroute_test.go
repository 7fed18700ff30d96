package api

import (
	"testing"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// A leader that this broker gets no answer of is one that the client may get
// through to: it is told of each leader once, though none has taken anything.
func TestARequestThatFailedElsewhereSaysWhoWasAsked(t *testing.T) {
	m := startMovingLeader(t)
	st, err := m.client.Produce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id := uint64(0)
	for epoch, leader := range []int32{2, 2, 3, 2} {
		m.lead(leader, int32(epoch)+1)
		for first := epoch == 0 || leader != 2 || epoch == 3; ; first = false {
			id++
			if err := st.Send(&pb.ProduceRequest{
				CorrelationId: id, Topic: "t", Partition: new(uint32(0)), Restart: true,
				Batch: &pb.RecordBatch{Records: []*pb.Record{{Value: []byte("x")}}},
			}); err != nil {
				t.Fatal(err)
			}
			a, err := st.Recv()
			if err != nil || a.GetCorrelationId() != id || a.GetError() == nil {
				t.Fatalf("leader %d: got %v, %v", leader, a, err)
			}
			if to := a.GetReroute(); (to != nil) != first || first && (to.GetTopic() != "t" || to.GetLeader().GetBrokerId() != leader) {
				t.Errorf("leader %d, for the first time %v: got %v", leader, first, a)
			}
			if a.GetLeader() != nil {
				t.Errorf("where nothing was acknowledged is a hint: %v", a)
			}
			if !first {
				break
			}
		}
	}
}
