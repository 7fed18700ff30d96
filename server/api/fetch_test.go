package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/api"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/storage/record"
)

// fetcher is a Fetch stream in a test's hands.
type fetcher struct {
	t  *testing.T
	st grpc.BidiStreamingClient[pb.FetchRequest, pb.FetchResponse]
}

func openFetcher(t *testing.T, c pb.BrokerServiceClient) *fetcher {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	st, err := c.Fetch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &fetcher{t: t, st: st}
}

func (f *fetcher) send(r *pb.FetchRequest) {
	f.t.Helper()
	if err := f.st.Send(r); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fetcher) subscribe(subs ...*pb.FetchSubscription) {
	f.t.Helper()
	f.send(&pb.FetchRequest{Subscribe: subs})
}

func (f *fetcher) next() *pb.FetchResponse {
	f.t.Helper()
	r, err := f.st.Recv()
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fetcher) wantEnd() {
	f.t.Helper()
	if r, err := f.st.Recv(); !errors.Is(err, io.EOF) {
		f.t.Fatalf("got %v, %v, want the end", r, err)
	}
}

// values returns the values of a frame of either form from its first offset
// on, after checking that its offsets follow one another.
func values(t *testing.T, r *pb.FetchResponse) []string {
	t.Helper()
	var out []string
	for _, b := range r.GetBatches() {
		for i, rec := range b.GetBatch().GetRecords() {
			if offset := b.GetBaseOffset() + int64(i); offset >= r.GetFirstOffset() {
				out = append(out, string(rec.GetValue()))
			}
		}
	}
	for i, rec := range r.GetRecords() {
		if rec.GetOffset() != r.GetFirstOffset()+int64(i) {
			t.Errorf("offset %d at place %d of a frame from %d", rec.GetOffset(), i, r.GetFirstOffset())
		}
		out = append(out, string(rec.GetValue()))
	}
	if n := int64(len(out)); r.GetFirstOffset()+n != r.GetNextOffset() {
		t.Errorf("%d records in a frame [%d, %d)", n, r.GetFirstOffset(), r.GetNextOffset())
	}
	return out
}

func forms() map[string]pb.FetchForm {
	return map[string]pb.FetchForm{"batches": pb.FetchForm_FETCH_FORM_BATCHES, "records": pb.FetchForm_FETCH_FORM_RECORDS}
}

func TestFetchDeliversFromEveryPosition(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	p := openProducer(t, s.Broker)
	at := func(offset int64) *timestamppb.Timestamp { return &timestamppb.Timestamp{Seconds: 1_000_000 + offset} }
	for i := range int64(5) {
		b := &pb.RecordBatch{}
		for k := range int64(2) {
			o := 2*i + k
			b.Records = append(b.Records, &pb.Record{Value: fmt.Append(nil, o), TimestampMs: new(at(o).AsTime().UnixMilli())})
		}
		if r := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: b}); r.GetError() != nil {
			t.Fatal(r.GetError())
		}
	}
	p.end(0)
	cases := map[string]struct {
		position *pb.FetchPosition
		first    int64
	}{
		"none":           {nil, 0},
		"earliest":       {&pb.FetchPosition{At: &pb.FetchPosition_Earliest{Earliest: &pb.Earliest{}}}, 0},
		"offset":         {&pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: 3}, LeaderEpoch: new(int32(1))}, 3},
		"end":            {&pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: 10}}, 10},
		"latest":         {&pb.FetchPosition{At: &pb.FetchPosition_Latest{Latest: &pb.Latest{}}}, 10},
		"time":           {&pb.FetchPosition{At: &pb.FetchPosition_Time{Time: at(7)}}, 7},
		"just after":     {&pb.FetchPosition{At: &pb.FetchPosition_Time{Time: &timestamppb.Timestamp{Seconds: at(7).Seconds, Nanos: 1}}}, 8},
		"time to come":   {&pb.FetchPosition{At: &pb.FetchPosition_Time{Time: at(70)}}, 10},
		"before the end": {&pb.FetchPosition{At: &pb.FetchPosition_BeforeEnd{BeforeEnd: 4}}, 6},
		"before all":     {&pb.FetchPosition{At: &pb.FetchPosition_BeforeEnd{BeforeEnd: 1 << 60}}, 0},
	}
	for name, c := range cases {
		for form, number := range forms() {
			t.Run(name+"/"+form, func(t *testing.T) {
				f := openFetcher(t, s.Broker)
				f.subscribe(&pb.FetchSubscription{Topic: "t", Position: c.position, UntilEnd: true, Form: number})
				if err := f.st.CloseSend(); err != nil {
					t.Fatal(err)
				}
				r := f.next()
				if r.GetError() != nil {
					t.Fatal(r.GetError())
				}
				if r.GetTopic() != "t" || len(r.GetTopicId()) != 16 || r.GetSubscriptionId() != 1 || r.GetFirstOffset() != c.first {
					t.Errorf("first frame: %v", r)
				}
				var got []string
				for {
					got = append(got, values(t, r)...)
					if r.GetHighWatermark() != 10 || r.GetLogStart() != 0 {
						t.Errorf("got %v", r)
					}
					if r.GetCaughtUp() != nil {
						break
					}
					r = f.next()
					if r.GetTopic() != "" || r.GetTopicId() != nil {
						t.Errorf("a later frame has the topic: %v", r)
					}
				}
				if !r.GetCaughtUp().GetFinished() || r.GetNextOffset() != 10 {
					t.Errorf("last frame: %v", r)
				}
				for i, v := range got {
					if v != fmt.Sprint(c.first+int64(i)) {
						t.Errorf("record %d is %s", c.first+int64(i), v)
					}
				}
				f.wantEnd()
			})
		}
	}
}

