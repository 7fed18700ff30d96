package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/millstream-io/millstream/cmd/internal/cli"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/pki"
)

// The members of the clusters here, and the commands, are this program again,
// which then is millstream.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		os.Exit(cli.Main("test"))
	}
	goleak.VerifyTestMain(m)
}

// long skips a test that takes most of a minute, unless `make test-long` runs it.
func long(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("LONG_TESTS") == "" {
		t.Skip(why + "; LONG_TESTS=1 runs it")
	}
}

// story is a cluster and what is known of it.
type story struct {
	*Cluster
	t     *testing.T
	conns map[string]*grpc.ClientConn
}

func open(t *testing.T, dir string, port int, change ...func(*Options)) *story {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Binary: self, Dir: dir, Port: port,
		ControllerArgs: []string{"--session-timeout", "1s"}, Rack: func(broker int) string { return "rack-" + strconv.Itoa(broker) },
	}
	for _, f := range change {
		f(&o)
	}
	c, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &story{c, t, map[string]*grpc.ClientConn{}}
}

func (s *story) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// within bounds a step, generously: the machine may be busy.
func (s *story) within() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *story) conn(m *Member) *grpc.ClientConn {
	s.t.Helper()
	if s.conns[m.GRPCAddr] == nil {
		conn, err := grpc.NewClient("passthrough:///"+m.GRPCAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		s.check(err)
		s.t.Cleanup(func() { _ = conn.Close() })
		s.conns[m.GRPCAddr] = conn
	}
	return s.conns[m.GRPCAddr]
}

// create makes a topic of one replica with a partition for each broker.
func (s *story) create(through *Member, name string) *pb.GetTopicResponse {
	s.t.Helper()
	ctx := s.within()
	_, err := pb.NewTopicServiceClient(s.conn(through)).CreateTopic(ctx, &pb.CreateTopicRequest{
		Topic: name, PartitionCount: uint32(len(s.Brokers())), ReplicationFactor: 1,
	})
	s.check(err)
	r, err := pb.NewTopicServiceClient(s.conn(through)).GetTopic(ctx, &pb.GetTopicRequest{Topic: name})
	s.check(err)
	return r
}

// produce appends a text to every partition at its leader, and returns the
// leaders.
func (s *story) produce(topic *pb.GetTopicResponse, text string) map[int32]bool {
	s.t.Helper()
	leaders := map[int32]bool{}
	for _, p := range topic.GetPartitions() {
		leaders[p.GetLeader().GetBrokerId()] = true
		id := p.GetPartition()
		_, err := pb.NewBrokerServiceClient(s.conn(s.Broker(int(p.GetLeader().GetBrokerId())))).Append(s.within(), &pb.AppendRequest{
			Topic: topic.GetTopic().GetTopic(), Partition: &id, MinRevision: topic.GetTopic().GetRevision(),
			Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: text}}},
		})
		s.check(err)
	}
	return leaders
}

// consume returns the texts of every partition, from its leader.
func (s *story) consume(topic *pb.GetTopicResponse) string {
	s.t.Helper()
	var all []string
	for _, p := range topic.GetPartitions() {
		r, err := pb.NewBrokerServiceClient(s.conn(s.Broker(int(p.GetLeader().GetBrokerId())))).Read(s.within(), &pb.ReadRequest{Topic: topic.GetTopic().GetTopic(), Partition: p.GetPartition()})
		s.check(err)
		var texts []string
		for {
			record, err := r.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			s.check(err)
			texts = append(texts, record.GetText())
		}
		all = append(all, strings.Join(texts, ","))
	}
	return strings.Join(all, " ")
}

func (s *story) describe(through *Member) *pb.DescribeClusterResponse {
	s.t.Helper()
	r, err := pb.NewClusterServiceClient(s.conn(through)).DescribeCluster(s.within(), &pb.DescribeClusterRequest{})
	s.check(err)
	return r
}

// metrics returns what a member shows of itself.
func (s *story) metrics(of *Member) string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.within(), http.MethodGet, "http://"+of.HTTPAddr+"/metrics", nil)
	s.check(err)
	resp, err := s.http.Do(req)
	s.check(err)
	text, err := io.ReadAll(resp.Body)
	s.check(errors.Join(err, resp.Body.Close()))
	return string(text)
}

