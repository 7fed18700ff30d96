package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// ErrSilent says that a controller confirmed nothing for longer than
// Options.SilenceMax.
var ErrSilent = errors.New("the controller is silent")

// Options are what a Mirror needs.
type Options struct {
	// Controllers are tried in turn. At least one.
	Controllers []controllerv1.ControllerServiceClient
	// Found is called with where the controllers are, HOST:PORT, whenever one says
	// so; nil: nobody wants to know. It must not block.
	Found func(addresses []string)
	// Told is called with what the mirror is about to publish, and what it has
	// published before, by the goroutine that applies frames; nil: nobody wants to
	// know. It must not block for long.
	Told func(before, next *Snapshot)
	// BrokerID is who watches; for the controller's log.
	BrokerID int32
	// SilenceMax is how long a controller may confirm nothing before the next
	// is tried; 0: 3 s.
	SilenceMax time.Duration
	// RetryDelay is the pause after a failed watch, doubled up to a second;
	// 0: 20 ms.
	RetryDelay time.Duration
	// Logger; nil: none.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.SilenceMax == 0 {
		o.SilenceMax = 3 * time.Second
	}
	if o.RetryDelay == 0 {
		o.RetryDelay = 20 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Mirror follows the metadata. Run, or else Apply, is the only writer and one
// goroutine; everything else may be called from any goroutine and takes no
// lock.
type Mirror struct {
	opts Options

	current   atomic.Pointer[Snapshot] // never nil; stored by publish only
	confirmed atomic.Int64             // when the last confirmation came, in nanoseconds since born
	born      time.Time                // monotonic reference of confirmed
	differed  atomic.Uint64            // how often a controller had something else
	received  atomic.Uint64            // bytes of frames

	resynced time.Duration // when all was last asked for because of that, since born; 0: never; Apply's

	pending *builder // a snapshot or a revision of which pieces are missing; Apply's
}

// New returns a mirror that knows nothing yet. It starts nothing.
func New(o Options) *Mirror {
	m := &Mirror{opts: o.withDefaults(), born: time.Now()}
	m.confirmed.Store(-1)
	m.current.Store(newSnapshot())
	return m
}

// Current returns the newest snapshot, never nil. Before the first has come
// its Revision is 0.
func (m *Mirror) Current() *Snapshot { return m.current.Load() }

// Confirmed returns how long ago a controller last confirmed that the current
// snapshot was up to date; false if none has.
func (m *Mirror) Confirmed() (time.Duration, bool) {
	at := m.confirmed.Load()
	if at < 0 {
		return 0, false
	}
	return time.Since(m.born) - time.Duration(at), true
}

// Received returns how many bytes of metadata have come, confirmations included.
func (m *Mirror) Received() uint64 { return m.received.Load() }

// Wait returns a snapshot of at least that revision, or the cause of the end
// of ctx.
func (m *Mirror) Wait(ctx context.Context, revision int64) (*Snapshot, error) {
	for {
		s := m.Current()
		if s.Revision >= revision {
			return s, nil
		}
		select {
		case <-s.Superseded():
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for metadata revision %d, at %d: %w", revision, s.Revision, context.Cause(ctx))
		}
	}
}

// WaitFor returns the first snapshot, from the current one on, for which
// accept holds, or the cause of the end of ctx.
func (m *Mirror) WaitFor(ctx context.Context, accept func(*Snapshot) bool) (*Snapshot, error) {
	for {
		s := m.Current()
		if accept(s) {
			return s, nil
		}
		select {
		case <-s.Superseded():
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for metadata, at revision %d: %w", s.Revision, context.Cause(ctx))
		}
	}
}

// Apply takes the next frame of a watch. Run calls it; tests may, on a mirror
// that does not run. After an error the watch is to be begun anew, with
// Reset.
func (m *Mirror) Apply(f *controllerv1.WatchMetadataResponse) error {
	cur := m.Current()
	if f.GetSnapshotBegin() {
		m.pending = build(newSnapshot())
	}
	if m.pending == nil {
		if len(f.GetChanges()) == 0 && f.GetRevision() <= cur.Revision && f.GetActiveControllerId() == cur.ActiveController {
			m.confirm(f)
			return m.compare(cur, f)
		}
		m.pending = build(cur)
	}
	b := m.pending
	for _, c := range f.GetChanges() {
		if err := b.apply(c); err != nil {
			return err
		}
	}
	if f.GetRevision() == 0 {
		return nil // more is on its way
	}
	m.pending = nil
	if f.GetClusterGeneration() == cur.Generation && f.GetRevision() < cur.Revision {
		return &changeError{f.GetRevision(), fmt.Sprintf("revision %d is known already", cur.Revision)}
	}
	b.next.Revision, b.next.Generation = f.GetRevision(), f.GetClusterGeneration()
	b.next.ActiveController = f.GetActiveControllerId()
	next, err := b.finish()
	if err != nil {
		return err
	}
	if m.opts.Told != nil {
		m.opts.Told(cur, next)
	}
	m.current.Store(next)
	close(cur.superseded)
	m.confirm(f)
	return m.compare(next, f)
}

// Reset forgets the pieces of an unfinished frame: the watch begins anew.
func (m *Mirror) Reset() { m.pending = nil }

func (m *Mirror) confirm(f *controllerv1.WatchMetadataResponse) {
	if f.GetRevision() > 0 {
		m.confirmed.Store(int64(time.Since(m.born)))
	}
}

// Run follows the controllers until ctx ends, and returns its cause. A watch
// that fails is begun again where it stopped, at the next controller.
func (m *Mirror) Run(ctx context.Context) error {
	delay := m.opts.RetryDelay
	resume := true
	for i := 0; ; i++ {
		before := m.Current()
		err := m.follow(ctx, m.opts.Controllers[i%len(m.opts.Controllers)], resume)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.Reset()
		// What could not be applied is asked for anew and in full.
		_, broken := errors.AsType[*changeError](err)
		resume = !broken
		if m.Current() != before {
			delay = m.opts.RetryDelay
		}
		m.opts.Logger.Log(ctx, levelOf(broken), "metadata watch ended", "revision", m.Current().Revision, "retry_ms", delay.Milliseconds(), "err", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(delay):
		}
		delay = min(2*delay, time.Second)
	}
}

func levelOf(broken bool) slog.Level {
	if broken {
		return slog.LevelError
	}
	return slog.LevelInfo
}

// follow watches one controller until that fails.
func (m *Mirror) follow(ctx context.Context, c controllerv1.ControllerServiceClient, resume bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cur := m.Current()
	req := &controllerv1.WatchMetadataRequest{BrokerId: m.opts.BrokerID}
	if resume {
		req.Revision, req.ClusterGeneration = cur.Revision, cur.Generation
	}
	// WHY: Recv has no deadline of its own; a timer that each frame sets back
	// ends the stream of a controller that hangs.
	silence := time.AfterFunc(m.opts.SilenceMax, func() { cancel(ErrSilent) })
	defer silence.Stop()
	stream, err := c.WatchMetadata(ctx, req)
	if err != nil {
		return fmt.Errorf("watch metadata: %w", err)
	}
	for {
		f, err := stream.Recv()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("watch metadata: %w", err)
		}
		silence.Reset(m.opts.SilenceMax)
		m.received.Add(uint64(proto.Size(f)))
		if at := f.GetControllers(); len(at) > 0 && m.opts.Found != nil {
			m.opts.Found(at)
		}
		if err := m.Apply(f); err != nil {
			return err
		}
	}
}
