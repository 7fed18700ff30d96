package api

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/rpc"
)

// ask subscribes to the partition in a stream of its own.
func ask(t *testing.T, m *movingLeader, sub *pb.FetchSubscription, credit *uint64) grpc.BidiStreamingClient[pb.FetchRequest, pb.FetchResponse] {
	t.Helper()
	st, err := m.client.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sub.Topic, sub.Form = "t", pb.FetchForm_FETCH_FORM_RECORDS
	if err := st.Send(&pb.FetchRequest{Credit: credit, Subscribe: []*pb.FetchSubscription{sub}}); err != nil {
		t.Fatal(err)
	}
	return st
}

// until waits for what becomes so by itself.
func until(is func() bool) {
	for !is() {
		runtime.Gosched()
	}
}

// A broker takes so many calls of another. Nobody waits for one of them to end.
func TestForwardedCallsAreBounded(t *testing.T) {
	m := startMovingLeaderWith(t, Limits{ForwardedCalls: 2})
	m.lead(2, 4)
	for range 2 {
		ask(t, m, &pb.FetchSubscription{SubscriptionId: 1}, nil)
	}
	first, second := <-m.leaders[2].streams, <-m.leaders[2].streams
	third := ask(t, m, &pb.FetchSubscription{SubscriptionId: 1}, nil)
	got, err := third.Recv()
	if err != nil {
		t.Fatal(err)
	}
	e := got.GetError()
	if e.GetReason() != pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED || !e.GetRetryable() || e.GetLimit().GetLimit() != "forwarded.calls" || e.GetLimit().GetMaximum() != 2 {
		t.Errorf("got %v", got)
	}
	read, err := m.client.Read(t.Context(), &pb.ReadRequest{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = read.Recv()
	if f := rpc.FaultFromStatus(err); f == nil || f.Code != codes.ResourceExhausted || !f.Retryable || f.Limit.GetLimit() != "forwarded.calls" {
		t.Errorf("Read says %v", err)
	}
	if refused := m.service.peers.Refused(); refused != 2 {
		t.Errorf("%d calls were refused", refused)
	}
	// When one has ended there is room for another.
	first.end <- nil
	until(func() bool { return m.service.peers.Open() < 2 })
	_ = second
	<-m.leaders[2].streams // the subscription of the first is made again
}

// What other brokers have sent and a client does not read counts in a budget of
// the process, and beyond it waits at those brokers.
func TestForwardedFramesThatClientsDoNotReadAreBoundedInTheProcess(t *testing.T) {
	m := startMovingLeader(t)
	m.service.passing = broker.NewBudget(8 << 20)
	m.lead(2, 4)
	const streams, frames = 4, 10
	large := strings.Repeat("x", 1<<20)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, streams)
	var clients []*reader
	for range streams {
		r := &reader{ctx: ctx, room: make(chan struct{}, 1000), requests: subscribing(t, &pb.FetchSubscription{Topic: "t", SubscriptionId: 1, Form: pb.FetchForm_FETCH_FORM_RECORDS})}
		clients = append(clients, r)
		go func() { ended <- m.service.fetch(r) }()
		two := <-m.leaders[2].streams
		sub := <-two.asked
		go func() {
			for i := range int64(frames) {
				two.answer(t, sub, i == 0, i, 4, large)
			}
		}()
	}
	until(func() bool { return m.service.passing.Waiting() >= streams })
	if used := m.service.passing.Used(); used > 8<<20 || used < 4<<20 {
		t.Errorf("%d bytes are held of %d", used, 8<<20)
	}
	for range frames {
		for _, r := range clients {
			r.room <- struct{}{}
		}
	}
	for i, r := range clients {
		until(func() bool { return r.offsets() == frames })
		for at, a := range r.answers {
			if a.GetFirstOffset() != int64(at) {
				t.Errorf("client %d: frame %d begins at %d", i, at, a.GetFirstOffset())
			}
		}
	}
	until(func() bool { return m.service.passing.Used() == 0 && m.service.passing.Waiting() == 0 })
	cancel()
	for range clients {
		if err := <-ended; err == nil {
			t.Error("cut, and ended in order")
		}
	}
}

// What is held for a stream is given back when the stream ends.
func TestForwardedFramesAreGivenBackWithTheirStream(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := ask(t, m, &pb.FetchSubscription{SubscriptionId: 1}, new(uint64(1000)))
	two := <-m.leaders[2].streams
	sub := <-two.asked
	two.answer(t, sub, true, 0, 4, "a")
	wantValue(t, st, 0, "a")
	two.answer(t, sub, false, 1, 4, strings.Repeat("x", 100<<10))
	until(func() bool { return m.service.passing.Used() > 100<<10 })
	m.service.Drain()
	until(func() bool { return m.service.passing.Used() == 0 })
}

// A frame for which a client grants no credit is not kept for it: it comes again
// when there is as much.
func TestAForwardedFrameThatWaitsForCreditIsGivenUp(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	const window = 1000
	st := ask(t, m, &pb.FetchSubscription{SubscriptionId: 1}, new(uint64(window)))
	two := <-m.leaders[2].streams
	sub := <-two.asked
	two.answer(t, sub, true, 0, 4, "a")
	got, err := st.Recv()
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 100<<10)
	two.answer(t, sub, false, 1, 4, large)
	if id := <-two.dropped; id != 1 {
		t.Errorf("subscription %d was unsubscribed", id)
	}
	until(func() bool { return m.service.passing.Used() == 0 })
	if err := st.Send(&pb.FetchRequest{Credit: new(uint64(window + got.GetCreditUsed()))}); err != nil {
		t.Fatal(err)
	}
	sub = <-two.asked
	if sub.GetPosition().GetOffset() != 1 || sub.GetPosition().GetLeaderEpoch() != 4 {
		t.Errorf("the leader was asked for %v", sub)
	}
	two.answer(t, sub, true, 1, 4, large)
	wantValue(t, st, 1, large)
}

