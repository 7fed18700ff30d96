package api

import (
	"google.golang.org/grpc/mem"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/wire"
)

// frame keeps the bytes of a message as the transport handed them over.
type frame struct{ msg mem.BufferSlice }

// take empties the frame; the caller frees what it had.
func (f *frame) take() mem.BufferSlice {
	msg := f.msg
	f.msg = nil
	return msg
}

// produceRequest is a request of a Produce stream, from its arrival until its
// answer is handed to the transport and no partition needs its bytes. Then it
// is used again.
type produceRequest struct {
	stream *produceStream
	next   *produceRequest // in the free list or the list of answers

	frame frame
	wire  wire.ProduceRequest
	topic [16]byte // identity of the topic that it was checked against
	bytes int      // taken from the budgets

	// units are the appends that the request became: one but for a split. The
	// first is &first; the others are kept for the next split.
	units []*unit
	first unit
	split bool

	// drainMs, if positive, makes it a control message instead of an answer.
	drainMs uint32
	// reroute goes with the answer: who leads a partition of it. nil: the client
	// need not know, or knows. It is receive's until the last unit is submitted.
	reroute *pb.Reroute

	// Guarded by produceStream.mu once the request is in its lanes.
	unsettled int  // units that a partition still has
	waiting   int  // units whose turn to be answered has not come
	answered  bool // the answer is with the transport
}

// unit is what a request asks of one partition. It is the partition's between
// Append and Complete.
type unit struct {
	partition.Request
	req  *produceRequest
	lane *lane
	next *unit // in the lane

	// bytes are those of a part of a split, copied out of the request.
	bytes *[]byte
	piece [1][]byte
	// records are the indexes of a part's records in the request's batch.
	records []uint32

	// forward is the request to another broker; it is kept for the next time.
	forward *forward.Request
	away    bool // another broker has it, or had

	// ordered says that a failure refuses what comes behind it in the lane.
	ordered bool
	// fault is why it was refused. It is set before known.
	fault *rpc.Fault
	// Guarded by produceStream.mu once the unit is in its lane.
	known bool // the outcome is known
	due   bool // known and at the head of its lane
}

// Complete takes the outcome from the partition.
func (u *unit) Complete(*partition.Request) { u.req.stream.completed(u) }

// addUnit returns the next unit of the request, empty.
func (r *produceRequest) addUnit() *unit {
	n := len(r.units)
	switch {
	case n == 0 && cap(r.units) == 0:
		r.units = append(r.units, &r.first)
	case n < cap(r.units):
		r.units = r.units[:n+1]
		if r.units[n] == nil {
			r.units[n] = &unit{}
		}
	default:
		r.units = append(r.units, &unit{})
	}
	u := r.units[n]
	*u = unit{req: r, records: u.records[:0], forward: u.forward}
	u.Acks, u.Done = acksOf(r.wire.Acks), u
	return u
}

// keptUnits is how many units a request keeps for its next split.
const keptUnits = 64

// reset makes the request ready to be received into.
func (r *produceRequest) reset() {
	r.next = nil
	r.units = r.units[:0]
	if cap(r.units) > keptUnits {
		r.units = nil
	}
	r.bytes, r.split, r.drainMs, r.reroute = 0, false, 0, nil
	r.unsettled, r.waiting, r.answered = 0, 0, false
}

// newRequest returns a request to receive into.
func (p *produceStream) newRequest() *produceRequest {
	p.mu.Lock()
	r := p.free
	if r != nil {
		p.free = r.next
	}
	p.mu.Unlock()
	if r == nil {
		r = &produceRequest{stream: p}
	}
	r.reset()
	return r
}

// recycle puts a request on the free list. What it borrowed is let go: a
// client may send a message in crumbs, each of them a piece.
//
// REQUIRES: mu is held.
func (p *produceStream) recycle(r *produceRequest) {
	r.wire.Release()
	r.next, p.free = p.free, r
}

// release gives back the bytes of a request that is in no lane.
func (p *produceStream) release(r *produceRequest) {
	p.giveBack(r.frame.take(), r.bytes)
	r.bytes = 0
}

func (p *produceStream) giveBack(msg mem.BufferSlice, n int) {
	msg.Free()
	if n > 0 {
		p.held.Release(n)
		p.s.budget.Release(n)
	}
}

// requestList is a list of requests, oldest first.
type requestList struct{ head, tail *produceRequest }

func (l *requestList) push(r *produceRequest) {
	r.next = nil
	if l.tail == nil {
		l.head = r
	} else {
		l.tail.next = r
	}
	l.tail = r
}
