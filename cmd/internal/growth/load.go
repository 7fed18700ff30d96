package growth

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

const (
	topic      = "growth"
	partitions = 24
	recordSize = 1024
	// stampBytes of a record: its number, and when it was due.
	stampBytes = 16
)

// load is a producer at a steady rate, and a reader of all that it appends.
type load struct {
	rate       int
	partitions int
	// killed: brokers are killed, so that what was on its way to one may have an
	// unknown outcome.
	killed bool
	// refused: disks are full or cannot be written to, so that records are refused
	// that the client was not let wait with.
	refused bool

	mu        sync.Mutex // guards what follows
	phase     string
	began     time.Time            // of the phase
	latencies map[string][]latency // by phase, as they were acknowledged
	events    map[string][]event   // by phase, as they were seen
	acked     map[uint32][]uint64  // numbers by partition, in order of offsets
	failed    []error
	unknown   int // records of unknown outcome
	refusals  int // records that were refused
	lastAck   time.Time
	gaps      map[string]time.Duration // longest time without an acknowledgement

	got map[uint32][]uint64 // the reader's
}

// latency is how long a record took from when it was due until it was
// acknowledged, which was so long after the phase had begun.
type latency struct{ at, took time.Duration }

func newLoad(rate, partitions int) *load {
	return &load{
		rate: rate, partitions: partitions, latencies: map[string][]latency{}, events: map[string][]event{},
		acked: map[uint32][]uint64{}, gaps: map[string]time.Duration{}, got: map[uint32][]uint64{},
	}
}

// enter begins a phase.
func (l *load) enter(phase string) {
	l.mu.Lock()
	now := time.Now()
	l.phase, l.began, l.lastAck = phase, now, now
	l.mu.Unlock()
}

// sent is a record on its way.
type sent struct {
	number  uint64
	due     time.Time
	pending millstream.Pending
}

// produce appends at the rate until ctx ends, and waits for what is on its way.
func (l *load) produce(ctx context.Context, c *millstream.Client) error {
	life := context.WithoutCancel(ctx)
	p, err := c.NewProducer(life, millstream.ProducerOptions{Topic: topic})
	if err != nil {
		return err
	}
	waiting := make(chan sent, 4*l.rate)
	var settling sync.WaitGroup
	settling.Go(func() { l.settle(life, waiting) })
	begun, value := time.Now(), make([]byte, recordSize)
	for n := uint64(0); ctx.Err() == nil; n++ {
		due := begun.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
		if d := time.Until(due); d > 0 {
			<-time.After(d) // the rate is what is asked for
		}
		binary.LittleEndian.PutUint64(value, n)
		binary.LittleEndian.PutUint64(value[8:], uint64(due.UnixNano()))
		pending, err := p.AppendTo(life, uint32(n%uint64(l.partitions)), millstream.Record{Value: value})
		if err != nil {
			return fmt.Errorf("append record %d: %w", n, err)
		}
		waiting <- sent{n, due, pending}
	}
	close(waiting)
	settling.Wait()
	err = p.Close(life)
	if _, told := errors.AsType[*millstream.UnacknowledgedError](err); told && l.killed {
		return nil // settle has each of them
	}
	return err
}

// settle waits for acknowledgements, in the order of the records.
func (l *load) settle(ctx context.Context, waiting <-chan sent) {
	for s := range waiting {
		place, err := s.pending.Wait(ctx)
		now := time.Now()
		l.mu.Lock()
		if _, lost := errors.AsType[*millstream.UnknownOutcomeError](err); lost && l.killed {
			l.unknown++
		} else if refused := isRefused(err); refused && l.refused {
			l.refusals++
		} else if err != nil {
			if len(l.failed) < 10 {
				l.failed = append(l.failed, fmt.Errorf("record %d in phase %s: %w", s.number, l.phase, err))
			}
		} else {
			l.acked[place.Partition] = append(l.acked[place.Partition], s.number)
			l.latencies[l.phase] = append(l.latencies[l.phase], latency{now.Sub(l.began), now.Sub(s.due)})
			l.gaps[l.phase] = max(l.gaps[l.phase], now.Sub(l.lastAck))
			l.lastAck = now
		}
		l.mu.Unlock()
	}
}

// read reads everything until ctx ends.
func (l *load) read(ctx context.Context, c *millstream.Client, ready chan<- struct{}) error {
	r, err := c.NewReader(ctx, millstream.ReaderOptions{Topic: topic})
	if err != nil {
		return err
	}
	defer r.Close()
	close(ready)
	next := make(map[uint32]int64)
	for {
		rec, err := r.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerror // it was asked to end
			}
			return fmt.Errorf("read: %w", err)
		}
		if len(rec.Value) < stampBytes {
			return fmt.Errorf("read: a record of %d bytes at %d/%d", len(rec.Value), rec.Partition, rec.Offset)
		}
		if rec.Offset != next[rec.Partition] {
			return fmt.Errorf("read: offset %d of partition %d, and %d is the next", rec.Offset, rec.Partition, next[rec.Partition])
		}
		next[rec.Partition] = rec.Offset + 1
		l.mu.Lock()
		l.got[rec.Partition] = append(l.got[rec.Partition], binary.LittleEndian.Uint64(rec.Value))
		l.mu.Unlock()
	}
}

// complete tells whether the reader has as many records as were acknowledged.
func (l *load) complete() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, acked := range l.acked {
		if len(l.got[p]) < len(acked) {
			return false
		}
	}
	return true
}

// verify compares what was acknowledged with what was read: each once, in
// order. Where brokers were killed, what had an unknown outcome may be there
// too, once and in its place.
func (l *load) verify() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := slices.Clone(l.failed)
	for p, acked := range l.acked {
		same := slices.Equal(acked, l.got[p]) || l.killed && increasing(l.got[p]) && within(acked, l.got[p])
		if !same {
			errs = append(errs, fmt.Errorf("partition %d: %d records were acknowledged, and %d read; %s", p, len(acked), len(l.got[p]), difference(acked, l.got[p])))
		}
	}
	return errors.Join(errs...)
}

// increasing tells whether each number is greater than the one before.
func increasing(all []uint64) bool {
	for i := 1; i < len(all); i++ {
		if all[i] <= all[i-1] {
			return false
		}
	}
	return true
}

// within tells whether all of some is in more, in the same order.
func within(some, more []uint64) bool {
	for _, n := range more {
		if len(some) > 0 && some[0] == n {
			some = some[1:]
		}
	}
	return len(some) == 0
}

// difference says where two lists part.
func difference(acked, got []uint64) string {
	for i := range min(len(acked), len(got)) {
		if acked[i] != got[i] {
			return fmt.Sprintf("record %d is number %d, and was read as %v after %v", i, acked[i], got[i:min(len(got), i+6)], got[max(0, i-3):i])
		}
	}
	return "one is the beginning of the other"
}

// gap is the longest time without an acknowledgement in a phase, up to now.
func (l *load) gap(phase string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(l.gaps[phase], time.Since(l.lastAck))
}

// acknowledged is how many records were acknowledged in a phase.
func (l *load) acknowledged(phase string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.latencies[phase])
}

// isRefused tells whether a broker did not take a record because of its disk.
func isRefused(err error) bool {
	said, ok := errors.AsType[*millstream.Error](err)
	return ok && (said.Reason == pb.ErrorReason_ERROR_REASON_DISK_FULL || said.Reason == pb.ErrorReason_ERROR_REASON_STORAGE_FAILED)
}

// gaveUp is how many records were refused.
func (l *load) gaveUp() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refusals
}

// lost is how many records had an unknown outcome.
func (l *load) lost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unknown
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
