package api

import (
	"testing"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// leaderWithLess is a leader, played by a test, whose log ends before that of who
// follows it, as after an election that accepted a loss.
type leaderWithLess struct{ opens chan replica.Open }

func (l *leaderWithLess) Open(o replica.Open)                                    { l.opens <- o }
func (l *leaderWithLess) Ack(replica.Ack)                                        {}
func (l *leaderWithLess) Close(uint64, record.LeaderEpoch, replica.SessionError) {}

// cutOwn has a partition follow a leader that has nothing from an offset on.
func cutOwn(p *partition.Partition, epoch record.LeaderEpoch, to record.Offset) {
	up := &leaderWithLess{make(chan replica.Open, 8)}
	p.Follow(replica.Assignment{Epoch: epoch, Replicas: []replica.ID{1, 2}, InSync: []replica.ID{2}, MinInSync: 1}, 2, up)
	p.Connect(up)
	asked := <-up.opens
	p.SessionOpened(replica.Opened{
		Session: asked.Session, Epoch: epoch, Diverged: true, Divergence: replica.Divergence{Epoch: 1, End: to},
	})
	<-up.opens // it asks again when it has cut
}

// A client takes its time. Meanwhile the broker that it reads from follows
// another, which lacks what it has read, and leads again with other records at
// those offsets. The client is told, and does not get those as what follows.
func TestAReaderThatWasSlowIsToldOfAnotherHistory(t *testing.T) {
	for _, form := range []pb.FetchForm{pb.FetchForm_FETCH_FORM_BATCHES, pb.FetchForm_FETCH_FORM_RECORDS} {
		t.Run(form.String(), func(t *testing.T) {
			own := ownPartition(t)
			m := startMovingLeader(t)
			m.own = own
			leadOwn(own, 1)
			m.lead(1, 1)
			for _, v := range []string{"a", "b", "c"} {
				m.append(v)
			}
			st, err := m.client.Fetch(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := st.Send(&pb.FetchRequest{
				Credit: new(uint64(1)), Subscribe: []*pb.FetchSubscription{{SubscriptionId: 1, Topic: "t", Form: form}},
			}); err != nil {
				t.Fatal(err)
			}
			got, err := st.Recv()
			if err != nil || got.GetNextOffset() != 1 {
				t.Fatalf("got %v, %v", got, err)
			}

			cutOwn(own, 2, 0)
			leadOwn(own, 3)
			m.lead(1, 3)
			for _, v := range []string{"x", "y", "z"} {
				m.append(v)
			}
			if err := st.Send(&pb.FetchRequest{Credit: new(uint64(1 << 20))}); err != nil {
				t.Fatal(err)
			}
			got, err = st.Recv()
			e := got.GetError()
			if err != nil || e.GetReason() != pb.ErrorReason_ERROR_REASON_DIVERGED || codes.Code(e.GetCode()) != codes.Aborted || got.GetSubscriptionId() != 1 {
				t.Fatalf("got %v, %v", got, err)
			}
			if e.GetDivergence().GetSafeOffset() != 0 {
				t.Errorf("it is safe to go on at %d", e.GetDivergence().GetSafeOffset())
			}
		})
	}
}
