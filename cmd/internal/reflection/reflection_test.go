package reflection_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/millstream-io/millstream/cmd/internal/reflection"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers with what it was asked.
type echo struct {
	pb.UnimplementedBrokerServiceServer
}

func (echo) Append(_ context.Context, r *pb.AppendRequest) (*pb.AppendResponse, error) {
	if r.GetTopic() == "" {
		return nil, status.Error(codes.NotFound, "no topic")
	}
	return &pb.AppendResponse{Places: []*pb.RecordPlace{{Partition: uint32(len(r.GetRecords())), Offset: new(int64)}}}, nil
}

func (echo) Read(r *pb.ReadRequest, out grpc.ServerStreamingServer[pb.ReadResponse]) error {
	for i := range int64(r.GetMaxRecords()) {
		v, _ := structpb.NewValue(map[string]any{"a": 1.0})
		if err := out.Send(&pb.ReadResponse{Offset: i, ValueForm: &pb.ReadResponse_Json{Json: v}}); err != nil {
			return err
		}
	}
	return nil
}

func (echo) Produce(s grpc.BidiStreamingServer[pb.ProduceRequest, pb.ProduceResponse]) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&pb.ProduceResponse{CorrelationId: r.GetCorrelationId()}); err != nil {
			return err
		}
	}
}

func open(t *testing.T) *reflection.Server {
	t.Helper()
	srv, err := rpc.NewServer(rpc.Options{Name: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	pb.RegisterBrokerServiceServer(srv, echo{})
	lis := rpc.ListenInProcess()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	conn, err := lis.Dial()
	if err != nil {
		t.Fatal(err)
	}
	s, err := reflection.Open(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		_ = conn.Close()
		srv.Stop(context.Background())
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestServicesAreListed(t *testing.T) {
	names, err := open(t).Services()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(names, " "), "millstream.v1.BrokerService") {
		t.Errorf("got %v", names)
	}
}

func TestMethodsAreCalledWithoutStubs(t *testing.T) {
	for _, c := range []struct {
		name, method, in string
		want             []string
	}{
		{"unary", "millstream.v1.BrokerService/Append", `{"topic":"t","records":[{"text":"x"},{"json":{"b":[1]}}]}`,
			[]string{`{"places":[{"partition":2,"offset":"0","leaderEpoch":0}]}`}},
		{"unary, dotted, proto names", "millstream.v1.BrokerService.Append", `{"topic":"t","min_revision":"1"}`,
			[]string{`{"places":[{"partition":0,"offset":"0","leaderEpoch":0}]}`}},
		{"server stream", "/millstream.v1.BrokerService/Read", `{"maxRecords":1}`,
			[]string{`{"partition":0,"offset":"0","leaderEpoch":0,"json":{"a":1},"headers":[]}`}},
		{"server stream, short name, no request", "BrokerService/Read", ``, nil},
		{"bidi", "millstream.v1.BrokerService/Produce", `{"correlationId":1} {"correlationId":"2"}`,
			[]string{
				`{"correlationId":"1","partition":0,"leaderEpoch":0,"parts":[],"throttleMs":0}`,
				`{"correlationId":"2","partition":0,"leaderEpoch":0,"parts":[],"throttleMs":0}`,
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			m, err := s.Method(c.method)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			err = s.Call(t.Context(), m, strings.NewReader(c.in), func(b []byte) error {
				got = append(got, string(b))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhatTheServerHasNotIsNamed(t *testing.T) {
	s := open(t)
	for name, mention := range map[string]string{
		"millstream.v1.BrokerService/Apend": "Append",
		"millstream.v1.Nothing/Append":      "millstream.v1.BrokerService",
		"Append":                            "package.Service/Method",
	} {
		_, err := s.Method(name)
		if _, ok := errors.AsType[*reflection.NotFoundError](err); !ok || !strings.Contains(err.Error(), mention) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := s.Symbol("millstream.v1.Nothing"); err == nil {
		t.Error("a symbol that is not there was found")
	}
}

func TestErrorsComeBack(t *testing.T) {
	s := open(t)
	m, err := s.Method("BrokerService/Append")
	if err != nil {
		t.Fatal(err)
	}
	none := func([]byte) error { return errors.New("nothing should be shown") }
	if err := s.Call(t.Context(), m, strings.NewReader(`{}`), none); status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
	for _, in := range []string{`{"topc":"t"}`, `{`, `[]`, `{"topic":1}`} {
		if err := s.Call(t.Context(), m, strings.NewReader(in), none); !isInput(err) {
			t.Errorf("%s: got %v", in, err)
		}
	}
	bidi, err := s.Method("BrokerService/Produce")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Call(t.Context(), bidi, strings.NewReader(`{"x":1}`), none); !isInput(err) {
		t.Errorf("got %v", err)
	}
	if err := s.Call(t.Context(), m, strings.NewReader(`{"topic":"t"}`), none); err == nil {
		t.Error("the error of show was dropped")
	}
}

func isInput(err error) bool {
	_, ok := errors.AsType[*reflection.InputError](err)
	return ok
}

func TestDescribeIsProtoSyntax(t *testing.T) {
	s := open(t)
	for name, lines := range map[string][]string{
		"millstream.v1.BrokerService": {
			"service millstream.v1.BrokerService {",
			"  rpc Produce(stream millstream.v1.ProduceRequest) returns (stream millstream.v1.ProduceResponse);",
			"  rpc Append(millstream.v1.AppendRequest) returns (millstream.v1.AppendResponse);",
		},
		"millstream.v1.ReadRequest": {
			"  oneof start {", "    bool latest = 6;", "  optional int32 leader_epoch = 7;", "  millstream.v1.ReadForm form = 10;",
		},
		"millstream.v1.Acks":                 {"  ACKS_ALL = 1;"},
		"millstream.v1.AppendResponse":       {"  repeated millstream.v1.RecordPlace places = 1;"},
		"millstream.v1.BrokerService.Append": {"rpc Append(millstream.v1.AppendRequest) returns (millstream.v1.AppendResponse);"},
	} {
		d, err := s.Symbol(name)
		if err != nil {
			t.Fatal(err)
		}
		got := reflection.Describe(d)
		for _, l := range lines {
			if !strings.Contains(got, l+"\n") {
				t.Errorf("%s: no line %q in\n%s", name, l, got)
			}
		}
	}
}
