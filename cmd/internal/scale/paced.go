package scale

import (
	"context"
	"errors"
	"sync"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
)

// paced produces at an even rate and notes how long each record takes. run
// hands over; the producer's goroutine settles.
type paced struct {
	mu      sync.Mutex    // guards all
	waiting [][]time.Time // of each partition: when records were handed over
	took    []time.Duration
	failed  error
}

// run hands records over to the partitions in turn, and waits until all are
// acknowledged. A record's time begins when it is handed over: nothing delays
// that but this program, as the client's buffer holds much more than is ever in
// flight at such rates. Records of the first second are not counted.
func (p *paced) run(ctx context.Context, s *server, topic string, rate int, span time.Duration) error {
	to, err := s.NewProducer(ctx, millstream.ProducerOptions{Topic: topic, OnBatch: p.settle})
	if err != nil {
		return err
	}
	p.waiting = make([][]time.Time, to.Partitions())
	record, start := millstream.Record{Value: make([]byte, recordBytes)}, time.Now()
	for i := 0; err == nil; i++ {
		due := time.Duration(i) * time.Second / time.Duration(rate)
		if due >= span {
			break
		}
		if err = rest(ctx, due-time.Since(start)); err != nil {
			break
		}
		at := time.Now()
		if i < rate {
			at = time.Time{}
		}
		partition := i % len(p.waiting)
		p.mu.Lock()
		p.waiting[partition] = append(p.waiting[partition], at)
		p.mu.Unlock()
		_, err = to.AppendTo(ctx, uint32(partition), record)
	}
	err = errors.Join(err, to.Close(ctx))
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(err, p.failed)
}

// settle is told of batches.
func (p *paced) settle(b millstream.BatchResult) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = errors.Join(p.failed, b.Err)
	mine := &p.waiting[b.Partition]
	for _, at := range (*mine)[:b.Records] {
		if !at.IsZero() {
			p.took = append(p.took, now.Sub(at))
		}
	}
	*mine = (*mine)[b.Records:]
}
