package api

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/record"
)

// Who reads all that there is finishes at the end that he saw when he began. It
// is one of committed records, which do not go away: another leader has them too.
//
// INVARIANT: nobody is told that he has all before he has read up to the end that
// was seen when he began, whoever serves him by then. Where that cannot be, he is
// told why, behind all that there is.

// noEnd is the end that nobody has seen yet.
const noEnd record.Offset = -1

// goal is where somebody finishes who reads all that there is.
type goal struct {
	// end is where there is nothing more for him; noEnd: he follows.
	end record.Offset
	// seen is the end as it was when he began: end, or beyond it.
	seen record.Offset
	// short is why end is not seen; nil: it is.
	short error
}

// goalOf returns where somebody finishes who has seen that end, as of that time
// or later; noEnd: he begins now.
func goalOf(ctx context.Context, p *partition.Partition, seen record.Offset, since time.Duration) (goal, error) {
	end, err := currentEnd(ctx, p)
	switch {
	case err != nil:
		return goal{end: noEnd}, err
	case seen == noEnd:
		return goal{end: end, seen: end}, nil
	case end >= seen:
		return goal{end: seen, seen: seen}, nil
	}
	for {
		// A broker that was deposed does not know of what the next leader has
		// committed, nor does one that leads again until it knows its end again.
		epoch := p.State().LeaderEpoch
		if err := p.AwaitFresh(ctx, since); err != nil {
			return goal{end: noEnd}, err
		}
		if err := p.AwaitEnd(ctx); err != nil {
			return goal{end: noEnd}, err
		}
		st := p.State()
		switch {
		case st.HighWatermark >= seen:
			return goal{end: seen, seen: seen}, nil
		case st.LeaderEpoch != epoch:
			continue
		case st.Offline != nil: // the log is damaged: others may have what is lost here
			return goal{end: st.HighWatermark, seen: seen, short: st.Offline}, nil
		}
		return goal{end: st.HighWatermark, seen: seen, short: shorter(p.EpochBefore(st.HighWatermark), st.HighWatermark, seen)}, nil
	}
}

// shorter says that a log ends where it went on when somebody began to read it:
// records are gone that were committed. epoch is that of the last one.
func shorter(epoch record.LeaderEpoch, end, seen record.Offset) error {
	f := fault(codes.Aborted, pb.ErrorReason_ERROR_REASON_DIVERGED,
		fmt.Sprintf("the log ends at offset %d by now, and ended at %d when reading began", end, seen))
	f.Divergence = &pb.Divergence{LeaderEpoch: int32(epoch), SafeOffset: int64(end)}
	return f
}

// seenEnd returns the end that a request says its client has seen.
func seenEnd(end *int64) record.Offset {
	if end == nil {
		return noEnd
	}
	return record.Offset(*end)
}

// checkSeenEnd checks the end that a request says its client has seen; finishes
// says whether it is to finish.
func checkSeenEnd(end *int64, finishes bool, otherwise string) error {
	switch {
	case end == nil:
		return nil
	case *end < 0:
		return fieldFault("end", "must not be negative")
	case !finishes:
		return fieldFault("end", otherwise)
	}
	return nil
}
