// Package segment owns one segment of a log: the file of batches, the sparse
// index that is made of it, and how both are written, sealed, read, checked
// after a crash and cut.
//
// It refuses to own what is between segments: which there are, when one is
// rolled or removed, what is durable and what may be cut. That is
// storage/commitlog. It never decides to shorten a file: Scanner says what it
// found, and Cut does what it is told.
//
// INVARIANT: bytes below Size are whole, valid batches, and never change while
// a reader holds the segment (Pin). To shorten a file its owner retires the
// Segment, waits until it is Gone, and makes another one of the same file.
//
// INVARIANT: a segment whose index file is there is sealed: its bytes were
// synced before that file got its name.
//
// One writer: Append, Seal, Rest and Close of a segment belong to one
// goroutine. Sync may be called beside it, and reading by anyone who holds a
// pin. The package starts no goroutine. Descriptors and mappings belong to
// Files, which closes them when nobody uses them and they are too many, and
// when the segment is retired.
//
// The format is described in docs/format/segment.md.
package segment
