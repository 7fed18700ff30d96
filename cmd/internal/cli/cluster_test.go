package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/servertest"
)

// several is a cluster of peers that a command line administers.
type several struct {
	*servertest.Server
	t     *testing.T
	addr  string
	peers map[int32]*servertest.Peer
}

func startSeveral(t *testing.T, ids ...int32) *several {
	t.Helper()
	s := servertest.Start(t, servertest.Options{})
	return &several{s, t, s.TCP(), s.StartPeers(ids...)}
}

// ok runs a command that has to succeed and returns what it printed.
func (s *several) ok(args ...string) (stdout, stderr string) {
	s.t.Helper()
	stdout, stderr, exit := run(s.t, nil, append([]string{"--addr", s.addr}, args...)...)
	if exit != 0 {
		s.t.Fatalf("%q: exit %d\n%s%s", args, exit, stdout, stderr)
	}
	return stdout, stderr
}

// fails runs a command that has to fail and say so; it returns what it printed.
func (s *several) fails(say string, args ...string) string {
	s.t.Helper()
	stdout, stderr, exit := run(s.t, nil, append([]string{"--addr", s.addr}, args...)...)
	if exit != 1 || !strings.Contains(stderr, say) {
		s.t.Fatalf("%q: exit %d, and it does not say %q\n%s%s", args, exit, say, stdout, stderr)
	}
	return stdout
}

// spoken is a buffer that tells when something was written to it.
type spoken struct {
	said chan struct{} // closed then
	once sync.Once
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (w *spoken) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.once.Do(func() { close(w.said) })
	return w.text.Write(b)
}

// waiting runs a command that waits for moves, and does something when it has
// said for the first time how far they are.
func (s *several) waiting(then func(), args ...string) (stdout, stderr string, exit int) {
	s.t.Helper()
	var out bytes.Buffer
	errs := &spoken{said: make(chan struct{})}
	p := &Program{
		Version: "v0", Args: append([]string{"--addr", s.addr}, args...), In: strings.NewReader(""), Out: &out, Err: errs,
		Getenv: func(string) string { return "" },
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		exit = p.Run(s.t.Context())
	}()
	select {
	case <-errs.said:
		then()
		<-ended
	case <-ended:
	}
	return out.String(), errs.text.String(), exit
}

// moved is waiting for moves that the leaders then finish.
func (s *several) moved(args ...string) (stdout, stderr string) {
	s.t.Helper()
	stdout, stderr, exit := s.waiting(func() { s.CatchUp(s.peers) }, args...)
	if exit != 0 {
		s.t.Fatalf("%q: exit %d\n%s%s", args, exit, stdout, stderr)
	}
	return stdout, stderr
}

func parsed[V any](t *testing.T, text string) V {
	t.Helper()
	var v V
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func wantIn(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in\n%s", p, text)
		}
	}
}

func TestABrokerLeavesTheClusterByTheBook(t *testing.T) {
	s := startSeveral(t, 2, 3, 4, 5)
	s.ok("topic", "create", "orders", "--partitions", "4", "--replication-factor", "3")
	s.fails("cluster drain 2 --wait", "cluster", "remove", "2", "--yes")
	plan := s.fails("--yes", "cluster", "drain", "2")
	wantIn(t, plan, "REPLICAS-TO-MOVE", "2        3                 none")
	dry, _ := s.ok("cluster", "drain", "2", "--dry-run", "-o", "json", "--throttle", "9")
	if v := parsed[drainView](t, dry); v.ReplicaCount != 3 || !v.DryRun || v.BytesPerSecond != 9 {
		t.Errorf("the plan is %+v", v)
	}
	if out, _ := s.ok("cluster", "status"); strings.Contains(out, "draining") && strings.Contains(out, "\n2 ") {
		t.Errorf("a plan was carried out: %s", out)
	}
	_, said := s.moved("cluster", "drain", "2", "--yes", "--wait", "-o", "json")
	wantIn(t, said, "broker 2: 3 replicas left of 3, waiting for broker", "broker 2: 0 replicas left of 3")
	list, _ := s.ok("cluster", "describe", "-o", "json")
	for _, b := range parsed[clusterView](t, list).Brokers {
		if b.BrokerID == 2 && (b.ReplicaCount != 0 || !b.Draining) {
			t.Errorf("drained is %+v", b)
		}
	}
	s.fails("NOT_ENOUGH_BROKERS", "cluster", "drain", "3", "--yes")
	s.fails(`of topic "orders" could go nowhere, as its replication factor is 3`, "cluster", "drain", "3", "--yes")
	s.fails("BROKER_IN_USE", "cluster", "remove", "2", "--dry-run")
	s.peers[2].Fail()
	wantIn(t, s.fails("--yes", "cluster", "remove", "2"), "TO-REMOVE")
	s.ok("cluster", "remove", "2", "--yes")
	s.fails("UNKNOWN_BROKER", "cluster", "remove", "2", "--yes")
	s.fails("UNKNOWN_BROKER", "cluster", "undrain", "2")
	s.ok("cluster", "undrain", "1", "--dry-run")
	s.ok("cluster", "undrain", "1")
	if out, _ := s.ok("cluster", "status", "--check"); strings.Contains(out, "draining") {
		t.Errorf("somebody is drained still: %s", out)
	}
}

