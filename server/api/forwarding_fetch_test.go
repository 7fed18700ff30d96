package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/servertest"
)

func TestAFetchStreamToAnyBrokerDeliversWhatAllLeaderHave(t *testing.T) {
	c := servertest.StartForwarders(t, 3, servertest.Options{})
	c.CreateTopic("t", 6)
	want := make(map[uint32][]string)
	p := openProducer(t, c.Broker(1).Broker)
	for i := range 40 {
		for id := range uint32(6) {
			v := fmt.Sprint(id, "-", i, strings.Repeat("x", 3000))
			want[id] = append(want[id], v)
			p.send(&pb.ProduceRequest{Topic: "t", Partition: new(id), Batch: batch(v)})
		}
	}
	p.end(240)
	for name, form := range forms() {
		for _, credit := range []uint64{0, 16 << 10, 1 << 20} {
			t.Run(fmt.Sprint(name, " with credit ", credit), func(t *testing.T) {
				f := openFetcher(t, c.Broker(2).Broker)
				r := &pb.FetchRequest{}
				if credit > 0 {
					r.Credit = new(credit)
				}
				for id := range uint32(6) {
					r.Subscribe = append(r.Subscribe, &pb.FetchSubscription{
						SubscriptionId: 10 + uint64(id), Topic: "t", Partition: id, UntilEnd: true, Form: form, MaxFrameBytes: 4096,
					})
				}
				f.send(r)
				got := make(map[uint32][]string)
				used, granted := uint64(0), credit
				for finished := 0; finished < 6; {
					m := f.next()
					if m.GetError() != nil {
						t.Fatal(m.GetError())
					}
					if m.GetSubscriptionId() != 10+uint64(m.GetPartition()) || m.GetFirstOffset() != int64(len(got[m.GetPartition()])) {
						t.Fatalf("subscription %d, partition %d: a frame from %d", m.GetSubscriptionId(), m.GetPartition(), m.GetFirstOffset())
					}
					if (m.GetTopic() != "") != (len(got[m.GetPartition()]) == 0) {
						t.Errorf("a frame from %d names the topic %q", m.GetFirstOffset(), m.GetTopic())
					}
					got[m.GetPartition()] = append(got[m.GetPartition()], values(t, m)...)
					if used += uint64(m.GetCreditUsed()); credit > 0 {
						if used > granted {
							t.Fatalf("%d bytes were sent, %d were granted", used, granted)
						}
						granted = used + credit
						f.send(&pb.FetchRequest{Credit: new(granted)})
					}
					if m.GetCaughtUp().GetFinished() {
						finished++
					}
				}
				for id := range uint32(6) {
					if !slices.Equal(got[id], want[id]) {
						t.Errorf("partition %d: %d of %d records, or others", id, len(got[id]), len(want[id]))
					}
				}
			})
		}
	}
}

// The client's credit is less than a frame: it passes when the client owes
// nothing.
func TestAForwardedFrameLargerThanTheCreditPasses(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{})
	led := c.CreateTopic("t", 2)
	large := strings.Repeat("x", 200<<10)
	fill(t, c.Broker(1).Broker, "t", led[2][0], large)
	fill(t, c.Broker(1).Broker, "t", led[2][0], large)
	fill(t, c.Broker(1).Broker, "t", led[1][0], large)
	f := openFetcher(t, c.Broker(1).Broker)
	const window = 10_000
	f.send(&pb.FetchRequest{Credit: new(uint64(window)), Subscribe: []*pb.FetchSubscription{
		{SubscriptionId: 1, Topic: "t", Partition: led[2][0]}, {SubscriptionId: 2, Topic: "t", Partition: led[1][0]},
	}})
	used, records := uint64(0), 0
	for records < 3 {
		m := f.next()
		records += len(values(t, m))
		used += uint64(m.GetCreditUsed())
		f.send(&pb.FetchRequest{Credit: new(used + window)})
	}
}

