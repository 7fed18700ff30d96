package api_test

import (
	"context"
	"errors"
	"io"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// raw is a message that is sent as it is.
type raw []byte

func (r raw) MarshalRaw() (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(r)}, nil
}

func (r *raw) UnmarshalRaw(msg mem.BufferSlice) error {
	*r = msg.Materialize()
	return nil
}

// batch returns a batch of records with these values and no keys.
func batch(values ...string) *pb.RecordBatch {
	b := &pb.RecordBatch{}
	for _, v := range values {
		b.Records = append(b.Records, &pb.Record{Value: []byte(v)})
	}
	return b
}

// keyed returns a batch of records with these keys, each its own value.
func keyed(keys ...string) *pb.RecordBatch {
	b := &pb.RecordBatch{}
	for _, k := range keys {
		b.Records = append(b.Records, &pb.Record{Key: []byte(k), Value: []byte(k)})
	}
	return b
}

// wantError fails unless e says this.
func wantError(t *testing.T, e *pb.RequestError, code codes.Code, reason pb.ErrorReason) {
	t.Helper()
	if e.GetReason() != reason || codes.Code(e.GetCode()) != code {
		t.Fatalf("got %v, want %v (%v)", e, reason, code)
	}
	if e.GetMessage() == "" {
		t.Errorf("%v has no message", reason)
	}
}

// wantStatus fails unless err is a status that says this.
func wantStatus(t *testing.T, err error, code codes.Code, reason pb.ErrorReason) *pb.RequestError {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	e := rpc.RequestErrorOf(err)
	wantError(t, e, code, reason)
	return e
}

// producer is a Produce stream in a test's hands.
type producer struct {
	t  *testing.T
	st grpc.BidiStreamingClient[pb.ProduceRequest, pb.ProduceResponse]
	id uint64
}

func openProducer(t *testing.T, c pb.BrokerServiceClient) *producer {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	st, err := c.Produce(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &producer{t: t, st: st}
}

// send sends a request under the next correlation id, which it returns.
func (p *producer) send(r *pb.ProduceRequest) uint64 {
	p.t.Helper()
	p.id++
	r.CorrelationId = p.id
	if err := p.st.Send(r); err != nil {
		p.t.Fatal(err)
	}
	return p.id
}

// next returns the next answer.
func (p *producer) next() *pb.ProduceResponse {
	p.t.Helper()
	r, err := p.st.Recv()
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// ask sends a request and returns its answer.
func (p *producer) ask(r *pb.ProduceRequest) *pb.ProduceResponse {
	p.t.Helper()
	id := p.send(r)
	got := p.next()
	if got.GetCorrelationId() != id {
		p.t.Fatalf("asked %d, got an answer to %d", id, got.GetCorrelationId())
	}
	return got
}

// end half-closes and fails unless the stream then ends OK, after the given
// number of answers.
func (p *producer) end(answers int) {
	p.t.Helper()
	if err := p.st.CloseSend(); err != nil {
		p.t.Fatal(err)
	}
	for range answers {
		p.next()
	}
	if r, err := p.st.Recv(); !errors.Is(err, io.EOF) {
		p.t.Fatalf("got %v, %v, want the end", r, err)
	}
}

// fill appends values to a partition and returns the offset of the first.
func fill(t *testing.T, c pb.BrokerServiceClient, topic string, partition uint32, values ...string) int64 {
	t.Helper()
	p := openProducer(t, c)
	got := p.ask(&pb.ProduceRequest{Topic: topic, Partition: new(partition), Batch: batch(values...)})
	if got.GetError() != nil {
		t.Fatal(got.GetError())
	}
	p.end(0)
	return got.GetBaseOffset()
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustUnmarshal(t *testing.T, b []byte, m proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
}
