package servertest_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/servertest"
)

// registries are the metrics of each broker that runs.
type registries struct {
	mu   sync.Mutex
	byID map[int32]*prometheus.Registry
}

func (r *registries) give(o *broker.Options) {
	r.mu.Lock()
	defer r.mu.Unlock()
	reg := prometheus.NewRegistry()
	r.byID[o.ID], o.Registerer = reg, reg
}

// value returns a metric of a broker; label is of its only label, if it has one.
func (r *registries) value(t *testing.T, id int32, name, label string) float64 {
	t.Helper()
	r.mu.Lock()
	reg := r.byID[id]
	r.mu.Unlock()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range all {
		for _, m := range family.GetMetric() {
			if family.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

// await waits until a metric is as it should be.
func (r *registries) await(t *testing.T, id int32, name, label string, is func(float64) bool) {
	t.Helper()
	last := 0.0
	for begun := time.Now(); time.Since(begun) < 20*time.Second; {
		if last = r.value(t, id, name, label); is(last) {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("%s of broker %d is %v", name, id, last)
}

func exactly(want float64) func(float64) bool { return func(v float64) bool { return v == want } }

func TestMetricsTellHowReplicasAre(t *testing.T) {
	r := &registries{byID: make(map[int32]*prometheus.Registry)}
	c := servertest.StartCluster(t, servertest.ClusterOptions{Broker: r.give})
	fill(t, c, 10)
	leader := leaderOf(t, c)
	awaitInSync(t, leader)
	gone := notLeading(c, leader)
	follower := fmt.Sprint(gone.ID)
	shrinks, expands := r.value(t, leader.ID, "millstream_log_isr_shrinks_total", ""), r.value(t, leader.ID, "millstream_log_isr_expands_total", "")
	r.await(t, leader.ID, "millstream_broker_leader_partitions", "", exactly(1))
	r.await(t, leader.ID, "millstream_broker_under_replicated_partitions", "", exactly(0))
	r.await(t, leader.ID, "millstream_broker_follower_lag_records", follower, exactly(0))
	gone.Kill()
	r.await(t, leader.ID, "millstream_broker_under_replicated_partitions", "", exactly(1))
	r.await(t, leader.ID, "millstream_broker_under_min_isr_partitions", "", exactly(0))
	r.await(t, leader.ID, "millstream_log_isr_shrinks_total", "", exactly(shrinks+1))
	for range 5 {
		if _, err := leader.Broker.Append(t.Context(), &pb.AppendRequest{
			Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: "behind"}}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	r.await(t, leader.ID, "millstream_broker_follower_lag_records", follower, exactly(5))
	r.await(t, leader.ID, "millstream_broker_follower_lag_bytes", follower, func(v float64) bool { return v > 0 })
	gone.Start()
	r.await(t, leader.ID, "millstream_broker_under_replicated_partitions", "", exactly(0))
	r.await(t, leader.ID, "millstream_log_isr_expands_total", "", exactly(expands+1))
	r.await(t, leader.ID, "millstream_broker_follower_lag_records", follower, exactly(0))
}
