package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/gateway"
	"github.com/millstream-io/millstream/server/rpc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// services is a broker that knows the topic "t" and keeps what it is asked.
type services struct {
	pb.UnimplementedBrokerServiceServer
	pb.UnimplementedTopicServiceServer
	pb.UnimplementedClusterServiceServer
	appended atomic.Pointer[pb.AppendRequest]
	read     atomic.Pointer[pb.ReadRequest]
	// between is run before each record that Read sends but the first.
	between func(ctx context.Context) error
}

func unknownTopic(topic string) error {
	f := &rpc.Fault{
		Code: codes.NotFound, Reason: pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION,
		Message:  `topic "` + topic + `" does not exist`,
		Resource: &pb.ResourceReference{Type: "topic", Name: topic},
	}
	return f.GRPCStatus().Err()
}

func (s *services) Append(_ context.Context, r *pb.AppendRequest) (*pb.AppendResponse, error) {
	s.appended.Store(r)
	if r.GetTopic() != "t" {
		return nil, unknownTopic(r.GetTopic())
	}
	return &pb.AppendResponse{Places: []*pb.RecordPlace{{Offset: new(int64)}}}, nil
}

func (s *services) Read(r *pb.ReadRequest, out grpc.ServerStreamingServer[pb.ReadResponse]) error {
	s.read.Store(r)
	if r.GetTopic() != "t" {
		return unknownTopic(r.GetTopic())
	}
	for i := range int64(2) {
		if i > 0 && s.between != nil {
			if err := s.between(out.Context()); err != nil {
				return err
			}
		}
		if err := out.Send(&pb.ReadResponse{
			Partition: r.GetPartition(), Offset: i, Time: timestamppb.New(time.Unix(0, 0)),
			ValueForm: &pb.ReadResponse_Text{Text: "x"},
		}); err != nil {
			return err
		}
	}
	return nil
}

