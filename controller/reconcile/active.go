package reconcile

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

// The first feature level, and the first generation of a cluster.
const (
	featureLevel    = 1
	firstGeneration = 1
)

// active is one election's worth of being active. The goroutine of Run owns
// it.
type active struct {
	*Loop
	w *store.Writer

	// scan says that partitions may not be as they should: brokers or settings
	// have changed since all were looked at.
	scan bool
	// commits counts what the step at hand has written.
	commits int
	// upkept is when old deletions were last looked for.
	upkept time.Time
	// preferredAt is when leaders were last brought back to where they are
	// preferred.
	preferredAt time.Time
	// spread is of the moves to brokers that have little.
	spread spreading
	// handOvers are the changes of leaders that wait for the leaders.
	handOvers handOvers
	// alike says since when a disk that was slow is like those of others. No more
	// than there are brokers.
	alike map[int32]time.Time
	// incarnations are those that registered under this active controller.
	incarnations map[int32]incarnation
}

// incarnation is a start of a broker.
type incarnation struct {
	id       string
	epoch    int64
	eligible bool
}

// reign is active from winning the election to losing it, and returns why.
func (l *Loop) reign(ctx context.Context, changed <-chan struct{}) error {
	w, err := l.campaign(ctx)
	if err != nil {
		return fmt.Errorf("win the election: %w", err)
	}
	a := &active{Loop: l, w: w, scan: true, incarnations: map[int32]incarnation{}, handOvers: newHandOvers(), alike: map[int32]time.Time{}, preferredAt: time.Now()}
	// All that was written before the election is in the image from here on.
	if err := l.o.Image.Wait(ctx, w.Active().Revision); err != nil {
		return err
	}
	if err := a.takeOver(ctx); err != nil {
		return err
	}
	l.o.Logger.InfoContext(ctx, "controller is active", slog.Uint64("term", w.Active().Term), slog.Int64("revision", w.Active().Revision))
	l.reigning.Store(true)
	defer l.reigning.Store(false)
	l.readyOnce.Do(func() { close(l.ready) })
	probing, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		l.probe(probing)
	}()
	defer func() {
		stop() // ends its calls too, which nobody answers any more
		<-stopped
	}()
	return a.serve(ctx, changed)
}

func (l *Loop) campaign(ctx context.Context) (*store.Writer, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	term, leading := l.o.Leadership.Leadership()
	if !leading {
		return nil, store.ErrDeposed
	}
	return store.Campaign(ctx, l.o.KV, l.o.ControllerID, term)
}

// takeOver makes a cluster if there is none, hears all brokers anew, and
// finishes what the controller before began.
func (a *active) takeOver(ctx context.Context) error {
	alive := map[int32]int64{}
	var cluster *controllerv1.ClusterRecord
	a.o.Image.Read(func(v *image.View) {
		cluster = v.Cluster.Record
		for id, b := range v.Brokers {
			if !b.Record.GetFenced() {
				alive[id] = b.Record.GetBrokerEpoch()
			}
		}
	})
	a.sessions.reset(alive)
	a.recoveries.reset()
	if cluster == nil {
		id, err := a.newID()
		if err != nil {
			return err
		}
		e := new(store.Edit).Expect(store.ClusterKey, 0).Put(store.ClusterKey, &controllerv1.ClusterRecord{
			ClusterId: id, Generation: firstGeneration, FeatureLevel: featureLevel, CreateTimeMs: a.o.Now().UnixMilli(),
		})
		if _, err := a.commit(ctx, e); err != nil {
			return err
		}
		a.o.Logger.InfoContext(ctx, "cluster created", slog.String("cluster_id", hex.EncodeToString(id)))
	}
	return a.settle(ctx)
}

func (a *active) newID() ([]byte, error) {
	id := make([]byte, 16)
	if _, err := io.ReadFull(a.o.Random, id); err != nil {
		return nil, fmt.Errorf("make an identity: %w", err)
	}
	return id, nil
}

// serve carries out steps until the election is lost.
func (a *active) serve(ctx context.Context, changed <-chan struct{}) error {
	tick := time.NewTicker(a.sessions.tick)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case c := <-a.calls:
			err := a.step(ctx, c)
			if spent(err) {
				return err
			}
		case now := <-tick.C:
			a.sessions.pass(now.Sub(last))
			last = now
			if err := a.settle(ctx); err != nil {
				return err
			}
		case <-changed:
			changed = a.o.Leadership.LeadershipChanged()
		}
		if err := a.keep(ctx); err != nil {
			return err
		}
	}
}

// keep notices that the election is lost. When the term has moved on and this
// controller leads still, it writes the election key anew, which fails if
// anybody else has. That happens once just after most elections: the term is
// that of the last entry applied, which is of the term before until the first
// of the new one is.
func (a *active) keep(ctx context.Context) error {
	term, leading := a.o.Leadership.Leadership()
	switch {
	case !leading:
		return fmt.Errorf("leadership lost in term %d: %w", term, store.ErrDeposed)
	case term == a.w.Active().Term:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	w, err := a.w.Renew(ctx, term)
	if err != nil {
		return fmt.Errorf("go on in term %d: %w", term, err)
	}
	a.w = w
	return a.o.Image.Wait(ctx, w.Active().Revision)
}

// step carries out a call and answers it. What a call wrote before it was
// deposed may be carried to its end by the next active controller.
func (a *active) step(ctx context.Context, c call) error {
	a.commits = 0
	err := c.step(ctx, a)
	if a.commits > 0 && errors.Is(err, store.ErrDeposed) {
		err = fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
	}
	c.done <- err
	return err
}

// commit writes an edit and waits until the image has it. After any error but
// store.ErrFull the election is spent.
func (a *active) commit(ctx context.Context, edits ...*store.Edit) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	var last int64
	for _, e := range edits {
		rev, err := a.w.Commit(ctx, e)
		if err != nil {
			return 0, err
		}
		a.commits++
		last = rev
	}
	if err := a.o.Image.Wait(ctx, last); err != nil {
		return 0, fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
	}
	return last, nil
}

// settle does what there is to do until there is nothing left. A full store
// is no reason to stop: it tries again at the next tick.
func (a *active) settle(ctx context.Context) error {
	for {
		edits := a.plan()
		if len(edits) == 0 {
			return nil
		}
		if _, err := a.commit(ctx, edits...); err != nil {
			if errors.Is(err, store.ErrFull) {
				a.o.Logger.ErrorContext(ctx, "the metadata store is full", slog.Any("err", err))
				return nil
			}
			return err
		}
	}
}

// plan returns what is to be done next. The order matters: brokers are fenced
// first, then nobody leads who is fenced, and only then is anybody unfenced,
// so that a broker that comes back always leads in a new epoch.
func (a *active) plan() (edits []*store.Edit) {
	a.o.Image.Read(func(v *image.View) {
		if edits = a.planFences(v); len(edits) > 0 {
			return
		}
		if edits = a.planImpairments(v); len(edits) > 0 {
			return
		}
		a.planPreferred()
		if a.scan = a.scan || a.handOvers.due(time.Now()); a.scan {
			if edits = a.planPartitions(v); len(edits) > 0 {
				return
			}
			a.scan = false
		}
		if edits = a.planUnfences(v); len(edits) > 0 {
			return
		}
		if edits = planIntents(v); len(edits) > 0 {
			return
		}
		if edits = a.planDrains(v); len(edits) > 0 {
			return
		}
		if edits = a.planSpread(v); len(edits) > 0 {
			return
		}
		edits = a.planUpkeep(v)
	})
	return edits
}
