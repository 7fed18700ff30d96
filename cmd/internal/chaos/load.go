package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/history"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

const (
	inFlight     = 16
	batchRecords = 5
	// pace is the time between two batches of a producer.
	pace = 2 * time.Millisecond
	// patience is how long a producer waits for an answer before it goes to
	// another broker: longer than any fail-over.
	patience = 10 * time.Second
)

// tally counts what producers were told.
type tally struct {
	acked, refused, unknown atomic.Int64

	mu   sync.Mutex           // guards what follows
	last map[uint64]time.Time // of an acknowledgement, by place of the request
	gap  gap                  // the longest
}

// gap is a time without an acknowledgement of a partition.
type gap struct {
	place uint64 // see placeOf
	begun time.Time
	time.Duration
}

// note keeps the longer one.
// REQUIRES: mu is held.
func (t *tally) note(place uint64, begun, ended time.Time) {
	if d := ended.Sub(begun); d > t.gap.Duration {
		t.gap = gap{place, begun, d}
	}
}

// ack counts an acknowledgement of a partition, as placeOf names it.
func (t *tally) ack(place uint64) {
	t.acked.Add(1)
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = make(map[uint64]time.Time)
	}
	if last, ok := t.last[place]; ok {
		t.note(place, last, now)
	}
	t.last[place] = now
}

// ackedSince tells whether a partition has acknowledged something since a time.
func (t *tally) ackedSince(place uint64, since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last[place].After(since)
}

// settle counts the time since the last acknowledgement of each partition.
func (t *tally) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for place, last := range t.last {
		t.note(place, last, time.Now())
	}
}

func (t *tally) longest() gap {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gap
}

// pause waits a little, and tells whether to go on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// produce produces to all partitions of all topics until ctx ends, through one
// broker after the other: each stream is a session of its own.
func (r *run) produce(ctx context.Context, producer int, random *rand.Rand) {
	for session := uint64(1); ctx.Err() == nil; session++ {
		id := uint64(producer+1)<<20 | session
		r.session(ctx, id, random.IntN(len(r.conns)))
		r.tally.unknown.Add(int64(r.book.Cut(id, "the stream ended")))
		if !pause(ctx, time.Duration(20+random.IntN(80))*time.Millisecond) {
			return
		}
	}
}

// session produces on one stream until it breaks, a request fails, or ctx ends.
func (r *run) session(ctx context.Context, id uint64, broker int) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stream, err := pb.NewBrokerServiceClient(r.conns[broker]).Produce(life)
	if err != nil {
		return
	}
	stuck := time.AfterFunc(patience, end)
	defer stuck.Stop()
	slots := make(chan struct{}, inFlight)
	enough, failed := context.WithCancel(ctx)
	defer failed()
	var sending sync.WaitGroup
	sending.Go(func() {
		defer func() { _ = stream.CloseSend() }() // Recv has the cause
		for n := uint64(0); ; n++ {
			select {
			case slots <- struct{}{}:
			case <-enough.Done():
				return
			}
			req := request(id<<requestBits | n)
			r.book.Invoke(id, req)
			if stream.Send(req) != nil || !pause(enough, pace) {
				return
			}
		}
	})
	defer sending.Wait()
	for {
		answer, err := stream.Recv()
		if err != nil {
			failed()
			return
		}
		stuck.Reset(patience)
		if answer.GetCorrelationId() == 0 {
			continue // a control frame
		}
		switch r.book.Answered(answer) {
		case history.AppendOK:
			r.tally.ack(placeOf(answer.GetCorrelationId()))
		case history.AppendFail:
			r.tally.refused.Add(1)
			failed() // what is on its way is answered still
		default:
			r.tally.unknown.Add(1)
			failed()
		}
		<-slots
	}
}

// requestBits are those of a correlation id that number the requests of a
// session; the others are the session's.
const requestBits = 24

// placeOf numbers the partition of a request, over all topics.
func placeOf(correlation uint64) uint64 {
	return correlation % (1 << requestBits) % uint64(len(topics)*partitions)
}

// request returns a batch that is unlike any other of the run.
func request(correlation uint64) *pb.ProduceRequest {
	records := make([]*pb.Record, batchRecords)
	for i := range records {
		records[i] = &pb.Record{Value: fmt.Appendf(nil, "batch %d record %d %0100d", correlation, i, correlation)}
	}
	topic, partition := partitionOf(placeOf(correlation))
	return &pb.ProduceRequest{
		CorrelationId: correlation, Topic: topic, Partition: &partition, Batch: &pb.RecordBatch{Records: records},
	}
}

// partitionOf returns the partition at a place.
func partitionOf(place uint64) (topic string, partition uint32) {
	return topics[place%uint64(len(topics))], uint32(place / uint64(len(topics)))
}
