package partition

import (
	"context"
	"errors"
	"time"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// DeleteRecords moves the log start to before, if it is not there already,
// and returns the log start. Space is freed by whole segments. It fails with
// *commitlog.OffsetOutOfRangeError if before is above the readable end, as Append
// does, and with ErrUnknownOutcome if the log has failed: then the start is there
// after a restart, or not.
func (p *Partition) DeleteRecords(ctx context.Context, before record.Offset) (start record.Offset, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	p.exclusively(func() {
		start, err = p.deleteBefore(before)
	})
	p.log.RemoveWaste()
	return start, err
}

func (p *Partition) deleteBefore(before record.Offset) (record.Offset, error) {
	if err := p.status.Load().unwritable(); err != nil {
		return 0, err
	}
	start, end := p.log.Start(), record.Offset(p.readable.Load())
	if before < 0 || before > end {
		return 0, &commitlog.OffsetOutOfRangeError{Requested: before, Start: start, End: end}
	}
	if before <= start {
		return start, nil
	}
	start, err := p.log.DeleteBefore(before)
	if failed, ok := errors.AsType[*commitlog.FailedError](p.noteFailure(err)); ok {
		err = unknown(failed)
	}
	return start, err
}

// Retain removes the segments that retention lets go, as the clock of the
// partition says, and returns how many. All that goes was committed.
func (p *Partition) Retain(now time.Time) (removed int, err error) {
	p.exclusively(func() {
		if p.status.Load().unwritable() == nil {
			removed, err = p.log.Retain(now, record.Offset(p.readable.Load()))
			err = p.noteFailure(err)
		}
	})
	p.log.RemoveWaste()
	return removed, err
}

// SetLogConfig changes segment size and age and retention.
func (p *Partition) SetLogConfig(c commitlog.Config) { p.log.SetConfig(c) }

// SyncCheckpoint makes the last checkpoint durable, if there is a newer one
// than is (rule S2). A failed sync is final, here as well.
func (p *Partition) SyncCheckpoint() error { return p.noteFailure(p.log.SyncCheckpoint()) }

// CheckpointDue tells whether there is a newer checkpoint than is durable.
func (p *Partition) CheckpointDue() bool { return p.log.CheckpointDue() }

// SyncInBackground submits the log for a sync if it has records that are not
// on disk, and does not wait for it. At MEMORY, without this, a log would be
// synced only when a segment is sealed, and keep a file open until then.
func (p *Partition) SyncInBackground() {
	if p.Unsynced() {
		p.exclusively(func() {
			if p.Unsynced() {
				p.sync()
			}
		})
	}
}

// noteFailure fails the partition if err says that the log has, and returns
// err.
func (p *Partition) noteFailure(err error) error {
	if failed, ok := errors.AsType[*commitlog.FailedError](err); ok {
		p.observer.LogFailed(failed)
		p.Fail(failed)
	}
	return err
}
