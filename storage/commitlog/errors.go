package commitlog

import (
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
)

// ErrClosed says that the log is closed.
var ErrClosed = errors.New("log is closed")

// OffsetOutOfRangeError says that a log holds no record of an offset, and need
// not.
type OffsetOutOfRangeError struct {
	Requested  record.Offset
	Start, End record.Offset // what may be asked for: [Start, End]
}

// Error says what may be asked for.
func (e *OffsetOutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d is out of range [%d, %d]", e.Requested, e.Start, e.End)
}

// EpochError says that batches of an older leader epoch than the log's last
// were to be appended.
type EpochError struct {
	Epoch, Last record.LeaderEpoch
}

// Error says both epochs.
func (e *EpochError) Error() string {
	return fmt.Sprintf("append in leader epoch %d after epoch %d", e.Epoch, e.Last)
}

// BatchError says that a batch cannot stand in a log, whatever it holds. The
// caller did not validate it.
type BatchError struct {
	Why           string
	Limit, Actual int64 // bytes
}

// Error says why.
func (e *BatchError) Error() string {
	return fmt.Sprintf("batch cannot be appended: %s: %d, limit %d", e.Why, e.Actual, e.Limit)
}

// WriteKind says why a write failed, as far as it matters to who waits for it.
type WriteKind uint8

// The kinds of failed writes.
const (
	// WriteFailed: the disk did not take it, for a reason that it named.
	WriteFailed WriteKind = iota
	// DiskFull: there is no room, or no quota.
	DiskFull
	// ReadOnly: the file system cannot be written to.
	ReadOnly
	// TooManyFiles: the process has no descriptor left.
	TooManyFiles
)

// String names the kind.
func (k WriteKind) String() string {
	switch k {
	case DiskFull:
		return "the disk is full"
	case ReadOnly:
		return "the file system is read-only"
	case TooManyFiles:
		return "too many open files"
	case WriteFailed:
	}
	return "the write failed"
}

// WriteError says that something was not written. ENSURES: it is not in the
// log, and will not be after a crash; what was in the log is as it was.
type WriteError struct {
	Kind  WriteKind
	Doing string
	Err   error
}

// Error says what was being done.
func (e *WriteError) Error() string { return fmt.Sprintf("%s: %v: %v", e.Doing, e.Kind, e.Err) }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }

func writeError(doing string, err error) *WriteError {
	kind := WriteFailed
	switch {
	case vfs.IsFull(err):
		kind = DiskFull
	case vfs.IsReadOnly(err):
		kind = ReadOnly
	case vfs.IsTooManyFiles(err):
		kind = TooManyFiles
	}
	return &WriteError{Kind: kind, Doing: doing, Err: err}
}

// FailedError says that nothing is written to the log any more: a sync failed,
// or what failed could not be undone, or the log is damaged. What was written
// and not yet known to be synced may be there after a restart, or not.
type FailedError struct {
	Cause error
}

// Error says why.
func (e *FailedError) Error() string { return "the log is not written to any more: " + e.Cause.Error() }

// Unwrap returns the cause.
func (e *FailedError) Unwrap() error { return e.Cause }
