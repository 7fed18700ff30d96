package api

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/record"
)

// passage is a Read of what another broker leads: its records pass to the client
// as they are. When that leader is gone the Read goes on at the next one, or here.
//
// INVARIANT: it goes on behind the last record that was sent, which has to be of
// its leader epoch there (rule H6). So no record is left out or sent twice: where
// the log has another history the Read ends, DIVERGED.
// INVARIANT: it ends at the end that the first leader saw, whoever serves it. One
// whose log ends before that says why (goalOf).
//
// It belongs to the handler's goroutine, and to the one that passes on while the
// handler waits for it.
type passage struct {
	s      *BrokerService
	topic  *metadata.Topic
	asked  *pb.ReadRequest // by the client
	stream grpc.ServerStream
	cancel context.CancelCauseFunc // of the stream
	out    *frameWriter            // nil: nothing was passed on yet

	// begun says that a leader has said where the Read begins and ends: next is
	// where it goes on, epoch the leader epoch of the record before; noEpoch: there
	// is none.
	begun  bool
	next   record.Offset
	epoch  record.LeaderEpoch
	end    record.Offset // noEnd: it is not known yet, or it follows
	left   uint64        // records to send; meaningful if asked.MaxRecords > 0
	sent   bool          // a record
	gotOn  bool          // since the last leader was asked
	failed error         // how the last leader failed
}

// readOver is why a Read ends that no other leader can go on with. It hides its
// cause from who asks whether one can.
type readOver struct{ cause error }

// Error says it for people.
func (e *readOver) Error() string { return e.cause.Error() }

// locate returns the partition if this broker leads it. If others do, it has the
// Read served by them, and returns nil when that is done with; or the partition
// if this broker has come to lead it meanwhile, and the Read is to go on here.
func (p *passage) locate(ctx context.Context) (*partition.Partition, error) {
	part, to, err := p.find(ctx)
	lost := time.Now()
	for to != nil {
		seen := p.s.metadata.Current()
		p.gotOn = false
		p.failed = p.pass(ctx, *to)
		if isType[*readOver](p.failed) {
			return nil, p.failed // first: p may be in use still
		}
		if p.failed == nil || p.complete() {
			return nil, nil
		}
		if !p.goesOn(p.failed) {
			return nil, p.failed
		}
		if p.gotOn {
			lost = time.Now()
		}
		for to = nil; to == nil; {
			if err := p.pause(ctx, seen, lost); err != nil {
				return nil, err
			}
			seen = p.s.metadata.Current()
			if part, to, err = p.find(ctx); to == nil && !p.goesOn(err) {
				return part, err
			}
		}
	}
	return part, err
}

// find returns the partition, or who leads it, or why it cannot be read.
func (p *passage) find(ctx context.Context) (*partition.Partition, *forward.Target, error) {
	part, err := readable(ctx, p.s.broker, p.topic, p.asked.GetPartition())
	if to, away := p.s.to(ctx, p.topic.ID, err); away {
		return nil, &to, err
	}
	return part, nil, p.s.leftBehind(p.topic.ID, p.asked.GetPartition(), err)
}

// goesOn tells whether another leader can serve what is left.
func (p *passage) goesOn(err error) bool {
	if err == nil || p.sent && !p.begun {
		// WHY not if it has sent and not begun: the leader, of an older version, has
		// not said where it ends.
		return false
	}
	if leaderGone(err) {
		return true
	}
	f := FaultOf(err)
	return p.begun && f != nil && f.Reason == pb.ErrorReason_ERROR_REASON_OFFSET_NOT_AVAILABLE
}

// complete tells whether nothing is left.
func (p *passage) complete() bool {
	return p.begun && (p.end >= 0 && p.next >= p.end || p.asked.GetMaxRecords() > 0 && p.left == 0)
}

