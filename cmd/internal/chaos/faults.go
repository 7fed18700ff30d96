package chaos

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	"github.com/millstream-io/millstream/cmd/internal/history"
)

// startTimeout bounds the start of a process.
const startTimeout = time.Minute

// fault is an entry of the menu.
type fault struct {
	// make breaks something, and mends it before it returns.
	make func(ctx context.Context, r *run) error
	// network says that members have to have network namespaces, disk that they
	// have to have disks.
	network, disk bool
	// spare says that there has to be a broker that is not in the cluster,
	// spareController a controller.
	spare, spareController bool
	// wide says that there has to be a topic of many partitions.
	wide bool
}

// menu is what can be broken.
var menu = map[string]fault{
	"kill":             {make: func(ctx context.Context, r *run) error { return r.kill(ctx, r.anyBroker()) }},
	"pause":            {make: func(ctx context.Context, r *run) error { return r.freeze(ctx, r.anyBroker()) }},
	"restart":          {make: func(ctx context.Context, r *run) error { return r.restart(ctx, r.anyBroker()) }},
	"rolling":          {make: rolling},
	"kill-controller":  {make: func(ctx context.Context, r *run) error { return r.kill(ctx, r.anyController()) }},
	"pause-controller": {make: func(ctx context.Context, r *run) error { return r.freeze(ctx, r.anyController()) }},
	"kill-active":      {make: killActive},
	"kill-all":         {make: killAll},
	"kill-quorum":      {make: killQuorum},
	"partition":        {make: func(ctx context.Context, r *run) error { return r.partition(ctx, "partition") }, network: true},
	"one-way":          {make: func(ctx context.Context, r *run) error { return r.partition(ctx, "one-way") }, network: true},
	"long-cut":         {make: longCut, network: true},
	"lost-writes":      {make: lostWrites, disk: true},
	"power-all":        {make: powerAll, disk: true},
	"disk-full":        {make: func(ctx context.Context, r *run) error { return r.diskFull(ctx, r.anyBroker()) }, disk: true},
	"slow-disk":        {make: func(ctx context.Context, r *run) error { return r.slowDisk(ctx, r.anyBroker()) }, disk: true},
	"full-controller":  {make: func(ctx context.Context, r *run) error { return r.diskFull(ctx, r.anyController()) }, disk: true},
	"slow-controller":  {make: func(ctx context.Context, r *run) error { return r.slowDisk(ctx, r.anyController()) }, disk: true},
	"read-only":        {make: readOnly, disk: true},
	"bit-flip":         {make: bitFlip},
	"membership":       {make: membership, spare: true},
	"pause-power":      {make: pausePower, disk: true},
	"last-standing":    {make: lastStanding, network: true, disk: true},
	"restart-loop":     {make: func(ctx context.Context, r *run) error { return r.restartLoop(ctx, r.anyBroker(), false) }},
	"loop-controller":  {make: func(ctx context.Context, r *run) error { return r.restartLoop(ctx, r.anyController(), false) }},
	"power-loop":       {make: func(ctx context.Context, r *run) error { return r.restartLoop(ctx, r.anyBroker(), true) }, disk: true},
	"upheaval":         {make: upheaval, spare: true, spareController: true, wide: true},
}

// Names are the faults that can be made, in order.
func Names() []string { return slices.Sorted(maps.Keys(menu)) }

// Defaults are those that are made unless others are asked for, on a machine
// that can have network namespaces, or disks, or not.
func Defaults(network, disks bool) []string {
	names := []string{"kill", "kill", "kill", "pause", "restart", "rolling", "kill-controller", "pause-controller", "kill-active", "kill-all", "bit-flip", "membership", "restart-loop", "loop-controller"}
	if network {
		names = append(names, "partition", "partition", "one-way", "one-way")
	}
	if disks {
		names = append(names, "lost-writes", "lost-writes", "disk-full", "slow-disk", "read-only", "full-controller", "slow-controller", "pause-power", "power-loop")
	}
	if network && disks {
		names = append(names, "last-standing")
	}
	return names
}

// nemesis makes one fault after the other until the time has come. Only one
// thing is broken at a time, so that what clients were promised holds. It ends
// with the first fault that could not be made or mended.
func (r *run) nemesis(ctx context.Context, until time.Time) error {
	started := time.Now()
	r.until = until
	for !r.over() && ctx.Err() == nil {
		after, name := r.draw()
		if !pause(ctx, after) || r.over() {
			break
		}
		r.faults[name]++
		begun := time.Now()
		err := menu[name].make(ctx, r)
		r.say("%8.3fs %-16s %v\n", begun.Sub(started).Seconds(), name, time.Since(begun).Round(time.Millisecond))
		if err != nil {
			return errors.Join(fmt.Errorf("fault %s: %w", name, err), r.rig.heal(), r.mendAll())
		}
	}
	return nil
}

