package api

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"google.golang.org/grpc"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// wantFrom fails the test unless a stream delivers values "0", "1" … of those
// offsets, and returns the frame that says how it ends.
func wantFrom(t *testing.T, st grpc.BidiStreamingClient[pb.FetchRequest, pb.FetchResponse], from, to int64) *pb.FetchResponse {
	t.Helper()
	for at := from; ; {
		m, err := st.Recv()
		if err != nil {
			t.Fatalf("at %d: %v", at, err)
		}
		for _, r := range m.GetRecords() {
			if r.GetOffset() != at || string(r.GetValue()) != fmt.Sprint(at) {
				t.Fatalf("got %v at %d", r, at)
			}
			at++
		}
		if m.GetControl() == nil || m.GetCaughtUp() != nil && !m.GetCaughtUp().GetFinished() {
			continue
		}
		if at != to {
			t.Fatalf("%v comes at %d, not %d", m, at, to)
		}
		return m
	}
}

func wantFinished(t *testing.T, st grpc.BidiStreamingClient[pb.FetchRequest, pb.FetchResponse], from, to int64) {
	t.Helper()
	if m := wantFrom(t, st, from, to); !m.GetCaughtUp().GetFinished() || m.GetNextOffset() != to {
		t.Fatalf("got %v at %d", m, to)
	}
}

func wantShort(t *testing.T, st grpc.BidiStreamingClient[pb.FetchRequest, pb.FetchResponse], from, to int64, epoch int32) {
	t.Helper()
	e := wantFrom(t, st, from, to).GetError()
	if e.GetReason() != pb.ErrorReason_ERROR_REASON_DIVERGED || e.GetDivergence().GetSafeOffset() != to || e.GetDivergence().GetLeaderEpoch() != epoch {
		t.Fatalf("got %v", e)
	}
}

// begun sends the first frame of a subscription that has seen an end.
func (s *playedStream) begun(t *testing.T, sub *pb.FetchSubscription, end int64) {
	t.Helper()
	if err := s.Send(&pb.FetchResponse{
		SubscriptionId: sub.GetSubscriptionId(), Topic: "t", NextOffset: 1, HighWatermark: end,
		Records: []*pb.FetchedRecord{{LeaderEpoch: 1, Value: []byte("0")}},
	}); err != nil {
		t.Fatal(err)
	}
}

func toTheEnd(end *int64) *pb.FetchSubscription {
	return &pb.FetchSubscription{SubscriptionId: 1, Topic: "t", Form: pb.FetchForm_FETCH_FORM_RECORDS, UntilEnd: true, End: end}
}

