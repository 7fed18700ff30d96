package crash

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"

	"github.com/millstream-io/millstream/cmd/internal/chronicle"
	"github.com/millstream-io/millstream/cmd/internal/history"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// acked is a batch that was acknowledged.
type acked struct {
	base        int64
	correlation uint64
}

// partition is what is known of a partition.
type partition struct {
	found []acked // acknowledged, and found after a restart; by base
	fresh []acked // acknowledged since
	end   int64   // what was read so far is [0, end)
}

// ledger knows what was acknowledged and looks for it.
type ledger struct {
	mu         sync.Mutex // guards partitions while a load runs
	partitions []partition
	chronicle  *chronicle.Chronicle
	topicID    []byte // as the last read said
}

func newLedger(n int, c *chronicle.Chronicle) *ledger {
	return &ledger{partitions: make([]partition, n), chronicle: c}
}

func (l *ledger) acknowledge(p uint32, a acked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partitions[p].fresh = append(l.partitions[p].fresh, a)
}

// acknowledged returns the number of batches that were acknowledged.
func (l *ledger) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, p := range l.partitions {
		n += len(p.found) + len(p.fresh)
	}
	return n
}

// verifyNew reads on from where it read before and looks for what has been
// acknowledged since. REQUIRES: no load runs.
func (l *ledger) verifyNew(ctx context.Context, conn *grpc.ClientConn) error {
	for i := range l.partitions {
		p := &l.partitions[i]
		slices.SortFunc(p.fresh, func(a, b acked) int { return cmp.Compare(a.base, b.base) })
		end, err := l.check(ctx, conn, uint32(i), history.Read{Reader: uint64(i), From: p.end}, p.fresh)
		if err != nil {
			return err
		}
		p.found, p.fresh, p.end = append(p.found, p.fresh...), nil, end
	}
	return nil
}

// verifyFromStart looks for everything, and returns the number of records.
func (l *ledger) verifyFromStart(ctx context.Context, conn *grpc.ClientConn) (records int64, err error) {
	for i, p := range l.partitions {
		end, err := l.check(ctx, conn, uint32(i), history.Read{Reader: uint64(len(l.partitions) + i), Drain: true}, p.found)
		if err != nil {
			return records, err
		}
		if end < p.end {
			return records, fmt.Errorf("partition %d ends at %d, after it was read to %d", i, end, p.end)
		}
		records += end
	}
	return records, nil
}

// check reads a partition from an offset to its end, and looks for the batches
// in want, which are sorted. It returns the end.
func (l *ledger) check(ctx context.Context, conn *grpc.ClientConn, p uint32, read history.Read, want []acked) (end int64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from := read.From
	read.UntilEnd = true
	l.chronicle.Read(history.ReadBegin, topic, p, read, nil, "")
	stream, err := pb.NewBrokerServiceClient(conn).Fetch(ctx)
	if err != nil {
		return 0, err
	}
	err = stream.Send(&pb.FetchRequest{Subscribe: []*pb.FetchSubscription{{
		Topic: topic, Partition: p, UntilEnd: true, Form: pb.FetchForm_FETCH_FORM_BATCHES,
		Position: &pb.FetchPosition{At: &pb.FetchPosition_Offset{Offset: from}},
	}}})
	if err != nil {
		return 0, err
	}
	end = from
	for {
		frame, err := stream.Recv()
		if err != nil {
			return end, err
		}
		if id := frame.GetTopicId(); id != nil {
			l.topicID = id
		}
		if e := frame.GetError(); e != nil {
			return end, fmt.Errorf("partition %d: %s", p, e.GetMessage())
		}
		seen := history.Read{
			Reader: read.Reader, From: frame.GetFirstOffset(), Next: frame.GetNextOffset(),
			HighWatermark: frame.GetHighWatermark(), LogStart: frame.GetLogStart(),
		}
		if len(frame.GetBatches()) > 0 {
			l.chronicle.Read(history.ReadOK, topic, p, seen, frame.GetBatches(), "")
		}
		for _, b := range frame.GetBatches() {
			if want, err = match(b, want); err != nil {
				return end, fmt.Errorf("partition %d: %w", p, err)
			}
			if b.GetBaseOffset() > end {
				return end, fmt.Errorf("partition %d: offsets [%d, %d) are missing", p, end, b.GetBaseOffset())
			}
			end = b.GetBaseOffset() + int64(b.GetLastOffsetDelta()) + 1
		}
		if frame.GetCaughtUp().GetFinished() {
			seen.Finished = true
			l.chronicle.Read(history.ReadEnd, topic, p, seen, nil, "")
			if len(want) > 0 {
				return end, fmt.Errorf("partition %d ends at %d: %d acknowledged batches are lost, the first at %d", p, end, len(want), want[0].base)
			}
			return end, nil
		}
	}
}

// match takes the batch from the front of want if it is that one; a batch that
// nobody acknowledged is left alone. It fails if the batch should be another.
func match(b *pb.LogBatch, want []acked) ([]acked, error) {
	if len(want) == 0 || b.GetBaseOffset() < want[0].base {
		return want, nil
	}
	w := want[0]
	if b.GetBaseOffset() > w.base {
		return want, fmt.Errorf("the batch acknowledged at %d is lost", w.base)
	}
	records := b.GetBatch().GetRecords()
	if len(records) != batchRecords {
		return want, fmt.Errorf("the batch acknowledged at %d has %d records instead of %d", w.base, len(records), batchRecords)
	}
	for i, r := range records {
		if string(r.GetValue()) != value(w.correlation, i) {
			return want, fmt.Errorf("offset %d has another value than was acknowledged: %.60q", w.base+int64(i), r.GetValue())
		}
	}
	return want[1:], nil
}
