package api

import (
	"testing"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/replica"
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

// A partition that was closed here and is open again, as after it was moved away and
// back, takes nothing that was sent behind a request that failed before.
func TestAPartitionThatIsOpenAgainKeepsTheOrder(t *testing.T) {
	m := startMovingLeader(t)
	m.own = ownPartition(t)
	m.own.Lead(replica.Assignment{Epoch: 1, Replicas: []replica.ID{1, 2}, InSync: []replica.ID{1}, MinInSync: 2, Durability: replica.Memory})
	m.lead(1, 1)
	st, err := m.client.Produce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(id uint64, restart bool) pb.ErrorReason {
		t.Helper()
		if err := st.Send(&pb.ProduceRequest{
			CorrelationId: id, Topic: "t", Partition: new(uint32(0)), Restart: restart,
			Batch: &pb.RecordBatch{Records: []*pb.Record{{Value: []byte("x")}}},
		}); err != nil {
			t.Fatal(err)
		}
		a, err := st.Recv()
		if err != nil || a.GetCorrelationId() != id {
			t.Fatalf("got %v, %v", a, err)
		}
		return a.GetError().GetReason()
	}
	if got := ask(1, false); got != pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_REPLICAS {
		t.Fatalf("too few are in sync: %v", got)
	}
	m.own = ownPartition(t)
	leadOwn(m.own, 2)
	m.lead(1, 2)
	if got := ask(2, false); got != pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED {
		t.Errorf("what was sent behind it: %v", got)
	}
	if got := ask(3, true); got != pb.ErrorReason_ERROR_REASON_UNSPECIFIED {
		t.Errorf("it again: %v", got)
	}
}