func TestFetchFollowsTheTail(t *testing.T) {
	for form, number := range forms() {
		t.Run(form, func(t *testing.T) {
			s := servertest.Start(t, servertest.Options{})
			s.CreateTopic("t", 1)
			f := openFetcher(t, s.Broker)
			f.subscribe(&pb.FetchSubscription{SubscriptionId: 7, Topic: "t", Form: number})
			if err := f.st.CloseSend(); err != nil { // a half-closed Fetch goes on
				t.Fatal(err)
			}
			r := f.next()
			if r.GetCaughtUp() == nil || r.GetCaughtUp().GetFinished() || r.GetNextOffset() != 0 {
				t.Fatalf("at an empty log: %v", r)
			}
			next := int64(0)
			for i := range 50 {
				want := fmt.Sprint("value ", i)
				fill(t, s.Broker, "t", 0, want)
				r := f.next()
				if got := values(t, r); len(got) != 1 || got[0] != want || r.GetFirstOffset() != next || r.GetSubscriptionId() != 7 {
					t.Fatalf("got %v, want %q", r, want)
				}
				if r.GetCaughtUp() == nil {
					t.Fatalf("the end was reached and not said: %v", r)
				}
				next = r.GetNextOffset()
			}
		})
	}
}

// Half-closing only says that the client has nothing more to ask.
func TestAHalfClosedFetchGoesOnUntilItIsCancelledOrItsDeadline(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	for name, c := range map[string]struct {
		limit func(context.Context) (context.Context, context.CancelFunc)
		stop  bool
		want  codes.Code
	}{
		"cancelled": {context.WithCancel, true, codes.Canceled},
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 100*time.Millisecond)
		}, false, codes.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := c.limit(t.Context())
			defer cancel()
			st, err := s.Broker.Fetch(ctx)
			if err == nil {
				err = st.Send(&pb.FetchRequest{Subscribe: []*pb.FetchSubscription{{Topic: "t"}}})
			}
			if err == nil {
				err = st.CloseSend()
			}
			for err == nil {
				var r *pb.FetchResponse
				if r, err = st.Recv(); r.GetCaughtUp() != nil && c.stop {
					cancel()
				}
			}
			if status.Code(err) != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestUntilEndStopsAtTheEndSeenAtTheBeginning(t *testing.T) {
	for form, number := range forms() {
		t.Run(form, func(t *testing.T) {
			s := servertest.Start(t, servertest.Options{})
			s.CreateTopic("t", 1)
			fill(t, s.Broker, "t", 0, "a", "b")
			f := openFetcher(t, s.Broker)
			// Without credit nothing is read before the log grows.
			f.send(&pb.FetchRequest{
				Subscribe: []*pb.FetchSubscription{{Topic: "t", UntilEnd: true, Form: number}, {SubscriptionId: 2, Topic: "no"}},
				Credit:    new(uint64(0)),
			})
			if r := f.next(); r.GetSubscriptionId() != 2 { // both were begun
				t.Fatalf("got %v", r)
			}
			fill(t, s.Broker, "t", 0, "c", "d")
			f.send(&pb.FetchRequest{Credit: new(uint64(1 << 20))})
			r := f.next()
			if got := values(t, r); strings.Join(got, "") != "ab" || !r.GetCaughtUp().GetFinished() {
				t.Errorf("got %v", r)
			}
			if err := f.st.CloseSend(); err != nil {
				t.Fatal(err)
			}
			f.wantEnd()
		})
	}
}

