package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

const (
	// stampBytes is what a record carries: its number and the time it was due.
	stampBytes = 16
	// lateBy is how long the reader is waited for when nothing comes any more.
	lateBy = 10 * time.Second
)

// errLost says that records were acknowledged and did not arrive.
var errLost = errors.New("records did not arrive at the reader")

// latency runs a producer and a reader at the tail, each with a connection of
// its own.
func latency(ctx context.Context, o *Options) (r Result, first, err error) {
	reads, err := o.Dial()
	if err != nil {
		return r, nil, err
	}
	defer reads.Close()
	tail, err := openTail(ctx, reads, o.Topic)
	if err != nil {
		return r, nil, err
	}
	var t tally
	o.Connections = 1
	producers, closeAll, err := openProducers(ctx, o, t.batch)
	if err != nil {
		return r, nil, err
	}
	run := &tailing{reader: tail, hist: newHistogram(), start: time.Now(), want: o.Records, skip: int64(o.Rate)}
	progress := make(chan struct{}, 1)
	watched, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan error, 1)
	go func() { done <- run.read(watched, progress) }()
	stopped := errors.Join(run.hand(ctx, producers[0], o), closeAll())
	readErr := await(done, progress, stopped != nil || t.failed.Load() > 0, stop)
	r = Result{Records: run.got, Errors: o.Records - run.got, Latency: run.hist.latency()}
	r.finish(o, run.last)
	switch {
	case t.first != nil:
		return r, t.first, nil
	case stopped != nil:
		return r, stopped, nil
	case r.Errors > 0 && readErr == nil:
		readErr = errLost
	}
	return r, readErr, nil
}

// openTail returns a reader of all partitions from their ends on.
func openTail(ctx context.Context, c *millstream.Client, topic string) (*millstream.Reader, error) {
	ends, err := c.Topics().ListOffsets(ctx, &pb.ListOffsetsRequest{Topic: topic, At: &pb.ListOffsetsRequest_Latest{Latest: true}})
	if err != nil {
		return nil, millstream.ErrorOf("list offsets", topic, err)
	}
	from := make(map[uint32]millstream.Position)
	for _, e := range ends.GetOffsets() {
		if e.Offset == nil {
			return nil, errors.New("list offsets: " + e.GetError().GetMessage())
		}
		from[e.GetPartition()] = millstream.AtOffset(e.GetOffset(), millstream.NoEpoch)
	}
	return c.NewReader(ctx, millstream.ReaderOptions{Topic: topic, Positions: from})
}

// tailing is a run: the producer's goroutine hands over, the reader's counts.
type tailing struct {
	reader *millstream.Reader
	hist   *histogram
	start  time.Time
	want   int64 // records
	skip   int64 // records that are not counted: those of the first second

	// Of the reader's goroutine, until it has returned.
	got  int64
	last time.Duration // when the last record came, since start
}

// hand hands records over when they are due.
func (r *tailing) hand(ctx context.Context, p *millstream.Producer, o *Options) error {
	pace, err := newPacer(r.start, o.Rate)
	if err != nil {
		return err
	}
	defer pace.close()
	value := append([]byte(nil), newPayloads(o.RecordSize).at(0)...)
	for i := range o.Records {
		due, err := pace.await(ctx, i)
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint64(value, uint64(i))
		binary.LittleEndian.PutUint64(value[8:], uint64(due.Sub(r.start)))
		if _, err := p.Append(ctx, millstream.Record{Value: value}); err != nil {
			return err
		}
	}
	return nil
}

// read takes records until all have come.
func (r *tailing) read(ctx context.Context, progress chan<- struct{}) error {
	defer r.reader.Close()
	for r.got < r.want {
		record, err := r.reader.Next(ctx)
		if err != nil {
			return err
		}
		if len(record.Value) < stampBytes {
			continue // somebody else's
		}
		r.last = time.Since(r.start)
		r.got++
		if int64(binary.LittleEndian.Uint64(record.Value)) >= r.skip {
			r.hist.add(r.last - time.Duration(binary.LittleEndian.Uint64(record.Value[8:])))
		}
		select {
		case progress <- struct{}{}:
		default:
		}
	}
	return nil
}

// await waits for the reader, as long as records come; not for what failed.
func await(done <-chan error, progress <-chan struct{}, failed bool, stop context.CancelCauseFunc) error {
	limit := time.NewTimer(lateBy)
	defer limit.Stop()
	if failed {
		limit.Reset(time.Second)
	}
	for {
		select {
		case err := <-done:
			return err
		case <-progress:
			if !failed {
				limit.Reset(lateBy)
			}
		case <-limit.C:
			stop(errLost)
			return <-done
		}
	}
}
