package api

import (
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/record"
)

// divide makes the units of a request that names no partition: its records go
// where their keys say, those without a key all to one partition, another one
// for each request.
//
// REQUIRES: the batch is valid. ENSURES: with a fault no unit was made.
func (p *produceStream) divide(r *produceRequest, l *lane, topic *metadata.Topic, sum record.Summary) *rpc.Fault {
	if sum.Compression != record.None {
		f := fieldFault("partition", "is required for a compressed batch")
		f.Reason = pb.ErrorReason_ERROR_REASON_PARTITION_REQUIRED
		return f
	}
	n := uint32(len(topic.Partitions))
	keyless := record.PartitionID(p.s.spread.Add(1) % n)
	split := &p.in.splitter
	defer split.Release()
	if err := split.Split(r.wire.Batch, n, keyless); err != nil {
		return p.s.faultOf(err)
	}
	parts := split.Parts()
	if len(parts) == 1 {
		u := r.addUnit()
		p.direct(u, l, uint32(parts[0].Partition))
		u.Batch, u.Summary = r.wire.Batch, sum
		return nil
	}
	r.split = true
	for i := range parts {
		u := r.addUnit()
		p.direct(u, l, uint32(parts[i].Partition))
		u.records = append(u.records, parts[i].Records...)
		if u.fault != nil {
			continue
		}
		// WHY copies: the records of a part are scattered over the request, and
		// more pieces than one write takes.
		u.bytes = rpc.SharedPool().Get(parts[i].Bytes)
		*u.bytes = split.AppendPart((*u.bytes)[:0], i)
		u.piece[0] = *u.bytes
		u.Batch = u.piece[:]
		var err error
		if u.Summary, err = p.in.validator.Validate(u.Batch, limitsOf(topic)); err != nil {
			u.fault = p.s.faultOf(err) // a part of what is valid is valid
		}
	}
	return nil
}

// direct puts a unit of a request that names no partition into the lane of the
// partition that was chosen.
func (p *produceStream) direct(u *unit, l *lane, id uint32) {
	u.lane = p.in.lanes.of(l.topic, id)
	if u.req.wire.Restart {
		u.lane.refusing = false
	}
	if u.lane.refusing {
		u.fault = precedingFailed()
	}
}