// A cluster serves through each of its brokers; the death of the active
// controller costs producers nothing and the next admin call no error; brokers
// are added, paused and restarted; and its directory makes it again.
func TestAClusterLivesThroughTheDeathOfItsController(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	s.check(s.Start(s.within()))
	orders := s.create(s.Broker(1), "orders")
	if leaders := s.produce(orders, "a"); len(leaders) != 3 {
		t.Fatalf("brokers %v lead, want all three", leaders)
	}

	active, err := s.ActiveController(s.within())
	s.check(err)
	active.Kill()
	s.produce(orders, "b") // nobody has been elected yet, and nobody is asked
	s.create(s.Broker(2), "events")
	s.produce(orders, "c")
	if got, want := s.consume(orders), "a,b,c a,b,c a,b,c"; got != want {
		t.Errorf("consumed %q, want %q", got, want)
	}
	next, err := s.ActiveController(s.within())
	s.check(err)
	if next == active || active.Running() || active.PID() != 0 {
		t.Errorf("%s is active, and %s was killed", next.Name(), active.Name())
	}
	s.check(active.Start(s.within()))
	for _, m := range s.Controllers() {
		want := "millstream_controller_active 0"
		if m == next {
			want = "millstream_controller_active 1"
		}
		if metrics := s.metrics(m); !strings.Contains(metrics, "\n"+want+"\n") {
			t.Errorf("%s is active, and %s does not say %s in\n%s", next.Name(), m.Name(), want, metrics)
		}
	}

	fourth, err := s.AddBroker()
	s.check(err)
	s.check(fourth.Start(s.within()))
	if leaders := s.produce(s.create(fourth, "wide"), "x"); !leaders[4] {
		t.Errorf("brokers %v lead a new topic, and the fourth does not", leaders)
	}
	second := s.Broker(2)
	s.check(second.Pause())
	s.check(second.Resume())
	before := second.PID()
	s.check(second.Restart(s.within()))
	if after := second.PID(); after == before || after == 0 {
		t.Errorf("after the restart it is process %d, before it was %d", after, before)
	}
	id := s.describe(second).GetClusterId()

	s.check(s.Stop(s.within()))
	for _, m := range append(s.Brokers(), s.Controllers()...) {
		if _, err := os.Stat(m.PIDFile()); !errors.Is(err, fs.ErrNotExist) || m.Running() {
			t.Errorf("%s is not gone: %v", m.Name(), err)
		}
	}
	ca, err := os.ReadFile(filepath.Join(dir, "pki", "ca.crt"))
	s.check(err)

	again := open(t, dir, 0)
	again.check(again.Start(again.within()))
	if got := again.describe(again.Broker(4)); string(got.GetClusterId()) != string(id) || len(got.GetBrokers()) != 4 || got.GetBrokers()[3].GetRack() != "rack-4" {
		t.Errorf("opened again it is %v", got)
	}
	if got, want := again.consume(orders), "a,b,c a,b,c a,b,c"; got != want {
		t.Errorf("after a restart consumed %q, want %q", got, want)
	}
	if now, err := os.ReadFile(filepath.Join(dir, "pki", "ca.crt")); err != nil || string(now) != string(ca) {
		t.Errorf("it has another authority: %v", err)
	}
	again.check(again.Stop(again.within()))
}

// What a member says when it cannot start is in the error.
func TestAMemberThatCannotStartSaysWhy(t *testing.T) {
	s := open(t, "", 0)
	m := s.Broker(1)
	m.args = append(m.args, "--max-syncs", "0")
	err := m.Start(s.within())
	if err == nil || !strings.Contains(err.Error(), "broker-1 ended") || !strings.Contains(err.Error(), "max-syncs") {
		t.Errorf("it failed with %v", err)
	}
	if err := m.Pause(); err == nil {
		t.Error("a process that is not there was paused")
	}
	s.check(s.Close())
	if _, err := os.Stat(s.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary directory is there still: %v", err)
	}
}

// Members that were started by hand keep their PID files, by which they are
// stopped, and nothing is started beside them.
func TestMembersThatWereStartedByHandAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	hand, s := open(t, dir, 0), open(t, dir, 0)
	s.check(hand.Controller(2).Launch())
	s.check(hand.Controller(3).Launch())
	s.check(hand.Controller(3).AwaitReady(s.within()))
	s.check(hand.Broker(1).Start(s.within()))
	for _, running := range []*Member{hand.Broker(1), hand.Controller(2), hand.Controller(3)} {
		before, err := os.ReadFile(running.PIDFile())
		s.check(err)
		same := s.Controller(running.ID)
		if running.Kind == brokerKind {
			same = s.Broker(running.ID)
		}
		for what, err := range map[string]error{"all": s.Start(s.within()), "it": same.Launch()} {
			if e, ok := errors.AsType[*InUseError](err); !ok || what == "it" && *e != (InUseError{running.Name(), running.PIDFile()}) {
				t.Errorf("%s is running, and %s was started: %v", running.Name(), what, err)
			}
		}
		if after, err := os.ReadFile(running.PIDFile()); err != nil || !slices.Equal(before, after) {
			t.Errorf("the PID file of %s has %q, had %q: %v", running.Name(), after, before, err)
		}
	}
	for _, m := range append(s.Controllers(), s.Brokers()...) {
		if m.last() != nil {
			t.Errorf("%s was started", m.Name())
		}
	}
	s.check(hand.Stop(s.within()))
	s.check(s.Broker(1).free())
}

