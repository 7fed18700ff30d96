// Package reconcile is the active controller: the one loop that changes the
// metadata. It observes the image, plans, and commits with comparisons, until
// there is nothing left to do; calls of brokers are steps of the same loop.
//
// It refuses to own the choice of leaders and places (controller/election,
// controller/placement), what is stored (controller/store, controller/image)
// and what is said over gRPC (controller/api).
//
// INVARIANT: it plans only on an image that has everything it wrote, and
// after a write whose outcome is unknown it writes nothing before it has won
// the election anew. Its work is level-triggered: what one active controller
// leaves unfinished, the next finishes.
//
// Goroutines: Run is one and the only writer; the methods for calls hand
// their work to it and wait. While it is active, another tries to reach
// brokers that others cannot. Nothing must be closed.
package reconcile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

const (
	// DefaultSessionTimeout is how long a broker may be silent.
	DefaultSessionTimeout = 2 * time.Second
	// DefaultReplicationFactor is that of topics for which none is asked, where
	// there are as many brokers.
	DefaultReplicationFactor = 3
	// DefaultMaxPartitions bounds the partitions of a cluster: their records
	// take about 100 bytes each in the memory of every broker and controller.
	DefaultMaxPartitions = 200_000
	// MaxBrokers bounds the brokers of a cluster.
	MaxBrokers = 1_000

	commitTimeout = 10 * time.Second
	// retryDelay is the pause before the election is tried again.
	retryDelay = 50 * time.Millisecond
	// leaderPatience is for how long callers wait for a leader to be elected,
	// which takes about a second.
	leaderPatience = 3 * time.Second
	// ticksPerSession says how often silence is looked for.
	ticksPerSession = 8
	// beatsPerSession says how often brokers send heartbeats.
	beatsPerSession = 4
)

// Leadership says whether this controller leads raft.
type Leadership interface {
	// Leadership returns the raft term of the last entry applied, and whether
	// this controller leads.
	Leadership() (term uint64, leading bool)
	// LeaderKnown reports whether anybody leads.
	LeaderKnown() bool
	// LeadershipChanged returns a channel that is closed at the next change.
	LeadershipChanged() <-chan struct{}
}

// Options are what a Loop needs. The zero value of a field stands for its
// default, where there is one.
type Options struct {
	// ControllerID is the identity of this controller.
	ControllerID int32
	// KV is the metadata store.
	KV store.KV
	// Leadership is the store's.
	Leadership Leadership
	// Image follows the store; it must run.
	Image *image.Image
	// SessionTimeout is how long a broker may be silent before it is fenced.
	SessionTimeout time.Duration
	// MoveBytes is how many bytes a second each replica is filled with that is
	// added for a move which names no rate; 0: as fast as can be.
	MoveBytes uint64
	// Balance says what is moved though nobody asks for it.
	Balance Balance
	// ReplicationFactor is that of topics for which none is asked, where there
	// are as many brokers.
	ReplicationFactor int
	// MaxPartitions is the most of a cluster.
	MaxPartitions int
	// Recovery is of partitions whose records are in memory alone.
	Recovery Recovery
	// Probe tries to reach an address, and fails with an error that is
	// syscall.ECONNREFUSED if nobody listens there; nil: over TCP.
	Probe func(ctx context.Context, address string) error
	// Room fails when the store should take nothing new; nil: never.
	Room func() error
	// Now is the time of day, for records; nil: time.Now.
	Now func() time.Time
	// Random makes identities; nil: crypto/rand.
	Random io.Reader
	// Logger is required.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.SessionTimeout == 0 {
		o.SessionTimeout = DefaultSessionTimeout
	}
	if o.ReplicationFactor == 0 {
		o.ReplicationFactor = DefaultReplicationFactor
	}
	if o.MaxPartitions == 0 {
		o.MaxPartitions = DefaultMaxPartitions
	}
	if o.Room == nil {
		o.Room = func() error { return nil }
	}
	if o.Probe == nil {
		o.Probe = dial
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	return o
}

// Loop is the active controller, or one that waits to be. Its methods may be
// called from any goroutine; all but Run and Ready fail with *NotActiveError
// where another controller is active.
type Loop struct {
	o          Options
	sessions   *sessions
	recoveries *recoveries
	progress   progress
	suspects   chan suspect // buffered; anybody sends, the prober receives

	calls     chan call     // unbuffered; do sends, Run receives
	ready     chan struct{} // closed by Run when it is known who is active
	readyOnce sync.Once
	reigning  atomic.Bool // whether this controller is active
	elections atomic.Uint64
	losses    atomic.Uint64
}

