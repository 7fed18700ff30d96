package millstream_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/clients/go/internal/faketest"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Whoever waits for records that nobody takes is told of it, once until some
// are taken, and not of a refusal that passes.
func TestTheLoggerIsToldOfRecordsThatWaitLong(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	var answers, after atomic.Int32 // after so many answers it takes records
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict {
		if answers.Add(1) <= after.Load() {
			return faketest.Verdict{Error: again}
		}
		return faketest.Verdict{}
	}
	var log lines
	c, err := millstream.New(millstream.Options{Addr: faketest.Addr, DialOptions: []grpc.DialOption{s.Dialer()}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	send := func(refusals int32, retryFor time.Duration) int {
		t.Helper()
		before := log.count("records are not taken")
		p, err := c.NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t", RetryFor: retryFor})
		if err != nil {
			t.Fatal(err)
		}
		answers.Store(0)
		after.Store(refusals)
		_, err = p.AppendSync(inTime(t), millstream.Record{})
		if err := errors.Join(err, p.Close(inTime(t))); err != nil {
			t.Fatal(err)
		}
		return log.count("records are not taken") - before
	}
	if n := send(2, time.Hour); n != 0 {
		t.Errorf("of two refusals in a moment it was told %d times", n)
	}
	// Between seven of them the producer rests for 630 ms or more.
	if n := send(7, 10*time.Second); n != 1 {
		t.Errorf("of seven refusals in more than a twentieth of the time that there is it was told %d times", n)
	}
}

// lines counts what is logged.
type lines struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

func TestAfterRetryForABatchIsGivenUp(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict { return faketest.Verdict{Error: again} }
	p := newProducer(t, s, millstream.ProducerOptions{RetryFor: 100 * time.Millisecond})
	_, err := p.AppendSync(inTime(t), millstream.Record{})
	var gaveUp *millstream.GaveUpError
	var said *millstream.Error
	if !errors.As(err, &gaveUp) || !errors.As(err, &said) || said.Reason != again.GetReason() {
		t.Errorf("with a server that refuses: %v", err)
	}
	s.Stop()
	if _, err = p.AppendSync(inTime(t), millstream.Record{}); !errors.As(err, &gaveUp) {
		t.Errorf("with no server: %v", err)
	}
	wantLost(t, p)
}

func TestCloseInTimeOrNotAtAll(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	never := make(chan struct{})
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict { return faketest.Verdict{Wait: never} }
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 1})
	all := appendAll(t, p, 0, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	for i, pending := range all {
		_, err := pending.Wait(inTime(t))
		if !errors.Is(err, millstream.ErrClosed) {
			t.Errorf("record %d: %v", i, err)
		}
	}
}

// each takes what is written to a log, a line at a time.
type each chan string

func (l each) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// Who closes a producer while its records are refused is told why they were not
// taken.
func TestCloseSaysWhatRecordsWaitFor(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict { return faketest.Verdict{Error: again} }
	log := make(each, 10)
	c, err := millstream.New(millstream.Options{
		Addr: faketest.Addr, DialOptions: []grpc.DialOption{s.Dialer()}, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	p, err := c.NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t", RetryFor: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	pending, err := p.Append(inTime(t), millstream.Record{})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-log: // it rests now
		if !strings.Contains(line, "records are not taken") || !strings.Contains(line, again.GetMessage()) {
			t.Errorf("the logger is told: %s", line)
		}
	case <-inTime(t).Done():
		t.Fatal("the logger is told nothing")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v", err)
	}
	_, err = pending.Wait(inTime(t))
	var said *millstream.Error
	if !errors.Is(err, millstream.ErrClosed) || !errors.As(err, &said) || said.Reason != again.GetReason() {
		t.Errorf("the record failed with: %v", err)
	}
}

func TestClosingTheClientSettlesEverything(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	never := make(chan struct{})
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict { return faketest.Verdict{Wait: never} }
	c := newClient(t, s)
	p, err := c.NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	all := appendAll(t, p, 0, 3)
	c.Close()
	for i, pending := range all {
		if _, err := pending.Wait(inTime(t)); !errors.Is(err, millstream.ErrClosed) {
			t.Errorf("record %d: %v", i, err)
		}
	}
	if _, err := p.Append(inTime(t), millstream.Record{}); !errors.Is(err, millstream.ErrClosed) {
		t.Errorf("Append: %v", err)
	}
}
