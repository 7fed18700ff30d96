package broker

import (
	"context"
	"time"

	"github.com/millstream-io/millstream/server/partition"
)

// trashInterval is how often the trash is looked at.
const trashInterval = time.Minute

// upkeep does what no client asks for, until ctx ends.
func (b *Broker) upkeep(ctx context.Context) error {
	checkpoints := time.NewTicker(b.opts.CheckpointInterval)
	defer checkpoints.Stop()
	retention := time.NewTicker(b.opts.RetentionInterval)
	defer retention.Stop()
	memory := time.NewTicker(b.opts.MemorySyncInterval)
	defer memory.Stop()
	trash := time.NewTicker(trashInterval)
	defer trash.Stop()
	b.emptyTrash()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-checkpoints.C:
			b.syncCheckpoints(ctx)
			b.files.Expire() // what a reader opened and left
		case <-retention.C:
			b.retain(ctx)
		case <-memory.C:
			for p := range b.open(ctx) {
				p.SyncInBackground()
			}
		case <-trash.C:
			b.emptyTrash()
		}
	}
}

// syncCheckpoints makes the checkpoints durable that were written since the
// last time (rule S2). An error is no failed sync of records: the next one
// tries again.
func (b *Broker) syncCheckpoints(ctx context.Context) {
	for p := range b.open(ctx) {
		if err := p.SyncCheckpoint(); err != nil {
			b.metrics.upkeepErrors.WithLabelValues("checkpoint").Inc()
			b.logger.Warn("checkpoint not synced", "err", err)
		}
	}
}

// retain removes what retention lets go.
func (b *Broker) retain(ctx context.Context) {
	now := b.opts.Now()
	for p := range b.open(ctx) {
		if _, err := p.Retain(now); err != nil {
			b.metrics.upkeepErrors.WithLabelValues("retention").Inc()
			b.logger.Warn("retention not carried out", "err", err)
		}
	}
}

// emptyTrash removes what has been in the trash long enough.
func (b *Broker) emptyTrash() {
	if _, err := b.dir.empty(b.opts.Now(), b.opts.TrashKeep, b.opts.DiskHighWater); err != nil {
		b.metrics.upkeepErrors.WithLabelValues("trash").Inc()
		b.logger.Warn("trash not emptied", "err", err)
	}
}

// open yields the partitions that are open, until ctx ends or the directory
// fails.
func (b *Broker) open(ctx context.Context) func(func(*partition.Partition) bool) {
	return func(yield func(*partition.Partition) bool) {
		for _, l := range b.allLogs() {
			if ctx.Err() != nil || b.failure.Load() != nil {
				return
			}
			if p := l.opened.Load(); p != nil && !yield(p) {
				return
			}
		}
	}
}
