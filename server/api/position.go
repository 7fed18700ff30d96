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

// freshEnd returns the end of what may be read, which is not older than that
// time (partition.Uptime): a deposed leader does not know of what the next one
// has acknowledged (rule H5).
func freshEnd(ctx context.Context, p *partition.Partition, since time.Duration) (record.Offset, error) {
	if err := p.AwaitFresh(ctx, since); err != nil {
		return 0, err
	}
	return p.State().HighWatermark, nil
}

// currentEnd returns the end of what may be read, as far as this broker knows,
// which may serve it: where somebody finishes who reads all that there is. It
// asks nobody, so that it is known also while too few replicas are in sync.
func currentEnd(ctx context.Context, p *partition.Partition) (record.Offset, error) {
	if err := p.AwaitCurrent(ctx); err != nil {
		return 0, err
	}
	return p.State().HighWatermark, nil
}

// positionOf returns the offset that a position stands for in a partition, as
// it was at that time or later.
func positionOf(ctx context.Context, p *partition.Partition, at *pb.FetchPosition, since time.Duration) (record.Offset, error) {
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
		return freshEnd(ctx, p, since)
	case *pb.FetchPosition_Offset:
		return offsetOf(ctx, p, at.Offset, epoch, hasEpoch, since)
	case *pb.FetchPosition_Time:
		return timeOf(ctx, p, "position.time", at.Time, since)
	case *pb.FetchPosition_BeforeEnd:
		return beforeEnd(ctx, p, "position.before_end", at.BeforeEnd, since)
	default:
		return 0, fieldFault("position", "is of an unknown kind")
	}
}

// offsetOf checks an offset, and that the record before it is of the given
// epoch, if there is one. That it is beyond the end, or of another history, only
// a leader says that is fresh: who was deposed knows less than the client may
// have read, which would go back for nothing.
func offsetOf(ctx context.Context, p *partition.Partition, offset int64, epoch int32, hasEpoch bool, since time.Duration) (record.Offset, error) {
	if hasEpoch && epoch < 0 {
		return 0, fieldFault("leader_epoch", "must not be negative")
	}
	err := checkOffset(p, record.Offset(offset), epoch, hasEpoch)
	if err == nil {
		return record.Offset(offset), nil
	}
	if unsure := p.AwaitFresh(ctx, since); unsure != nil {
		return 0, unsure
	}
	return record.Offset(offset), checkOffset(p, record.Offset(offset), epoch, hasEpoch)
}

func checkOffset(p *partition.Partition, offset record.Offset, epoch int32, hasEpoch bool) error {
	if hasEpoch {
		// Before the range: behind a truncation the safe offset is what helps.
		if err := p.CheckEpoch(offset, record.LeaderEpoch(epoch)); err != nil {
			return err
		}
	}
	if st := p.State(); offset < st.LogStart || offset > st.HighWatermark {
		return &commitlog.OffsetOutOfRangeError{Requested: offset, Start: st.LogStart, End: st.HighWatermark}
	}
	return nil
}

// timeOf returns the offset of the first record whose timestamp is not before
// a time, or the end.
func timeOf(ctx context.Context, p *partition.Partition, field string, t *timestamppb.Timestamp, since time.Duration) (record.Offset, error) {
	if err := t.CheckValid(); err != nil {
		return 0, fieldFault(field, "is no valid time")
	}
	// Milliseconds are rounded up: what is before them is before the time.
	ms := t.AsTime().UnixMilli()
	if t.GetNanos()%1e6 != 0 {
		ms++
	}
	offset, found, err := p.OffsetForTime(ctx, ms)
	if err != nil || found {
		return offset, err
	}
	if err := p.AwaitFresh(ctx, since); err != nil {
		return 0, err
	}
	// The end first: a record that comes in between is found, or is behind it.
	end := p.State().HighWatermark
	if offset, found, err = p.OffsetForTime(ctx, ms); err != nil || found {
		return offset, err
	}
	return end, nil
}

// beforeEnd returns the offset so many before the end, or the earliest.
func beforeEnd(ctx context.Context, p *partition.Partition, field string, n int64, since time.Duration) (record.Offset, error) {
	if n < 0 {
		return 0, fieldFault(field, "must not be negative")
	}
	end, err := freshEnd(ctx, p, since)
	if err != nil {
		return 0, err
	}
	return max(p.State().LogStart, end-min(end, record.Offset(n))), nil
}