func TestFetchRecordsOfCompressedBatches(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	p := openProducer(t, s.Broker)
	want := make([]string, 0, 3000)
	for i := range 3000 {
		want = append(want, fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000)))
	}
	for i, c := range []record.Compression{record.Zstd, record.LZ4, record.Snappy} {
		plain := marshal(t, batch(want[i*1000:(i+1)*1000]...))
		b, err := record.AppendCompressedBatch(nil, c, plain, 1000)
		if err != nil {
			t.Fatal(err)
		}
		sent := &pb.RecordBatch{}
		mustUnmarshal(t, b, sent)
		if r := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: sent}); r.GetError() != nil {
			t.Fatal(r.GetError())
		}
	}
	f := openFetcher(t, s.Broker)
	f.subscribe(&pb.FetchSubscription{
		Topic: "t", UntilEnd: true, Form: pb.FetchForm_FETCH_FORM_RECORDS, MaxFrameBytes: 64 << 10,
		Position: &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: 500}},
	})
	var got []string
	for finished := false; !finished; {
		r := f.next()
		if n := r.GetCreditUsed(); n > 64<<10 || n == 0 {
			t.Errorf("a frame of %d bytes", n)
		}
		got = append(got, values(t, r)...)
		finished = r.GetCaughtUp().GetFinished()
	}
	if len(got) != 2500 {
		t.Fatalf("got %d records", len(got))
	}
	for i := range got {
		if got[i] != want[500+i] {
			t.Fatalf("record %d is %.20q", 500+i, got[i])
		}
	}
}

func TestFetchSendsNoMoreThanItsCredit(t *testing.T) {
	for form, number := range forms() {
		t.Run(form, func(t *testing.T) {
			s := servertest.Start(t, servertest.Options{})
			s.CreateTopic("t", 2)
			const n = 40
			value := strings.Repeat("x", 1000)
			for range n {
				fill(t, s.Broker, "t", 0, value)
			}
			f := openFetcher(t, s.Broker)
			granted := uint64(5000)
			f.send(&pb.FetchRequest{
				Subscribe: []*pb.FetchSubscription{{Topic: "t", Form: number, UntilEnd: true, MaxFrameBytes: 4096}}, Credit: &granted,
			})
			var used uint64
			frames := 0
			for got := 0; got < n; frames++ {
				r := f.next()
				used += uint64(r.GetCreditUsed())
				got += len(values(t, r))
				if used > granted {
					t.Fatalf("%d bytes sent, %d granted", used, granted)
				}
				if granted-used < 1200 { // starved: a grant that shrinks or comes twice does no harm
					granted += 5000
					f.send(&pb.FetchRequest{Credit: new(uint64(1))})
					f.send(&pb.FetchRequest{Credit: &granted})
					f.send(&pb.FetchRequest{Credit: &granted})
				}
			}
			if frames < 10 {
				t.Errorf("%d frames of at most 4 KiB", frames)
			}
		})
	}
}

func TestOneFrameMayExceedTheCredit(t *testing.T) {
	for form, number := range forms() {
		t.Run(form, func(t *testing.T) {
			s := servertest.Start(t, servertest.Options{})
			s.CreateTopic("t", 1)
			large := strings.Repeat("x", 10_000)
			fill(t, s.Broker, "t", 0, large)
			fill(t, s.Broker, "t", 0, large)
			f := openFetcher(t, s.Broker)
			f.send(&pb.FetchRequest{
				Subscribe: []*pb.FetchSubscription{{Topic: "t", Form: number, UntilEnd: true}}, Credit: new(uint64(100)),
			})
			first := f.next()
			if got := values(t, first); len(got) != 1 || first.GetCreditUsed() < 10_000 {
				t.Fatalf("got %d records, credit used %d", len(got), first.GetCreditUsed())
			}
			used := uint64(first.GetCreditUsed())
			// Not all is given back: nothing may come but the answer to this.
			f.send(&pb.FetchRequest{
				Credit:    new(used + 50),
				Subscribe: []*pb.FetchSubscription{{SubscriptionId: 2, Topic: "no"}},
			})
			if r := f.next(); r.GetSubscriptionId() != 2 || r.GetError() == nil {
				t.Fatalf("got %v", r)
			}
			f.send(&pb.FetchRequest{Credit: new(used + 100)})
			if got := values(t, f.next()); len(got) != 1 {
				t.Errorf("got %d records", len(got))
			}
		})
	}
}

