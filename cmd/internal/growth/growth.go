package growth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/cmd/internal/cluster"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Options say what to measure.
type Options struct {
	// Binary is the program to run.
	Binary string
	// Dir keeps the data; "": a temporary directory.
	Dir string
	// Rate is records a second, Calm how long nothing else is done, and how long
	// each state is looked at.
	Rate int
	Calm time.Duration
	// MoveRate is how many bytes a second each replica that is added is filled
	// with; 0: as fast as can be.
	MoveRate uint64
	// Partitions is how many the cluster of Many has.
	Partitions int
	// Trouble is what Gray does to a disk: slow, full, or read-only; or, with that of
	// the active controller, slow-controller.
	Trouble string
	// SlowDisk is the setting of that name of the brokers of Gray; "": they have
	// what they have by themselves.
	SlowDisk string
	// Kills is how many leaders FailOver kills, and how many active controllers.
	Kills int
	// Verbose says what was noticed in each second, and what happened to the
	// partitions in it.
	Verbose bool
	// Out takes one JSON object a measurement, Log says what goes on.
	Out, Log io.Writer
}

// run is a cluster under load.
type run struct {
	o      Options
	c      *cluster.Cluster
	client *millstream.Client // of the first three brokers
	l      *load
}

// Grow measures a cluster that grows from three brokers to four, shrinks to
// three again, and is restarted broker by broker, under load. It fails if a
// client met an error or a record is lost, doubled or out of order.
func Grow(ctx context.Context, o Options) error {
	return measure(ctx, o, partitions, false, func(r *run, ctx context.Context) error {
		if !o.Verbose {
			return r.phases(ctx)
		}
		watching, stop := context.WithCancel(ctx)
		var watcher errgroup.Group
		watcher.Go(func() error { return r.watch(watching) })
		err := r.phases(ctx)
		stop()
		return errors.Join(err, watcher.Wait())
	})
}

// measure does something with a cluster of three brokers while a topic of so
// many partitions is under load, and verifies the load. killed: brokers are.
func measure(ctx context.Context, o Options, count int, killed bool, do func(*run, context.Context) error) (err error) {
	c, err := cluster.Open(cluster.Options{Binary: o.Binary, Dir: o.Dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop(context.WithoutCancel(ctx)), c.Close()) }()
	if err := c.Start(ctx); err != nil {
		return err
	}
	r := &run{o: o, c: c, l: newLoad(o.Rate, count)}
	r.l.killed = killed
	all := []string{c.Broker(1).GRPCAddr, c.Broker(2).GRPCAddr, c.Broker(3).GRPCAddr}
	if r.client, err = millstream.New(millstream.Options{Addr: strings.Join(all, ",")}); err != nil {
		return err
	}
	defer r.client.Close()
	if _, err := r.client.Topics().CreateTopic(ctx, &pb.CreateTopicRequest{Topic: topic, PartitionCount: uint32(count)}); err != nil {
		return err
	}
	return r.underLoad(ctx, func(ctx context.Context) error { return do(r, ctx) })
}

// underLoad does something while the load runs, and verifies the load.
func (r *run) underLoad(ctx context.Context, do func(context.Context) error) error {
	reading, stopReading := context.WithCancel(ctx)
	producing, stopProducing := context.WithCancel(ctx)
	defer stopReading()
	defer stopProducing()
	var group errgroup.Group
	ready := make(chan struct{})
	group.Go(func() error {
		err := r.l.read(reading, r.client, ready)
		stopProducing()
		return err
	})
	var produced errgroup.Group
	produced.Go(func() error {
		<-ready
		return r.l.produce(producing, r.client)
	})
	err := do(ctx)
	stopProducing()
	err = errors.Join(err, produced.Wait())
	for begun := time.Now(); !r.l.complete() && time.Since(begun) < 30*time.Second; {
		<-time.After(10 * time.Millisecond) // what was acknowledged is on its way
	}
	stopReading()
	return errors.Join(err, group.Wait(), r.l.verify())
}

