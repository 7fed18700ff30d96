package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	"github.com/millstream-io/millstream/cmd/internal/history"
)

// lostWrites takes the power from one broker: what its disk was not made to
// write is gone. All replicas are in sync before, so that nothing that was
// acknowledged may be gone with it, at any durability.
func lostWrites(ctx context.Context, r *run) error {
	if err := r.whole(ctx); err != nil {
		return err
	}
	return r.losePower(ctx, []*cluster.Member{r.anyBroker()}, 4*time.Second)
}

// powerAll takes the power from everything at once: what was acknowledged on
// disk is there afterwards, what was acknowledged in memory need not be.
func powerAll(ctx context.Context, r *run) error {
	r.forgetful.Store(true)
	return r.losePower(ctx, append(r.brokers(), r.controllers()...), 2*time.Second)
}

// losePower takes the power from members at once, and gives it back after a
// while: for them it is another boot of the machine.
func (r *run) losePower(ctx context.Context, ms []*cluster.Member, most time.Duration) error {
	for _, m := range ms {
		defer r.book.Healed(powerOf(m), brokerOf(m))
	}
	if err := r.takePower(ms); err != nil {
		return err
	}
	pause(ctx, r.between(0, most))
	return r.startAll(ctx, ms)
}

// powerOf is what the history calls it when a member loses its power.
func powerOf(m *cluster.Member) history.FaultKind {
	if brokerOf(m) == 0 {
		return "power-controller" // the history has no data of theirs
	}
	return history.FaultPower
}

// takePower takes the power from members at once, paused or not, and makes
// ready that they are started again. Who calls it says when it is healed.
func (r *run) takePower(ms []*cluster.Member) error {
	for _, m := range ms {
		r.book.Fault(powerOf(m), brokerOf(m))
		r.guard.expect(m)
	}
	// They stand still first: without power nobody sees how disks fail. Nor what
	// becomes of a sync that is under way: a file system that is shut down lets
	// some of those succeed that have written nothing.
	for _, m := range ms {
		if err := m.Pause(); err != nil {
			return err
		}
	}
	var errs []error
	for _, m := range ms {
		errs = append(errs, r.rig.disks[m.Name()].PowerOff())
	}
	for _, m := range ms {
		m.Kill()
		if brokerOf(m) != 0 {
			r.book.Fault(history.FaultOff, brokerOf(m))
		}
		errs = append(errs, r.rig.disks[m.Name()].PowerOn(), r.rig.boot(m.Name()))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("power of %v: %w", names(ms), err)
	}
	return nil
}
