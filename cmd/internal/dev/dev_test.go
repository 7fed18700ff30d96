package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	controllerconfig "github.com/millstream-io/millstream/controller/config"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/config"
	"github.com/millstream-io/millstream/server/telemetry"
)

// testConfig is a dev server on any ports that are free.
func testConfig(dir string) Config {
	c := DefaultConfig()
	c.DataDir, c.GRPCAddr, c.HTTPAddr = dir, "127.0.0.1:0", "127.0.0.1:0"
	return c
}

// running is a process in this process.
type running struct {
	Banner
	stop func() error // asks it to stop and returns what it returned
}

// launch runs f until it is ready.
func launch(t *testing.T, f func(context.Context, Options) error) (*running, error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan Banner, 1), make(chan error, 1)
	o := Options{Version: "v0", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), OnReady: func(b Banner) { ready <- b }}
	go func() { ended <- f(ctx, o) }()
	select {
	case b := <-ready:
		r := &running{Banner: b}
		var err error
		stopped := false
		r.stop = func() error {
			if !stopped {
				stopped = true
				cancel()
				err = <-ended
			}
			return err
		}
		t.Cleanup(func() { _ = r.stop() })
		return r, nil
	case err := <-ended:
		cancel()
		return nil, err
	}
}

func launchDev(t *testing.T, c Config) *running {
	t.Helper()
	r, err := launch(t, func(ctx context.Context, o Options) error { return RunDev(ctx, c, o) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func appendOne(t *testing.T, conn *grpc.ClientConn, topic string) error {
	t.Helper()
	_, err := pb.NewBrokerServiceClient(conn).Append(t.Context(), &pb.AppendRequest{
		Topic: topic, Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: "x"}}},
	})
	return err
}

// page returns the status and the body of what is at a URL.
func page(t *testing.T, url string) string {
	t.Helper()
	code, body, err := get(t, nil, url)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", code, body)
}

