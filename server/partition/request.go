package partition

import (
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// Acks says when a request is answered. Its numbers are those of
// millstream.v1.Acks.
type Acks uint8

// The acks. The zero value means AcksAll.
const (
	// AcksAll waits for every in-sync replica.
	AcksAll Acks = 1
	// AcksLeader waits for this replica alone.
	AcksLeader Acks = 2
	// AcksNone waits for nothing: a nil from Append is the answer.
	AcksNone Acks = 3
)

// Medium says where the replicas have an acknowledged batch. Its numbers are
// those of millstream.v1.AckMedium.
type Medium uint8

// The media. The zero value is nowhere yet.
const (
	// MediumMemory is the page cache.
	MediumMemory Medium = 1
	// MediumDisk is the disk, synced.
	MediumDisk Medium = 2
)

// Completer takes back a request that is done.
type Completer interface {
	// Complete is called exactly once for each request that Append took, by
	// whoever owns the partition then. It must not block, and may call only
	// State, Notify and Cancel of the partition: Append could wait for the very
	// goroutine that it runs on. The partition does not touch the request
	// afterwards.
	Complete(*Request)
}

// Request is a batch to append and, once complete, what became of it. It
// belongs to the caller before Append and after Complete, and to the partition
// in between. It may be used again; a Request in use costs no allocation.
type Request struct {
	// Batch is the bytes of the RecordBatch as sent. BORROWED until Complete.
	Batch record.Pieces
	// Summary is what validation found in Batch.
	Summary record.Summary
	// Attributes are those beyond compression and time, which the partition
	// sets itself.
	Attributes record.Attributes
	// Acks says when the request is complete. With AcksNone a nil from Append
	// is the answer to the client, and Complete only gives the memory back, once
	// the batch is written or refused.
	Acks Acks
	// Lane, if set, refuses the request when an earlier one of the lane failed,
	// unless the request has Restart, which ends the refusing.
	Lane    *Lane
	Restart bool
	// Done is told when the request is complete.
	Done Completer

	// Err is why the batch is not acknowledged; the fields below count only
	// without it. Unless it is ErrUnknownOutcome nothing was written.
	Err error
	// Base is the offset of the first record.
	Base record.Offset
	// Epoch is the leader epoch in which it was appended.
	Epoch record.LeaderEpoch
	// InSync is the number of replicas in the committed ISR at the answer.
	InSync uint32
	// Medium is where the replicas have it; zero with AcksNone.
	Medium Medium

	batch commitlog.Batch
	end   record.Offset // offset after the last record
	next  *Request
}

// size is what the request counts for in the mailbox, in bytes.
func (r *Request) size() int { return r.Summary.Bytes }

// queue is an intrusive list of requests, oldest first.
type queue struct {
	head, tail *Request
}

func (q *queue) empty() bool { return q.head == nil }

func (q *queue) push(r *Request) {
	r.next = nil
	if q.tail == nil {
		q.head = r
	} else {
		q.tail.next = r
	}
	q.tail = r
}

func (q *queue) pop() *Request {
	r := q.head
	if q.head = r.next; q.head == nil {
		q.tail = nil
	}
	r.next = nil
	return r
}

// mediumOf translates what the replica core grants.
func mediumOf(d replica.Durability) Medium {
	if d == replica.Disk {
		return MediumDisk
	}
	return MediumMemory
}