// call is a step that somebody waits for.
type call struct {
	step func(ctx context.Context, a *active) error
	done chan<- error // capacity 1: the loop never waits for who asked
}

// New returns a loop. It starts nothing.
func New(o Options) *Loop {
	o = o.withDefaults()
	return &Loop{
		o: o, sessions: newSessions(o.SessionTimeout), recoveries: newRecoveries(), suspects: make(chan suspect, suspectsKept),
		calls: make(chan call), ready: make(chan struct{}),
	}
}

// Ready returns a channel that is closed once a controller is active, this one
// or another.
func (l *Loop) Ready() <-chan struct{} { return l.ready }

// Active reports whether this controller is the active one.
func (l *Loop) Active() bool { return l.reigning.Load() }

// Elections returns how many changes of leaders this controller has made.
func (l *Loop) Elections() uint64 { return l.elections.Load() }

// Losses returns how often this controller has let a replica lead that may
// lack something that was acknowledged.
func (l *Loop) Losses() uint64 { return l.losses.Load() }

// Run waits to be active and is, again and again, until ctx ends; it returns
// its cause.
func (l *Loop) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		changed := l.o.Leadership.LeadershipChanged()
		if _, leading := l.o.Leadership.Leadership(); leading {
			err := l.reign(ctx, changed)
			if ctx.Err() != nil {
				break
			}
			l.o.Logger.WarnContext(ctx, "controller is not active", slog.Any("err", err))
			l.wait(ctx, changed, time.After(retryDelay))
			continue
		}
		l.wait(ctx, changed, nil)
	}
	return context.Cause(ctx)
}

// wait answers calls with what it cannot do until something changes. While
// nobody is known to lead, callers wait too: that is over soon, or there is no
// quorum, and they are told so.
func (l *Loop) wait(ctx context.Context, changed <-chan struct{}, delay <-chan time.Time) {
	patience := time.NewTimer(leaderPatience)
	defer patience.Stop()
	lost := false
	for {
		other := l.otherActive()
		var calls chan call
		if other >= 0 || lost {
			calls = l.calls
		}
		if other >= 0 {
			l.readyOnce.Do(func() { close(l.ready) })
		}
		select {
		case c := <-calls:
			c.done <- &NotActiveError{Active: other, Self: l.o.ControllerID}
		case <-patience.C:
			lost = true
		case <-l.o.Image.Changed():
		case <-changed:
			return
		case <-delay:
			return
		case <-ctx.Done():
			return
		}
	}
}

// otherActive returns the controller that is active instead of this one; -1:
// none is known.
func (l *Loop) otherActive() int32 {
	if _, leading := l.o.Leadership.Leadership(); leading || !l.o.Leadership.LeaderKnown() {
		return -1
	}
	id := int32(-1)
	l.o.Image.Read(func(v *image.View) { id = v.Active.ControllerID })
	if id == l.o.ControllerID {
		return -1
	}
	return id
}

// do has the loop carry out a step and waits for it. When ctx ends first, the
// step may still be carried out.
func (l *Loop) do(ctx context.Context, step func(ctx context.Context, a *active) error) error {
	done := make(chan error, 1)
	select {
	case l.calls <- call{step: step, done: done}:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", &NotActiveError{Active: -1, Self: l.o.ControllerID}, context.Cause(ctx))
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", store.ErrUnknownOutcome, context.Cause(ctx))
	}
}

// ask is do for a step that has an answer, which there is if it did not fail.
//
// WHY no caller looks at its own variables after do has failed: it may have given
// up, and the step go on writing to them.
func ask[T any](ctx context.Context, l *Loop, step func(ctx context.Context, a *active) (T, error)) (answer T, err error) {
	var said T
	if err := l.do(ctx, func(ctx context.Context, a *active) (err error) {
		said, err = step(ctx, a)
		return err
	}); err != nil {
		return answer, err
	}
	return said, nil
}

// HandOver carries move out, which has another controller lead, between two steps
// of this one: then nothing that it began has an unknown outcome for that. move
// bounds itself; it may go on when ctx has ended.
func (l *Loop) HandOver(ctx context.Context, move func(context.Context) error) error {
	return l.do(ctx, func(ctx context.Context, _ *active) error { return move(ctx) })
}

// AwaitActive returns nil if this controller is the active one, once it is known
// who is.
func (l *Loop) AwaitActive(ctx context.Context) error {
	return l.do(ctx, func(context.Context, *active) error { return nil })
}

// spent reports whether an error means that the election must be won anew.
func spent(err error) bool {
	return errors.Is(err, store.ErrDeposed) || errors.Is(err, store.ErrUnknownOutcome)
}
