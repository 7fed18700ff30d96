package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	millstream "github.com/millstream-io/millstream/clients/go"
)

// consumeFlags are the flags of consume.
type consumeFlags struct {
	partition uint32
	from      string
	until     string
	most      int64
	rack      string
}

func (p *Program) consumeCommand() *cobra.Command {
	var f consumeFlags
	c := &cobra.Command{
		Use: "consume TOPIC", Short: "Print the records of a topic",
		Long: `Print the records of a topic: of all partitions unless one is named, and as
they come unless --until end. Order holds within a partition.

--from is earliest, latest, an OFFSET, -N for N before the end, or @TIME in
RFC 3339; OFFSET and -N count in each partition. --until end means the ends
that the partitions have when the command starts.

--rack reads from in-sync replicas on brokers of that rack, where there are any
and unless --until is given: name a broker there first in --addr.

-o value prints each value and a newline; json an object a line; anything else
is a format: %t topic, %p partition, %o offset, %k key, %v value, %T timestamp
in milliseconds, %h headers as k=v,k=v, %% a percent sign, \n, \t and \\. A
null prints as nothing.`,
		Example: `  millstream consume orders --from earliest --until end
  millstream consume orders --partition 0 --from -10 -n 10 -o json
  millstream consume orders --from @2026-01-31T12:00:00Z -o '%p %o %k %v\n'`,
		Args: takes("TOPIC"),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := f.options(c, args[0])
			if err != nil {
				return err
			}
			form, err := parseRecordForm(p.output, args[0])
			if err != nil {
				return misuse(c, "%v", err)
			}
			limit := int64(-1)
			if c.Flags().Changed("number") {
				limit = f.most
			}
			return p.consume(c.Context(), o, form, limit)
		},
	}
	flags := c.Flags()
	flags.Uint32Var(&f.partition, "partition", 0, "partition; all of them unless given")
	flags.StringVar(&f.from, "from", "earliest", "where to begin: earliest, latest, `OFFSET`, -N or @RFC3339")
	flags.StringVar(&f.until, "until", "", "where to end: end; follow unless given")
	flags.StringVar(&f.rack, "rack", "", "where this client stands: read from replicas in that `RACK`")
	flags.Int64VarP(&f.most, "number", "n", 0, "stop after `N` records")
	return c
}

func (f *consumeFlags) options(c *cobra.Command, topic string) (millstream.ReaderOptions, error) {
	o := millstream.ReaderOptions{Topic: topic, Rack: f.rack}
	switch f.until {
	case "":
	case "end":
		o.UntilEnd = true
	default:
		return o, misuse(c, "--until %q: must be end", f.until)
	}
	if c.Flags().Changed("number") && f.most < 0 {
		return o, misuse(c, "-n must not be negative")
	}
	if c.Flags().Changed("partition") {
		o.Partitions = []uint32{f.partition}
	}
	at, err := parsePosition(f.from)
	if err != nil {
		return o, misuse(c, "--from %v", err)
	}
	switch at.place {
	case placeEarliest:
		o.From = millstream.Earliest()
	case placeLatest:
		o.From = millstream.Latest()
	case placeOffset:
		o.From = millstream.AtOffset(at.n, millstream.NoEpoch)
	case placeBeforeEnd:
		o.From = millstream.BeforeEnd(at.n)
	case placeTime:
		o.From = millstream.AtTime(at.time)
	}
	return o, nil
}

// consume prints at most limit records; negative: no limit.
func (p *Program) consume(ctx context.Context, o millstream.ReaderOptions, form recordForm, limit int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client, err := p.client()
	if err != nil {
		return err
	}
	defer client.Close()
	reader, err := client.NewReader(ctx, o)
	if err != nil {
		return err
	}
	defer reader.Close()
	out := newLiveWriter(p.Out, func(err error) { cancel(err) })
	stop := watchHangup(p.Out, func(err error) { cancel(err) })
	err = p.printRecords(ctx, reader, out, form, limit)
	stop()
	if cerr := out.Close(); cerr != nil {
		return cerr
	}
	if errors.Is(err, errInterrupted) && !o.UntilEnd && limit < 0 {
		return nil // the way to end following
	}
	return err
}

// printRecords prints at most limit records. A partition that cannot be read is
// reported, and the others go on.
func (p *Program) printRecords(ctx context.Context, reader *millstream.Reader, out io.Writer, form recordForm, limit int64) error {
	var line []byte
	var lost error
	for n := int64(0); limit < 0 || n < limit; {
		r, err := reader.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return lost
		case ofPartition(err):
			p.report(err)
			lost = errReported
			continue
		case err != nil:
			return err
		}
		line = form.append(line[:0], r)
		if _, err := out.Write(line); err != nil {
			return err
		}
		n++
	}
	return lost
}

// ofPartition tells whether an error of a reader is about one partition.
func ofPartition(err error) bool {
	if e, ok := errors.AsType[*millstream.Error](err); ok {
		return e.Partition >= 0
	}
	_, damaged := errors.AsType[*millstream.DamagedError](err)
	return damaged
}

// liveDelay is how long written bytes may wait for others: short enough to be
// called live, long enough to make large writes of a fast stream.
const liveDelay = 5 * time.Millisecond

// liveWriter buffers what is written and passes it on within liveDelay. One
// goroutine writes; a timer flushes.
type liveWriter struct {
	onError func(error) // called once, with the error of a flush by the timer

	mu    sync.Mutex // guards the rest
	out   *bufio.Writer
	timer *time.Timer
	armed bool
	err   error
}

func newLiveWriter(w io.Writer, onError func(error)) *liveWriter {
	l := &liveWriter{out: bufio.NewWriterSize(w, 64<<10), onError: onError}
	l.timer = time.AfterFunc(time.Hour, l.tick)
	l.timer.Stop()
	return l
}

// Write takes bytes.
func (l *liveWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, l.err
	}
	if !l.armed {
		l.armed = true
		l.timer.Reset(liveDelay)
	}
	n, err := l.out.Write(b)
	l.err = err
	return n, err
}

func (l *liveWriter) tick() {
	l.mu.Lock()
	l.armed = false
	err := l.out.Flush()
	first := err != nil && l.err == nil
	if first {
		l.err = err
	}
	l.mu.Unlock()
	if first {
		l.onError(err)
	}
}

// Close passes on what is left.
func (l *liveWriter) Close() error {
	l.timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	l.err = l.out.Flush()
	return l.err
}
