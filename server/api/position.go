package api

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// endWait bounds how long a call waits for a young leadership to know its end.
const endWait = 5 * time.Second

// readable returns a partition that knows its end.
func readable(ctx context.Context, b Broker, t *metadata.Topic, id uint32) (*partition.Partition, error) {
	p, err := b.PartitionOf(t, id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	return p, p.AwaitEnd(ctx)
}

// positionOf returns the offset that a position stands for in a partition.
func positionOf(ctx context.Context, p *partition.Partition, at *pb.FetchPosition) (record.Offset, error) {
	epoch, hasEpoch := int32(0), false
	if at != nil && at.LeaderEpoch != nil && at.GetLeaderEpoch() != -1 {
		epoch, hasEpoch = at.GetLeaderEpoch(), true
	}
	if _, isOffset := at.GetAt().(*pb.FetchPosition_Offset); hasEpoch && !isOffset {
		return 0, fieldFault("position.leader_epoch", "goes with an offset only")
	}
	switch at := at.GetAt().(type) {
	case nil, *pb.FetchPosition_Earliest:
		return p.State().LogStart, nil
	case *pb.FetchPosition_Latest:
		return p.State().HighWatermark, nil
	case *pb.FetchPosition_Offset:
		return offsetOf(p, at.Offset, epoch, hasEpoch)
	case *pb.FetchPosition_Time:
		return timeOf(ctx, p, "position.time", at.Time)
	case *pb.FetchPosition_BeforeEnd:
		return beforeEnd(p, "position.before_end", at.BeforeEnd)
	default:
		return 0, fieldFault("position", "is of an unknown kind")
	}
}

// offsetOf checks an offset, and that the record before it is of the given
// epoch, if there is one.
func offsetOf(p *partition.Partition, offset int64, epoch int32, hasEpoch bool) (record.Offset, error) {
	if hasEpoch && epoch < 0 {
		return 0, fieldFault("leader_epoch", "must not be negative")
	}
	if hasEpoch {
		// Before the range: behind a truncation the safe offset is what helps.
		if err := p.CheckEpoch(record.Offset(offset), record.LeaderEpoch(epoch)); err != nil {
			return 0, err
		}
	}
	st := p.State()
	if o := record.Offset(offset); o < st.LogStart || o > st.HighWatermark {
		return 0, &commitlog.OffsetOutOfRangeError{Requested: o, Start: st.LogStart, End: st.HighWatermark}
	}
	return record.Offset(offset), nil
}

// timeOf returns the offset of the first record whose timestamp is not before
// a time, or the end.
func timeOf(ctx context.Context, p *partition.Partition, field string, t *timestamppb.Timestamp) (record.Offset, error) {
	if err := t.CheckValid(); err != nil {
		return 0, fieldFault(field, "is no valid time")
	}
	// Milliseconds are rounded up: what is before them is before the time.
	ms := t.AsTime().UnixMilli()
	if t.GetNanos()%1e6 != 0 {
		ms++
	}
	offset, found, err := p.OffsetForTime(ctx, ms)
	if err != nil {
		return 0, err
	}
	if !found {
		offset = p.State().HighWatermark
	}
	return offset, nil
}

// beforeEnd returns the offset so many before the end, or the earliest.
func beforeEnd(p *partition.Partition, field string, n int64) (record.Offset, error) {
	if n < 0 {
		return 0, fieldFault(field, "must not be negative")
	}
	st := p.State()
	return max(st.LogStart, st.HighWatermark-min(st.HighWatermark, record.Offset(n))), nil
}
