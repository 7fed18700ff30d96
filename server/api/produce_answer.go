package api

import (
	"google.golang.org/grpc/mem"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/record"
)

// enter puts a request into the lanes of its units.
//
// REQUIRES: no partition has a unit of it yet.
func (p *produceStream) enter(r *produceRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.waiting, r.unsettled = len(r.units), len(r.units)
	for _, u := range r.units {
		u.lane.push(u)
		u.lane.inside++
	}
}

// completed takes a unit back from its partition, or from receive if no
// partition took it. It may be called by any goroutine and does not block.
func (p *produceStream) completed(u *unit) {
	if u.Err != nil && u.fault == nil {
		u.fault = p.s.faultAt(u.req.topic, u.lane.partition, u.Err)
	}
	if !u.away {
		p.s.metrics.produced(u)
	}
	p.mu.Lock()
	u.lane.inside--
	if u.bytes != nil {
		rpc.SharedPool().Put(u.bytes)
		u.bytes, u.Batch, u.piece[0] = nil, nil, nil
	}
	// With ACKS_NONE receive says when the answer is due.
	if u.Acks != partition.AcksNone {
		p.known(u)
	}
	// From here on the request may be answered and used again as soon as mu is
	// free, so what is to be given back is taken out of it.
	msg, bytes := p.settle(u.req)
	p.mu.Unlock()
	p.giveBack(msg, bytes)
	wake(p.answered)
}

// settle counts a unit of a request as done with, and returns what the last
// one leaves to be given back.
//
// REQUIRES: mu is held.
func (p *produceStream) settle(r *produceRequest) (msg mem.BufferSlice, bytes int) {
	if r.unsettled--; r.unsettled > 0 {
		return nil, 0
	}
	msg, bytes = r.frame.take(), r.bytes
	r.bytes = 0
	if r.answered {
		p.recycle(r)
	}
	return msg, bytes
}

// known notes that the outcome of a unit is known and lists the answers whose
// turn has come: those of units at the head of their lane. A split request is
// answered when all its units are there, and holds up what is behind them.
//
// REQUIRES: mu is held, and u is in its lane.
func (p *produceStream) known(u *unit) {
	u.known = true
	p.dirty = append(p.dirty[:0], u.lane)
	for n := 1; n > 0; n = len(p.dirty) {
		l := p.dirty[n-1]
		u := l.head
		if u == nil || !u.known {
			p.dirty = p.dirty[:n-1]
			continue
		}
		if !u.due {
			u.due = true
			u.req.waiting--
		}
		if u.req.waiting > 0 {
			p.dirty = p.dirty[:n-1]
			continue
		}
		for _, v := range u.req.units {
			v.lane.pop()
			if v.lane != l {
				p.dirty = append(p.dirty, v.lane)
			}
		}
		p.ready.push(u.req)
	}
}

// appendAnswer appends the answer to the request, encoded.
//
// REQUIRES: every unit is known.
func (r *produceRequest) appendAnswer(dst []byte) []byte {
	if r.drainMs > 0 {
		return wire.AppendProduceResponse(dst, &wire.ProduceResponse{Drain: &pb.Drain{DeadlineMs: r.drainMs}})
	}
	u := r.units[0]
	a := wire.ProduceResponse{CorrelationID: r.wire.CorrelationID, Partition: record.PartitionID(u.lane.partition)}
	if r.split {
		r.addParts(&a)
	} else if u.fault != nil {
		a.Error = u.fault.RequestError()
	}
	if a.Error == nil && u.Acks != partition.AcksNone {
		a.BaseOffset, a.HasBaseOffset, a.LeaderEpoch = u.Base, true, u.Epoch
		a.HasAck, a.Ack = true, r.ack()
	}
	a.Reroute = r.reroute
	if a.Error == nil && a.Reroute.GetPartition() == uint32(a.Partition) {
		a.Leader = a.Reroute.GetLeader()
	}
	return wire.AppendProduceResponse(dst, &a)
}

// ack returns what is true of every part of the request.
func (r *produceRequest) ack() wire.Ack {
	u := r.units[0]
	a := wire.Ack{Scope: pb.AckScope_ACK_SCOPE_ISR, Medium: pb.AckMedium(u.Medium), InSyncReplicas: u.InSync}
	if u.Acks == partition.AcksLeader {
		a.Scope = pb.AckScope_ACK_SCOPE_LEADER
	}
	for _, u := range r.units[1:] {
		a.Medium = min(a.Medium, pb.AckMedium(u.Medium))
		a.InSyncReplicas = min(a.InSyncReplicas, u.InSync)
	}
	return a
}

// addParts says what became of each part of a split request. The request has
// failed if one part has, and may be sent again only if none was appended and
// each may be.
func (r *produceRequest) addParts(a *wire.ProduceResponse) {
	a.Parts = make([]wire.ProducePart, len(r.units))
	again := true
	for i, u := range r.units {
		part := &a.Parts[i]
		part.Partition, part.Records = record.PartitionID(u.lane.partition), u.records
		if u.fault == nil {
			again = false
			part.BaseOffset, part.HasBaseOffset = u.Base, u.Acks != partition.AcksNone
			continue
		}
		part.Error = u.fault.RequestError()
		again = again && u.fault.Retryable
		if a.Error == nil {
			a.Error = u.fault.RequestError()
		}
	}
	if a.Error != nil {
		a.Error.Retryable = again
	}
}
