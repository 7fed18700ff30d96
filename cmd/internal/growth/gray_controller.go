package growth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millstream-io/millstream/cmd/internal/disk"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// slowController is the trouble of Gray that is with a controller.
const slowController = "slow-controller"

const (
	// The disk of the controller stands still for so long at a time: not for as long
	// as it takes the others to elect somebody because they hear nothing.
	leastPause, mostPause = 150 * time.Millisecond, 350 * time.Millisecond
	// changeEvery is the least time between two changes of the metadata.
	changeEvery = 50 * time.Millisecond
	// controllerDiskBytes is the size of the disk of a controller.
	controllerDiskBytes = 512 << 20
)

// Changes is how long changes of the metadata took, in milliseconds.
type Changes struct {
	Name   string  `json:"phase"`
	Made   int     `json:"made"`
	Failed int     `json:"failed"`
	P50    float64 `json:"p50_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
}

// GrayController is what clients noticed of a slow disk under the active
// controller.
type GrayController struct {
	// Calm, First and Then are of changes of the metadata: before, in the first 15 s
	// of the trouble, and after those.
	Calm  Changes `json:"calm"`
	First Changes `json:"first"`
	Then  Changes `json:"then"`
	// MovedAfter is when another controller was active, in seconds; negative: none
	// was.
	MovedAfter float64 `json:"moved_after_s"`
	// Actives are the controllers that were active, one after the other.
	Actives []int `json:"active_controllers"`
	// Produce is what producers noticed from the beginning of the trouble to its end.
	Produce Phase `json:"produce"`
}

// grayController measures a cluster of three controllers, of which the active one
// has a disk that gets slow. It fails if no other becomes active, if who is active
// changes more than once, or if a record is lost, doubled or out of order.
func grayController(ctx context.Context, o Options) error {
	return onDisks(ctx, o, "controller", controllerDiskBytes, nil, func(r *run, disks map[string]*disk.Disk) error {
		if _, err := r.client.Topics().CreateTopic(ctx, &pb.CreateTopicRequest{Topic: topic, PartitionCount: partitions}); err != nil {
			return err
		}
		return r.underLoad(ctx, func(ctx context.Context) error { return r.slowController(ctx, disks) })
	})
}

// slowController has the disk of the active controller get slow, and reports.
func (r *run) slowController(ctx context.Context, disks map[string]*disk.Disk) error {
	g := GrayController{MovedAfter: -1}
	if err := errors.Join(r.wait(ctx), r.whole(ctx)); err != nil {
		return err
	}
	var err error
	if g.Calm, err = r.change(ctx, "calm", r.o.Calm); err != nil {
		return err
	}
	first, err := r.c.ActiveController(ctx)
	if err != nil {
		return err
	}
	g.Actives = []int{first.ID}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	r.l.enter("trouble")
	begun := time.Now()
	group.Go(func() error { return r.watchActive(watching, begun, &g) })
	heal := slow(disks[first.Name()], leastPause, mostPause)
	if g.First, err = r.change(ctx, "first", recovery); err == nil {
		g.Then, err = r.change(ctx, "then", 2*r.o.Calm)
	}
	g.Produce = r.l.report("trouble", time.Since(begun))
	r.l.enter("healed")
	err = errors.Join(err, heal())
	stop()
	if err = errors.Join(err, group.Wait()); err != nil {
		return err
	}
	return r.sayController(g)
}

func (r *run) sayController(g GrayController) error {
	for _, c := range []Changes{g.Calm, g.First, g.Then} {
		_, _ = fmt.Fprintf(r.o.Log, "%s %-6s %5d changes of a topic  p50 %7.1f ms  p99 %8.1f ms  max %8.1f ms  %d failed\n", slowController, c.Name, c.Made, c.P50, c.P99, c.Max, c.Failed)
	}
	_, _ = fmt.Fprintf(r.o.Log, "%s: another controller was active after %.1f s; active were, one after the other, %v; producers meanwhile: p50 %.1f ms, p99 %.1f ms, longest gap %.1f ms\n",
		slowController, g.MovedAfter, g.Actives, g.Produce.P50, g.Produce.P99, g.Produce.Gap)
	if err := json.NewEncoder(r.o.Out).Encode(g); err != nil {
		return err
	}
	if len(g.Actives) != 2 {
		return fmt.Errorf("active were controllers %v, one after the other: there should be one with the disk, and another one", g.Actives)
	}
	return nil
}

// change changes a setting of the topic again and again for a while.
func (r *run) change(ctx context.Context, phase string, d time.Duration) (Changes, error) {
	c := Changes{Name: phase}
	var took []time.Duration
	for begun := time.Now(); time.Since(begun) < d; {
		at := time.Now()
		_, err := r.client.Topics().UpdateTopicConfig(ctx, &pb.UpdateTopicConfigRequest{
			Topic: topic, Set: map[string]string{"retention.ms": fmt.Sprint(3_600_000 + len(took))},
		})
		if ctx.Err() != nil {
			return c, context.Cause(ctx)
		}
		took = append(took, time.Since(at))
		if err != nil {
			c.Failed++
		}
		if err := sleep(ctx, changeEvery); err != nil {
			return c, err
		}
	}
	c.Made = len(took) - c.Failed
	slices.Sort(took)
	c.P50, c.P99, c.Max = ms(took[len(took)/2]), ms(took[len(took)*99/100]), ms(took[len(took)-1])
	return c, nil
}

// watchActive notes who is active, until ctx ends.
func (r *run) watchActive(ctx context.Context, begun time.Time, g *GrayController) error {
	err := poll(ctx, func() (bool, error) {
		got, err := r.client.Cluster().DescribeCluster(ctx, &pb.DescribeClusterRequest{})
		id := int(got.GetActiveControllerId())
		if err != nil || id < 0 || id == g.Actives[len(g.Actives)-1] {
			return false, nil //nolint:nilerror // for a moment nobody may be
		}
		if g.MovedAfter < 0 {
			g.MovedAfter = time.Since(begun).Seconds()
		}
		g.Actives = append(g.Actives, id)
		return false, nil
	})
	if ctx.Err() != nil {
		return nil //nolint:nilerror // it was asked to end
	}
	return err
}