func TestPortsFollowFromTheFirst(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 9650)
	for i := range 3 {
		b, c := s.Broker(i+1), s.Controller(i+1)
		got := []string{b.GRPCAddr, b.HTTPAddr, b.InternalAddr, c.GRPCAddr, c.InternalAddr, c.HTTPAddr}
		for j, port := range []int{9650, 9651, 9750, 9850, 9851, 9852} {
			if want := fmt.Sprintf("127.0.0.1:%d", port+10*i); got[j] != want {
				t.Errorf("member %d has %s, want %s", i+1, got[j], want)
			}
		}
	}
	if _, err := Open(Options{Binary: "x", Dir: dir, Port: 9750}); err == nil || !strings.Contains(err.Error(), "9650") {
		t.Errorf("with another port it says %v", err)
	}
	for _, port := range []int{-1, 65535} {
		if _, err := Open(Options{Binary: "x", Dir: t.TempDir(), Port: port}); err == nil {
			t.Errorf("port %d was taken", port)
		}
	}
}

// In a directory that was made before controllers served HTTP they get an
// address for it, and everybody keeps the ones there were.
func TestControllersOfAnOldDirectoryServeHTTP(t *testing.T) {
	for _, first := range []int{0, 9650} {
		dir := t.TempDir()
		before := *open(t, dir, first).layout
		old := before
		old.Controllers = slices.Clone(before.Controllers)
		for i := range old.Controllers {
			old.Controllers[i].HTTP = ""
		}
		if err := old.save(dir); err != nil {
			t.Fatal(err)
		}
		s, seen := open(t, dir, first), map[string]bool{}
		for i, c := range s.Controllers() {
			if c.HTTPAddr == "" || seen[c.HTTPAddr] || !strings.Contains(strings.Join(c.line(), " "), " --http-addr "+c.HTTPAddr+" ") {
				t.Errorf("%s serves HTTP at %q: %v", c.Name(), c.HTTPAddr, c.line())
			}
			seen[c.HTTPAddr] = true
			if want := before.Controllers[i]; c.GRPCAddr != want.Addr || c.InternalAddr != want.Quorum || first != 0 && c.HTTPAddr != want.HTTP {
				t.Errorf("%s is at %s, %s and %s, was planned for %v", c.Name(), c.GRPCAddr, c.InternalAddr, c.HTTPAddr, want)
			}
		}
		if !slices.Equal(s.layout.Brokers, before.Brokers) {
			t.Errorf("brokers were at %v, are at %v", before.Brokers, s.layout.Brokers)
		}
		if again := open(t, dir, first); !slices.Equal(again.layout.Controllers, s.layout.Controllers) {
			t.Errorf("controllers were at %v, are at %v the next time", s.layout.Controllers, again.layout.Controllers)
		}
	}
}

// Members that have hosts of their own listen there, on ports that they share
// with nobody, are certified for it, and are started by what enters it.
func TestMembersListenOnTheirHosts(t *testing.T) {
	asked := map[string]int{}
	c, err := Open(Options{Binary: "millstream", Dir: t.TempDir(), Host: func(member string) (Host, error) {
		asked[member]++
		return Host{Addr: fmt.Sprintf("198.51.100.%d", len(asked)), Command: []string{"enter", member}}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	fourth, err := c.AddBroker()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range append(c.Controllers(), c.Brokers()...) {
		host, _, err := net.SplitHostPort(m.GRPCAddr)
		if err != nil || seen[host] || asked[m.Name()] != 1 {
			t.Errorf("%s is at %s, asked %d times: %v", m.Name(), m.GRPCAddr, asked[m.Name()], err)
		}
		seen[host] = true
		if inside, _, _ := net.SplitHostPort(m.InternalAddr); inside != host {
			t.Errorf("%s is at %s, and inside at %s", m.Name(), host, inside)
		}
		line := strings.Join(m.line(), " ")
		if !strings.HasPrefix(line, "enter "+m.Name()+" "+c.o.Binary) {
			t.Errorf("%s is started with %s", m.Name(), line)
		}
		text, err := os.ReadFile(c.authority.path(m.Name() + ".crt"))
		if err != nil {
			t.Fatal(err)
		}
		certs, err := pki.ParseCertificates(text)
		if err != nil || certs[0].VerifyHostname(host) != nil {
			t.Errorf("%s is not certified for %s: %v", m.Name(), host, err)
		}
	}
	if !slices.Contains(fourth.line(), "--insecure") {
		t.Errorf("a broker that clients reach from elsewhere is started with %v", fourth.line())
	}
	refused := errors.New("no room")
	if _, err := Open(Options{Binary: "x", Dir: t.TempDir(), Host: func(string) (Host, error) { return Host{}, refused }}); !errors.Is(err, refused) {
		t.Errorf("without a host: %v", err)
	}
}

// A script for starting a member by hand has the flags that it was started
// with, whatever characters are in them.
func TestScriptsQuoteWhatTheyStart(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "it's here"), 0)
	s.check(s.Broker(1).writeScript())
	text, err := os.ReadFile(s.Broker(1).Script())
	s.check(err)
	if !strings.Contains(string(text), `/it'\''s here/broker-1.pid'`) || !strings.Contains(string(text), "'broker' '--id' '1' '--data-dir'") {
		t.Errorf("it is\n%s", text)
	}
}
