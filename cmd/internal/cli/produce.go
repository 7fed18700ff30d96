package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	millstream "github.com/millstream-io/millstream/clients/go"
)

// closeTimeout is how long an interrupted command waits for what is on its
// way.
const closeTimeout = 5 * time.Second

func (p *Program) produceCommand() *cobra.Command {
	var f produceFlags
	c := &cobra.Command{
		Use: "produce TOPIC", Short: "Append the lines of standard input to a topic",
		Long: `Append the lines of standard input to a topic, a record a line. The bytes of a
line without its newline are the value, verbatim. Exit code 0 says that every
record was acknowledged. What surely was not written is sent again by itself, for
two minutes; a record of which nobody knows whether it was written ends the
command with exit code 1, since sending it again could double it.

With --format ndjson each line must be JSON; --key-path takes the key from it:
the bytes of a string, the text of a number or boolean; null or absent is no
key. A line that is not JSON ends the command with exit code 1, after the lines
before it are acknowledged.

With --null-value records have no value (tombstones); with --key-separator only
those with nothing behind the separator. With --key and --null-value, input
that is empty is one record.`,
		Example: `  echo hello | millstream produce orders
  millstream produce orders --format ndjson --key-path customer.id < orders.ndjson
  printf 'k1:v1\nk2:v2\n' | millstream produce orders --key-separator :
  millstream produce orders --key k1 --null-value < /dev/null`,
		Args: takes("TOPIC"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := p.checkOutput(c); err != nil {
				return err
			}
			shape, err := f.shape(c)
			if err != nil {
				return err
			}
			opts, err := f.options(c, args[0])
			if err != nil {
				return err
			}
			return p.produce(c.Context(), opts, f.partition(c), shape)
		},
	}
	f.register(c)
	return c
}

// production is a run of produce.
type production struct {
	producer  *millstream.Producer
	partition *uint32
	shape     *recordShape
	start     time.Time

	acknowledged, failed atomic.Int64 // records; written by OnBatch
	bytes                atomic.Int64 // of values handed over
}

func (p *Program) produce(ctx context.Context, o millstream.ProducerOptions, partition *uint32, shape *recordShape) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	defer client.Close()
	run := &production{partition: partition, shape: shape, start: time.Now()}
	o.OnBatch = run.settled
	if run.producer, err = client.NewProducer(ctx, o); err != nil {
		return err
	}
	stop := p.progress(run.line)
	err = run.readAll(ctx, p.In)
	err = errors.Join(err, run.close(ctx))
	stop()
	p.done("%s", run.summary())
	return firstOf(err)
}

// settled counts what became of a batch.
func (r *production) settled(b millstream.BatchResult) {
	if b.Err != nil {
		r.failed.Add(int64(b.Records))
		return
	}
	r.acknowledged.Add(int64(b.Records))
}

// readAll hands every line over. It returns at the end of the input, at the
// first line that is no record, at the first batch that fails, and when ctx
// ends; a read that waits for input is then left behind.
func (r *production) readAll(ctx context.Context, in io.Reader) error {
	done := make(chan error, 1)
	go func() { done <- r.read(ctx, in) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *production) read(ctx context.Context, in io.Reader) error {
	lines := newLineReader(in)
	for {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			if lines.n == 0 && r.shape.onEmpty() {
				return r.append(ctx, r.shape.null())
			}
			return nil
		}
		if err != nil {
			return err
		}
		if r.failed.Load() > 0 { // Close says why
			return nil
		}
		record, err := r.shape.record(line)
		if err != nil {
			return &lineError{lines.n, err.Error()}
		}
		if err := r.append(ctx, record); err != nil {
			if bad, ok := errors.AsType[*millstream.InvalidRecordError](err); ok && bad.Field != "partition" { // that is of all lines
				return &lineError{lines.n, bad.Error()}
			}
			return err
		}
	}
}

func (r *production) append(ctx context.Context, record millstream.Record) error {
	var err error
	if r.partition != nil {
		_, err = r.producer.AppendTo(ctx, *r.partition, record)
	} else {
		_, err = r.producer.Append(ctx, record)
	}
	if err == nil {
		r.bytes.Add(int64(len(record.Value)))
	}
	return err
}

// close waits for what was handed over: as long as the producer tries, or for
// closeTimeout once ctx has ended.
func (r *production) close(ctx context.Context) error {
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(closeTimeout, cancel) })
	defer stop()
	return r.producer.Close(patient)
}

// firstOf returns the error that tells most of several joined ones: a line of
// the input, then what the server said.
func firstOf(err error) error {
	if bad, ok := errors.AsType[*lineError](err); ok {
		return bad
	}
	return err
}

func (r *production) line() string {
	return counted(r.acknowledged.Load(), "record", "records") + " acknowledged"
}

func (r *production) summary() string {
	n, took := r.acknowledged.Load(), time.Since(r.start)
	if f := r.failed.Load(); f > 0 {
		return fmt.Sprintf("%s acknowledged in %s, %d failed", counted(n, "record", "records"), took.Round(time.Millisecond), f)
	}
	return fmt.Sprintf("%s acknowledged in %s (%.0f records/s, %.1f MB/s)", counted(n, "record", "records"), took.Round(time.Millisecond),
		float64(n)/took.Seconds(), float64(r.bytes.Load())/1e6/took.Seconds())
}

// progress shows a line on a terminal twice a second until the returned
// function is called, which waits for it to end.
func (p *Program) progress(line func() string) (stop func()) {
	if !isTerminal(p.Err) {
		return func() {}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_, _ = fmt.Fprintf(p.Err, "\r\x1b[K%s", line())
			case <-quit:
				_, _ = fmt.Fprint(p.Err, "\r\x1b[K")
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-ended
	}
}