// draw draws the next fault, and how long nothing is broken before it.
func (r *run) draw() (after time.Duration, name string) {
	after = r.between(200*time.Millisecond, 3*time.Second)
	return after, r.o.Faults[r.random.IntN(len(r.o.Faults))]
}

func (r *run) between(least, most time.Duration) time.Duration {
	return least + time.Duration(r.random.Int64N(int64(most-least)))
}

func (r *run) anyBroker() *cluster.Member {
	all := r.brokers()
	return all[r.random.IntN(len(all))]
}

func (r *run) anyController() *cluster.Member {
	all := r.controllers()
	return all[r.random.IntN(len(all))]
}

// brokerOf is the broker that a member is; 0: it is a controller.
func brokerOf(m *cluster.Member) int32 {
	if m.Kind == "broker" {
		return int32(m.ID)
	}
	return 0
}

// kill ends a process with SIGKILL and starts it again.
func (r *run) kill(ctx context.Context, m *cluster.Member) error {
	r.book.Fault(history.FaultKill, brokerOf(m))
	defer r.book.Healed(history.FaultKill, brokerOf(m))
	r.guard.expect(m)
	m.Kill()
	r.linger(ctx, 0, 4*time.Second)
	return r.startAll(ctx, []*cluster.Member{m})
}

// freeze stops a process for a while: it believes that no time has passed.
func (r *run) freeze(ctx context.Context, m *cluster.Member) error {
	r.book.Fault("pause", brokerOf(m))
	defer r.book.Healed("pause", brokerOf(m))
	if err := m.Pause(); err != nil {
		return err
	}
	r.linger(ctx, 500*time.Millisecond, 8*time.Second)
	return m.Resume()
}

// restart stops a process in order and starts it again.
func (r *run) restart(ctx context.Context, m *cluster.Member) error {
	r.book.Fault("restart", brokerOf(m))
	defer r.book.Healed("restart", brokerOf(m))
	r.guard.expect(m)
	if err := m.Stop(ctx); err != nil {
		return err
	}
	r.linger(ctx, 0, 2*time.Second)
	return r.startAll(ctx, []*cluster.Member{m})
}

// rolling restarts all brokers, each when the one before is in sync again.
func rolling(ctx context.Context, r *run) error {
	for _, m := range r.brokers() {
		if err := r.restart(ctx, m); err != nil {
			return err
		}
		if err := r.whole(ctx); err != nil {
			return err
		}
	}
	return nil
}

// killActive ends the active controller.
func killActive(ctx context.Context, r *run) error {
	asking, cancel := context.WithTimeout(ctx, 10*time.Second)
	m, err := r.c.ActiveController(asking)
	cancel()
	if err != nil {
		return err
	}
	return r.kill(ctx, m)
}

// killQuorum ends two controllers of three: data flows on.
func killQuorum(ctx context.Context, r *run) error {
	all := r.controllers()
	spared := r.random.IntN(len(all))
	return r.killTogether(ctx, slices.Delete(slices.Clone(all), spared, spared+1), time.Second, 6*time.Second)
}

// killAll ends everything at once; the page caches stay.
func killAll(ctx context.Context, r *run) error {
	return r.killTogether(ctx, append(r.brokers(), r.controllers()...), 0, 2*time.Second)
}

// killTogether ends processes at once, and starts them again after a while.
func (r *run) killTogether(ctx context.Context, ms []*cluster.Member, least, most time.Duration) error {
	for _, m := range ms {
		r.book.Fault(history.FaultKill, brokerOf(m))
		defer r.book.Healed(history.FaultKill, brokerOf(m))
		r.guard.expect(m)
	}
	for _, m := range ms {
		m.Kill()
	}
	pause(ctx, r.between(least, most))
	return r.startAll(ctx, ms)
}

// startAll starts processes, which may need each other.
func (r *run) startAll(ctx context.Context, ms []*cluster.Member) error {
	for _, m := range ms {
		if err := r.launch(m); err != nil {
			return err
		}
	}
	return r.awaitReady(ctx, ms...)
}

// mendAll has every process run again.
func (r *run) mendAll() error {
	var down []*cluster.Member
	for _, m := range append(r.controllers(), r.brokers()...) {
		if m.Running() {
			_ = m.Resume() // it may not be paused
		} else {
			down = append(down, m)
		}
	}
	return r.startAll(context.Background(), down)
}