func TestSubscriptionsShareAStream(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 3)
	value := strings.Repeat("x", 3000)
	for id := range uint32(3) {
		for range 20 {
			fill(t, s.Broker, "t", id, value)
		}
	}
	f := openFetcher(t, s.Broker)
	// They begin together: without credit nothing moves.
	zero := new(uint64(0))
	var subs []*pb.FetchSubscription
	for id := range uint32(3) {
		subs = append(subs, &pb.FetchSubscription{Topic: "t", Partition: id, UntilEnd: true, MaxFrameBytes: 4096})
	}
	f.send(&pb.FetchRequest{Subscribe: append(subs, &pb.FetchSubscription{SubscriptionId: 99, Topic: "no"}), Credit: zero})
	if r := f.next(); r.GetSubscriptionId() != 99 {
		t.Fatalf("got %v", r)
	}
	f.send(&pb.FetchRequest{Credit: new(uint64(1 << 30))})
	count := make(map[uint64]int)
	for range 60 {
		r := f.next()
		count[r.GetSubscriptionId()]++
		least, most := 60, 0
		for id := range uint64(3) {
			least, most = min(least, count[id+1]), max(most, count[id+1])
		}
		if most-least > 1 {
			t.Fatalf("frames by subscription: %v", count)
		}
	}
}

func TestUnsubscribedPartitionsAreSilent(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 2)
	f := openFetcher(t, s.Broker)
	f.subscribe(&pb.FetchSubscription{Topic: "t", Partition: 0}, &pb.FetchSubscription{Topic: "t", Partition: 1})
	for range 2 {
		if r := f.next(); r.GetCaughtUp() == nil {
			t.Fatalf("got %v", r)
		}
	}
	f.send(&pb.FetchRequest{Unsubscribe: []uint64{1, 12345}, Subscribe: []*pb.FetchSubscription{{SubscriptionId: 9, Topic: "no"}}})
	if r := f.next(); r.GetSubscriptionId() != 9 {
		t.Fatalf("got %v", r)
	}
	fill(t, s.Broker, "t", 0, "silent")
	fill(t, s.Broker, "t", 1, "heard")
	if r := f.next(); r.GetSubscriptionId() != 2 || r.GetPartition() != 1 {
		t.Errorf("got %v", r)
	}
	// Its id is free again.
	f.subscribe(&pb.FetchSubscription{Topic: "t", Partition: 0, UntilEnd: true})
	if r := f.next(); r.GetSubscriptionId() != 1 || r.GetTopic() != "t" || len(values(t, r)) != 1 {
		t.Errorf("got %v", r)
	}
	f.send(&pb.FetchRequest{Unsubscribe: []uint64{2}})
	if err := f.st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	f.wantEnd() // nothing is left
}

