package servertest_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
)

// startRacks starts brokers 1 to 3 in the racks a, b and c.
func startRacks(t *testing.T, records int) *servertest.Cluster {
	t.Helper()
	c := servertest.StartCluster(t, servertest.ClusterOptions{Broker: func(o *broker.Options) { o.Rack = rackOf(o.ID) }})
	fill(t, c, records)
	awaitInSync(t, leaderOf(t, c))
	return c
}

func rackOf(id int32) string { return string('a' + id - 1) }

// fetchInRack subscribes at a broker, for a client of a rack.
func fetchInRack(t *testing.T, at *servertest.Member, rack string, position *pb.FetchPosition) fetching {
	t.Helper()
	stream, err := at.Broker.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.FetchRequest{Subscribe: []*pb.FetchSubscription{{
		Topic: "orders", Form: pb.FetchForm_FETCH_FORM_RECORDS, Position: position, Rack: rack, MinRevision: at.Metadata.Current().Revision,
	}}}); err != nil {
		t.Fatal(err)
	}
	return stream
}

// reading checks that what comes on a stream has no gap and comes once.
type reading struct {
	t      *testing.T
	stream fetching
	next   int64
	from   []int32 // brokers whose replicas were read, in order
}

func (r *reading) until(end int64) {
	r.t.Helper()
	for r.next < end {
		r.frame()
	}
}

// servedBy reads until a frame says that it comes from a broker's replica.
func (r *reading) servedBy(id int32) {
	r.t.Helper()
	for len(r.from) == 0 || r.from[len(r.from)-1] != id {
		r.frame()
	}
}

func (r *reading) frame() {
	r.t.Helper()
	m, err := r.stream.Recv()
	if err != nil || m.GetError() != nil || m.GetReroute() != nil {
		r.t.Fatalf("at %d: %v, %v", r.next, m, err)
	}
	if m.BrokerId != nil {
		r.from = append(r.from, m.GetBrokerId())
	}
	for _, rec := range m.GetRecords() {
		if rec.GetOffset() != r.next || string(rec.GetValue()) != fmt.Sprint(r.next) {
			r.t.Fatalf("at %d: %v", r.next, rec)
		}
		r.next++
	}
}

func add(t *testing.T, at *servertest.Member, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		for begun := time.Now(); ; {
			_, err := at.Broker.Append(t.Context(), &pb.AppendRequest{
				Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: fmt.Sprint(i)}}},
			})
			if err == nil {
				break
			}
			if time.Since(begun) > 20*time.Second {
				t.Fatal(err)
			}
			<-time.After(10 * time.Millisecond) // nothing was written: its leader is new
		}
	}
}

func TestReadersAreServedInTheirRack(t *testing.T) {
	c := startRacks(t, 50)
	leader := leaderOf(t, c)
	var near, far *servertest.Member
	for _, m := range c.Members {
		switch {
		case m == leader:
		case near == nil:
			near = m
		default:
			far = m
		}
	}
	earliest := &pb.FetchPosition{At: &pb.FetchPosition_Earliest{Earliest: &pb.Earliest{}}}
	latest := &pb.FetchPosition{At: &pb.FetchPosition_Latest{Latest: &pb.Latest{}}}
	t.Run("by the broker that is asked", func(t *testing.T) {
		r := &reading{t: t, stream: fetchInRack(t, near, rackOf(near.ID), earliest)}
		r.until(50)
		if !slices.Equal(r.from, []int32{near.ID}) {
			t.Errorf("read from the replicas of %v, want %d only", r.from, near.ID)
		}
	})
	t.Run("by another, that the leader passes on", func(t *testing.T) {
		r := &reading{t: t, stream: fetchInRack(t, leader, rackOf(near.ID), earliest)}
		r.until(50)
		if !slices.Equal(r.from, []int32{near.ID}) {
			t.Errorf("read from the replicas of %v, want %d only", r.from, near.ID)
		}
	})
	t.Run("by another, that a follower passes on", func(t *testing.T) {
		r := &reading{t: t, stream: fetchInRack(t, far, rackOf(near.ID), earliest)}
		r.until(50)
		if !slices.Equal(r.from, []int32{near.ID}) {
			t.Errorf("read from the replicas of %v, want %d only", r.from, near.ID)
		}
	})
	t.Run("by the leader, where there is none", func(t *testing.T) {
		r := &reading{t: t, stream: fetchInRack(t, far, "elsewhere", earliest)}
		r.until(50)
		if !slices.Equal(r.from, []int32{leader.ID}) {
			t.Errorf("read from the replicas of %v, want %d only", r.from, leader.ID)
		}
	})
	t.Run("from the end, which the leader knows", func(t *testing.T) {
		r := &reading{t: t, stream: fetchInRack(t, near, rackOf(near.ID), latest), next: 50}
		r.servedBy(leader.ID)
		add(t, far, 50, 60)
		r.until(60)
		r.servedBy(near.ID)
		if !slices.Equal(r.from, []int32{leader.ID, near.ID}) {
			t.Errorf("read from the replicas of %v", r.from)
		}
	})
	t.Run("plain, to the end", func(t *testing.T) {
		records, err := near.Broker.Read(t.Context(), &pb.ReadRequest{Topic: "orders", Rack: rackOf(near.ID)})
		if err != nil {
			t.Fatal(err)
		}
		for want := range int64(60) {
			if got, err := records.Recv(); err != nil || got.GetOffset() != want {
				t.Fatalf("record %d: %v, %v", want, got, err)
			}
		}
	})
	t.Run("what is beyond the end is for the leader to say", func(t *testing.T) {
		stream := fetchInRack(t, near, rackOf(near.ID), &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: 1000}})
		m, err := stream.Recv()
		if err != nil || m.GetError().GetReason() != pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE {
			t.Errorf("%v, %v", m, err)
		}
	})
}

// A reader in a rack goes on when the broker there dies, and when the leader
// does, without a gap and without a record twice; and comes back to its rack.
func TestAReaderInARackOutlivesEveryBroker(t *testing.T) {
	c := startRacks(t, 50)
	leader := leaderOf(t, c)
	near := notLeading(c, leader)
	var asked *servertest.Member
	for _, m := range c.Members {
		if m != leader && m != near {
			asked = m
		}
	}
	r := &reading{t: t, stream: fetchInRack(t, asked, rackOf(near.ID), &pb.FetchPosition{At: &pb.FetchPosition_Earliest{Earliest: &pb.Earliest{}}})}
	r.until(50)
	if !slices.Equal(r.from, []int32{near.ID}) {
		t.Fatalf("read from the replicas of %v, want %d", r.from, near.ID)
	}
	near.Kill()
	add(t, asked, 50, 100)
	r.until(100)
	if last := r.from[len(r.from)-1]; last != leader.ID {
		t.Fatalf("broker %d is dead, and %d serves its readers", near.ID, last)
	}
	near.Start()
	awaitInSync(t, asked)
	written := 100
	for begun := time.Now(); r.from[len(r.from)-1] != near.ID; written++ {
		add(t, asked, written, written+1)
		r.until(int64(written) + 1)
		if time.Since(begun) > 30*time.Second {
			t.Fatalf("broker %d is back, and does not serve its readers", near.ID)
		}
	}
	leader.Kill()
	add(t, asked, written, written+50)
	r.until(int64(written) + 50)
	if _, err := asked.Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool {
		return s.TopicByName("orders").Partitions[0].Leader != leader.ID
	}); err != nil {
		t.Fatal(err)
	}
	leader.Start()
}
