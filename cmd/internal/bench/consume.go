package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// sampleReads is how many calls of Next share one measured wait; it is prime,
// so that it does not beat with the size of batches.
const sampleReads = 61

// ShortError says that the topic holds fewer records than were to be read.
type ShortError struct{ Want, Got int64 }

// Error says how many there are.
func (e *ShortError) Error() string {
	return fmt.Sprintf("the topic ended after %d records of %d", e.Got, e.Want)
}

func consume(ctx context.Context, o *Options) (r Result, first, err error) {
	clients := make([]*millstream.Client, 0, o.Connections)
	defer func() {
		for _, c := range clients {
			c.Close()
		}
	}()
	for range o.Connections {
		c, err := o.Dial()
		if err != nil {
			return r, nil, err
		}
		clients = append(clients, c)
	}
	topic, err := clients[0].Topics().GetTopic(ctx, &pb.GetTopicRequest{Topic: o.Topic})
	if err != nil {
		return r, nil, millstream.ErrorOf("describe", o.Topic, err)
	}
	readers := min(o.Connections, int(topic.GetTopic().GetPartitionCount()))
	hist := newHistogram()
	reads := make([]reading, readers)
	enough := quota{want: o.Records, shared: readers > 1}
	start := time.Now()
	var wg sync.WaitGroup
	for i := range reads {
		opts := millstream.ReaderOptions{Topic: o.Topic, UntilEnd: true}
		for p := uint32(i); p < topic.GetTopic().GetPartitionCount(); p += uint32(readers) {
			opts.Partitions = append(opts.Partitions, p)
		}
		wg.Go(func() { reads[i] = read(ctx, clients[i], opts, &enough, hist) })
	}
	wg.Wait()
	took := time.Since(start)
	r = Result{Latency: hist.latency()}
	var bytes int64
	var errs []error
	for _, one := range reads {
		r.Records += one.records
		bytes += one.bytes
		errs = append(errs, one.err)
	}
	if r.Records < o.Records {
		r.Errors = o.Records - r.Records
		errs = append(errs, &ShortError{Want: o.Records, Got: r.Records})
	}
	if r.Records > 0 {
		o.RecordSize = int(bytes / r.Records) // of what is there, for the rates
	}
	r.finish(o, took)
	r.MegabytesPerSecond = float64(bytes) / 1e6 / r.Seconds
	return r, errors.Join(errs...), nil
}

// reading is what one reader did.
type reading struct {
	records, bytes int64
	err            error
}

// read reads until there is nothing left to read.
func read(ctx context.Context, c *millstream.Client, o millstream.ReaderOptions, enough *quota, hist *histogram) (done reading) {
	r, err := c.NewReader(ctx, o)
	if err != nil {
		return reading{err: err}
	}
	defer r.Close()
	for i := int64(0); ; i++ {
		var at time.Time
		if i%sampleReads == 0 {
			at = time.Now()
		}
		record, err := r.Next(ctx)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				done.err = err
			}
			return done
		}
		if i%sampleReads == 0 {
			hist.add(time.Since(at))
		}
		done.records++
		done.bytes += int64(len(record.Value))
		if enough.reached(i + 1) {
			return done
		}
	}
}

// quota is how many records are to be read by all readers together.
type quota struct {
	want   int64
	shared bool // by several readers; one alone counts for itself
	read   atomic.Int64
}

// reached counts a record, the own-th of a reader, and reports whether it was
// one of the last.
func (q *quota) reached(own int64) bool {
	if !q.shared {
		return own >= q.want
	}
	return q.read.Add(1) >= q.want
}
