package forward

import (
	"context"
	"errors"
	"sync"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/record"
)

// Completer takes back a request that is done.
type Completer interface {
	// Forwarded is called exactly once for each request that Send took, on a
	// goroutine of the link. It must not block, and not call the Producer.
	Forwarded(*Request)
}

// Request is a batch that the leader is to append and, once done, what became
// of it. It belongs to the Producer between Send and Forwarded.
type Request struct {
	To        Target
	Topic     string
	Partition record.PartitionID
	// Batch is the bytes of the RecordBatch as sent. BORROWED until Forwarded.
	Batch record.Pieces
	// CRC is the CRC-32C of the batch.
	CRC  uint32
	Acks pb.Acks
	// Lane, if set, refuses the request when an earlier one of the lane failed,
	// unless it has Restart.
	Lane    *Lane
	Restart bool
	Done    Completer

	// Err is why the batch is not acknowledged: *UnreachableError, *BusyError,
	// ErrPrecedingFailed and the leader's *rpc.Fault say what that means for the
	// batch; after *BrokenError it may have been written.
	Err error
	// Base, Epoch and Ack are what the leader answered.
	Base  record.Offset
	Epoch record.LeaderEpoch
	Ack   *pb.Ack

	sequence uint64
	next     *Request
}

// Lane keeps the order of one client's requests for a partition (rule W1). The
// zero value is ready. It belongs to the Producer.
type Lane struct {
	failed  bool   // a request failed and none with Restart has come since
	refused bool   // and the leader said that it was surely not written
	restart uint64 // sequence of the last one with Restart
}

// failedBy notes that a request of a lane failed.
//
// REQUIRES: Producer.mu is held.
func (r *Request) failedBy(err error) {
	r.Err = err
	// A failure of one before the last Restart was lifted by it in advance, as
	// at the leader.
	if r.Lane != nil && r.sequence >= r.Lane.restart {
		r.Lane.failed = true
		said, _ := errors.AsType[*rpc.Fault](err)
		r.Lane.refused = r.Lane.refused || said != nil && said.Retryable
	}
}

// Producer forwards the requests of one Produce stream of a client: over one
// stream to each leader, opened when it is first used. What is queued is the
// client's requests in flight, and they are counted by the caller.
//
// Its methods are safe for concurrent use.
type Producer struct {
	peers  *Calls
	ctx    context.Context //nolint:containedctx // that of the client's stream
	spawn  func(func())
	pieces *rpc.BufferPool

	mu       sync.Mutex // guards what follows, lanes, and queues of links
	links    map[int32]*produceLink
	sequence uint64
}

// NewProducer returns a producer whose links end with ctx. spawn starts a
// goroutine that the caller waits for.
func NewProducer(ctx context.Context, peers *Calls, spawn func(func())) *Producer {
	return &Producer{peers: peers, ctx: mark(ctx), spawn: spawn, pieces: rpc.SharedPool(), links: make(map[int32]*produceLink)}
}

// Send sends a request to the leader. It fails with ErrPrecedingFailed,
// *UnreachableError if the leader has said that it stops, or with the cause of the
// end of the client's stream; else the request is taken.
//
// REQUIRES: where the leader of its partition has changed, no request of the
// lane is in flight.
func (p *Producer) Send(r *Request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return context.Cause(p.ctx)
	}
	p.sequence++
	r.sequence, r.next = p.sequence, nil
	if l := r.Lane; l != nil {
		switch {
		case r.Restart:
			l.failed, l.refused, l.restart = false, false, r.sequence
		case l.failed:
			return ErrPrecedingFailed
		}
	}
	link := p.links[r.To.Leader]
	if link == nil {
		link = newProduceLink(p, r.To.Leader)
		p.links[r.To.Leader] = link
	}
	return link.push(r)
}

// Failed tells whether requests of a lane are refused.
func (p *Producer) Failed(l *Lane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.failed
}