// ownWith makes a log of so many records, led by broker 1.
func ownWith(t *testing.T, records int, damage *segment.CorruptError) *movingLeader {
	t.Helper()
	fs := memfs.New()
	m := startMovingLeader(t)
	for _, damaged := range []bool{false, true} {
		log, _, err := commitlog.Open(commitlog.Options{FS: fs, Dir: "/p"})
		if err != nil {
			t.Fatal(err)
		}
		o := partition.Options{Log: log, Self: 1, Flusher: eager{}, Settings: partition.Settings{MaxAheadMs: 1000}, Logger: slog.New(slog.DiscardHandler)}
		if damaged && damage != nil {
			o.Damage = damage
		}
		m.own = partition.New(o)
		leadOwn(m.own, 1)
		if damaged {
			t.Cleanup(func() {
				if err := m.own.Close(); err != nil {
					t.Error(err)
				}
			})
			break
		}
		m.lead(1, 1)
		for at := range records {
			m.append(fmt.Sprint(at))
		}
		if err := m.own.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// The next leader is told where the subscription ends, and not asked where its
// own log does.
func TestTheNextLeaderIsToldWhereASubscriptionEnds(t *testing.T) {
	for name, asked := range map[string]*int64{"as the first leader saw it": nil, "as the client saw it": new(int64(9))} {
		t.Run(name, func(t *testing.T) {
			m := startMovingLeader(t)
			m.lead(2, 4)
			st := subscribeTo(t, m, toTheEnd(asked))
			two := <-m.leaders[2].streams
			sub := <-two.asked
			if asked == nil && sub.End != nil || asked != nil && sub.GetEnd() != 9 {
				t.Errorf("the first leader was asked for %v", sub)
			}
			if two.begun(t, sub, 9); asked != nil {
				two.answer(t, sub, false, 1, 1, "1")
				wantValue(t, st, 0, "0")
				wantValue(t, st, 1, "1")
			} else {
				wantValue(t, st, 0, "0")
			}
			two.end <- fmt.Errorf("killed")
			m.lead(3, 5)
			three := <-m.leaders[3].streams
			if sub = <-three.asked; !sub.GetUntilEnd() || sub.GetEnd() != 9 {
				t.Errorf("the second leader was asked for %v", sub)
			}
		})
	}
}

// The broker that the client is at comes to lead, and has less than there was.
func TestASubscriptionThatComesHomeToAShorterLogSaysSo(t *testing.T) {
	for _, end := range []int64{3, 9} {
		m := ownWith(t, 4, nil)
		m.lead(2, 2)
		st := subscribeTo(t, m, toTheEnd(nil))
		two := <-m.leaders[2].streams
		two.begun(t, <-two.asked, end)
		wantValue(t, st, 0, "0")
		leadOwn(m.own, 3)
		m.lead(1, 3)
		two.end <- fmt.Errorf("killed")
		if end == 3 {
			wantFinished(t, st, 1, 3)
		} else {
			wantShort(t, st, 1, 4, 1)
		}
	}
}

// And it keeps what it saw when it leaves again.
func TestASubscriptionTakesTheEndThatItSawWithIt(t *testing.T) {
	m := ownWith(t, 200, nil)
	st, err := m.client.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sub := toTheEnd(new(int64(300)))
	sub.Position = &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: 1}}
	// Credit for one frame: the rest waits.
	if err := st.Send(&pb.FetchRequest{Subscribe: []*pb.FetchSubscription{sub}, Credit: new(uint64(1))}); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); err != nil {
		t.Fatal(err)
	}
	m.lead(2, 2)
	m.own.Resign(2, 2)
	if err := st.Send(&pb.FetchRequest{Credit: new(uint64(1 << 20))}); err != nil {
		t.Fatal(err)
	}
	two := <-m.leaders[2].streams
	if sub = <-two.asked; sub.GetEnd() != 300 {
		t.Errorf("the other leader was asked for %v", sub)
	}
}

// Who has read elsewhere says which end he saw.
func TestWhoSawAnEndFinishesThere(t *testing.T) {
	m := ownWith(t, 4, nil)
	for _, end := range []int64{0, 2, 4} {
		wantFinished(t, subscribeTo(t, m, toTheEnd(&end)), 0, end)
		st := m.read(&pb.ReadRequest{End: &end})
		for at := range end {
			wantRecords(t, st, at)
		}
		wantEnd(t, st)
	}
	wantShort(t, subscribeTo(t, m, toTheEnd(new(int64(6)))), 0, 4, 1)
	st := m.read(&pb.ReadRequest{End: new(int64(6))})
	wantRecords(t, st, 0, 1, 2, 3)
	if d := wantReason(t, st, pb.ErrorReason_ERROR_REASON_DIVERGED, false); d.GetSafeOffset() != 4 || d.GetLeaderEpoch() != 1 {
		t.Errorf("got %v", d)
	}
	st = m.read(&pb.ReadRequest{End: new(int64(6)), MaxRecords: 4}) // all that was asked for
	wantRecords(t, st, 0, 1, 2, 3)
	wantEnd(t, st)
}

