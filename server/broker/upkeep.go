package broker

import (
	"context"
	"encoding/binary"
	"iter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millstream-io/millstream/server/partition"
)

// trashInterval is how often the trash is looked at.
const trashInterval = time.Minute

// checkpointShare is how many syncs of checkpoints run for each that the
// flusher may run: one for four.
//
// WHY a share of its own: in the flusher's queue five thousand checkpoints
// would stand before the records of a producer that waits, and as many at once
// beside it would take the disk from it.
const checkpointShare = 4

// syncTurns is over how many turns the syncs in the background of an interval
// are spread, so that what is synced for a producer does not find those of all
// partitions in the flusher's queue.
const syncTurns = 10

// turn is the turn in which a log is synced in the background.
func (k logKey) turn() uint32 {
	return (binary.LittleEndian.Uint32(k.topic[:]) + uint32(k.partition)) % syncTurns
}

// upkeep does what no client asks for, until ctx ends. Each task has a
// goroutine of its own, so that one that takes long (gigabytes to remove, a
// slow disk) delays no other. None of them begins anew before it has ended.
func (b *Broker) upkeep(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return every(ctx, b.opts.CheckpointInterval, nil, func() {
			b.files.Expire() // what a reader opened and left
			b.syncCheckpoints(ctx)
		})
	})
	group.Go(func() error {
		return every(ctx, b.opts.RetentionInterval, nil, func() { b.retain(ctx) })
	})
	group.Go(func() error {
		turn := uint32(0)
		return every(ctx, max(1, b.opts.MemorySyncInterval/syncTurns), nil, func() {
			for key, p := range b.open(ctx) {
				if key.turn() == turn {
					p.SyncInBackground()
				}
			}
			turn = (turn + 1) % syncTurns
		})
	})
	group.Go(func() error {
		return every(ctx, b.opts.RetentionInterval, nil, func() {
			if err := b.found.save(b.opts.FS, b.opts.DataDir); err != nil {
				b.metrics.upkeepErrors.WithLabelValues("found").Inc()
				b.logger.Warn("it is not saved which logs are claimed", "err", err)
			}
		})
	})
	group.Go(func() error {
		b.emptyTrash(ctx)
		return every(ctx, trashInterval, b.swept, func() { b.emptyTrash(ctx) })
	})
	return group.Wait()
}

// every does a task again and again, and sooner if asked, until ctx ends.
func every(ctx context.Context, interval time.Duration, sooner <-chan struct{}, task func()) error {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		case <-sooner:
		}
		task()
	}
}

// syncCheckpoints makes the checkpoints durable that were written since the
// last time (rule S2), some at once. An error is no failed sync of records:
// the next one tries again. It returns when all have had their turn, so that
// none is overtaken twice.
func (b *Broker) syncCheckpoints(ctx context.Context) {
	var syncs errgroup.Group
	syncs.SetLimit(max(1, b.opts.MaxSyncs/checkpointShare))
	for _, p := range b.open(ctx) {
		if !p.CheckpointDue() {
			continue // as most are: no goroutine for them
		}
		syncs.Go(func() error {
			if err := p.SyncCheckpoint(); err != nil {
				b.metrics.upkeepErrors.WithLabelValues("checkpoint").Inc()
				b.logger.Warn("checkpoint not synced", "err", err)
			}
			return nil
		})
	}
	_ = syncs.Wait() // none returns one
}

// retain removes what retention lets go.
func (b *Broker) retain(ctx context.Context) {
	now := b.calendar.Now()
	for _, p := range b.open(ctx) {
		if _, err := p.Retain(now); err != nil {
			b.metrics.upkeepErrors.WithLabelValues("retention").Inc()
			b.logger.Warn("retention not carried out", "err", err)
		}
	}
}

// sweep asks for the trash to be emptied now.
func (b *Broker) sweep() {
	select {
	case b.swept <- struct{}{}:
	default: // asked for already
	}
}

// emptyTrash removes what has been in the trash long enough. What is left when
// ctx ends goes another time.
func (b *Broker) emptyTrash(ctx context.Context) {
	if _, err := b.dir.empty(ctx, b.calendar.Now(), b.opts.TrashKeep, b.opts.DiskHighWater); err != nil {
		b.metrics.upkeepErrors.WithLabelValues("trash").Inc()
		b.logger.Warn("trash not emptied", "err", err)
	}
}

// open yields the partitions that are open, until ctx ends or the directory
// fails.
func (b *Broker) open(ctx context.Context) iter.Seq2[logKey, *partition.Partition] {
	return func(yield func(logKey, *partition.Partition) bool) {
		for _, l := range b.allLogs() {
			if ctx.Err() != nil || b.failure.Load() != nil {
				return
			}
			if p := l.opened.Load(); p != nil && !yield(l.key, p) {
				return
			}
		}
	}
}
