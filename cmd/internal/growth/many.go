package growth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/cmd/internal/cluster"
	"github.com/millstream-io/millstream/cmd/internal/proc"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Cost is what a cluster with many partitions costs.
type Cost struct {
	Partitions int `json:"partitions"`
	// CreateSeconds is from the request to all led and in sync; FailOverSeconds
	// from kill -9 of a broker that leads a third to all led by others;
	// RecoverSeconds from its start to all in sync.
	CreateSeconds   float64 `json:"create_seconds"`
	FailOverSeconds float64 `json:"fail_over_seconds"`
	RecoverSeconds  float64 `json:"recover_seconds"`
	// The metadata that came to brokers meanwhile, in bytes: to all three, to the
	// two that are left, and to all three again, of which one begins without any.
	CreateBytes   float64 `json:"create_bytes"`
	FailOverBytes float64 `json:"fail_over_bytes"`
	RecoverBytes  float64 `json:"recover_bytes"`
	// BrokerMiB and ControllerMiB are the most that one of them has, RssAnon and
	// RssShmem.
	BrokerMiB     float64 `json:"broker_mib"`
	ControllerMiB float64 `json:"controller_mib"`
	// IdleCPU is what all six use when nothing is done, in CPU seconds a second.
	IdleCPU float64 `json:"idle_cpu"`
}

// Many measures three brokers that hold many partitions.
func Many(ctx context.Context, o Options) (err error) {
	c, err := cluster.Open(cluster.Options{Binary: o.Binary, Dir: o.Dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop(context.WithoutCancel(ctx)), c.Close()) }()
	if err := c.Start(ctx); err != nil {
		return err
	}
	client, err := millstream.New(millstream.Options{Addr: c.Broker(1).GRPCAddr})
	if err != nil {
		return err
	}
	defer client.Close()
	cost := Cost{Partitions: o.Partitions}
	told := newTraffic(c.Brokers())
	if _, err := told.since(ctx); err != nil {
		return err
	}
	begun := time.Now()
	if _, err := client.Topics().CreateTopic(ctx, &pb.CreateTopicRequest{Topic: topic, PartitionCount: uint32(o.Partitions)}); err != nil {
		return err
	}
	whole := func() (bool, error) {
		got, err := client.Cluster().DescribeCluster(ctx, &pb.DescribeClusterRequest{})
		return got.GetOfflinePartitionCount() == 0 && got.GetUnderReplicatedPartitionCount() == 0, err
	}
	if err := poll(ctx, whole); err != nil {
		return err
	}
	cost.CreateSeconds = time.Since(begun).Seconds()
	if cost.CreateBytes, err = told.since(ctx); err != nil {
		return err
	}
	if cost.IdleCPU, err = idle(ctx, c, o.Calm); err != nil {
		return err
	}
	victim := c.Broker(3)
	if _, err := told.since(ctx); err != nil {
		return err
	}
	begun = time.Now()
	victim.Kill()
	if err := poll(ctx, func() (bool, error) { return ledByOthers(ctx, client, 3) }); err != nil {
		return err
	}
	cost.FailOverSeconds = time.Since(begun).Seconds()
	told.begins(victim)
	if cost.FailOverBytes, err = told.since(ctx); err != nil {
		return err
	}
	begun = time.Now()
	if err := victim.Start(ctx); err != nil {
		return err
	}
	if err := poll(ctx, whole); err != nil {
		return err
	}
	cost.RecoverSeconds = time.Since(begun).Seconds()
	if cost.RecoverBytes, err = told.since(ctx); err != nil {
		return err
	}
	if cost.BrokerMiB, err = most(c.Brokers()); err != nil {
		return err
	}
	if cost.ControllerMiB, err = most(c.Controllers()); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(o.Log, "%d partitions: made in %.2f s, failed over in %.2f s, all in sync again in %.2f s; metadata %.1f, %.1f and %.1f MB; broker %.0f MiB, controller %.0f MiB, idle %.3f CPU s/s\n",
		cost.Partitions, cost.CreateSeconds, cost.FailOverSeconds, cost.RecoverSeconds,
		cost.CreateBytes/1e6, cost.FailOverBytes/1e6, cost.RecoverBytes/1e6, cost.BrokerMiB, cost.ControllerMiB, cost.IdleCPU)
	return json.NewEncoder(o.Out).Encode(cost)
}

// traffic is the metadata that came to brokers, as they count it.
type traffic struct {
	brokers []*cluster.Member
	seen    map[*cluster.Member]float64
}

func newTraffic(brokers []*cluster.Member) *traffic {
	return &traffic{brokers, map[*cluster.Member]float64{}}
}

// begins says that a broker is dead, and counts from 0 when it is back.
func (t *traffic) begins(m *cluster.Member) { t.seen[m] = 0 }

// since returns how many bytes came since the last call, to those that run.
func (t *traffic) since(ctx context.Context) (float64, error) {
	const name = "millstream_broker_metadata_bytes_total"
	sum := 0.0
	for _, m := range t.brokers {
		if m.PID() == 0 {
			continue
		}
		values, err := proc.Metrics(ctx, m.HTTPAddr, name)
		if err != nil {
			return 0, err
		}
		sum += values[name] - t.seen[m]
		t.seen[m] = values[name]
	}
	return sum, nil
}

// ledByOthers tells whether every partition has a leader that is not a broker.
func ledByOthers(ctx context.Context, client *millstream.Client, broker int32) (bool, error) {
	got, err := client.Topics().GetTopic(ctx, &pb.GetTopicRequest{Topic: topic, MetadataOnly: true})
	if err != nil {
		return false, err
	}
	for _, p := range got.GetPartitions() {
		if id := p.GetLeader().GetBrokerId(); p.GetLeader() == nil || id == broker || id < 0 {
			return false, nil
		}
	}
	return true, nil
}

// pids are the processes of members.
func pids(members []*cluster.Member) []int {
	all := make([]int, len(members))
	for i, m := range members {
		all[i] = m.PID()
	}
	return all
}

// idle returns the CPU seconds that all members use in a second.
func idle(ctx context.Context, c *cluster.Cluster, span time.Duration) (float64, error) {
	all := pids(append(c.Brokers(), c.Controllers()...))
	before, err := proc.CPUSeconds(all)
	if err != nil {
		return 0, err
	}
	t := time.NewTimer(span)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-t.C:
	}
	after, err := proc.CPUSeconds(all)
	return (after - before) / span.Seconds(), err
}

// most returns the memory of the member that has the most.
func most(members []*cluster.Member) (float64, error) {
	greatest := 0.0
	for _, pid := range pids(members) {
		mib, err := proc.MemoryMiB(pid)
		if err != nil {
			return 0, err
		}
		greatest = max(greatest, mib)
	}
	return greatest, nil
}