// start serves the services by HTTP and returns the gateway's address.
func start(t *testing.T, s *services, change func(*gateway.Options)) string {
	t.Helper()
	lis := bufconn.Listen(1 << 16)
	srv := grpc.NewServer()
	pb.RegisterBrokerServiceServer(srv, s)
	pb.RegisterTopicServiceServer(srv, s)
	pb.RegisterClusterServiceServer(srv, s)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(lis) }()
	conn, err := grpc.NewClient("passthrough:///broker",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	o := gateway.Options{Conn: conn, Ready: func() error { return nil }}
	if change != nil {
		change(&o)
	}
	g, err := gateway.New(o)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(g)
	t.Cleanup(func() {
		front.Close()
		_ = conn.Close()
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return front.URL
}

type answer struct {
	status int
	header http.Header
	body   string
}

// problem is the error in a body.
type problem struct {
	Code    *int              `json:"code"`
	Status  string            `json:"status"`
	Reason  string            `json:"reason"`
	Message string            `json:"message"`
	Details []json.RawMessage `json:"details"`
}

func (a answer) problem(t *testing.T) problem {
	t.Helper()
	if ct := a.header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("content type %q of an error", ct)
	}
	var p problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil {
		t.Fatalf("%v in %q", err, a.body)
	}
	if p.Code == nil || p.Reason == "" || p.Message == "" || p.Details == nil {
		t.Errorf("the error lacks something: %s", a.body)
	}
	return p
}

func do(t *testing.T, method, url, body string) answer {
	t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, url, in)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func TestAppendTakesPlainRecords(t *testing.T) {
	s := &services{}
	url := start(t, s, nil)
	a := do(t, "POST", url+"/v1/topics/t/records", `{"records":[{"key_text":"k","text":"hello"},{"json":{"a":1}}]}`)
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if got := s.appended.Load().GetRecords(); len(got) != 2 || got[0].GetText() != "hello" || got[1].GetJson() == nil {
		t.Errorf("the service got %v", got)
	}
	// Zero is shown, and the bytes are stable.
	if want := `{"places":[{"partition":0,"offset":"0","leaderEpoch":0}]}`; strings.TrimSpace(a.body) != want {
		t.Errorf("got  %s\nwant %s", a.body, want)
	}
}

func TestReadIsOneObjectALine(t *testing.T) {
	s := &services{}
	url := start(t, s, nil)
	a := do(t, "GET", url+"/v1/topics/t/partitions/3/records?offset=0&max_records=2&follow=true", "")
	if a.status != 200 || a.header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	lines := strings.Split(strings.TrimSuffix(a.body, "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %q", len(lines), a.body)
	}
	for i, line := range lines {
		var l struct {
			Result struct {
				Partition int    `json:"partition"`
				Offset    string `json:"offset"`
				Text      string `json:"text"`
			} `json:"result"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.Result.Partition != 3 || l.Result.Offset != string(rune('0'+i)) || l.Result.Text != "x" {
			t.Errorf("line %d is %s", i, line)
		}
	}
	if r := s.read.Load(); r.Start == nil || r.GetMaxRecords() != 2 || !r.GetFollow() {
		t.Errorf("the service got %v", r)
	}
}

// A record that is there is seen before the next one is.
func TestReadFlushesEachRecord(t *testing.T) {
	seen := make(chan struct{})
	s := &services{between: func(ctx context.Context) error {
		select {
		case <-seen:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	url := start(t, s, nil)
	resp, err := http.Get(url + "/v1/topics/t/partitions/0/records?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	dec := json.NewDecoder(resp.Body)
	var line map[string]any
	if err := dec.Decode(&line); err != nil {
		t.Fatal(err)
	}
	close(seen)
	if err := dec.Decode(&line); err != nil {
		t.Fatal(err)
	}
	if err := dec.Decode(&line); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, want the end", err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestReadThatFailsLaterEndsWithAnErrorLine(t *testing.T) {
	s := &services{between: func(context.Context) error { return unknownTopic("t") }}
	url := start(t, s, nil)
	a := do(t, "GET", url+"/v1/topics/t/partitions/0/records", "")
	lines := strings.Split(strings.TrimSpace(a.body), "\n")
	if a.status != 200 || len(lines) != 2 {
		t.Fatalf("%d %q", a.status, a.body)
	}
	var l struct{ Error problem }
	if err := json.Unmarshal([]byte(lines[1]), &l); err != nil {
		t.Fatal(err)
	}
	if l.Error.Reason != "UNKNOWN_TOPIC_OR_PARTITION" || len(l.Error.Details) != 2 {
		t.Errorf("got %s", lines[1])
	}
}

func TestErrorsCarryReasonAndDetails(t *testing.T) {
	url := start(t, &services{}, nil)
	deep := strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		reason                   string
		mention                  string
	}{
		{"unknown topic", "POST", "/v1/topics/no/records", `{}`, 404, "UNKNOWN_TOPIC_OR_PARTITION", `"no"`},
		{"unknown topic, read", "GET", "/v1/topics/no/partitions/0/records", "", 404, "UNKNOWN_TOPIC_OR_PARTITION", `"no"`},
		{"not JSON", "POST", "/v1/topics/t/records", `{`, 400, "MALFORMED_REQUEST", ""},
		{"two values", "POST", "/v1/topics/t/records", `{} {}`, 400, "MALFORMED_REQUEST", "more follows"},
		{"rubbish behind the value", "POST", "/v1/topics/t/records", `{} rubbish`, 400, "MALFORMED_REQUEST", "more follows"},
		{"unknown field", "POST", "/v1/topics/t/records", `{"recrods":[]}`, 400, "MALFORMED_REQUEST", "recrods"},
		{"unknown parameter", "GET", "/v1/topics/t/partitions/0/records?ofset=3", "", 400, "MALFORMED_REQUEST", "ofset"},
		{"bad partition", "GET", "/v1/topics/t/partitions/x/records", "", 400, "MALFORMED_REQUEST", "partition"},
		{"bad offset", "GET", "/v1/topics/t/partitions/0/records?offset=abc", "", 400, "MALFORMED_REQUEST", "offset"},
		{"two starts", "GET", "/v1/topics/t/partitions/0/records?offset=1&before_end=1", "", 400, "MALFORMED_REQUEST", "start"},
		{"deep JSON", "POST", "/v1/topics/t/records", deep, 400, "MALFORMED_REQUEST", "64 levels"},
		{"large body", "POST", "/v1/topics/t/records", strings.Repeat(" ", 8<<20+1), 413, "LIMIT_EXCEEDED", "8388608 request body bytes: 8388609"},
		{"many values", "POST", "/v1/topics/t/records", `{"records":[` + strings.Repeat("{},", 250_000) + `{}]}`, 413, "LIMIT_EXCEEDED", "500000 JSON values"},
		{"no such path", "GET", "/v1/nothing", "", 404, "UNKNOWN_PATH", "/v1/nothing"},
		{"no such root", "GET", "/nothing", "", 404, "UNKNOWN_PATH", "openapi"},
		{"root", "GET", "/", "", 404, "UNKNOWN_PATH", ""},
		{"post to nothing", "POST", "/nothing", `{}`, 404, "UNKNOWN_PATH", ""},
		{"wrong method", "PUT", "/v1/topics", `{}`, 405, "METHOD_NOT_ALLOWED", "PUT"},
		{"wrong method, health", "POST", "/healthz", `{}`, 405, "METHOD_NOT_ALLOWED", "POST"},
		{"dots", "POST", "/v1/topics/../records", `{}`, 404, "UNKNOWN_TOPIC_OR_PARTITION", `".."`},
		{"unimplemented", "GET", "/v1/cluster", "", 501, "UNIMPLEMENTED", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := do(t, c.method, url+c.path, c.body)
			p := a.problem(t)
			if a.status != c.status || p.Reason != c.reason || !strings.Contains(p.Message, c.mention) {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
}

// What is just within the limits passes.
func TestLimitsAreNotTooTight(t *testing.T) {
	url := start(t, &services{}, nil)
	deep := strings.Repeat("[", 60) + strings.Repeat("]", 60) // four levels are around it
	for _, body := range []string{
		`{"records":[{"json":` + deep + `}]}`,
		`{"records":[{"text":"` + strings.Repeat("[{", 100) + `"}]}`,
		`{"records":[{"text":"\"` + strings.Repeat("[", 100) + `"}]}`,
		strings.Repeat(" ", 8<<20-2) + "{}",
		`{"records":[{"json":[` + strings.Repeat("0,", 380_000) + `0]}]}`,
	} {
		if a := do(t, "POST", url+"/v1/topics/t/records", body); a.status != 200 {
			t.Errorf("got %d %s", a.status, a.body)
		}
	}
}

func TestBodiesAreBoundedTogether(t *testing.T) {
	url := start(t, &services{}, func(o *gateway.Options) {
		o.Limits = gateway.Limits{BodyBytes: 10, BodyBytesInFlight: 5}
	})
	if a := do(t, "POST", url+"/v1/topics/t/records", "{      }"); a.status != 429 || a.problem(t).Reason != "LIMIT_EXCEEDED" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := do(t, "POST", url+"/v1/topics/t/records", "{}"); a.status != 200 {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// A body of many values counts with what they take when they are decoded.
func TestValuesAreBoundedTogether(t *testing.T) {
	url := start(t, &services{}, func(o *gateway.Options) {
		o.Limits = gateway.Limits{BodyBytesInFlight: 150_000}
	})
	body := func(n int) string { return `{"records":[{"json":[` + strings.Repeat("0,", n) + `0]}]}` }
	if a := do(t, "POST", url+"/v1/topics/t/records", body(2000)); a.status != 429 || a.problem(t).Reason != "LIMIT_EXCEEDED" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	for range 3 { // what was held is given back
		if a := do(t, "POST", url+"/v1/topics/t/records", body(1200)); a.status != 200 {
			t.Errorf("got %d %s", a.status, a.body)
		}
	}
}

func TestRequestsAreBounded(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := &services{between: func(context.Context) error {
		close(entered)
		<-leave
		return nil
	}}
	url := start(t, s, func(o *gateway.Options) { o.Limits.Requests = 1 })
	first := make(chan answer)
	go func() { first <- do(t, "GET", url+"/v1/topics/t/partitions/0/records", "") }()
	<-entered
	if a := do(t, "GET", url+"/healthz", ""); a.status != 429 || a.problem(t).Reason != "LIMIT_EXCEEDED" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	close(leave)
	if a := <-first; a.status != 200 {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// No more connections are served than there may be; the next one is when one
// has gone.
func TestConnectionsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	g, err := gateway.New(gateway.Options{
		Conn: noConn{}, Ready: func() error { return nil }, Registerer: reg, Limits: gateway.Limits{Connections: 1},
		Metrics: promhttp.HandlerFor(reg, promhttp.HandlerOpts{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- g.Run(ctx, front, time.Minute) }()
	ask := func(conn net.Conn) (string, error) {
		if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return "", err
		}
		r, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(r.Body)
		return string(text), errors.Join(err, r.Body.Close())
	}
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", front.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	first := dial()
	if text, err := ask(first); err != nil || !strings.Contains(text, "millstream_gateway_connections 1\n") {
		t.Errorf("the first: %v %s", err, text)
	}
	second := dial()
	heard := make(chan string, 1)
	go func() {
		text, err := ask(second)
		heard <- fmt.Sprint(text, err)
	}()
	var text string
	select {
	case text = <-heard:
		t.Errorf("the second was heard though only one is allowed: %s", text)
	case <-time.After(50 * time.Millisecond):
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if text == "" {
		text = <-heard
	}
	if !strings.Contains(text, "millstream_gateway_connections 1\n") {
		t.Errorf("the second: %s", text)
	}
	_ = second.Close()
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

// noConn reaches nobody.
type noConn struct{ grpc.ClientConnInterface }

func TestHealthReadinessMetricsAndDescription(t *testing.T) {
	var unready atomic.Pointer[error]
	reg := prometheus.NewRegistry()
	url := start(t, &services{}, func(o *gateway.Options) {
		o.Ready = func() error {
			if e := unready.Load(); e != nil {
				return *e
			}
			return nil
		}
		o.Registerer, o.Metrics = reg, promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	})
	if a := do(t, "GET", url+"/readyz", ""); a.status != 200 {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}
	why := errors.New("no controller yet")
	unready.Store(&why)
	a := do(t, "GET", url+"/readyz", "")
	if p := a.problem(t); a.status != 503 || p.Reason != "NOT_READY" || p.Message != why.Error() {
		t.Errorf("readyz: %d %s", a.status, a.body)
	}
	if a := do(t, "GET", url+"/healthz", ""); a.status != 200 {
		t.Errorf("healthz: %d %s", a.status, a.body)
	}
	if a := do(t, "GET", url+"/openapi.json", ""); a.status != 200 || !json.Valid([]byte(a.body)) || !strings.Contains(a.body, "/v1/topics/{topic}/records") {
		t.Errorf("openapi.json: %d", a.status)
	}
	if a := do(t, "GET", url+"/metrics", ""); a.status != 200 || !strings.Contains(a.body, `millstream_gateway_requests_total{route="/readyz",status="503"} 1`) {
		t.Errorf("metrics: %d %s", a.status, a.body)
	}
}

// Run serves until its context ends, and cuts off what does not end in time.
// What describes the REST API is of the public API alone, and says so.
func TestDescriptionIsOfThePublicAPI(t *testing.T) {
	var d struct {
		Info struct{ Title, Version string }
		Tags []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(do(t, "GET", start(t, &services{}, nil)+"/openapi.json", "").body), &d); err != nil {
		t.Fatal(err)
	}
	if d.Info.Title != "Millstream" || d.Info.Version != "v1" {
		t.Errorf("it says of itself %+v", d.Info)
	}
	var tags []string
	for _, tag := range d.Tags {
		tags = append(tags, tag.Name)
	}
	slices.Sort(tags)
	if want := []string{"BrokerService", "ClusterService", "TopicService"}; !slices.Equal(tags, want) {
		t.Errorf("it describes %v, want %v", tags, want)
	}
}

func TestRunStopsInBoundedTime(t *testing.T) {
	entered := make(chan struct{})
	s := &services{between: func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}}
	lis := bufconn.Listen(1 << 16)
	srv := grpc.NewServer()
	pb.RegisterBrokerServiceServer(srv, s)
	go func() { _ = srv.Serve(lis) }()
	defer srv.Stop()
	conn, err := grpc.NewClient("passthrough:///broker",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	g, err := gateway.New(gateway.Options{Conn: conn, Ready: func() error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- g.Run(ctx, front, 10*time.Millisecond) }()
	resp, err := http.Get("http://" + front.Addr().String() + "/v1/topics/t/partitions/0/records?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	cancel()
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("the followed read ended as if it were complete")
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
}
