package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/channelz/grpc_channelz_v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// raw is a message that is sent as it is, and keeps what it receives.
type raw []byte

func (r raw) MarshalRaw() (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(r)}, nil
}

func (r *raw) UnmarshalRaw(msg mem.BufferSlice) error {
	*r = msg.Materialize()
	return nil
}

// scripted is a service whose methods do what a test says.
type scripted struct {
	pb.UnimplementedBrokerServiceServer
	pb.UnimplementedTopicServiceServer
	get   func(context.Context, *pb.GetTopicRequest) (*pb.GetTopicResponse, error)
	read  func(*pb.ReadRequest, grpc.ServerStreamingServer[pb.ReadResponse]) error
	fetch func(grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error
}

func (s *scripted) GetTopic(ctx context.Context, r *pb.GetTopicRequest) (*pb.GetTopicResponse, error) {
	return s.get(ctx, r)
}

func (s *scripted) Read(r *pb.ReadRequest, out grpc.ServerStreamingServer[pb.ReadResponse]) error {
	return s.read(r, out)
}

func (s *scripted) Fetch(st grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error {
	return s.fetch(st)
}

// serve starts a server with the service and returns it with a connection.
func serve(t *testing.T, svc *scripted, o Options) (*Server, *grpc.ClientConn) {
	t.Helper()
	o.Name = "test"
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	pb.RegisterBrokerServiceServer(s, svc)
	pb.RegisterTopicServiceServer(s, svc)
	pb.RegisterClusterServiceServer(s, pb.UnimplementedClusterServiceServer{})
	controllerv1.RegisterControllerServiceServer(s, controllerv1.UnimplementedControllerServiceServer{})
	l := ListenInProcess()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	conn, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.Stop(t.Context())
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return s, conn
}

// wantFault fails unless err is a status with the code, the reason in its
// ErrorInfo and the same in its RequestError.
func wantFault(t *testing.T, err error, code codes.Code, reason pb.ErrorReason) *pb.RequestError {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want code %v", err, code)
	}
	e := RequestErrorOf(err)
	if e == nil || e.GetReason() != reason || e.GetCode() != uint32(code) {
		t.Fatalf("got RequestError %v of %v, want %v", e, err, reason)
	}
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok && i.GetReason() == ReasonName(reason) && i.GetDomain() == Domain {
			return e
		}
	}
	t.Fatalf("no ErrorInfo %s in %v", ReasonName(reason), status.Convert(err).Details())
	return nil
}