func TestAForwardedSubscriptionGoesOnWhenItsLeaderRestarts(t *testing.T) {
	for name, form := range forms() {
		t.Run(name, func(t *testing.T) {
			c := servertest.StartForwarders(t, 2, servertest.Options{})
			led := c.CreateTopic("t", 2)
			id := led[2][0]
			f := openFetcher(t, c.Broker(1).Broker)
			f.subscribe(&pb.FetchSubscription{SubscriptionId: 7, Topic: "t", Partition: id, Form: form})
			var got []string
			read := func(until int) {
				t.Helper()
				for len(got) < until {
					m := f.next()
					if m.GetError() != nil || m.GetReroute() != nil || m.GetDrain() != nil || m.GetSubscriptionId() != 7 {
						t.Fatalf("got %v", m)
					}
					if m.GetFirstOffset() != int64(len(got)) {
						t.Fatalf("a frame from %d after %d records", m.GetFirstOffset(), len(got))
					}
					got = append(got, values(t, m)...)
				}
			}
			fill(t, c.Broker(2).Broker, "t", id, "a", "b")
			read(2)
			c.Broker(2).Restart()
			fill(t, c.Broker(2).Broker, "t", id, "c")
			read(3)
			if !slices.Equal(got, []string{"a", "b", "c"}) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestAForwardedSubscriptionSaysOnceWhereTheLeaderIs(t *testing.T) {
	for name, form := range forms() {
		t.Run(name, func(t *testing.T) {
			c := servertest.StartForwarders(t, 2, servertest.Options{})
			led := c.CreateTopic("t", 2)
			f := openFetcher(t, c.Broker(1).Broker)
			for _, id := range []uint32{led[1][0], led[2][0]} {
				f.subscribe(&pb.FetchSubscription{SubscriptionId: 1 + uint64(id), Topic: "t", Partition: id, Form: form})
			}
			hints, records := 0, 0
			read := func(until int) {
				t.Helper()
				for records < until {
					m := f.next()
					records += len(values(t, m))
					h := m.GetLeader()
					if h == nil {
						continue
					}
					hints++
					if m.GetPartition() != led[2][0] || h.GetBrokerId() != 2 || h.GetAddress() != c.Broker(2).Address() || h.GetRevision() == 0 {
						t.Errorf("partition %d has the hint %v", m.GetPartition(), h)
					}
				}
			}
			for i := range 3 {
				fill(t, c.Broker(1).Broker, "t", led[1][0], "a")
				fill(t, c.Broker(1).Broker, "t", led[2][0], "b")
				read(2 * (i + 1))
			}
			if hints != 1 {
				t.Errorf("%d hints, want 1", hints)
			}
		})
	}
}

func TestAForwardedSubscriptionEndsWithTheLeadersError(t *testing.T) {
	c := servertest.StartForwarders(t, 2, servertest.Options{})
	led := c.CreateTopic("t", 2)
	f := openFetcher(t, c.Broker(1).Broker)
	f.subscribe(&pb.FetchSubscription{
		SubscriptionId: 3, Topic: "t", Partition: led[2][0], Position: &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: 9}},
	})
	m := f.next()
	if m.GetSubscriptionId() != 3 {
		t.Errorf("the error is of subscription %d", m.GetSubscriptionId())
	}
	wantError(t, m.GetError(), codes.OutOfRange, pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE)
	// Its id is free again.
	fill(t, c.Broker(2).Broker, "t", led[2][0], "a")
	f.subscribe(&pb.FetchSubscription{SubscriptionId: 3, Topic: "t", Partition: led[2][0]})
	if got := values(t, f.next()); !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %q", got)
	}
	// And after it is unsubscribed.
	f.send(&pb.FetchRequest{Unsubscribe: []uint64{3}, Subscribe: []*pb.FetchSubscription{
		{SubscriptionId: 4, Topic: "t", Partition: led[2][0]},
	}})
	m = f.next()
	for m.GetSubscriptionId() == 3 {
		m = f.next() // was on its way
	}
	if got := values(t, m); m.GetSubscriptionId() != 4 || !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %v", m)
	}
	if err := f.st.CloseSend(); err != nil {
		t.Fatal(err)
	}
}
