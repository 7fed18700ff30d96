package node_test

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/node"
	"github.com/millstream-io/millstream/controller/pace"
)

// beat sends a broker's heartbeat to one controller after the other until the
// active one takes it, and returns which that is.
func beat(ctx context.Context, t *testing.T, cs []*controllertest.Controller, r *controllerv1.HeartbeatRequest) (int, *controllerv1.HeartbeatResponse) {
	t.Helper()
	for i := 0; ; i++ {
		resp, err := cs[i%len(cs)].Client.Heartbeat(ctx, r)
		switch {
		case err == nil:
			return i % len(cs), resp
		case ctx.Err() != nil || status.Code(err) != codes.Unavailable:
			t.Fatalf("controller %d answers a heartbeat with %v", i%len(cs), err)
		case rpc.RequestErrorOf(err).GetReason() != pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE:
			t.Fatalf("controller %d is not active and says %v", i%len(cs), err)
		}
	}
}

// Three controllers: one is active, all are watched, and when the active one
// goes another takes over what it began, brokers in their epochs included.
func TestAnotherControllerTakesOver(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx := bounded(t)
	cs := controllertest.StartQuorum(t, 3)
	active := -1
	for i, c := range cs {
		// Asked of all: one does it, the others say who would.
		_, err := c.Client.CreateTopic(ctx, &controllerv1.CreateTopicRequest{Topic: "early", ValidateOnly: true})
		switch status.Code(err) {
		case codes.FailedPrecondition: // there are no brokers yet
			active = i
		case codes.Unavailable:
		default:
			t.Fatalf("controller %d says %v", i, err)
		}
	}
	if active < 0 {
		t.Fatal("no controller is active")
	}
	b := controllertest.StartBroker(t, cs[active].Client, 1)
	made := create(ctx, t, cs[active], "made", 300)
	others := append(append([]*controllertest.Controller(nil), cs[:active]...), cs[active+1:]...)
	views := []*view{watch(ctx, t, others[0], nil), watch(ctx, t, others[1], nil)}
	for _, v := range views {
		v.until(t, made.GetRevision())
		if n := len(v.partitions[string(made.GetTopic().GetTopicId())]); n != 300 {
			t.Errorf("a controller that is not active tells of %d partitions", n)
		}
	}
	cs[active].Stop(t)

	next, resp := beat(ctx, t, others, &controllerv1.HeartbeatRequest{BrokerId: 1, BrokerEpoch: b.Epoch, Revision: b.Epoch, Ready: true})
	if resp.GetFenced() {
		t.Error("the broker is fenced because a controller went")
	}
	again := create(ctx, t, others[next], "made", 300)
	if again.GetRevision() != made.GetRevision() {
		t.Errorf("the same request is answered with revision %d, not %d", again.GetRevision(), made.GetRevision())
	}
	more := create(ctx, t, others[next], "more", 1)
	for _, v := range views {
		v.until(t, more.GetRevision())
		if v.snapshots != 1 || len(v.topics) != 2 {
			t.Errorf("a watch has %d topics after %d snapshots", len(v.topics), v.snapshots)
		}
	}
}

// Without a quorum nothing is changed, and whoever asks is told why; what is
// known is told still.
func TestWithoutAQuorumWatchesGoOn(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx := bounded(t)
	cs := controllertest.StartQuorum(t, 3)
	var made *controllerv1.CreateTopicResponse
	for _, c := range cs {
		if _, err := c.Client.CreateTopic(ctx, &controllerv1.CreateTopicRequest{Topic: "early", ValidateOnly: true}); status.Code(err) == codes.FailedPrecondition {
			controllertest.StartBroker(t, c.Client, 1)
			made = create(ctx, t, c, "made", 3)
		}
	}
	if made == nil {
		t.Fatal("no controller is active")
	}
	watch(ctx, t, cs[2], nil).until(t, made.GetRevision())
	cs[0].Stop(t)
	cs[1].Stop(t)
	late := func() error {
		_, err := cs[2].Client.CreateTopic(ctx, &controllerv1.CreateTopicRequest{Topic: "late", PartitionCount: 1})
		return err
	}
	err := late()
	if status.Code(err) == codes.Unknown {
		err = late() // it was the active one, and had begun the first when it lost touch
	}
	if status.Code(err) != codes.Unavailable || rpc.RequestErrorOf(err).GetReason() != pb.ErrorReason_ERROR_REASON_CONTROLLER_UNAVAILABLE {
		t.Errorf("a change without a quorum: %v", err)
	}
	v := watch(ctx, t, cs[2], nil)
	v.until(t, made.GetRevision())
	if len(v.partitions[string(made.GetTopic().GetTopicId())]) != 3 {
		t.Errorf("a watch without a quorum tells of %v", v.topics)
	}
}

