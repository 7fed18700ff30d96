package partition

import (
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// ErrClosed says that the partition is closed here: it was deleted, moved, or
// the broker stops. Nothing was written.
var ErrClosed = errors.New("partition is closed")

// ErrUnknownOutcome says that a batch was written but never acknowledged: it
// may or may not be in the log that comes out of this.
var ErrUnknownOutcome = errors.New("outcome unknown")

// NotLeaderError says that this broker does not lead the partition. Nothing
// was written.
type NotLeaderError struct {
	// Leader is who leads, as far as is known here; replica.None: nobody.
	Leader replica.ID
	// Epoch is the leader epoch last heard of.
	Epoch record.LeaderEpoch
}

// Error says it for people.
func (e *NotLeaderError) Error() string {
	return fmt.Sprintf("not the leader: broker %d leads in epoch %d", e.Leader, e.Epoch)
}

// FailedError says that the storage below the partition has failed for good:
// the log directory after a failed sync, or this log. Nothing was written.
type FailedError struct{ Cause error }

// Error says it for people.
func (e *FailedError) Error() string { return "storage failed: " + e.Cause.Error() }

// Unwrap returns the failure.
func (e *FailedError) Unwrap() error { return e.Cause }

// QuarantinedError says that damage was found in the log: it takes no more
// writes, nothing of it is cut or deleted, and what verifies can be read.
type QuarantinedError struct{ Cause error }

// Error says it for people.
func (e *QuarantinedError) Error() string { return "quarantined: " + e.Cause.Error() }

// Unwrap returns the damage that was found.
func (e *QuarantinedError) Unwrap() error { return e.Cause }

// TimestampError says that a create time is further ahead of the broker's
// clock than timestamp.max.ahead.ms.
type TimestampError struct {
	// TimestampMs is the greatest timestamp of the batch.
	TimestampMs int64
	// NowMs is the broker's clock.
	NowMs int64
	// MaxAheadMs is the limit.
	MaxAheadMs int64
}

// Error says it for people.
func (e *TimestampError) Error() string {
	return fmt.Sprintf("timestamp %d is %d ms ahead, limit %d ms", e.TimestampMs, e.TimestampMs-e.NowMs, e.MaxAheadMs)
}

// NotEnoughReplicasError says that the committed ISR is smaller than the
// effective min ISR. Nothing was written.
type NotEnoughReplicasError struct {
	// InSync is the size of the committed ISR.
	InSync int
	// Required is the effective min ISR.
	Required int
}

// Error says it for people.
func (e *NotEnoughReplicasError) Error() string {
	return fmt.Sprintf("%d replicas in sync, %d required", e.InSync, e.Required)
}

// DivergedError says that a position is of another history of the log.
type DivergedError struct {
	// Epoch is the greatest leader epoch that both may have in common.
	Epoch record.LeaderEpoch
	// SafeOffset is from where it is safe to read on.
	SafeOffset record.Offset
}

// Error says it for people.
func (e *DivergedError) Error() string {
	return fmt.Sprintf("position is of another history of the log: safe from offset %d of epoch %d", e.SafeOffset, e.Epoch)
}

// CutError says that records were cut here that could be read: what a reader
// has read may be of another history now. Its position has to be checked.
type CutError struct{}

// Error says it for people.
func (*CutError) Error() string { return "records were cut from this replica that could be read" }

// EndUnknownError says that the readable end is not known yet: the leadership
// is young, and what it found in the log is not committed again.
type EndUnknownError struct {
	// Readable is the readable end by now; Elected is what it will be at least.
	Readable, Elected record.Offset
}

// Error says it for people.
func (e *EndUnknownError) Error() string {
	return fmt.Sprintf("the end is not known yet: readable to %d, and %d was there when the leadership began", e.Readable, e.Elected)
}

// UnequalPushError says that a push ended elsewhere than its header said.
type UnequalPushError struct{ Said, Got record.Offset }

// Error says it for people.
func (e *UnequalPushError) Error() string {
	return fmt.Sprintf("the push ends at %d, and its header says %d", e.Got, e.Said)
}

// unknown returns the ErrUnknownOutcome that a cause leads to.
func unknown(cause error) error { return fmt.Errorf("%w: %w", ErrUnknownOutcome, cause) }

// harmless tells whether what a log refused left it as it was, so that it can
// be tried again. A *commitlog.FailedError may have a *commitlog.WriteError as
// its cause, and is final all the same.
func harmless(err error) bool {
	if _, failed := errors.AsType[*commitlog.FailedError](err); failed {
		return false
	}
	_, refused := errors.AsType[*commitlog.WriteError](err)
	return refused || errors.Is(err, commitlog.ErrClosed)
}
