package growth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/cmd/internal/cluster"
	"github.com/millstream-io/millstream/cmd/internal/disk"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// GrayDisk is what clients noticed of a disk in trouble under the leader of all
// partitions.
type GrayDisk struct {
	// Trouble is what was the matter: slow, full, read-only.
	Trouble string `json:"trouble"`
	// Calm, First and Then are of produce with acks ALL: before, in the first
	// 15 s of the trouble, and after those.
	Calm  Phase `json:"calm"`
	First Phase `json:"first"`
	Then  Phase `json:"then"`
	// MovedAfter is when the broker led nothing any more, in seconds; negative: it
	// led on.
	MovedAfter float64 `json:"moved_after_s"`
	// LeftISR is how often a replica went out of sync, by broker. The first is the
	// one with the disk.
	LeftISR map[int32]int `json:"left_isr"`
	// WholeAfter is how long after the end of the trouble all were in sync again.
	WholeAfter float64 `json:"whole_after_s"`
	// Unknown is how many records had an unknown outcome, Refused how many the
	// client gave up.
	Unknown int `json:"unknown_records"`
	Refused int `json:"refused_records"`
}

const (
	// sick is the broker whose disk is in trouble.
	sick = 1
	// recovery is how long producers may notice that.
	recovery = 15 * time.Second
	// The disk stands still for so long at a time, and then goes on for a moment.
	leastStill, mostStill, goesOnFor = 200 * time.Millisecond, time.Second, 20 * time.Millisecond
	// grayDiskBytes is the size of the disk of a broker.
	grayDiskBytes = 2 << 30
)

// Gray measures a cluster of three brokers, one of which leads all partitions
// and has a disk that gets into trouble: it is slow, full, or read-only. It takes
// Linux and root. It fails if a record is lost, doubled or out of order, if the
// broker leads on, or if a replica of a broker that is well goes out of sync.
func Gray(ctx context.Context, o Options) (err error) {
	if o.Trouble == slowController {
		return grayController(ctx, o)
	}
	var args []string
	if o.SlowDisk != "" {
		args = []string{"--slow-disk", o.SlowDisk}
	}
	return onDisks(ctx, o, "broker", grayDiskBytes, args, func(r *run, disks map[string]*disk.Disk) error {
		r.l.killed, r.l.refused = true, o.Trouble != "slow"
		if err := r.leadAll(ctx); err != nil {
			return err
		}
		d := disks[r.c.Broker(sick).Name()]
		return r.underLoad(ctx, func(ctx context.Context) error { return r.gray(ctx, d) })
	})
}

// onDisks starts a cluster whose brokers, or controllers, have a disk each, and a
// client, does something with them, and stops them.
func onDisks(ctx context.Context, o Options, kind string, bytes int64, brokerArgs []string, do func(*run, map[string]*disk.Disk) error) (err error) {
	dir := o.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "millstream-gray-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	shelf, err := disk.Open(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shelf.Close()) }()
	disks := map[string]*disk.Disk{}
	c, err := cluster.Open(cluster.Options{Binary: o.Binary, Dir: dir, BrokerArgs: brokerArgs, Host: func(member string) (h cluster.Host, err error) {
		h.Addr = "127.0.0.1"
		if strings.HasPrefix(member, kind) {
			disks[member], err = shelf.Make(member, bytes)
		}
		return h, err
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop(context.WithoutCancel(ctx)), c.Close()) }()
	if err := c.Start(ctx); err != nil {
		return err
	}
	r := &run{o: o, c: c, l: newLoad(o.Rate, partitions)}
	all := []string{c.Broker(1).GRPCAddr, c.Broker(2).GRPCAddr, c.Broker(3).GRPCAddr}
	if r.client, err = millstream.New(millstream.Options{Addr: strings.Join(all, ",")}); err != nil {
		return err
	}
	defer r.client.Close()
	return do(r, disks)
}

// leadAll makes the topic, led by one broker.
func (r *run) leadAll(ctx context.Context) error {
	if _, err := r.client.Topics().CreateTopic(ctx, &pb.CreateTopicRequest{Topic: topic, PartitionCount: partitions}); err != nil {
		return err
	}
	req := &pb.ReassignPartitionsRequest{}
	for p := range uint32(partitions) {
		others := []int32{2, 3}
		if p%2 == 1 {
			slices.Reverse(others)
		}
		req.Reassignments = append(req.Reassignments, &pb.Reassignment{Topic: topic, Partition: p, Replicas: append([]int32{sick}, others...)})
	}
	if _, err := r.client.Cluster().ReassignPartitions(ctx, req); err != nil {
		return err
	}
	if _, err := r.client.Cluster().ElectPreferredLeaders(ctx, &pb.ElectPreferredLeadersRequest{}); err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		led, err := r.leads(ctx)
		return led == partitions, err
	})
}

// leads returns how many partitions the broker with the disk leads.
func (r *run) leads(ctx context.Context) (int, error) {
	got, err := r.client.Topics().GetTopic(ctx, &pb.GetTopicRequest{Topic: topic, MetadataOnly: true})
	n := 0
	for _, p := range got.GetPartitions() {
		if p.GetLeader().GetBrokerId() == sick {
			n++
		}
	}
	return n, err
}