// The end that a subscription saw when it began stays its end, whoever leads.
func TestASubscriptionThatEndsGoesOnToTheEndThatItSaw(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := ask(t, m, &pb.FetchSubscription{SubscriptionId: 1, UntilEnd: true}, nil)
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	two := <-m.leaders[2].streams
	<-two.asked
	frame := func(first bool, next, end int64, offsets ...int64) *pb.FetchResponse {
		f := &pb.FetchResponse{SubscriptionId: 1, FirstOffset: offsets[0], NextOffset: next, HighWatermark: end}
		if first {
			f.Topic = "t"
		}
		for _, o := range offsets {
			f.Records = append(f.Records, &pb.FetchedRecord{Offset: o, LeaderEpoch: 4, Value: []byte("v")})
		}
		return f
	}
	if err := two.Send(frame(true, 1, 3, 0)); err != nil {
		t.Fatal(err)
	}
	if got, err := st.Recv(); err != nil || got.GetNextOffset() != 1 {
		t.Fatal(got, err)
	}
	two.end <- errors.New("killed")
	m.lead(3, 5)
	three := <-m.leaders[3].streams
	sub := <-three.asked
	if !sub.GetUntilEnd() || sub.GetPosition().GetOffset() != 1 {
		t.Errorf("the second leader was asked for %v", sub)
	}
	for _, f := range []*pb.FetchResponse{frame(true, 2, 9, 1), frame(false, 3, 9, 2), frame(false, 4, 9, 3)} {
		if err := three.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	var offsets []int64
	finished := false
	for {
		got, err := st.Recv()
		if err != nil {
			break // the stream ends: its only subscription has
		}
		for _, r := range got.GetRecords() {
			offsets = append(offsets, r.GetOffset())
		}
		finished = got.GetCaughtUp().GetFinished()
	}
	if !slices.Equal(offsets, []int64{1, 2}) || !finished {
		t.Errorf("got %v, finished %v", offsets, finished)
	}
}

// So it does when this broker led at first.
func TestASubscriptionThatEndsLeavesThisBrokerForTheEndThatItSaw(t *testing.T) {
	own := ownPartition(t)
	m := startMovingLeader(t)
	m.own = own
	leadOwn(own, 1)
	m.lead(1, 1)
	m.append("a")
	m.append("b")
	st := ask(t, m, &pb.FetchSubscription{SubscriptionId: 1, UntilEnd: true}, new(uint64(1)))
	if err := recvNext(st, 1); err != nil { // the first may exceed the credit
		t.Fatal(err)
	}
	m.lead(2, 2)
	own.Resign(2, 2)
	if err := st.Send(&pb.FetchRequest{Credit: new(uint64(1 << 20))}); err != nil {
		t.Fatal(err)
	}
	two := <-m.leaders[2].streams
	sub := <-two.asked
	if !sub.GetUntilEnd() || sub.GetPosition().GetOffset() != 1 || sub.GetPosition().GetLeaderEpoch() != 1 {
		t.Errorf("the other leader was asked for %v", sub)
	}
	two.answer(t, sub, true, 1, 1, "b")
	got, err := st.Recv()
	if err != nil || got.GetNextOffset() != 2 || !got.GetCaughtUp().GetFinished() {
		t.Errorf("got %v, %v", got, err)
	}
}

// recvNext takes a frame that ends at an offset.
func recvNext(st grpc.BidiStreamingClient[pb.FetchRequest, pb.FetchResponse], next int64) error {
	got, err := st.Recv()
	if err == nil && got.GetNextOffset() != next {
		err = fmt.Errorf("got %v, want a frame up to %d", got, next)
	}
	return err
}