// Every method that a server has, those of gRPC itself included. Handlers are
// not reached: those of streams receive nothing, the others do not exist.
func TestGarbageIsMalformedOnEveryMethod(t *testing.T) {
	receive := func(st grpc.ServerStream) error { return st.RecvMsg(&pb.ReadRequest{}) }
	svc := &scripted{fetch: func(st grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error { return receive(st) }}
	s, conn := serve(t, svc, Options{})
	count := 0
	for service, info := range s.GetServiceInfo() {
		for _, m := range info.Methods {
			method := "/" + service + "/" + m.Name
			if method == pb.BrokerService_Produce_FullMethodName {
				continue // its handler receives what is raw; package api tests it
			}
			count++
			t.Run(method, func(t *testing.T) {
				st, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
				if err != nil {
					t.Fatal(err)
				}
				if err := st.SendMsg(raw("\x0a\xff\xff\xff\xff\x0ftruncated")); err != nil {
					t.Fatal(err)
				}
				if err := st.CloseSend(); err != nil {
					t.Fatal(err)
				}
				wantFault(t, st.RecvMsg(&raw{}), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_MALFORMED_REQUEST)
			})
		}
	}
	if count < 30 {
		t.Errorf("only %d methods", count)
	}
}

func TestRequestLargerThanTheLimitNamesTheLimit(t *testing.T) {
	_, conn := serve(t, &scripted{}, Options{MaxRequestBytes: 1 << 10})
	err := conn.Invoke(t.Context(), pb.TopicService_GetTopic_FullMethodName, raw(make([]byte, 1<<10+1)), &raw{})
	e := wantFault(t, err, codes.ResourceExhausted, pb.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED)
	if l := e.GetLimit(); l.GetLimit() != "max.request.bytes" || l.GetMaximum() != 1<<10 || l.GetActual() != 1<<10+1 {
		t.Errorf("got %v", l)
	}
	// Far above the limit gRPC does not even collect the message.
	err = conn.Invoke(t.Context(), pb.TopicService_GetTopic_FullMethodName, raw(make([]byte, 1<<16)), &raw{})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}

func TestErrorsBecomeStatuses(t *testing.T) {
	var log bytes.Buffer
	known := errors.New("known below")
	var result error
	svc := &scripted{get: func(context.Context, *pb.GetTopicRequest) (*pb.GetTopicResponse, error) {
		if result == nil {
			panic("of a bug")
		}
		return nil, result
	}}
	_, conn := serve(t, svc, Options{
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
		FaultOf: func(err error) *Fault {
			if errors.Is(err, known) {
				return &Fault{Code: codes.NotFound, Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION, Message: "no such topic"}
			}
			return nil
		},
	})
	get := func() error {
		_, err := pb.NewTopicServiceClient(conn).GetTopic(t.Context(), &pb.GetTopicRequest{})
		return err
	}

	result = fmt.Errorf("wrapped: %w", ShuttingDownFault())
	wantFault(t, get(), codes.Unavailable, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN)

	result = fmt.Errorf("wrapped: %w", known)
	wantFault(t, get(), codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)

	result = errors.New("secret path /var/lib")
	wantFault(t, get(), codes.Internal, pb.ErrorReason_ERROR_REASON_INTERNAL)
	if strings.Contains(status.Convert(get()).Message(), "secret") {
		t.Error("an unforeseen error is shown to the client")
	}
	if !strings.Contains(log.String(), "secret path") {
		t.Error("an unforeseen error is not in the log")
	}

	result = status.Error(codes.ResourceExhausted, "by gRPC")
	if status.Code(get()) != codes.ResourceExhausted {
		t.Errorf("got %v", get())
	}

	result = context.DeadlineExceeded
	if status.Code(get()) != codes.DeadlineExceeded {
		t.Errorf("got %v", get())
	}

	result = nil
	wantFault(t, get(), codes.Internal, pb.ErrorReason_ERROR_REASON_INTERNAL)
	if !strings.Contains(log.String(), "of a bug") {
		t.Error("a panic is not in the log")
	}
}

func TestUnaryCallWithoutDeadlineGetsOne(t *testing.T) {
	svc := &scripted{get: func(ctx context.Context, _ *pb.GetTopicRequest) (*pb.GetTopicResponse, error) {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}}
	_, conn := serve(t, svc, Options{UnaryTimeout: time.Millisecond})
	_, err := pb.NewTopicServiceClient(conn).GetTopic(t.Context(), &pb.GetTopicRequest{})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Fatalf("got %v", err)
	}
}

func TestOtherSubtypesAreRefused(t *testing.T) {
	svc := &scripted{get: func(context.Context, *pb.GetTopicRequest) (*pb.GetTopicResponse, error) {
		return &pb.GetTopicResponse{}, nil
	}}
	_, conn := serve(t, svc, Options{})
	client := pb.NewTopicServiceClient(conn)
	if _, err := client.GetTopic(t.Context(), &pb.GetTopicRequest{}, grpc.CallContentSubtype("proto")); err != nil {
		t.Fatal(err)
	}
	_, err := client.GetTopic(t.Context(), &pb.GetTopicRequest{}, grpc.ForceCodecV2(Codec()), grpc.CallContentSubtype("json"))
	wantFault(t, err, codes.Unimplemented, pb.ErrorReason_ERROR_REASON_INVALID_FIELD)
}

