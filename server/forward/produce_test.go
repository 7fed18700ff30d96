package forward

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// leader is a broker that a test plays: it gets requests and answers them.
type leader struct {
	pb.UnimplementedBrokerServiceServer

	requests chan *pb.ProduceRequest
	answers  chan *pb.ProduceResponse // closed: the stream ends OK
	breaks   chan error
	last     chan error // how the requests of a stream ended
}

func (l *leader) Produce(st grpc.BidiStreamingServer[pb.ProduceRequest, pb.ProduceResponse]) error {
	if !Forwarded(st.Context()) {
		return status.Error(codes.Internal, "not marked as forwarded")
	}
	go func() {
		for {
			m, err := st.Recv()
			if err != nil {
				select {
				case l.last <- err:
				default: // no test asks
				}
				return
			}
			l.requests <- m
		}
	}()
	for {
		select {
		case a, more := <-l.answers:
			if !more {
				return nil
			}
			if err := st.Send(a); err != nil {
				return err
			}
		case err := <-l.breaks:
			return err
		case <-st.Context().Done():
			return nil
		}
	}
}

// startLeader serves a leader and returns a producer whose only peer it is,
// broker 2.
func startLeader(t *testing.T) (*leader, *Producer) {
	t.Helper()
	l := &leader{requests: make(chan *pb.ProduceRequest, 100), answers: make(chan *pb.ProduceResponse), breaks: make(chan error), last: make(chan error, 100)}
	server := grpc.NewServer()
	pb.RegisterBrokerServiceServer(server, l)
	lis := rpc.ListenInProcess()
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	conn, err := lis.Dial()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var links sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		links.Wait()
		_ = conn.Close()
		server.Stop()
		<-served //nolint:errcheck // how it ended does not matter here
	})
	return l, NewProducer(ctx, NewCalls(onePeer{conn}, mostCalls), links.Go)
}

// mostCalls is how many calls a producer of a test may have open: more than
// any has, also while one that has ended is still counted.
const mostCalls = 10

// onePeer reaches broker 2, and no other.
type onePeer struct{ conn *grpc.ClientConn }

func (p onePeer) Conn(id int32) (*grpc.ClientConn, error) {
	if id != 2 {
		return nil, errors.New("nobody is there")
	}
	return p.conn, nil
}

// done collects requests that are done, in order.
type done chan *Request

func (d done) Forwarded(r *Request) { d <- r }

// request returns a request of a lane for broker 2.
func request(d done, l *Lane, restart bool) *Request {
	return &Request{
		To: Target{Leader: 2, Epoch: 5, Revision: 9}, Topic: "t", Partition: 1, Batch: record.Pieces{[]byte{}},
		Lane: l, Restart: restart, Done: d,
	}
}