// pause waits until the metadata is newer than what was seen, or for a while. It
// returns why the Read ends if it has waited long enough for a leader: as long as
// any request if nothing has come of it yet, else longer than a failover takes.
func (p *passage) pause(ctx context.Context, seen *metadata.Snapshot, lost time.Time) error {
	patience := p.s.wait
	if p.begun {
		patience = moveWait
	}
	left := patience - time.Since(lost)
	if left <= 0 {
		return p.failed
	}
	t := time.NewTimer(min(left, retryAfter))
	defer t.Stop()
	select {
	case <-seen.Superseded():
	case <-t.C:
	case <-p.draining():
		return rpc.ShuttingDownFault()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// draining is closed when this broker stops; nil for what ends by itself, or is
// cut.
func (p *passage) draining() chan struct{} {
	if !p.asked.GetFollow() {
		return nil
	}
	return p.s.draining
}

// request returns what a leader is asked for.
func (p *passage) request() *pb.ReadRequest {
	q := proto.CloneOf(p.asked)
	if !p.begun {
		return q
	}
	q.Start, q.LeaderEpoch = &pb.ReadRequest_Offset{Offset: int64(p.next)}, nil
	if p.epoch != record.LeaderEpoch(noEpoch) {
		q.LeaderEpoch = new(int32(p.epoch))
	}
	if q.GetMaxRecords() > 0 {
		q.MaxRecords = p.left
	}
	if p.end != noEnd {
		q.End = new(int64(p.end))
	}
	return q
}

// pass has a leader serve what is left, and returns nil when it has.
func (p *passage) pass(ctx context.Context, to forward.Target) error {
	q := p.request()
	q.MinRevision = max(q.GetMinRevision(), to.Revision)
	// Of its own, so that the leader stops when the client does not take what
	// came, or has enough.
	ctx, end := context.WithCancel(ctx)
	defer end()
	from, err := forward.Open(ctx, p.s.peers, to, pb.BrokerService_Read_FullMethodName, q)
	if err != nil {
		return repeatable(err)
	}
	p.s.metrics.forwarded.Inc()
	if p.out == nil {
		p.out = newFrameWriter(p.stream, p.s.limits.StallTimeout, p.s.endStalled(p.cancel))
	}
	done := make(chan error, 1) // sent once
	p.s.streams.Go(func() { done <- p.take(from, to.Leader) })
	select {
	case err := <-done:
		return repeatable(err)
	case <-ctx.Done():
		return &readOver{context.Cause(ctx)}
	case <-p.draining():
		return &readOver{rpc.ShuttingDownFault()}
	}
}

// take sends what comes until there is no more, or enough.
func (p *passage) take(from *forward.Stream, leader int32) error {
	short := false
	if at, ok := from.Began(); ok {
		p.begin(at)
		short = at.End < p.end
	}
	for !p.complete() {
		msg, err := from.Recv()
		if errors.Is(err, io.EOF) && short {
			return shorter(p.epoch, p.next, p.end)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b := bytesOf(p.out, msg)
		var h wire.ReadHead
		if err := h.Parse(*b); err != nil {
			rpc.SharedPool().Put(b)
			return &forward.BrokenError{Broker: leader, Cause: err}
		}
		if p.begun && p.end >= 0 && h.Offset >= p.end { // a leader that came later saw a later end
			rpc.SharedPool().Put(b)
			return nil
		}
		p.sent = true
		if err := p.out.write(b); err != nil {
			return &readOver{err}
		}
		p.next, p.epoch, p.gotOn = h.Offset+1, h.LeaderEpoch, true
		if p.left > 0 {
			p.left--
		}
	}
	return nil
}

// begin notes where the Read begins, as the first leader says.
func (p *passage) begin(at forward.Began) {
	// One that follows may wait at the end for long, at one leader after the other.
	p.gotOn = p.gotOn || p.asked.GetFollow()
	if p.begun {
		return
	}
	p.begun, p.next, p.epoch, p.left = true, at.Start, at.Epoch, p.asked.GetMaxRecords()
	if p.end == noEnd {
		p.end = at.End
	}
}

// bytesOf copies a message to a buffer of the writer's, and frees it.
func bytesOf(w *frameWriter, msg mem.BufferSlice) *[]byte {
	b := w.buffer(msg.Len())
	*b = (*b)[:msg.Len()]
	msg.CopyTo(*b)
	msg.Free()
	return b
}