// In another history the end may be in the middle of a batch.
func TestAnEndInTheMiddleOfABatchIsKept(t *testing.T) {
	own := ownPartition(t)
	m := startMovingLeader(t)
	m.own = own
	leadOwn(own, 1)
	m.lead(1, 1)
	r := &pb.AppendRequest{Topic: "t"}
	for at := range 5 {
		r.Records = append(r.Records, &pb.AppendRecord{ValueForm: &pb.AppendRecord_Text{Text: fmt.Sprint(at)}})
	}
	if _, err := m.client.Append(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	wantFinished(t, subscribeTo(t, m, toTheEnd(new(int64(3)))), 0, 3)
	sub := toTheEnd(new(int64(3)))
	sub.Form = pb.FetchForm_FETCH_FORM_BATCHES
	got, err := subscribeTo(t, m, sub).Recv()
	if err != nil || len(got.GetBatches()) != 1 || got.GetNextOffset() != 3 || !got.GetCaughtUp().GetFinished() {
		t.Errorf("got %v, %v", got, err)
	}
	st := m.read(&pb.ReadRequest{End: new(int64(3))})
	wantRecords(t, st, 0, 1, 2)
	wantEnd(t, st)
}

// A leader that may have been deposed does not know what the next one committed.
func TestALeaderThatIsNotFreshDoesNotSayThatRecordsAreGone(t *testing.T) {
	m := ownWith(t, 4, nil)
	m.own.Lead(replica.Assignment{Epoch: 2, Replicas: []replica.ID{1, 2}, InSync: []replica.ID{1, 2}, MinInSync: 2, Durability: replica.Memory})
	m.lead(1, 2)
	wantFinished(t, subscribeTo(t, m, toTheEnd(nil)), 0, 4)
	if e := wantFrom(t, subscribeTo(t, m, toTheEnd(new(int64(6)))), 0, 0).GetError(); e.GetReason() != pb.ErrorReason_ERROR_REASON_NOT_FRESH || !e.GetRetryable() {
		t.Errorf("got %v", e)
	}
	wantReason(t, m.read(&pb.ReadRequest{End: new(int64(6))}), pb.ErrorReason_ERROR_REASON_NOT_FRESH, true)
}

// What a damaged log has not, others may have.
func TestADamagedLogDoesNotSayThatRecordsAreGone(t *testing.T) {
	m := ownWith(t, 4, &segment.CorruptError{File: "f", Cause: errors.New("rot")})
	if e := wantFrom(t, subscribeTo(t, m, toTheEnd(new(int64(6)))), 0, 4).GetError(); e.GetReason() != pb.ErrorReason_ERROR_REASON_CORRUPT_SEGMENT {
		t.Errorf("got %v", e)
	}
	st := m.read(&pb.ReadRequest{End: new(int64(6))})
	wantRecords(t, st, 0, 1, 2, 3)
	wantReason(t, st, pb.ErrorReason_ERROR_REASON_CORRUPT_SEGMENT, false)
	wantFinished(t, subscribeTo(t, m, toTheEnd(nil)), 0, 4)
}

func TestTheEndThatWasSeenIsChecked(t *testing.T) {
	m := ownWith(t, 1, nil)
	for _, sub := range []*pb.FetchSubscription{{Topic: "t", End: new(int64(1))}, {Topic: "t", UntilEnd: true, End: new(int64(-1))}} {
		if e := wantFrom(t, subscribeTo(t, m, sub), 0, 0).GetError(); e.GetField().GetField() != "end" {
			t.Errorf("%v: %v", sub, e)
		}
	}
	for _, r := range []*pb.ReadRequest{{End: new(int64(1)), Follow: true}, {End: new(int64(-1))}} {
		wantReason(t, m.read(r), pb.ErrorReason_ERROR_REASON_INVALID_FIELD, false)
	}
	if _, err := m.read(&pb.ReadRequest{End: new(int64(0))}).Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// A Read that was passed on tells the next leader as well.
func TestTheNextLeaderIsToldWhereAReadEnds(t *testing.T) {
	m := startMovingLeader(t)
	m.lead(2, 4)
	st := m.read(&pb.ReadRequest{})
	two := m.nextRead(2)
	if two.asked.End != nil {
		t.Errorf("the first leader was asked for %v", two.asked)
	}
	two.begins(t, 0, -1, 5)
	two.answer(t, 4, 0)
	wantRecords(t, st, 0)
	two.end <- errStops
	m.lead(3, 5)
	three := m.nextRead(3)
	if three.asked.GetEnd() != 5 {
		t.Errorf("the second leader was asked for %v", three.asked)
	}
	// It has lost some to damage; a third has them.
	three.begins(t, 1, 4, 2)
	three.answer(t, 4, 1)
	wantRecords(t, st, 1)
	damaged := FaultOf(&partition.QuarantinedError{Cause: &segment.CorruptError{File: "f", Cause: errors.New("rot")}})
	damaged.Retryable = true
	three.end <- damaged
	m.lead(2, 6)
	two = m.nextRead(2)
	two.wantsFrom(t, 2, 4)
	two.begins(t, 2, 4, 5)
	two.answer(t, 4, 2, 3, 4)
	wantRecords(t, st, 2, 3, 4)
	wantEnd(t, st)
}