func send(t *testing.T, p *Producer, r *Request) *Request {
	t.Helper()
	if err := p.Send(r); err != nil {
		t.Fatal(err)
	}
	return r
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func TestARequestIsMarkedAndItsAnswerComesBack(t *testing.T) {
	l, p := startLeader(t)
	d := make(done, 10)
	r := send(t, p, request(d, &Lane{}, false))
	q := <-l.requests
	if q.GetTopic() != "t" || q.GetPartition() != 1 || q.GetLeaderEpoch() != 5 || q.GetMinRevision() != 9 {
		t.Errorf("the leader got %v", q)
	}
	l.answers <- &pb.ProduceResponse{CorrelationId: q.GetCorrelationId(), BaseOffset: new(int64(7)), LeaderEpoch: 5, Ack: &pb.Ack{InSyncReplicas: 3}}
	if got := <-d; got != r || got.Err != nil || got.Base != 7 || got.Epoch != 5 || got.Ack.GetInSyncReplicas() != 3 {
		t.Errorf("got %+v", got)
	}
}

// Sent and not answered: it may be written, and is not sent again.
func TestWhatWasSentWhenTheStreamBreaksIsUnknown(t *testing.T) {
	l, p := startLeader(t)
	d := make(done, 10)
	lane, other := &Lane{}, &Lane{}
	first, second, third := request(d, lane, false), request(d, lane, false), request(d, other, false)
	for _, r := range []*Request{first, second, third} {
		send(t, p, r)
		<-l.requests
	}
	l.breaks <- status.Error(codes.Unavailable, "gone")
	for _, want := range []*Request{first, second, third} {
		if got := <-d; got != want || !is[*BrokenError](got.Err) {
			t.Fatalf("got %+v", got)
		}
	}
	if err := p.Send(request(d, lane, false)); !errors.Is(err, ErrPrecedingFailed) {
		t.Errorf("after it the lane says %v", err)
	}
	again := send(t, p, request(d, lane, true))
	q := <-l.requests
	if !q.GetRestart() {
		t.Errorf("the leader got %v", q)
	}
	l.answers <- &pb.ProduceResponse{CorrelationId: q.GetCorrelationId(), BaseOffset: new(int64(0))}
	if got := <-d; got != again || got.Err != nil {
		t.Errorf("got %+v", got)
	}
	send(t, p, request(d, lane, false))
	<-l.requests
}

// A leader that ends its stream well has answered all that it took.
func TestWhatALeaderThatStopsDidNotTakeWasNotWritten(t *testing.T) {
	l, p := startLeader(t)
	d := make(done, 10)
	lane := &Lane{}
	first, second := send(t, p, request(d, lane, false)), send(t, p, request(d, lane, false))
	<-l.requests
	<-l.requests
	close(l.answers)
	if got := <-d; got != first || !is[*UnreachableError](got.Err) {
		t.Errorf("got %+v", got)
	}
	if got := <-d; got != second || !errors.Is(got.Err, ErrPrecedingFailed) {
		t.Errorf("got %+v", got)
	}
}

// A leader that stops is sent nothing more: what would be on its way when its time
// is over would have an unknown outcome.
func TestALeaderThatStopsIsSentNothingMore(t *testing.T) {
	l, p := startLeader(t)
	d := make(done, 10)
	var lane Lane
	taken := send(t, p, request(d, &lane, false))
	first := <-l.requests
	l.answers <- &pb.ProduceResponse{Control: &pb.ProduceResponse_Drain{Drain: &pb.Drain{DeadlineMs: 1000}}}
	if err := <-l.last; !errors.Is(err, io.EOF) {
		t.Fatalf("the requests ended with %v", err)
	}
	late := request(d, &lane, false)
	if err := p.Send(late); !is[*UnreachableError](err) {
		t.Errorf("a request to a leader that stops: %v", err)
	}
	if err := p.Send(request(d, &lane, false)); !errors.Is(err, ErrPrecedingFailed) {
		t.Errorf("a request behind it: %v", err)
	}
	if err := p.Send(request(d, &lane, true)); !is[*UnreachableError](err) {
		t.Errorf("it again, with restart: %v", err)
	}
	l.answers <- &pb.ProduceResponse{CorrelationId: first.GetCorrelationId(), BaseOffset: new(int64(7)), LeaderEpoch: 5}
	if got := <-d; got != taken || got.Err != nil || got.Base != 7 {
		t.Errorf("what it had taken: %+v", got)
	}
	close(l.answers)
	select {
	case q := <-l.requests:
		t.Errorf("it was sent %v", q)
	default:
	}
}

// What is behind a request that was refused is refused too, also when the leader did
// not come to say so.
func TestWhatIsBehindARefusalWasNotWritten(t *testing.T) {
	for name, again := range map[string]bool{"surely not written": true, "perhaps written": false} {
		t.Run(name, func(t *testing.T) {
			l, p := startLeader(t)
			d := make(done, 10)
			var lane, other Lane
			for _, lane := range []*Lane{&lane, &lane, &other} {
				send(t, p, request(d, lane, false))
			}
			first := <-l.requests
			<-l.requests
			<-l.requests
			l.answers <- &pb.ProduceResponse{CorrelationId: first.GetCorrelationId(), Error: &pb.RequestError{Code: uint32(codes.Unavailable), Retryable: again}}
			if got := <-d; !is[*rpc.Fault](got.Err) {
				t.Errorf("the first: %v", got.Err)
			}
			l.breaks <- status.Error(codes.Unavailable, "gone")
			if got := <-d; errors.Is(got.Err, ErrPrecedingFailed) != again || is[*BrokenError](got.Err) == again {
				t.Errorf("what is behind it: %v", got.Err)
			}
			if got := <-d; !is[*BrokenError](got.Err) {
				t.Errorf("what is of another lane: %v", got.Err)
			}
		})
	}
}

func TestWhatCannotBeSentIsSaidToBeSo(t *testing.T) {
	_, p := startLeader(t)
	d := make(done, 10)
	lane := &Lane{}
	first := request(d, lane, false)
	first.To.Leader = 3
	send(t, p, first)
	if got := <-d; got != first || !is[*UnreachableError](got.Err) {
		t.Errorf("got %+v", got)
	}
	if err := p.Send(request(d, lane, false)); !errors.Is(err, ErrPrecedingFailed) {
		t.Errorf("after it the lane says %v", err)
	}
}

// A restart that was sent before a failure was known lifts it.
func TestAFailureBeforeARestartDoesNotRefuseWhatComesAfterIt(t *testing.T) {
	l, p := startLeader(t)
	d := make(done, 10)
	lane := &Lane{}
	send(t, p, request(d, lane, false))
	send(t, p, request(d, lane, true))
	one, two := <-l.requests, <-l.requests
	l.answers <- &pb.ProduceResponse{CorrelationId: one.GetCorrelationId(), Error: &pb.RequestError{
		Code: uint32(codes.Unavailable), Reason: pb.ErrorReason_ERROR_REASON_NOT_ENOUGH_REPLICAS, Retryable: true, RetryAfterMs: 100,
	}}
	got := <-d
	if f, ok := errors.AsType[*rpc.Fault](got.Err); !ok || !f.Retryable || f.RetryAfter != 100*time.Millisecond {
		t.Errorf("got %+v", got)
	}
	if p.Failed(lane) {
		t.Error("the lane refuses after its restart")
	}
	l.answers <- &pb.ProduceResponse{CorrelationId: two.GetCorrelationId(), BaseOffset: new(int64(0))}
	if got := <-d; got.Err != nil {
		t.Errorf("got %+v", got)
	}
	send(t, p, request(d, lane, false))
	<-l.requests
}

func TestTheEndOfTheClientsStreamGivesEverythingBack(t *testing.T) {
	l := &leader{requests: make(chan *pb.ProduceRequest, 100)}
	server := grpc.NewServer()
	pb.RegisterBrokerServiceServer(server, l)
	lis := rpc.ListenInProcess()
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	conn, err := lis.Dial()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var links sync.WaitGroup
	p := NewProducer(ctx, NewCalls(onePeer{conn}, mostCalls), links.Go)
	d := make(done, 10)
	send(t, p, request(d, nil, false))
	<-l.requests
	cancel()
	links.Wait()
	if got := <-d; got.Err == nil {
		t.Error("a request that was not answered has no error")
	}
	if err := p.Send(request(d, nil, false)); err == nil {
		t.Error("a request was taken after the end")
	}
	_ = conn.Close()
	server.Stop()
	<-served //nolint:errcheck // as above
}

// A broker takes so many streams of another: what comes beyond is told so, and
// does not wait for the others to end.
func TestWhatIsBeyondTheCallsThatMayBeOpenIsRefused(t *testing.T) {
	l, p := startLeader(t)
	p.peers.most = 1
	d := make(done, 10)
	send(t, p, request(d, nil, false))
	<-l.requests
	other := NewProducer(t.Context(), p.peers, p.spawn)
	lane := &Lane{}
	refused := send(t, other, request(d, lane, false))
	if got := <-d; got != refused || !is[*BusyError](got.Err) {
		t.Fatalf("got %+v", got)
	}
	if err := other.Send(request(d, lane, false)); !errors.Is(err, ErrPrecedingFailed) {
		t.Errorf("after it the lane says %v", err)
	}
	if open, refused := p.peers.Open(), p.peers.Refused(); open != 1 || refused != 1 {
		t.Errorf("%d calls are open, %d were refused", open, refused)
	}
	l.breaks <- status.Error(codes.Unavailable, "gone")
	<-d
	for p.peers.Open() > 0 {
		runtime.Gosched()
	}
	send(t, other, request(d, lane, true))
	<-l.requests
}
