package millstream

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Position is a place in a partition. The zero Position is the earliest
// record.
type Position struct {
	at     place
	offset int64 // an offset, or a count before the end
	epoch  int32 // leader epoch of the record before offset; -1 unknown
	time   time.Time
}

type place uint8

const (
	placeEarliest place = iota
	placeOffset
	placeLatest
	placeTime
	placeBeforeEnd
)

// NoEpoch stands for an unknown leader epoch.
const NoEpoch int32 = -1

// Earliest is the earliest record kept.
func Earliest() Position { return Position{} }

// Latest is the end: only records to come.
func Latest() Position { return Position{at: placeLatest} }

// AtOffset is the record of this offset. leaderEpoch is that of the last
// record consumed (FetchedRecord.LeaderEpoch), or NoEpoch: with it a position
// that is of another history of the log is found out (DIVERGED).
func AtOffset(offset int64, leaderEpoch int32) Position {
	return Position{at: placeOffset, offset: offset, epoch: leaderEpoch}
}

// AtTime is the first record whose time is not before t; the end, if there is
// none.
func AtTime(t time.Time) Position { return Position{at: placeTime, time: t} }

// BeforeEnd is n records before the end, or the earliest.
func BeforeEnd(n int64) Position { return Position{at: placeBeforeEnd, offset: n} }

// Offset returns the offset and the leader epoch of a position that has them.
func (p Position) Offset() (offset int64, leaderEpoch int32, ok bool) {
	if p.at != placeOffset {
		return 0, NoEpoch, false
	}
	return p.offset, p.epoch, true
}

// String returns the position as the command line takes it.
func (p Position) String() string {
	switch p.at {
	case placeOffset:
		return fmt.Sprint(p.offset)
	case placeLatest:
		return "latest"
	case placeTime:
		return "@" + p.time.Format(time.RFC3339Nano)
	case placeBeforeEnd:
		return fmt.Sprint(-p.offset)
	default:
		return "earliest"
	}
}

// message returns the position as it is sent.
func (p Position) message() *pb.FetchPosition {
	switch p.at {
	case placeOffset:
		m := &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: p.offset}}
		if p.epoch != NoEpoch {
			m.LeaderEpoch = &p.epoch
		}
		return m
	case placeLatest:
		return &pb.FetchPosition{At: &pb.FetchPosition_Latest{Latest: &pb.Latest{}}}
	case placeTime:
		return &pb.FetchPosition{At: &pb.FetchPosition_Time{Time: timestamppb.New(p.time)}}
	case placeBeforeEnd:
		return &pb.FetchPosition{At: &pb.FetchPosition_BeforeEnd{BeforeEnd: p.offset}}
	default:
		return &pb.FetchPosition{At: &pb.FetchPosition_Earliest{Earliest: &pb.Earliest{}}}
	}
}
