package bench

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
)

// sampleEvery is how many records share one measured latency: a clock is read
// for these only.
const sampleEvery = 512

// tally counts what became of records.
type tally struct {
	acknowledged, failed atomic.Int64

	once  sync.Once // guards first
	first error
}

// batch is told of batches by the producers.
func (t *tally) batch(b millstream.BatchResult) {
	if b.Err == nil {
		t.acknowledged.Add(int64(b.Records))
		return
	}
	t.failed.Add(int64(b.Records))
	t.once.Do(func() { t.first = b.Err })
}

// share returns how many of n records the i-th of c does.
func share(n int64, i, c int) int64 {
	s := n / int64(c)
	if int64(i) < n%int64(c) {
		s++
	}
	return s
}

func produce(ctx context.Context, o *Options) (r Result, first, err error) {
	var t tally
	producers, closeAll, err := openProducers(ctx, o, t.batch)
	if err != nil {
		return r, nil, err
	}
	values, hist := newPayloads(o.RecordSize), newHistogram()
	errs := make([]error, len(producers))
	start := time.Now()
	var wg sync.WaitGroup
	for i, p := range producers {
		wg.Go(func() {
			errs[i] = hand(ctx, p, o, share(o.Records, i, len(producers)), values, hist)
			flushed := p.Flush(ctx)
			if _, ok := errors.AsType[*millstream.UnacknowledgedError](flushed); !ok {
				errs[i] = errors.Join(errs[i], flushed)
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	stopped := errors.Join(append(errs, closeAll())...)
	r = Result{Records: t.acknowledged.Load(), Latency: hist.latency()}
	r.Errors = o.Records - r.Records // also those that could not be handed over
	r.finish(o, took)
	if t.first != nil {
		return r, t.first, nil
	}
	return r, stopped, nil
}

// hand hands n records over.
func hand(ctx context.Context, p *millstream.Producer, o *Options, n int64, values payloads, hist *histogram) error {
	sampled := make(chan sample, 1<<10)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		for s := range sampled {
			if _, err := s.pending.Wait(ctx); err == nil {
				hist.add(time.Since(s.at))
			}
		}
	})
	defer waiting.Wait()
	defer close(sampled)
	var pace *pacer
	if o.Rate > 0 {
		var err error
		if pace, err = newPacer(time.Now(), max(1, o.Rate/o.Connections)); err != nil {
			return err
		}
		defer pace.close()
	}
	for i := range n {
		if pace != nil {
			if _, err := pace.await(ctx, i); err != nil {
				return err
			}
		}
		record := millstream.Record{Value: values.at(i)}
		if i%sampleEvery != 0 {
			if _, err := p.Append(ctx, record); err != nil {
				return err
			}
			continue
		}
		at := time.Now()
		pending, err := p.Append(ctx, record)
		if err != nil {
			return err
		}
		select {
		case sampled <- sample{pending, at}:
		default: // more are waited for than are worth it
		}
	}
	return nil
}

// sample is a record whose latency is measured.
type sample struct {
	pending millstream.Pending
	at      time.Time
}

// openProducers opens a connection and a producer for each of Connections.
func openProducers(ctx context.Context, o *Options, told func(millstream.BatchResult)) (all []*millstream.Producer, closeAll func() error, err error) {
	var clients []*millstream.Client
	closeAll = func() error {
		var errs []error
		for _, p := range all {
			var lost *millstream.UnacknowledgedError
			if err := p.Close(ctx); err != nil && !errors.As(err, &lost) {
				errs = append(errs, err)
			}
		}
		for _, c := range clients {
			c.Close()
		}
		return errors.Join(errs...)
	}
	for range o.Connections {
		c, err := o.Dial()
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		clients = append(clients, c)
		p, err := c.NewProducer(ctx, millstream.ProducerOptions{
			Topic: o.Topic, Acks: o.Acks, Compression: o.Compression, BatchBytes: o.BatchBytes, OnBatch: told,
		})
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		all = append(all, p)
	}
	return all, closeAll, nil
}