// gray has the disk get into trouble, and reports.
func (r *run) gray(ctx context.Context, d *disk.Disk) error {
	g := GrayDisk{Trouble: r.o.Trouble, MovedAfter: -1, LeftISR: map[int32]int{1: 0, 2: 0, 3: 0}}
	r.l.enter("warm-up")
	if err := errors.Join(r.wait(ctx), r.whole(ctx)); err != nil {
		return err
	}
	r.l.enter("calm")
	begun := time.Now()
	if err := r.wait(ctx); err != nil {
		return err
	}
	g.Calm = r.l.report("calm", time.Since(begun))
	if led, err := r.leads(ctx); err != nil || led != partitions {
		return errors.Join(err, fmt.Errorf("the broker leads %d of %d partitions before anything is the matter with its disk: the machine does too much else", led, partitions))
	}

	watching, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	r.l.enter("first")
	begun = time.Now()
	group.Go(func() error { return r.watchGray(watching, begun, &g) })
	heal, err := r.trouble(d)
	if err != nil {
		return err
	}
	err = sleep(ctx, recovery)
	g.First = r.l.report("first", time.Since(begun))
	r.l.enter("then")
	after := time.Now()
	if err == nil {
		err = sleep(ctx, 2*r.o.Calm)
	}
	g.Then = r.l.report("then", time.Since(after))
	r.l.enter("healed")
	err = errors.Join(err, heal())
	stop()
	if err = errors.Join(err, group.Wait()); err != nil {
		return err
	}
	begun = time.Now()
	if r.o.Trouble != "read-only" { // only a repair and a restart cure that
		if err := r.whole(ctx); err != nil {
			return err
		}
		g.WholeAfter = time.Since(begun).Seconds()
	}
	g.Unknown, g.Refused = r.l.lost(), r.l.gaveUp()
	return r.sayGray(g)
}

func (r *run) sayGray(g GrayDisk) error {
	for _, p := range []Phase{g.Calm, g.First, g.Then} {
		_, _ = fmt.Fprintf(r.o.Log, "%-9s %-6s %6.1f s  %7d records  p50 %6.1f ms  p99 %7.1f ms  max %8.1f ms  longest gap %8.1f ms\n",
			g.Trouble, p.Name, p.Duration, p.Records, p.P50, p.P99, p.Max, p.Gap)
	}
	_, _ = fmt.Fprintf(r.o.Log, "%s: led by others after %.1f s; went out of sync, by broker: %v; all in sync %.1f s after the end; p99 afterwards %.1f times that before; %d records of unknown outcome, %d refused\n",
		g.Trouble, g.MovedAfter, g.LeftISR, g.WholeAfter, g.Then.P99/g.Calm.P99, g.Unknown, g.Refused)
	if err := json.NewEncoder(r.o.Out).Encode(g); err != nil {
		return err
	}
	if healthy := g.LeftISR[2] + g.LeftISR[3]; g.MovedAfter < 0 || healthy > 0 {
		return fmt.Errorf("the broker with the disk was led away from after %.1f s (negative: never), and replicas of others went out of sync %d times", g.MovedAfter, healthy)
	}
	return nil
}

// trouble gets the disk into trouble, until the function that it returns is
// called.
func (r *run) trouble(d *disk.Disk) (heal func() error, err error) {
	switch r.o.Trouble {
	case "slow":
		return slow(d, leastStill, mostStill), nil
	case "full":
		return d.Free, d.Fill()
	case "read-only": // only a repair cures that, and the broker may say that not everything could be written
		return func() error {
			if err := r.c.Broker(sick).Stop(context.Background()); errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return nil
		}, d.Fail()
	}
	return nil, fmt.Errorf("trouble %q: slow, full, read-only and slow-controller are known", r.o.Trouble)
}

// slow has everything that is written to a disk or synced wait, again and
// again, until the function that it returns is called.
func slow(d *disk.Disk, least, most time.Duration) func() error {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			if err = d.Freeze(); err != nil {
				break
			}
			_ = sleep(ctx, least+rand.N(most-least))
			if err = d.Thaw(); err == nil {
				_ = sleep(ctx, goesOnFor)
			}
		}
		ended <- err
	}()
	return sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-ended, d.Thaw())
	})
}

// watchGray notes when the broker with the disk leads nothing any more, and who
// goes out of sync, until ctx ends.
func (r *run) watchGray(ctx context.Context, begun time.Time, g *GrayDisk) error {
	was := map[uint32][]int32{}
	err := poll(ctx, func() (bool, error) {
		got, err := r.client.Topics().GetTopic(ctx, &pb.GetTopicRequest{Topic: topic, MetadataOnly: true})
		if err != nil {
			return false, nil //nolint:nilerror // the broker that is asked may be the one
		}
		led := 0
		for _, p := range got.GetPartitions() {
			if p.GetLeader().GetBrokerId() == sick {
				led++
			}
			now := p.GetInSyncReplicas()
			for _, id := range was[p.GetPartition()] {
				if !slices.Contains(now, id) {
					g.LeftISR[id]++
				}
			}
			was[p.GetPartition()] = now
		}
		if led == 0 && g.MovedAfter < 0 && len(got.GetPartitions()) > 0 {
			g.MovedAfter = time.Since(begun).Seconds()
		}
		return false, nil
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerror // it was asked to end
	}
	return err
}