// disk says how long writes take, and that there are some whenever it is asked.
type disk struct {
	mu    sync.Mutex // guards what follows
	took  time.Duration
	calls pace.Calls
}

func (d *disk) be(took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took = took
}

func (d *disk) so() (pace.Calls, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.took.Seconds()
	d.calls = pace.Calls{Count: d.calls.Count + 2, Seconds: d.calls.Seconds + 2*s, Squares: d.calls.Squares + 2*s*s}
	return d.calls, nil
}

// activeOf waits until one of the controllers is active, and returns which.
func activeOf(ctx context.Context, t *testing.T, cs []*controllertest.Controller) int {
	t.Helper()
	for i := 0; ; i++ {
		_, err := cs[i%len(cs)].Client.ListOfflinePartitions(ctx, &controllerv1.ListOfflinePartitionsRequest{})
		switch {
		case err == nil:
			return i % len(cs)
		case ctx.Err() != nil:
			t.Fatalf("no controller is active: %v", err)
		}
	}
}

// counter returns the value of a counter or a gauge.
func counter(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}

// The disk of the active controller becomes slow: another one is active within
// seconds, goes on with what there is, and stays active though the first is well
// again.
func TestAControllerWithASlowDiskIsNotActive(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx := bounded(t)
	const n = 3
	var at [n]*rpc.InProcess
	var disks [n]disk
	var registries [n]*prometheus.Registry
	for i := range n {
		at[i], registries[i] = rpc.ListenInProcess(), prometheus.NewRegistry()
		disks[i].be(2 * time.Millisecond)
	}
	cs := controllertest.StartQuorum(t, n, func(o *node.Options) {
		o.Listeners, o.Serves = append(o.Listeners, at[o.ID]), fmt.Sprintf("c%d:1", o.ID)
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			var i int
			if _, err := fmt.Sscanf(address, "c%d:1", &i); err != nil {
				return nil, err
			}
			return at[i].DialContext(ctx)
		}
		o.DiskCalls, o.Registerer = disks[o.ID].so, registries[o.ID]
	})
	first := activeOf(ctx, t, cs)
	b := controllertest.StartBroker(t, cs[first].Client, 1)
	create(ctx, t, cs[first], "before", 3)
	disks[first].be(400 * time.Millisecond)
	next := first
	for begun := time.Now(); next == first; next = activeOf(ctx, t, cs) {
		if time.Since(begun) > patience/2 {
			t.Fatal("it stays active")
		}
		<-time.After(50 * time.Millisecond)
	}
	if _, resp := beat(ctx, t, cs, &controllerv1.HeartbeatRequest{BrokerId: 1, BrokerEpoch: b.Epoch, Revision: b.Epoch, Ready: true}); resp.GetFenced() {
		t.Error("the broker is fenced for that")
	}
	create(ctx, t, cs[next], "after", 3)
	disks[first].be(2 * time.Millisecond)
	<-time.After(3 * time.Second)
	if now := activeOf(ctx, t, cs); now != next {
		t.Errorf("controller %d is active, and %d was", now, next)
	}
	for i, r := range registries {
		want := 0.0
		if i == first {
			want = 1
		}
		if got := counter(t, r, "millstream_controller_hand_overs_total"); got != want {
			t.Errorf("controller %d has handed over %v times, want %v", i, got, want)
		}
		if got := counter(t, r, "millstream_controller_disk_delay_seconds"); got <= 0 {
			t.Errorf("controller %d says that its disk takes %v s", i, got)
		}
	}
}
