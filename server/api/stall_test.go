package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
)

// noBroker is a broker without any partition.
type noBroker struct{ budget *broker.Budget }

func (noBroker) ID() int32 { return 1 }
func (noBroker) ReplicaOf(*metadata.Topic, uint32) (*partition.Partition, error) {
	return nil, partition.ErrClosed
}

func (noBroker) PartitionOf(*metadata.Topic, uint32) (*partition.Partition, error) {
	return nil, partition.ErrClosed
}
func (b noBroker) Budget() *broker.Budget          { return b.budget }
func (noBroker) Orphans() ([]broker.Orphan, error) { return nil, nil }

func newTestService(t testing.TB) *BrokerService {
	t.Helper()
	s, err := newBrokerService(Options{
		Broker: noBroker{broker.NewBudget(64 << 20)}, Metadata: metadata.New(metadata.Options{}),
		Limits: Limits{}.withDefaults(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// slowStream is a stream whose client sends `requests` copies of a request,
// stays, and takes so many answers.
type slowStream[Req, Resp any] struct {
	grpc.ServerStream
	ctx      context.Context
	request  []byte
	requests int
	takes    chan struct{} // a send is taken for each value
}

func (s *slowStream[Req, Resp]) Context() context.Context { return s.ctx }

func (s *slowStream[Req, Resp]) RecvMsg(m any) error {
	if s.requests--; s.requests < 0 {
		<-s.ctx.Done()
		return s.ctx.Err()
	}
	if raw, ok := m.(rpc.RawUnmarshaler); ok {
		return raw.UnmarshalRaw(mem.BufferSlice{mem.SliceBuffer(s.request)})
	}
	return proto.Unmarshal(s.request, m.(proto.Message))
}

func (s *slowStream[Req, Resp]) SendMsg(any) error {
	select {
	case <-s.takes:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *slowStream[Req, Resp]) Recv() (*Req, error) {
	m := new(Req)
	return m, s.RecvMsg(m)
}

func (s *slowStream[Req, Resp]) Send(m *Resp) error { return s.SendMsg(m) }

// serveSlow runs a handler against a client that takes an answer each
// interval, so many in all, and returns when and with what the handler ended.
func serveSlow(t *testing.T, ctx context.Context, takes chan struct{}, answers int, interval time.Duration, handle func() error) (time.Duration, error) {
	t.Helper()
	go func() {
		for range answers {
			<-time.After(interval)
			select {
			case takes <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	}()
	begun := time.Now()
	err := handle()
	return time.Since(begun), err
}

func wantTooSlow(t *testing.T, err error) {
	t.Helper()
	f, ok := errors.AsType[*rpc.Fault](err)
	if !ok || f.Reason != pb.ErrorReason_ERROR_REASON_READER_TOO_SLOW {
		t.Fatalf("got %v", err)
	}
}

func TestClientThatDoesNotReadItsAnswersLosesItsStream(t *testing.T) {
	request, err := proto.Marshal(&pb.ProduceRequest{CorrelationId: 1, Topic: "no", Partition: new(uint32(0)), Batch: &pb.RecordBatch{}})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := newTestService(t)
		ctx, cancel := context.WithCancel(t.Context())
		takes := make(chan struct{})
		// Five answers are read slowly, but in time; the sixth is not.
		stream := &slowStream[pb.ProduceRequest, pb.ProduceResponse]{ctx: ctx, request: request, requests: 100_000, takes: takes}
		took, err := serveSlow(t, ctx, takes, 5, 29*time.Second, func() error { return s.produce(stream) })
		wantTooSlow(t, err)
		if took != 5*29*time.Second+30*time.Second {
			t.Errorf("ended after %v", took)
		}
		cancel()
		s.Wait()
		// The server stopped taking requests meanwhile.
		if taken := 100_000 - stream.requests; taken > s.limits.UnreadAnswers+5+1 {
			t.Errorf("%d requests were taken", taken)
		}
		if s.budget.Used() != 0 {
			t.Errorf("%d bytes are still taken from the budget", s.budget.Used())
		}
	})
}

func TestClientThatDoesNotReadItsFramesLosesItsStream(t *testing.T) {
	request, err := proto.Marshal(&pb.FetchRequest{Subscribe: []*pb.FetchSubscription{{Topic: "no"}}})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := newTestService(t)
		ctx, cancel := context.WithCancel(t.Context())
		takes := make(chan struct{})
		stream := &slowStream[pb.FetchRequest, pb.FetchResponse]{ctx: ctx, request: request, requests: 100_000, takes: takes}
		took, err := serveSlow(t, ctx, takes, 3, 20*time.Second, func() error { return s.fetch(stream) })
		wantTooSlow(t, err)
		if took != 3*20*time.Second+30*time.Second {
			t.Errorf("ended after %v", took)
		}
		cancel()
		s.Wait()
		if taken := 100_000 - stream.requests; taken > 3*s.limits.UnreadAnswers {
			t.Errorf("%d requests were taken", taken)
		}
	})
}

// aborted is a stream whose transport fails.
type aborted struct {
	grpc.ServerStream
	ctx context.Context
}

func (a *aborted) Context() context.Context { return a.ctx }
func (a *aborted) RecvMsg(any) error        { return io.ErrUnexpectedEOF }

func TestFailedTransportEndsTheStream(t *testing.T) {
	s := newTestService(t)
	if err := s.produce(&aborted{ctx: t.Context()}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	s.Wait()
}
