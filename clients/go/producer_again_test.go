package millstream_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/clients/go/internal/faketest"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

var again = &pb.RequestError{
	Code: uint32(codes.Unavailable), Reason: pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE, Message: "nobody leads", Retryable: true,
}

func TestAFailedRequestIsSentAgainBeforeItsSuccessors(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	failures := 0
	var restarts []string
	s.OnProduce = func(q *pb.ProduceRequest) faketest.Verdict {
		first := string(q.GetBatch().GetRecords()[0].GetValue())
		if q.GetRestart() {
			restarts = append(restarts, first)
		}
		if first == string(value(20)) && failures < 3 {
			failures++
			return faketest.Verdict{Error: again}
		}
		return faketest.Verdict{}
	}
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 10, Linger: time.Hour})
	all := appendAll(t, p, 0, 100)
	if err := p.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
	wantValues(t, s.Log("t", 0), 100)
	for i, pending := range all {
		if place, err := pending.Wait(inTime(t)); err != nil || place.Offset != int64(i) {
			t.Fatalf("record %d: %+v, %v", i, place, err)
		}
	}
	if want := slices.Repeat([]string{string(value(20))}, 3); !slices.Equal(restarts, want) {
		t.Errorf("restarted at %v, want %v", restarts, want)
	}
}

func TestARefusedBatchFailsAloneAndTheRestGoesOn(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.OnProduce = func(q *pb.ProduceRequest) (v faketest.Verdict) {
		if string(q.GetBatch().GetRecords()[0].GetValue()) == string(value(20)) {
			v.Error = &pb.RequestError{Code: uint32(codes.InvalidArgument), Reason: pb.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE, Message: "too large",
				Detail: &pb.RequestError_Limit{Limit: &pb.LimitViolation{Limit: "max.batch.bytes", Maximum: 1, Actual: 2}}}
		}
		return v
	}
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 10, Linger: time.Hour})
	all := appendAll(t, p, 0, 100)
	err := p.Flush(inTime(t))
	var lost *millstream.UnacknowledgedError
	if !errors.As(err, &lost) || lost.Records != 10 {
		t.Fatalf("Flush: %v, want 10 records unacknowledged", err)
	}
	var said *millstream.Error
	if !errors.As(err, &said) || said.Reason != pb.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE || said.Limit.GetLimit() != "max.batch.bytes" || said.Partition != 0 {
		t.Fatalf("Flush: %v", err)
	}
	if _, err := all[25].Wait(inTime(t)); !errors.As(err, &said) {
		t.Errorf("record 25: %v", err)
	}
	if place, err := all[30].Wait(inTime(t)); err != nil || place.Offset != 20 {
		t.Errorf("record 30: %+v, %v", place, err)
	}
	leftOut := []int{20, 21, 22, 23, 24, 25, 26, 27, 28, 29}
	wantValues(t, s.Log("t", 0), 100, leftOut...)
	if err := p.Close(inTime(t)); err != nil {
		t.Errorf("Close after a Flush that told: %v", err)
	}
}

func TestWhatWasInFlightOnACutStreamHasAnUnknownOutcomeAndTheRestIsSentAgain(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	cut := false
	s.OnProduce = func(q *pb.ProduceRequest) (v faketest.Verdict) {
		if string(q.GetBatch().GetRecords()[0].GetValue()) == string(value(0)) && !cut {
			cut = true
			v.Lose = status.Error(codes.Unavailable, "gone")
		}
		return v
	}
	p := newProducer(t, s, millstream.ProducerOptions{})
	first := appendAll(t, p, 0, 1)
	_, err := first[0].Wait(inTime(t))
	var unknown *millstream.UnknownOutcomeError
	if !errors.As(err, &unknown) || unknown.Topic != "t" || unknown.Partition != 0 {
		t.Fatalf("record 0: %v, want an unknown outcome", err)
	}
	var said *millstream.Error
	if !errors.As(err, &said) || said.Code != codes.Unavailable {
		t.Errorf("the cause is %v", unknown.Cause)
	}
	for _, pending := range appendAll(t, p, 1, 50) {
		if _, err := pending.Wait(inTime(t)); err != nil {
			t.Fatal(err)
		}
	}
	// The server wrote record 0 before it was cut off, and nothing twice.
	wantValues(t, s.Log("t", 0), 50)
	var lost *millstream.UnacknowledgedError
	if err := p.Close(inTime(t)); !errors.As(err, &lost) || lost.Records != 1 {
		t.Errorf("Close: %v", err)
	}
}

func TestWithinACutPartitionNothingIsReordered(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	n := 0
	s.OnProduce = func(*pb.ProduceRequest) (v faketest.Verdict) {
		if n++; n%17 == 0 {
			v.Lose = status.Error(codes.Unavailable, "gone")
		} else if n%5 == 0 {
			v.Error = again
		}
		return v
	}
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 3})
	all := appendAll(t, p, 0, 600)
	if err := p.Flush(inTime(t)); err == nil {
		t.Error("nothing was lost")
	}
	got := values(s.Log("t", 0))
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Fatal("records are out of order or twice in the log")
	}
	for i, pending := range all {
		place, err := pending.Wait(inTime(t))
		var unknown *millstream.UnknownOutcomeError
		if err == nil && got[place.Offset] != string(value(i)) {
			t.Fatalf("record %d is not at %d", i, place.Offset)
		} else if err != nil && !errors.As(err, &unknown) {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	wantLost(t, p)
}

// wantLost closes a producer that has lost records.
func wantLost(t *testing.T, p *millstream.Producer) {
	t.Helper()
	var lost *millstream.UnacknowledgedError
	if err := p.Close(inTime(t)); err != nil && !errors.As(err, &lost) {
		t.Errorf("Close: %v", err)
	}
}

func TestADrainIsNoLoss(t *testing.T) {
	s := faketest.New(t, "t", 2, nil)
	drained := 0
	s.OnProduce = func(*pb.ProduceRequest) (v faketest.Verdict) {
		if drained < 3 {
			drained++
			v.Drain = true
		}
		return v
	}
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 5})
	appendAll(t, p, 0, 200)
	if err := p.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
	wantValues(t, s.Log("t", 0), 200)
	if drained != 3 {
		t.Errorf("drained %d times", drained)
	}
}

func TestAServerThatComesBackGetsWhatWasNotSent(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	p := newProducer(t, s, millstream.ProducerOptions{})
	appendAll(t, p, 0, 10)
	if err := p.Flush(inTime(t)); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	// What is sent before the client sees the end of the stream has an unknown
	// outcome; what comes then waits for the server.
	var err error = &millstream.UnknownOutcomeError{}
	for unknown := (*millstream.UnknownOutcomeError)(nil); errors.As(err, &unknown); {
		pending := appendAll(t, p, 10, 11)[0]
		s.Start()
		_, err = pending.Wait(inTime(t))
		if err != nil {
			s.Stop()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	wantValues(t, s.Log("t", 0), 11)
	wantLost(t, p)
}
