package segment

import (
	"errors"
	"fmt"

	"github.com/millstream-io/millstream/storage/record"
)

// ErrSealed says that a sealed segment was to be written to.
var ErrSealed = errors.New("segment is sealed")

// Causes of a CorruptError that are found here; others come from storage/record
// and from the operating system.
var (
	// ErrTruncated: the file ends inside a batch.
	ErrTruncated = errors.New("the file ends inside a batch")
	// ErrShortened: the file is shorter than it was.
	ErrShortened = errors.New("the file is shorter than it was")
	// ErrOffsetOrder: a batch has not the offset that must follow.
	ErrOffsetOrder = errors.New("offset out of order")
	// ErrEpochOrder: a batch is of an older leader epoch than one before it.
	ErrEpochOrder = errors.New("leader epoch falls")
	// ErrNoPlace: no batch ends where one was said to.
	ErrNoPlace = errors.New("no batch ends here")
	// ErrIndex: the index does not belong to the log beside it.
	ErrIndex = errors.New("the index does not fit the log")
	// ErrMissing: records that must be there are in no file.
	ErrMissing = errors.New("records are missing")
)

// CorruptError says that a part of a log is not what was written there.
type CorruptError struct {
	File     string
	Position int64         // of the batch, in bytes from the start of the file
	Offset   record.Offset // that is expected there
	Cause    error
}

// Error says where, and what is wrong.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d (offset %d): %v", e.File, e.Position, e.Offset, e.Cause)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Cause }

// MismatchError says that a file is a good segment, but of another log or
// place: someone moved it.
type MismatchError struct {
	File  string
	Field string // of millstream.v1.SegmentInfo
	Got   string
	Want  string
}

// Error says what differs.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s does not belong here: its %s is %s, not %s", e.File, e.Field, e.Got, e.Want)
}

// RollbackError says that a write failed and what it left in the file could
// not be taken away. The segment must not be written to any more.
type RollbackError struct {
	File     string
	Position int64 // where the file should end, in bytes
	Write    error // why the write failed
	Rollback error // why it could not be taken back
}

// Error says both reasons.
func (e *RollbackError) Error() string {
	return fmt.Sprintf("%s: write at byte %d: %v; and taking it back: %v", e.File, e.Position, e.Write, e.Rollback)
}

// Unwrap returns both reasons.
func (e *RollbackError) Unwrap() []error { return []error{e.Write, e.Rollback} }

// SyncError says that what was written to a file may not be on the disk, and
// that nothing can find out.
type SyncError struct {
	File string
	Err  error
}

// Error says which file.
func (e *SyncError) Error() string { return "sync " + e.File + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SyncError) Unwrap() error { return e.Err }