func (r *run) phases(ctx context.Context) error {
	for _, p := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"warm-up", r.wait},
		{"calm", r.wait},
		{"grow to four", r.grow},
		{"four brokers", r.wait},
		{"drain the fourth", r.drain},
		{"three brokers", r.wait},
		{"rolling restart", r.roll},
		{"after it", r.wait},
	} {
		r.l.enter(p.name)
		begun := time.Now()
		if err := p.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if err := r.say(r.l.report(p.name, time.Since(begun)), r.l.seconds(p.name)); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) say(p Phase, seconds []second) error {
	_, _ = fmt.Fprintf(r.o.Log, "%-18s %6.1f s  %7d records  p50 %6.1f ms  p99 %7.1f ms  worst second's p99 %7.1f ms  max %8.1f ms  longest gap %8.1f ms\n",
		p.Name, p.Duration, p.Records, p.P50, p.P99, p.WorstSecond, p.Max, p.Gap)
	if r.o.Verbose {
		for n, s := range seconds {
			_, _ = fmt.Fprintf(r.o.Log, "  %4d s  %s\n", n, s)
		}
	}
	return json.NewEncoder(r.o.Out).Encode(p)
}

func (r *run) wait(ctx context.Context) error { return sleep(ctx, r.o.Calm) }

// grow adds a broker and has it take its share.
func (r *run) grow(ctx context.Context) error {
	m, err := r.c.AddBroker()
	if err != nil {
		return err
	}
	if err := m.Start(ctx); err != nil {
		return err
	}
	for {
		begun, err := r.client.Cluster().RebalanceReplicas(ctx, &pb.RebalanceReplicasRequest{MaxMoves: 8, BytesPerSecond: r.o.MoveRate})
		if err != nil {
			return err
		}
		if len(begun.GetResults()) == 0 {
			break
		}
		if err := r.moved(ctx); err != nil {
			return err
		}
	}
	_, err = r.client.Cluster().ElectPreferredLeaders(ctx, &pb.ElectPreferredLeadersRequest{})
	return err
}

// moved waits until nothing is being moved.
func (r *run) moved(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		got, err := r.client.Cluster().ListReassignments(ctx, &pb.ListReassignmentsRequest{})
		return len(got.GetReassignments()) == 0, err
	})
}

// drain takes the fourth broker out again.
func (r *run) drain(ctx context.Context) error {
	if _, err := r.client.Cluster().DrainBroker(ctx, &pb.DrainBrokerRequest{BrokerId: 4, BytesPerSecond: r.o.MoveRate}); err != nil {
		return err
	}
	if err := poll(ctx, func() (bool, error) {
		got, err := r.client.Cluster().ListBrokers(ctx, &pb.ListBrokersRequest{})
		for _, b := range got.GetBrokers() {
			if b.GetBrokerId() == 4 {
				return b.GetReplicaCount() == 0, nil
			}
		}
		return false, err
	}); err != nil {
		return err
	}
	if err := r.c.Broker(4).Stop(ctx); err != nil {
		return err
	}
	// That it is stopped is known a little later.
	return poll(ctx, func() (bool, error) {
		_, err := r.client.Cluster().RemoveBroker(ctx, &pb.RemoveBrokerRequest{BrokerId: 4})
		if said, ok := errors.AsType[*millstream.Error](millstream.ErrorOf("RemoveBroker", "", err)); ok && said.Reason == pb.ErrorReason_ERROR_REASON_BROKER_IN_USE {
			return false, nil
		}
		return true, err
	})
}

// roll restarts the brokers one after the other, each when all are in sync.
func (r *run) roll(ctx context.Context) error {
	for id := 1; id <= 3; id++ {
		if err := r.c.Broker(id).Restart(ctx); err != nil {
			return err
		}
		if err := r.whole(ctx); err != nil {
			return err
		}
	}
	return nil
}

// poll asks again and again until something is so.
func poll(ctx context.Context, done func() (bool, error)) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}
