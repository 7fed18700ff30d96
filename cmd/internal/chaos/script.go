package chaos

import (
	"context"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	"github.com/millstream-io/millstream/cmd/internal/history"
)

// A script is a fault of several steps, each of which builds on what the one
// before has broken. When the time of the run is over its waits are over too:
// it mends what is broken, and ends.

// over tells whether the time in which faults are made is over.
func (r *run) over() bool { return r.left() == 0 }

// left is how much of it is left.
func (r *run) left() time.Duration { return max(0, time.Until(r.until)) }

// linger waits a while, and no longer than faults are made.
func (r *run) linger(ctx context.Context, least, most time.Duration) {
	pause(ctx, min(r.between(least, most), r.left()))
}

// turn numbers the times at which a script is made that has turns, so that a
// run that is long enough has all of them. The seed decides where it begins.
func (r *run) turn(script string) int {
	r.turns[script]++
	return int(r.o.Seed%(1<<16)) + r.turns[script] - 1
}

// inOrder returns the members in an order that the seed decides.
func (r *run) inOrder(ms []*cluster.Member) []*cluster.Member {
	shuffled := make([]*cluster.Member, 0, len(ms))
	for _, i := range r.random.Perm(len(ms)) {
		shuffled = append(shuffled, ms[i])
	}
	return shuffled
}

// launch starts a process and does not wait until it is ready.
func (r *run) launch(m *cluster.Member) error {
	if err := m.Launch(); err != nil {
		return err
	}
	r.guard.started(m)
	return nil
}

// awaitReady waits until processes that were launched are ready.
func (r *run) awaitReady(ctx context.Context, ms ...*cluster.Member) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, m := range ms {
		if err := m.AwaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stall has members stand still until wake.
func (r *run) stall(ms ...*cluster.Member) error {
	for _, m := range ms {
		r.book.Fault(faultPause, brokerOf(m))
		if err := m.Pause(); err != nil {
			return err
		}
	}
	return nil
}

// wake lets members go on.
func (r *run) wake(ms ...*cluster.Member) error {
	for _, m := range ms {
		if err := m.Resume(); err != nil {
			return err
		}
		r.book.Healed(faultPause, brokerOf(m))
	}
	return nil
}

// faultPause is what the history calls it when a process stands still.
const faultPause history.FaultKind = "pause"