func TestSubscriptionsAreBounded(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Limits: api.Limits{Subscriptions: 100}})
	s.CreateTopic("t", 1)
	f := openFetcher(t, s.Broker)
	var subs []*pb.FetchSubscription
	for id := range uint64(100) {
		subs = append(subs, &pb.FetchSubscription{SubscriptionId: id + 1, Topic: "t"})
	}
	f.subscribe(append(subs, &pb.FetchSubscription{SubscriptionId: 200, Topic: "t"})...)
	r := f.next()
	wantError(t, r.GetError(), codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
	if l := r.GetError().GetLimit(); l.GetLimit() != "stream.subscriptions" || l.GetMaximum() != 100 || l.GetActual() != 101 || r.GetSubscriptionId() != 0 {
		t.Errorf("got %v", r)
	}
	f.subscribe(subs...)
	for range 100 {
		if r := f.next(); r.GetCaughtUp() == nil {
			t.Fatalf("got %v", r)
		}
	}
	f.subscribe(&pb.FetchSubscription{SubscriptionId: 200, Topic: "t"})
	r = f.next()
	wantError(t, r.GetError(), codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
	if r.GetSubscriptionId() != 200 {
		t.Errorf("got %v", r)
	}
	f.send(&pb.FetchRequest{Unsubscribe: []uint64{1}, Subscribe: []*pb.FetchSubscription{{SubscriptionId: 200, Topic: "t"}}})
	if r := f.next(); r.GetError() != nil || r.GetSubscriptionId() != 200 {
		t.Errorf("got %v", r)
	}
}

func TestSubscriptionIDIsUniqueOnItsStream(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	f := openFetcher(t, s.Broker)
	f.subscribe(&pb.FetchSubscription{Topic: "t"}, &pb.FetchSubscription{SubscriptionId: 1, Topic: "t"})
	var caughtUp, refused bool
	for range 2 {
		switch r := f.next(); {
		case r.GetCaughtUp() != nil && r.GetSubscriptionId() == 1:
			caughtUp = true
		case r.GetSubscriptionId() == 0:
			wantError(t, r.GetError(), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_FIELD)
			refused = r.GetError().GetField().GetField() == "subscribe[1].subscription_id"
		}
	}
	if !caughtUp || !refused {
		t.Errorf("caught up %v, refused %v", caughtUp, refused)
	}
	fill(t, s.Broker, "t", 0, "v") // the first one goes on
	if r := f.next(); len(values(t, r)) != 1 {
		t.Errorf("got %v", r)
	}
}

func TestPositionOfAnotherHistoryDiverges(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	fill(t, s.Broker, "t", 0, "a", "b")
	f := openFetcher(t, s.Broker)
	f.subscribe(&pb.FetchSubscription{
		Topic: "t", Position: &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: 5}, LeaderEpoch: new(int32(0))},
	})
	r := f.next()
	wantError(t, r.GetError(), codes.Aborted, pb.ErrorReason_ERROR_REASON_DIVERGED)
	if r.GetSubscriptionId() != 1 || r.GetError().GetDivergence() == nil {
		t.Errorf("got %v", r)
	}
}

func TestReaderLearnsThatItsRecordsAreGone(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	fill(t, s.Broker, "t", 0, "a", "b", "c")
	f := openFetcher(t, s.Broker)
	f.send(&pb.FetchRequest{
		Subscribe: []*pb.FetchSubscription{{Topic: "t"}, {SubscriptionId: 9, Topic: "no"}}, Credit: new(uint64(0)),
	})
	if r := f.next(); r.GetSubscriptionId() != 9 {
		t.Fatalf("got %v", r)
	}
	_, err := s.Topic.DeleteRecords(t.Context(), &pb.DeleteRecordsRequest{Topic: "t", BeforeOffset: new(int64(2))})
	if err != nil {
		t.Fatal(err)
	}
	f.send(&pb.FetchRequest{Credit: new(uint64(1000))})
	r := f.next()
	wantError(t, r.GetError(), codes.OutOfRange, pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE)
	if o := r.GetError().GetOffsetRange(); o.GetStart() != 2 || o.GetEnd() != 3 || r.GetSubscriptionId() != 1 {
		t.Errorf("got %v", r)
	}
}

func TestReaderLearnsThatItsTopicIsDeleted(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	f := openFetcher(t, s.Broker)
	f.subscribe(&pb.FetchSubscription{Topic: "t"})
	if r := f.next(); r.GetCaughtUp() == nil {
		t.Fatalf("got %v", r)
	}
	if _, err := s.Topic.DeleteTopic(t.Context(), &pb.DeleteTopicRequest{Topic: "t"}); err != nil {
		t.Fatal(err)
	}
	r := f.next()
	wantError(t, r.GetError(), codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)
	if r.GetSubscriptionId() != 1 {
		t.Errorf("got %v", r)
	}
}

func TestDrainEndsFetchStreamsWithAPlaceToGoOn(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	fill(t, s.Broker, "t", 0, "a")
	f := openFetcher(t, s.Broker)
	f.subscribe(&pb.FetchSubscription{Topic: "t"})
	if r := f.next(); r.GetNextOffset() != 1 {
		t.Fatalf("got %v", r)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.Stop()
	}()
	if r := f.next(); r.GetDrain() == nil || r.GetSubscriptionId() != 0 {
		t.Errorf("got %v", r)
	}
	f.wantEnd()
	<-stopped
}

