package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	"github.com/millstream-io/millstream/cmd/internal/history"
)

const (
	// Deaths of a process in a restart loop.
	leastDeaths, mostDeaths = 20, 30
	// soon is within which of its start a process dies most of the times; the
	// others are spread over all of a start as the machine is now, a little more,
	// and no more than late.
	soon = 300 * time.Millisecond
	late = 2 * time.Second
)

// restartLoop ends a process again and again soon after its start, at any
// moment of its recovery or just after it, and then lets it be: it has to become
// ready, and what it recovers has to be what it had, however often it began. If
// power is set it loses its power some of the times, and all replicas are in
// sync before.
func (r *run) restartLoop(ctx context.Context, m *cluster.Member, power bool) error {
	if power {
		if err := r.whole(ctx); err != nil {
			return err
		}
		defer r.book.Healed(powerOf(m), brokerOf(m))
	}
	defer r.book.Healed(history.FaultKill, brokerOf(m))
	if err := r.die(m, power); err != nil {
		return err
	}
	begun := time.Now()
	if err := r.startAll(ctx, []*cluster.Member{m}); err != nil {
		return err
	}
	took := time.Since(begun)
	within := min(max(soon, took+took/4), late)
	deaths, early := leastDeaths+r.random.IntN(mostDeaths-leastDeaths), 0
	for n := range deaths {
		if r.over() && n > 0 || ctx.Err() != nil {
			deaths = n
			break
		}
		if err := r.die(m, power && r.random.IntN(3) == 0); err != nil {
			return err
		}
		if err := r.launch(m); err != nil {
			return err
		}
		most := soon
		if r.random.IntN(3) == 0 {
			most = within
		}
		living, cancel := context.WithTimeout(ctx, r.between(0, most))
		if m.AwaitReady(living) == nil {
			<-living.Done()
		} else {
			early++ // if it has ended by itself, the guard sees it
		}
		cancel()
	}
	if err := r.die(m, false); err != nil {
		return err
	}
	begun = time.Now()
	if err := r.startAll(ctx, []*cluster.Member{m}); err != nil {
		return fmt.Errorf("after %d deaths in a row: %w", deaths, err)
	}
	r.say("%9s %-16s %s died %d times within %v of its start, most within %v, %d times before it was ready; ready then after %v, before after %v\n", "", "restart-loop",
		m.Name(), deaths, within.Round(time.Millisecond), soon, early, time.Since(begun).Round(time.Millisecond), took.Round(time.Millisecond))
	return r.whole(ctx)
}

// die ends a process with SIGKILL, or with its machine.
func (r *run) die(m *cluster.Member, power bool) error {
	if power {
		return r.takePower([]*cluster.Member{m})
	}
	r.book.Fault(history.FaultKill, brokerOf(m))
	r.guard.expect(m)
	m.Kill()
	return nil
}