// Until somebody is active a controller is not ready, and says so.
func TestAControllerIsNotReadyWithoutAQuorum(t *testing.T) {
	lis, err := listen("http-addr", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- newStatusPage(lis, telemetry.NewRegistry(), ready, slog.New(slog.DiscardHandler)).run(ctx)
	}()
	url := "http://" + lis.Addr().String() + "/readyz"
	if got := page(t, url); got != "503 no controller is active yet\n" {
		t.Errorf("it says %s", got)
	}
	close(ready)
	if got := page(t, url); got != "200 ready\n" {
		t.Errorf("it says %s", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestDevServesUntilItIsStopped(t *testing.T) {
	c := testConfig("")
	c.Topics = []string{"a:2", "b"}
	r := launchDev(t, c)
	if !r.Temporary || r.Topic != "a" {
		t.Errorf("got %+v", r.Banner)
	}
	resp, err := http.Get("http://" + r.HTTPAddr + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("readyz: %s", resp.Status)
	}
	conn := dial(t, r.GRPCAddr)
	if err := appendOne(t, conn, "a"); err != nil {
		t.Error(err)
	}
	h, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || h.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", h, err)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(r.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
}

// What a process shows at /metrics is in the documentation.
func TestMetricsOfDevAreDocumented(t *testing.T) {
	r := launchDev(t, testConfig(t.TempDir()))
	doc, err := os.ReadFile("../../../docs/operations/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)^# HELP (millstream_\w+)`).FindAllStringSubmatch(page(t, "http://"+r.HTTPAddr+"/metrics"), -1)
	if len(names) < 50 {
		t.Errorf("only %d metrics", len(names))
	}
	for _, name := range names {
		if !strings.Contains(string(doc), "`"+name[1]+"`") {
			t.Errorf("%s is not in the documentation", name[1])
		}
	}
}

// A stop ends in bounded time whatever clients do: one follows, one leaves its
// stream open and reads nothing.
func TestDevStopsThoughClientsDoNot(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Topics = []string{"a"}
	c.StopTimeout = 200 * time.Millisecond
	r := launchDev(t, c)
	conn := dial(t, r.GRPCAddr)
	client := pb.NewBrokerServiceClient(conn)
	read, err := client.Read(t.Context(), &pb.ReadRequest{Topic: "a", Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	produce, err := client.Produce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := produce.Send(&pb.ProduceRequest{CorrelationId: 1, Topic: "a", Batch: &pb.RecordBatch{Records: []*pb.Record{{}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := read.Recv(); err != nil { // the record has come through both
		t.Fatal(err)
	}
	if err := r.stop(); err != nil { // if it does not end, neither does this
		t.Error(err)
	}
}

// A stop is told to long streams, which then end OK, before anything is cut.
func TestDevTellsItsStreamsThatItStops(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Topics = []string{"a"}
	r := launchDev(t, c)
	client := pb.NewBrokerServiceClient(dial(t, r.GRPCAddr))
	produce, err := client.Produce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := produce.Send(&pb.ProduceRequest{CorrelationId: 1, Topic: "a", Batch: &pb.RecordBatch{Records: []*pb.Record{{}}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := produce.Recv(); err != nil {
		t.Fatal(err)
	}
	fetch, err := client.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := fetch.Send(&pb.FetchRequest{Subscribe: []*pb.FetchSubscription{{Topic: "a"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch.Recv(); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	if m, err := produce.Recv(); err != nil || m.GetDrain() == nil {
		t.Errorf("produce: %v, %v", m, err)
	}
	if m, err := fetch.Recv(); err != nil || m.GetDrain() == nil {
		t.Errorf("fetch: %v, %v", m, err)
	}
	if _, err := produce.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("produce ends with %v", err)
	}
	if _, err := fetch.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("fetch ends with %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestDevFindsItsTopicsAgain(t *testing.T) {
	c := testConfig(t.TempDir())
	c.Topics = []string{"a:2"}
	for range 2 {
		r := launchDev(t, c)
		if r.Temporary {
			t.Error("the directory is said to be temporary")
		}
		if err := appendOne(t, dial(t, r.GRPCAddr), "a"); err != nil {
			t.Error(err)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestDevSaysWhatIsInUse(t *testing.T) {
	first := launchDev(t, testConfig(t.TempDir()))
	for _, c := range []struct {
		change func(*Config)
		want   []string
	}{
		{func(c *Config) { c.GRPCAddr = first.GRPCAddr }, []string{first.GRPCAddr, "--grpc-addr"}},
		{func(c *Config) { c.HTTPAddr = first.HTTPAddr }, []string{first.HTTPAddr, "--http-addr"}},
		{func(c *Config) { c.DataDir = first.DataDir }, []string{first.DataDir, "--data-dir"}},
	} {
		cfg := testConfig(t.TempDir())
		c.change(&cfg)
		_, err := launch(t, func(ctx context.Context, o Options) error { return RunDev(ctx, cfg, o) })
		if _, ok := errors.AsType[*InUseError](err); !ok {
			t.Errorf("got %v", err)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q does not mention %s", err, w)
			}
		}
	}
	if err := appendOne(t, dial(t, first.GRPCAddr), "nothing"); err == nil {
		t.Error("a topic was made by a typo")
	}
}

// Asked to stop while it starts, it stops.
func TestDevStopsWhileItStarts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := Options{Version: "v0", Logger: slog.New(slog.DiscardHandler), OnReady: func(Banner) { t.Error("it is ready") }}
	if err := RunDev(ctx, testConfig(t.TempDir()), o); err != nil {
		t.Error(err)
	}
}

// The roles as processes of their own do what dev does in one.
func TestControllerAndBrokerApart(t *testing.T) {
	cc := controllerconfig.Default()
	cc.DataDir, cc.ControllerAddr, cc.HTTPAddr = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
	controller, err := launch(t, func(ctx context.Context, o Options) error { return RunController(ctx, cc, o) })
	if err != nil {
		t.Fatal(err)
	}
	bc := config.Default()
	bc.DataDir, bc.GRPCAddr, bc.HTTPAddr, bc.InternalAddr, bc.Controllers = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", []string{controller.GRPCAddr}
	broker, err := launch(t, func(ctx context.Context, o Options) error { return RunBroker(ctx, bc, o) })
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, broker.GRPCAddr)
	if _, err := pb.NewTopicServiceClient(conn).CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "a", ReplicationFactor: 1}); err != nil {
		t.Fatal(err)
	}
	if err := appendOne(t, conn, "a"); err != nil {
		t.Error(err)
	}
	// The controller says over HTTP how it is, and nothing else.
	for path, want := range map[string]string{
		"/healthz": "200 ok", "/readyz": "200 ready", "/metrics": "millstream_controller_active 1", "/v1/topics": "404 ",
	} {
		if got := page(t, "http://"+controller.HTTPAddr+path); !strings.Contains(got, want) {
			t.Errorf("%s is answered by %s", path, got)
		}
	}
	if err := broker.stop(); err != nil {
		t.Error(err)
	}
	if err := controller.stop(); err != nil {
		t.Error(err)
	}
}

func TestBrokerThatFindsNoControllerStops(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := nobody.Addr().String()
	_ = nobody.Close()
	c := config.Default()
	c.DataDir, c.GRPCAddr, c.HTTPAddr, c.InternalAddr, c.Controllers = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", []string{addr}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	o := Options{Version: "v0", Logger: slog.New(slog.DiscardHandler), OnReady: func(Banner) { t.Error("it is ready") }}
	if err := RunBroker(ctx, c, o); err != nil {
		t.Error(err)
	}
}