func TestABrokerIsAddedAndGetsItsShare(t *testing.T) {
	s := startSeveral(t, 2, 3, 4)
	s.ok("topic", "create", "orders", "--partitions", "4", "--replication-factor", "3")
	wantIn(t, first(s.ok("cluster", "rebalance")), "TOPIC") // nothing to move needs no consent
	s.peers[5] = s.StartPeer(5)
	plan := s.fails("--yes", "cluster", "rebalance")
	if n := strings.Count(plan, "planned"); n != 3 {
		t.Errorf("%d moves are planned: %s", n, plan)
	}
	out, said := s.moved("cluster", "rebalance", "--yes", "--wait", "--max-moves", "2", "-o", "json")
	wantIn(t, said, "0 of 2 partitions moved, waiting for broker 5", "2 of 2 partitions moved")
	if v := parsed[movesView](t, out); len(v.Moves) != 2 || v.DryRun || !v.Moves[0].Done || !v.Moves[1].Done || !slices.Equal(v.Moves[0].Adding, []int32{5}) {
		t.Errorf("moved are %+v", v)
	}
	// A plan can be kept, looked at and carried out as it was.
	kept, _ := s.ok("cluster", "rebalance", "--dry-run", "-o", "json")
	file := filepath.Join(t.TempDir(), "moves.json")
	if err := os.WriteFile(file, []byte(kept), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ = s.moved("cluster", "move", "--file", file, "--yes", "--wait")
	if wantIn(t, out, "  done"); strings.Contains(out, "moving") {
		t.Errorf("what was waited for is not done: %s", out)
	}
	again, _ := s.ok("cluster", "move", "--file", file, "-o", "json")
	if v := parsed[movesView](t, again); !v.Moves[0].Unchanged {
		t.Errorf("moved again are %+v", v)
	}
	wantIn(t, s.fails("--yes", "cluster", "rebalance", "--leaders"), "TO-ELECT")
	s.ok("cluster", "rebalance", "--leaders", "--topic", "orders", "--yes")
	s.fails("UNKNOWN_TOPIC", "cluster", "rebalance", "--leaders", "--topic", "others", "--yes")
}

func first(a, _ string) string { return a }

func TestMovesAreRefusedPutBackAndGivenUpWaitingFor(t *testing.T) {
	s := startSeveral(t, 2, 3, 4, 5)
	s.ok("topic", "create", "orders", "--partitions", "2", "--replication-factor", "3")
	got, err := s.Topic.GetTopic(t.Context(), &pb.GetTopicRequest{Topic: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	var to [2]string
	for i, p := range got.GetPartitions() {
		next := slices.Clone(p.GetReplicas())
		for id := int32(2); id <= 5; id++ {
			if !slices.Contains(next, id) {
				next[2] = id
				break
			}
		}
		to[i] = fmt.Sprintf("orders/%d=%s", i, ids(next))
	}
	// What is in another order afterwards is said as it was before, too.
	was := got.GetPartitions()[0].GetReplicas()
	turned := slices.Clone(was)
	slices.Reverse(turned)
	wantIn(t, first(s.ok("cluster", "move", "--dry-run", "orders/0="+ids(turned))), ids(was)+"  "+ids(turned))
	// One that cannot be keeps the others.
	plan := s.fails("nothing was changed: 1 of 2 partitions was refused", "cluster", "move", to[0], "orders/1=2,3,77", "--yes")
	wantIn(t, plan, "planned", "refused: there is no broker 77 [UNKNOWN_BROKER]; see which there are with: millstream cluster describe")
	if out, _ := s.ok("cluster", "status", "-o", "json"); len(parsed[statusView](t, out).Moves) != 0 {
		t.Errorf("something moves: %s", out)
	}
	s.fails("0 of 1 partition moved, waiting for broker", "cluster", "move", to[0], "--yes", "--wait", "--timeout", "1ms", "--throttle", "7")
	status, _ := s.ok("cluster", "status", "-o", "json")
	if v := parsed[statusView](t, status); len(v.Moves) != 1 || v.Moves[0].BytesPerSecond != 7 || v.Reassigning != 1 || !v.Healthy || len(v.Moves[0].Awaited) != 1 {
		t.Errorf("the status is %+v", v)
	}
	wantIn(t, first(s.ok("cluster", "status")), "MOVING", "orders/0", "7 B/s")
	wantIn(t, first(s.ok("cluster", "move", to[0], "--yes", "--throttle", "9")), "moving")
	wantIn(t, first(s.ok("cluster", "status")), "orders/0", "9 B/s")
	wantIn(t, first(s.ok("cluster", "move", to[0], "--yes")), "unchanged")
	wantIn(t, first(s.ok("topic", "describe", "orders")), "MOVING-TO")
	back := "orders/0=" + ids(got.GetPartitions()[0].GetReplicas())
	wantIn(t, s.fails("1 of 1 partition was refused", "cluster", "move", "--yes", back), "REASSIGNMENT_IN_PROGRESS", "--cancel TOPIC/PARTITION")
	s.fails("1 of 2 partitions was refused", "cluster", "move", "--cancel", "orders/0", "orders/7", "--yes")
	wantIn(t, s.fails("--yes", "cluster", "move", "--cancel", "orders/0"), "planned")
	s.ok("cluster", "move", "--cancel", "--all", "--yes")
	wantIn(t, first(s.ok("cluster", "move", "--cancel", "orders/0")), "unchanged")
	wantIn(t, first(s.ok("cluster", "move", "--cancel", "--all")), "TOPIC")

	// Somebody else puts back what this one waits for.
	_, said, exit := s.waiting(func() { s.ok("cluster", "move", "--cancel", "orders/1", "--yes") }, "cluster", "move", to[1], "--yes", "--wait")
	if wantIn(t, said, "put back: orders/1"); exit != 1 {
		t.Errorf("exit %d", exit)
	}
}

func TestAPartitionIsRecoveredByTheBook(t *testing.T) {
	s := startSeveral(t, 2)
	s.ok("topic", "create", "orders", "--replication-factor", "1")
	s.fails("PARTITION_NOT_OFFLINE", "cluster", "recover", "orders/0", "--dry-run")
	s.ok("cluster", "status", "--check")
	s.peers[2].Fail()
	out := s.fails("1 broker is not active, 1 partition has no leader", "cluster", "status", "--check")
	wantIn(t, out, "OFFLINE", "orders/0  broker 2", "fenced")
	s.fails("NO_REPLICA_SERVES", "cluster", "recover", "orders/0", "--accept-loss")
	s.peers[2].Return()
	wantIn(t, s.fails("--accept-loss", "cluster", "recover", "orders/0"), "WOULD-LEAD")
	s.ok("cluster", "recover", "orders/0", "--dry-run")
	done, _ := s.ok("cluster", "recover", "orders/0", "--accept-loss", "-o", "json")
	if v := parsed[recoveryView](t, done); v.Leader != 2 || v.DryRun || v.Topic != "orders" {
		t.Errorf("recovered is %+v", v)
	}
	s.ok("cluster", "status", "--check")
}

func TestManyPartitionsAreRecovered(t *testing.T) {
	s := startSeveral(t, 2, 3)
	s.ok("topic", "create", "orders", "--replication-factor", "1", "--partitions", "4")
	s.ok("topic", "create", "events", "--replication-factor", "1", "--partitions", "4")
	at := map[int32]int{}
	for _, topic := range []string{"orders", "events"} {
		got, err := s.Topic.GetTopic(t.Context(), &pb.GetTopicRequest{Topic: topic})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range got.GetPartitions() {
			at[p.GetReplicas()[0]]++
		}
	}
	if at[2] == 0 || at[3] == 0 {
		t.Fatalf("partitions are at %v", at)
	}
	if out, _ := s.ok("cluster", "recover", "--all", "--dry-run", "-o", "json"); len(parsed[recoveriesView](t, out).Partitions) != 0 {
		t.Errorf("while all are led: %s", out)
	}
	s.peers[2].Fail()
	s.peers[3].Fail()
	s.fails("8 of 8 partitions were refused", "cluster", "recover", "--all", "--dry-run")
	s.fails("8 of 8 partitions were refused", "cluster", "recover", "--all", "--lost", "2,3", "--accept-loss")
	s.peers[2].Return() // with nothing; broker 3 may come back with everything
	all := []string{"cluster", "recover", "--all", "--lost", "2"}
	refused := refusedOf(at[3], 8)
	wantIn(t, s.fails(refused, append(all, "--dry-run")...), "WOULD-LEAD", "planned", "[REPLICAS_MAY_RETURN]", "--lost")
	s.fails("--accept-loss", all...)
	s.fails(refused, append(all, "--accept-loss")...)
	out := s.fails(counted(at[3], "partition has no leader", "partitions have no leader"), "cluster", "status", "--check", "-o", "json")
	if v := parsed[statusView](t, out); len(v.OfflineList) != at[3] {
		t.Errorf("offline are %+v", v.OfflineList)
	}
	s.peers[3].Return()
	done, _ := s.ok("cluster", "recover", "--topic", "orders", "--lost", "3", "--accept-loss", "-o", "json")
	for _, r := range parsed[recoveriesView](t, done).Partitions {
		if r.Topic != "orders" || r.Leader != 3 || r.Error != nil {
			t.Errorf("recovered is %+v", r)
		}
	}
	s.ok("cluster", "recover", "--all", "--lost", "3", "--accept-loss")
	s.ok("cluster", "status", "--check")
}

// What would be lost is told apart from what nobody knows.
func TestWhatARecoveryLosesIsTold(t *testing.T) {
	r := &pb.RecoverPartitionResponse{
		Placement: &pb.PartitionPlacement{LeaderId: 1}, AwaitedBrokerIds: []int32{2, 3, 4},
		Ends: []*pb.ReplicaEnd{
			{BrokerId: 1, LastLeaderEpoch: 3, End: 100}, {BrokerId: 2, LastLeaderEpoch: 3, End: 110},
			{BrokerId: 3, LastLeaderEpoch: 4, End: 90}, {BrokerId: 5, LastLeaderEpoch: 2, End: 200},
		},
	}
	v := newRecoveredView(offlineView{Topic: "orders", Partition: 7}, r)
	if *v.End != 100 || v.loss() != "what broker 2 has, to 110; what broker 3 has, to 90; unknown: broker 4" {
		t.Errorf("it says %q of %+v", v.loss(), v)
	}
	r.Ends, r.AwaitedBrokerIds = r.GetEnds()[:1], nil
	if v := newRecoveredView(offlineView{}, r); v.loss() != "nothing known" {
		t.Errorf("it says %q", v.loss())
	}
}

func TestPartitionsAreAdded(t *testing.T) {
	s := startSeveral(t, 2)
	s.ok("topic", "create", "orders", "--partitions", "2")
	s.ok("topic", "add-partitions", "orders", "--partitions", "5", "--dry-run")
	out, _ := s.ok("topic", "add-partitions", "orders", "--partitions", "4", "-o", "json")
	if v := parsed[topicView](t, out); v.PartitionCount != 4 {
		t.Errorf("got %+v", v)
	}
	s.fails("INVALID_FIELD", "topic", "add-partitions", "orders", "--partitions", "3")
}

func TestOnlyAYesIsAYes(t *testing.T) {
	for _, c := range []struct {
		answer string
		want   bool
	}{{"y\n", true}, {" Yes \n", true}, {"y", true}, {"n\n", false}, {"\n", false}, {"", false}, {"yesterday\n", false}, {"no\ny\n", false}} {
		var out bytes.Buffer
		if got := asked(strings.NewReader(c.answer), &out); got != c.want || out.String() != "Do it? [y/N] " {
			t.Errorf("%q is taken for %t, after %q", c.answer, got, out.String())
		}
	}
}

// Without a controller nothing can be changed, and that is said; what is known
// is shown all the same.
func TestWithoutAControllerAllIsRefusedWithItsReason(t *testing.T) {
	s := startSeveral(t, 2)
	s.ok("topic", "create", "orders")
	s.StopController()
	wantIn(t, s.fails("[CONTROLLER_UNAVAILABLE]; nothing was changed; try again", "cluster", "status"), "UNDER-MIN-ISR", "2        2       1       1 ")
	for _, args := range [][]string{
		{"cluster", "drain", "2", "--yes"}, {"cluster", "remove", "2", "--yes"}, {"cluster", "rebalance", "--yes"}, {"cluster", "undrain", "1"},
		{"cluster", "move", "orders/0=2", "--yes"}, {"cluster", "recover", "orders/0", "--accept-loss"}, {"topic", "add-partitions", "orders", "--partitions", "2"},
	} {
		s.fails("[CONTROLLER_UNAVAILABLE]", args...)
	}
	s.ok("cluster", "describe")
}
