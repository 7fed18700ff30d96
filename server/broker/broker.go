package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/millstream-io/millstream/server/follower"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/pusher"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/watchfs"
)

// descriptorShare: one part in so many of the process's descriptors may be
// segments. Their logs may have as many checkpoints open; connections and all
// else have the rest.
const descriptorShare = 3

// Broker is one broker. New makes it, Run is its life; the other methods may
// be called from any goroutine at any time.
type Broker struct {
	opts    Options
	dir     directory
	mirror  *metadata.Mirror
	logger  *slog.Logger
	metrics *metrics
	files   *commitlog.Files
	flusher *Flusher
	budget  *Budget
	errand  *errands

	followers *follower.Followers
	pusher    *pusher.Service
	sessions  replica.Sessions
	proposals *proposals
	handOvers *proposals
	doubts    doubts
	found     found
	// unclean says that the stop before this start was not orderly. Set by Run,
	// before anything is started.
	unclean bool
	// stopping says that this broker wants to stop; handedOver is closed when the
	// controller lets it.
	stopping   atomic.Bool
	handedOver chan struct{}
	letGo      sync.Once // closes handedOver

	// identity is set by Run before serving is true and changed only by a new
	// registration.
	identity atomic.Pointer[Incarnation]
	// serving is true from the first registration whose metadata has come until
	// the stop: only then anything is led.
	serving atomic.Bool
	// unfenced is what the last heartbeat's answer said.
	unfenced atomic.Bool
	// failure is why the log directory failed; nil: it has not.
	failure atomic.Pointer[error]
	// beat asks for a heartbeat at once. Capacity 1; never closed.
	beat chan struct{}
	// swept asks for the trash to be emptied at once. Capacity 1; never closed.
	swept chan struct{}

	vouched *vouched
	disk    diskWatch
	// calendar says what is old.
	calendar *calendar

	logs struct {
		sync.RWMutex // guards what follows; nothing else is done under it
		byKey        map[logKey]*localLog
		entered      []*localLog // since follow looked last; no more than there are logs
	}
}

// New returns a broker. It touches nothing and starts nothing.
func New(o Options) (*Broker, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	meter := watchfs.NewMeter()
	o.FS = watchfs.Wrap(o.FS, meter)
	b := &Broker{
		disk: diskWatch{meter: meter},
		opts: o, dir: directory{fs: o.FS, path: o.DataDir}, mirror: o.Metadata, logger: o.Logger,
		budget: NewBudget(o.InFlightBytes), beat: make(chan struct{}, 1), swept: make(chan struct{}, 1), errand: newErrands(),
		vouched: newVouched(), calendar: newCalendar(o.Now, partition.Uptime, o.Logger),
	}
	b.logs.byKey = make(map[logKey]*localLog)
	b.handedOver = make(chan struct{})
	b.files = commitlog.NewFiles(min(o.MaxOpenFiles, max(1, vfs.DescriptorLimit()/descriptorShare)))
	var err error
	if b.metrics, err = newMetrics(o.Registerer, b); err != nil {
		return nil, fmt.Errorf("broker metrics: %w", err)
	}
	b.flusher = newFlusher(o.MaxSyncs, b.failDirectory, b.metrics.flusher)
	b.replicate()
	return b, nil
}

// Budget returns the process's budget for produce requests in flight.
func (b *Broker) Budget() *Budget { return b.budget }

// ID returns the broker's identity.
func (b *Broker) ID() int32 { return b.opts.ID }

// Ready tells whether the broker serves: registered, its metadata there, its
// log directory sound, and not fenced by the controller.
func (b *Broker) Ready() bool {
	return b.serving.Load() && b.unfenced.Load() && b.failure.Load() == nil
}

// Failure returns why the log directory has failed, or nil.
func (b *Broker) Failure() error {
	if err := b.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Run locks the data directory, registers, serves until ctx ends, and stops
// in order: nothing more is led, logs are written, synced and closed, and the
// directory is marked clean. It returns nil after an orderly stop.
//
// It may be called once.
func (b *Broker) Run(ctx context.Context) (err error) {
	if err := b.dir.create(); err != nil {
		return err
	}
	lock, err := b.opts.FS.Lock(b.dir.lock())
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	inc, err := loadIncarnation(b.opts.FS, b.opts.DataDir, b.opts.ID)
	if err != nil {
		return err
	}
	if err := b.dir.prepare(); err != nil {
		return err
	}
	if err := b.found.load(b.opts.FS, b.opts.DataDir, inc.Generation); err != nil {
		return err
	}
	b.unclean = !inc.Clean && inc.BrokerEpoch != 0
	reg, err := b.register(ctx, inc)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return b.serve(ctx, reg)
}

// HandOver asks the controller to give what this broker leads to others, and
// waits until it has, and who is about to be in sync is so where this broker would
// be missed, or there is nobody, or ctx ends. The broker serves meanwhile and
// afterwards; it is for a process that is about to stop.
func (b *Broker) HandOver(ctx context.Context) error {
	if !b.serving.Load() || b.failure.Load() != nil {
		return nil
	}
	b.stopping.Store(true)
	b.beatNow()
	select {
	case <-b.handedOver:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// serve runs the loops until ctx ends or one of them fails, then stops.
func (b *Broker) serve(ctx context.Context, reg registration) error {
	group, loops := errgroup.WithContext(ctx)
	group.Go(func() error { return b.follow(loops, reg.revision) })
	group.Go(func() error { return b.heartbeats(loops, reg) })
	group.Go(func() error { return b.upkeep(loops) })
	group.Go(func() error { return b.errand.run(loops) })
	group.Go(func() error { return b.followers.Run(loops) })
	group.Go(func() error { return b.propose(loops, b.proposals) })
	group.Go(func() error { return b.propose(loops, b.handOvers) })
	group.Go(func() error { return b.tick(loops) })
	group.Go(func() error { return b.scrub(loops) })
	group.Go(func() error { return b.watchDisk(loops) })
	err := group.Wait()
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, b.stop())
}

// stop closes every log and marks the directory clean.
func (b *Broker) stop() error {
	b.serving.Store(false)
	b.sayGoodbye()
	var closing errgroup.Group
	closing.SetLimit(16) // a clean stop of busy logs syncs each of them
	for _, l := range b.allLogs() {
		closing.Go(l.close)
	}
	err := closing.Wait()
	b.flusher.Close()
	if err != nil || b.failure.Load() != nil {
		return err
	}
	inc := *b.identity.Load()
	inc.Clean, inc.BootID = true, b.opts.BootID()
	return inc.store(b.opts.FS, b.opts.DataDir)
}

// failDirectory ends everything on the log directory (rule S6): a failed sync
// is final, as what is on disk is not known any more.
func (b *Broker) failDirectory(cause error) {
	if !b.failure.CompareAndSwap(nil, &cause) {
		return
	}
	b.logger.Error("log directory failed", "directory", b.opts.DataDir, "err", cause)
	b.flusher.fail(cause)
	for _, l := range b.allLogs() {
		l.fail(cause)
	}
	b.beatNow()
}

// allLogs returns the logs there are now.
func (b *Broker) allLogs() []*localLog {
	b.logs.RLock()
	defer b.logs.RUnlock()
	ls := make([]*localLog, 0, len(b.logs.byKey))
	for _, l := range b.logs.byKey {
		ls = append(ls, l)
	}
	return ls
}