func TestFetchSurvivesARestart(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	fill(t, s.Broker, "t", 0, "a", "b", "c")
	s.Restart()
	fill(t, s.Broker, "t", 0, "d")
	f := openFetcher(t, s.Broker)
	f.subscribe(&pb.FetchSubscription{Topic: "t", Form: pb.FetchForm_FETCH_FORM_RECORDS, UntilEnd: true})
	var epochs []int32
	for finished := false; !finished; {
		r := f.next()
		for _, rec := range r.GetRecords() {
			epochs = append(epochs, rec.GetLeaderEpoch())
		}
		finished = r.GetCaughtUp().GetFinished()
	}
	if len(epochs) != 4 || epochs[0] == epochs[3] {
		t.Errorf("leader epochs %v", epochs)
	}
	// The epoch of the last record before the restart is still good.
	f = openFetcher(t, s.Broker)
	f.subscribe(&pb.FetchSubscription{
		Topic: "t", UntilEnd: true, Position: &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: 3}, LeaderEpoch: &epochs[2]},
	})
	if r := f.next(); r.GetError() != nil || r.GetFirstOffset() != 3 {
		t.Errorf("got %v", r)
	}
}

func TestClientThatNeverReadsLosesItsStreamAndNothingElse(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Limits: api.Limits{StallTimeout: 500 * time.Millisecond}})
	s.CreateTopic("t", 1)
	value := strings.Repeat("x", 900_000)
	for range 10 {
		fill(t, s.Broker, "t", 0, value)
	}
	conn := s.Dial(grpc.WithStaticStreamWindowSize(64 << 10))
	idle := openFetcher(t, pb.NewBrokerServiceClient(conn))
	idle.subscribe(&pb.FetchSubscription{Topic: "t"})
	// Another stream of the same connection reads all of it meanwhile, again and
	// again, until the idle one is ended.
	for ended := false; !ended; {
		f := openFetcher(t, pb.NewBrokerServiceClient(conn))
		f.subscribe(&pb.FetchSubscription{Topic: "t", UntilEnd: true})
		for finished := false; !finished; {
			finished = f.next().GetCaughtUp().GetFinished()
		}
		gathered, err := s.Metrics.Registerer.(prometheus.Gatherer).Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range gathered {
			ended = ended || m.GetName() == "millstream_streams_stalled_total" && m.GetMetric()[0].GetCounter().GetValue() == 1
		}
	}
	var err error
	for err == nil {
		_, err = idle.st.Recv() // what was on its way
	}
	wantStatus(t, err, codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_READER_TOO_SLOW)
}

func TestManySubscriptionsComeAndGo(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 4, "durability", "memory")
	f := openFetcher(t, s.Broker)
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	clients.Go(func() { // records all the time
		p := openProducer(t, s.Broker)
		for ctx.Err() == nil {
			if r := p.ask(&pb.ProduceRequest{Topic: "t", Batch: keyed("a", "b", "c", "d", "e")}); r.GetError() != nil {
				t.Error(r.GetError())
				return
			}
		}
		p.end(0)
	})
	clients.Go(func() { // subscriptions that come and go
		defer cancel()
		for round := range uint64(200) {
			r := &pb.FetchRequest{Credit: new((round + 1) << 12)}
			for i := range uint64(20) {
				id := (round*7+i*3)%50 + 1
				r.Unsubscribe = append(r.Unsubscribe, id)
				r.Subscribe = append(r.Subscribe, &pb.FetchSubscription{SubscriptionId: id, Topic: "t", Partition: uint32(id % 4)})
			}
			if f.st.Send(r) != nil {
				return
			}
		}
		_ = f.st.Send(&pb.FetchRequest{Credit: new(uint64(1 << 40)), Subscribe: []*pb.FetchSubscription{{SubscriptionId: 99, Topic: "t", UntilEnd: true}}})
	})
	for {
		r := f.next()
		if e := r.GetError(); e != nil && r.GetSubscriptionId() != 0 {
			t.Fatalf("got %v", r)
		}
		values(t, r)
		if r.GetSubscriptionId() == 99 && r.GetCaughtUp().GetFinished() {
			break
		}
	}
	clients.Wait()
}
