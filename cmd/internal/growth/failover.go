package growth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Failover is what a client noticed of processes that were killed: for each,
// the longest time between two acknowledgements, in milliseconds.
type Failover struct {
	Killed string  `json:"killed"`
	Times  int     `json:"times"`
	Median float64 `json:"median_ms"`
	P90    float64 `json:"p90_ms"`
	Worst  float64 `json:"worst_ms"`
	// Calm is the longest gap of a time as long in which nothing was killed.
	Calm float64 `json:"calm_ms"`
	// Unknown is how many records had an unknown outcome.
	Unknown int `json:"unknown_records"`
}

// quiet is how long nothing is done before a kill, and how long its
// consequences are waited for at least.
const quiet = 1500 * time.Millisecond

// FailOver measures how long a producer with acks ALL waits when the leader of
// its only partition is killed with SIGKILL, and when the active controller is.
// Each is started again, and in sync, before the next is killed. It fails if a
// record that was acknowledged is not read, or is out of order.
func FailOver(ctx context.Context, o Options) error {
	return measure(ctx, o, 1, true, func(r *run, ctx context.Context) error {
		if err := r.wait(ctx); err != nil { // connections and caches are made
			return err
		}
		return errors.Join(r.kills(ctx, "leader", r.leader), r.kills(ctx, "active controller", r.c.ActiveController))
	})
}

// kills kills who is chosen again and again, and reports.
func (r *run) kills(ctx context.Context, name string, choose func(context.Context) (*cluster.Member, error)) error {
	f := Failover{Killed: name, Times: r.o.Kills}
	unknown := r.l.lost()
	var gaps []time.Duration
	for n := range r.o.Kills {
		if err := r.whole(ctx); err != nil {
			return err
		}
		calm := fmt.Sprintf("before %s %d", name, n)
		r.l.enter(calm)
		if err := sleep(ctx, quiet); err != nil {
			return err
		}
		f.Calm = max(f.Calm, r.l.report(calm, 0).Gap)
		m, err := choose(ctx)
		if err != nil {
			return err
		}
		phase := fmt.Sprintf("%s %d", name, n)
		r.l.enter(phase)
		m.Kill()
		if err := r.goesOn(ctx, phase); err != nil {
			return err
		}
		gaps = append(gaps, r.l.gap(phase))
		if err := m.Start(ctx); err != nil {
			return err
		}
	}
	slices.Sort(gaps)
	f.Median, f.P90, f.Worst = ms(gaps[len(gaps)/2]), ms(gaps[len(gaps)*9/10]), ms(gaps[len(gaps)-1])
	f.Unknown = r.l.lost() - unknown
	_, _ = fmt.Fprintf(r.o.Log, "%s killed %d times: longest gap median %.0f ms, p90 %.0f ms, worst %.0f ms (calm: %.0f ms); %d records of unknown outcome\n",
		name, f.Times, f.Median, f.P90, f.Worst, f.Calm, f.Unknown)
	return json.NewEncoder(r.o.Out).Encode(f)
}

// goesOn waits until acknowledgements have come again for a while.
func (r *run) goesOn(ctx context.Context, phase string) error {
	if err := sleep(ctx, quiet); err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		return r.l.acknowledged(phase) >= r.o.Rate/2, nil
	})
}

// leader returns the broker that leads the partition.
func (r *run) leader(ctx context.Context) (m *cluster.Member, err error) {
	err = poll(ctx, func() (bool, error) {
		got, err := r.client.Topics().GetTopic(ctx, &pb.GetTopicRequest{Topic: topic, MetadataOnly: true})
		if err != nil {
			return false, nil //nolint:nilerror // the broker that is asked may have just begun
		}
		for _, p := range got.GetPartitions() {
			m = r.c.Broker(int(p.GetLeader().GetBrokerId()))
		}
		return m != nil, nil
	})
	return m, err
}

// whole waits until every replica is in sync.
func (r *run) whole(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		got, err := r.client.Cluster().DescribeCluster(ctx, &pb.DescribeClusterRequest{})
		if err != nil {
			return false, nil //nolint:nilerror // the broker that is asked may be the one that starts
		}
		return got.GetUnderReplicatedPartitionCount() == 0 && got.GetOfflinePartitionCount() == 0, nil
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
