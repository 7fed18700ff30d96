package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/controller/pace"
	"github.com/millstream-io/millstream/controller/store"
	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

const (
	// askTimeout is how long the others may take to say how they are.
	askTimeout = time.Second
	// handOverTimeout is how long a change of who leads may take. The store gives it
	// up after an election timeout by itself; what is beyond that is for a disk that
	// stands still.
	handOverTimeout = 5 * time.Second
	// tellEvery is how often it is said that no other controller does better.
	tellEvery = 10 * time.Minute
)

// quorum is this controller's member of the store, as a pacer needs it.
type quorum interface {
	Leadership() (term uint64, leading bool)
	// Others are the other members that have a vote.
	Others() []store.Member
	// HandOverTo has one of them lead, if this one leads.
	HandOverTo(ctx context.Context, key uint64) error
}

// decider is the loop of this controller, as a pacer needs it.
type decider interface {
	Active() bool
	// HandOver carries move out between two steps of the active controller.
	HandOver(ctx context.Context, move func(context.Context) error) error
}

// pacer watches the disk of a controller and has another controller be active
// while that is slow, and the other's is not: package pace decides. Its methods
// may be called from any goroutine.
//
// It is Raft that is handed over, and the election with it: who does not lead is
// not active any more, and who leads is elected next. Each write is fenced by the
// election as ever.
//
// Goroutines: run is one, and has one for each controller that it asks, for which
// it waits.
type pacer struct {
	id       int32
	calls    func() (pace.Calls, error)
	quorum   quorum
	loop     decider
	revision func() int64
	// ask asks another controller how it is, where it serves.
	ask    func(ctx context.Context, m store.Member) (*controllerv1.DescribeControllerResponse, error)
	logger *slog.Logger

	handOvers atomic.Uint64

	mu       sync.Mutex // guards standing
	standing pace.Standing

	// What follows is run's.
	begun  time.Time
	judge  *pace.Judge
	turns  pace.Turns
	last   pace.Calls
	known  bool          // last is what there was at the last look
	before int64         // the revision at the last look
	told   time.Duration // when it was last said that nobody does better; 0: never
}

// Standing is how this controller is.
func (p *pacer) Standing() pace.Standing {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.standing
	s.ControllerID = p.id
	return s
}

// HandOvers returns how often another controller was made active.
func (p *pacer) HandOvers() uint64 { return p.handOvers.Load() }

// run looks at the disk until ctx ends, and returns its cause.
func (p *pacer) run(ctx context.Context) error {
	p.begun, p.before = time.Now(), p.revision()
	t := time.NewTicker(pace.LookEvery)
	defer t.Stop()
	for {
		p.look(ctx)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

// see looks at the disk once. A store that does not say how fast it is has
// written nothing, as far as anybody knows.
func (p *pacer) see(ctx context.Context, now time.Duration) {
	calls, err := p.calls()
	var since pace.Calls
	switch {
	case err != nil:
		p.logger.DebugContext(ctx, "it is not known how fast the disk of this controller is", slog.Any("err", err))
	case p.known:
		since = calls.Since(p.last)
	}
	p.judge.See(now, since)
	p.last, p.known = calls, err == nil
	p.mu.Lock()
	defer p.mu.Unlock()
	p.standing = pace.Standing{Delay: p.judge.Delay(now), Slow: p.judge.Slow()}
}

// look looks at the disk once, and hands over if that is called for.
func (p *pacer) look(ctx context.Context) {
	now := time.Since(p.begun)
	p.see(ctx, now)
	// WHY the revision of a look before: what is committed only just now, the others
	// hear with the next message of this controller, which its disk holds up too.
	revision := p.before
	p.before = p.revision()
	if _, leading := p.quorum.Leadership(); !leading || !p.judge.Suffers(now) || !p.turns.May(now) {
		return
	}
	others, delay := p.others(ctx), p.judge.Delay(now)
	if next, ok := p.turns.Choose(now, delay, revision, others); ok {
		p.handOver(ctx, delay, next)
		return
	}
	if p.told > 0 && now-p.told < tellEvery {
		return
	}
	p.told = now
	p.logger.WarnContext(ctx, "the disk of this controller is slow, and no other controller is known to do better; it stays active",
		slog.Duration("disk_delay", delay), slog.Int("controllers_reached", len(others)))
}

// others asks the others how they are, and returns those that answer.
func (p *pacer) others(ctx context.Context) []pace.Standing {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	members := p.quorum.Others()
	answers := make([]*controllerv1.DescribeControllerResponse, len(members))
	var asking sync.WaitGroup
	for i, m := range members {
		if m.Serves == "" {
			continue
		}
		asking.Go(func() {
			r, err := p.ask(ctx, m)
			if err != nil {
				p.logger.DebugContext(ctx, "a controller does not say how it is", slog.Int("controller_id", int(m.ID)), slog.Any("err", err))
				return
			}
			answers[i] = r
		})
	}
	asking.Wait()
	var all []pace.Standing
	for i, r := range answers {
		if r == nil || r.GetControllerId() != members[i].ID {
			continue // another one serves there by now
		}
		all = append(all, pace.Standing{
			Key: members[i].Key, ControllerID: members[i].ID, Revision: r.GetRevision(),
			Delay: time.Duration(r.GetDiskDelayUs()) * time.Microsecond, Slow: r.GetDiskSlow(),
		})
	}
	return all
}

// handOver has another controller lead.
func (p *pacer) handOver(ctx context.Context, delay time.Duration, next pace.Standing) {
	log := p.logger.With(slog.Duration("disk_delay", delay), slog.Int("next_controller_id", int(next.ControllerID)), slog.Duration("next_disk_delay", next.Delay))
	move := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
		defer cancel()
		if err := p.quorum.HandOverTo(ctx, next.Key); err != nil {
			return err
		}
		p.handOvers.Add(1)
		log.WarnContext(ctx, "another controller is made active, as the disk of this one is slow")
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	var err error
	if p.loop.Active() {
		err = p.loop.HandOver(ctx, move)
	} else { // it leads and has not won the election: nothing is under way but that
		err = move(ctx)
	}
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		log.WarnContext(ctx, "another controller is not made active, though the disk of this one is slow", slog.Any("err", err))
	}
}