func TestReflectionIsServedInBothVersions(t *testing.T) {
	_, conn := serve(t, &scripted{}, Options{})
	v1, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = v1.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := v1.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range answer.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	for _, want := range []string{"millstream.v1.BrokerService", "grpc.health.v1.Health", "grpc.channelz.v1.Channelz", "grpc.reflection.v1.ServerReflection"} {
		if !strings.Contains(strings.Join(names, " "), want) {
			t.Errorf("%s is not in %v", want, names)
		}
	}
	if err := v1.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := v1.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	alpha, err := grpc_reflection_v1alpha.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	//nolint:staticcheck // deprecated, and what old clients speak
	ask := &grpc_reflection_v1alpha.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1alpha.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "millstream.v1.BrokerService"}, //nolint:staticcheck // as above
	}
	err = alpha.Send(ask)
	if err != nil {
		t.Fatal(err)
	}
	if old, err := alpha.Recv(); err != nil || len(old.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 { //nolint:staticcheck // as above
		t.Errorf("got %v, %v", old, err)
	}
	if err := alpha.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := alpha.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func TestChannelzShowsTheConnectionsOfAServer(t *testing.T) {
	_, conn := serve(t, &scripted{}, Options{})
	client := grpc_channelz_v1.NewChannelzClient(conn)
	all, err := client.GetServers(t.Context(), &grpc_channelz_v1.GetServersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	sockets := 0
	for _, s := range all.GetServer() {
		got, err := client.GetServerSockets(t.Context(), &grpc_channelz_v1.GetServerSocketsRequest{ServerId: s.GetRef().GetServerId()})
		if err != nil {
			t.Fatal(err)
		}
		sockets += len(got.GetSocketRef())
	}
	if sockets == 0 {
		t.Errorf("no connection in %v", all)
	}
}

func TestHealthFollowsTheServer(t *testing.T) {
	s, conn := serve(t, &scripted{}, Options{})
	watch, err := grpc_health_v1.NewHealthClient(conn).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next := func() grpc_health_v1.HealthCheckResponse_ServingStatus {
		t.Helper()
		m, err := watch.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return m.GetStatus()
	}
	if got := next(); got != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("at the start: %v", got)
	}
	s.SetServing("", true)
	if got := next(); got != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("when ready: %v", got)
	}
	// The watcher never goes away by itself, and does not hold up the stop.
	s.opts.StopTimeout = time.Hour
	s.Stop(t.Context())
	for err == nil {
		_, err = watch.Recv()
	}
	wantFault(t, err, codes.Unavailable, pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN)
}

func TestStopCutsAStreamThatDoesNotEnd(t *testing.T) {
	var drained atomic.Bool
	in := make(chan struct{})
	svc := &scripted{fetch: func(st grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error {
		close(in)
		<-st.Context().Done()
		if !drained.Load() {
			t.Error("the stream was cut before it was told to end")
		}
		return context.Cause(st.Context())
	}}
	s, conn := serve(t, svc, Options{StopTimeout: time.Millisecond})
	s.OnDrain(func() { drained.Store(true) })
	st, err := pb.NewBrokerServiceClient(conn).Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-in
	s.Stop(t.Context())
	if _, err := st.Recv(); err == nil {
		t.Error("the stream outlived its server")
	}
}

func TestStreamsOfAConnectionAreBounded(t *testing.T) {
	const most, wanted = 8, 10_000
	var open, peak atomic.Int64
	enough := make(chan struct{})
	once := sync.OnceFunc(func() { close(enough) })
	svc := &scripted{fetch: func(st grpc.BidiStreamingServer[pb.FetchRequest, pb.FetchResponse]) error {
		n := open.Add(1)
		defer open.Add(-1)
		for p := peak.Load(); n > p && !peak.CompareAndSwap(p, n); p = peak.Load() {
		}
		if n == most {
			once()
		}
		<-st.Context().Done()
		return context.Cause(st.Context())
	}}
	_, conn := serve(t, svc, Options{MaxStreams: most, StopTimeout: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	refused := make(chan error, wanted)
	for range wanted {
		go func() {
			st, err := pb.NewBrokerServiceClient(conn).Fetch(ctx)
			if err == nil {
				_, err = st.Recv()
			}
			refused <- err
		}()
	}
	<-enough
	cancel()
	for range wanted {
		if err := <-refused; status.Code(err) != codes.Canceled {
			t.Errorf("got %v", err)
		}
	}
	if p := peak.Load(); p != most {
		t.Errorf("%d streams of one connection were open at a time, want %d", p, most)
	}
}
