// Package store keeps the controllers' metadata in a replicated key-value
// store: which keys there are, which message each holds, and how a change is
// committed so that only the active controller can make one.
//
// It refuses to own the key-value store itself (controller/etcd implements KV)
// and what the metadata means (controller/image, controller/reconcile).
//
// INVARIANT: every change but the election itself goes through Writer.Commit,
// whose transaction compares the election key, so that a deposed controller
// changes nothing.
//
// It starts no goroutine and holds nothing that must be closed.
package store

import (
	"context"
	"errors"
	"fmt"
)

// MaxOps is the greatest number of operations, and of comparisons, of one
// transaction: etcd's limit is 128, one below it leaves room for the
// comparison of the election key.
const MaxOps = 127

// ErrUnknownOutcome says that a transaction may or may not have been carried
// out. Nothing may be written before the outcome is known: the one who wrote
// campaigns again, after which it is.
var ErrUnknownOutcome = errors.New("the outcome of the transaction is unknown")

// ErrDeposed says that a comparison did not hold: another controller is active.
var ErrDeposed = errors.New("another controller is active")

// ErrFull says that the store takes no more data. Nothing was written.
var ErrFull = errors.New("the metadata store is full")

// ErrDiskFull says that the disk below the store has too little space left for
// what can wait. Nothing was written.
var ErrDiskFull = errors.New("the disk of the metadata store is full")

// CompactedError says that changes since a revision are no longer kept.
type CompactedError struct {
	// Asked is the revision that was asked for.
	Asked int64
	// Oldest is the oldest revision that is kept; 0: not known.
	Oldest int64
}

// Error says it for people.
func (e *CompactedError) Error() string {
	return fmt.Sprintf("revision %d is compacted; the oldest kept is %d", e.Asked, e.Oldest)
}

// KV is a replicated key-value store with revisions, as etcd is one. All
// methods may be called from any goroutine.
type KV interface {
	// Txn carries out the operations if all comparisons hold, atomically and
	// at one revision, and reports whether they did. After an error other than
	// ErrFull the outcome is unknown.
	Txn(ctx context.Context, t Txn) (revision int64, held bool, err error)
	// Range returns entries with the prefix in order of their keys, after the
	// key `after`, as they were at that revision; at revision 0 as they are
	// now, confirmed by a quorum. At most limit of them; more says that there
	// are others.
	Range(ctx context.Context, r Range) (Page, error)
	// Watch calls apply with every change of entries with the prefix from that
	// revision on, a whole revision or several at a time, in order, until ctx
	// ends or apply fails, and returns why it ended. It fails with
	// *CompactedError.
	Watch(ctx context.Context, prefix string, from int64, apply func([]Event) error) error
}

// Txn is a transaction.
type Txn struct {
	// Compares must all hold.
	Compares []Compare
	// Ops are carried out if they do. No key twice.
	Ops []Op
}

// Compare says that the last change of a key was at that revision; 0: that
// there is no such key.
type Compare struct {
	Key      string
	Revision int64
}

// Op is one operation of a transaction.
type Op struct {
	Kind  OpKind
	Key   string
	Value []byte // of a put
}

// OpKind says what an operation does.
type OpKind uint8

// The operations.
const (
	// OpPut puts a value.
	OpPut OpKind = iota
	// OpDelete deletes a key.
	OpDelete
	// OpDeletePrefix deletes every key with the prefix, as one operation.
	OpDeletePrefix
)

// Range says which entries to read.
type Range struct {
	Prefix   string
	After    string
	Revision int64
	Limit    int64
}

// Page is what Range found.
type Page struct {
	Entries  []Entry
	More     bool
	Revision int64 // that it was read at
}

// Entry is a key with its value.
type Entry struct {
	Key      string
	Value    []byte
	Revision int64 // of its last change
}

// Event is a change of a key.
type Event struct {
	Entry
	Deleted bool
}
