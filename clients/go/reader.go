package millstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/clients/go/internal/compress"
	"github.com/millstream-io/millstream/clients/go/internal/wire"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Defaults and bounds of ReaderOptions.
const (
	DefaultFetchBytes = 16 << 20
	DefaultFrameBytes = 256 << 10
	DefaultReadRetry  = time.Minute

	// minFetchBytes leaves credit for the largest frame also when a quarter
	// of it has been used and not been given back yet.
	minFetchBytes = 8 << 20
	minFrameBytes = 4 << 10
	maxFrameBytes = 3 << 20
	// maxFrames bounds the frames that wait for Next.
	maxFrames = 256
)

// ReaderOptions say what a reader reads. Only Topic is required.
type ReaderOptions struct {
	// Topic to read.
	Topic string
	// Partitions to read. None: all.
	Partitions []uint32
	// From is where to begin in every partition: the earliest record unless
	// said.
	From Position
	// Positions overrule From for the partitions that they name.
	Positions map[uint32]Position
	// UntilEnd finishes at the ends that the partitions have when the reader
	// begins. Otherwise it follows.
	UntilEnd bool
	// BufferBytes is the credit given to the server: what may be on its way or
	// wait for Next, in bytes as stored; for a moment more while streams to more
	// brokers begin. They share it, 8 MiB each at least. At least 8 MiB. 0:
	// DefaultFetchBytes.
	BufferBytes int
	// FrameBytes is the most that the server sends at once, unless a batch is
	// larger: 4 KiB to 3 MiB. 0: DefaultFrameBytes.
	FrameBytes int
	// Rack is where the client stands: records are read from an in-sync replica
	// on a broker of that rack, if there is one, else from the leader. Name a
	// broker there first in Options.Addr, or another has to pass them on. A
	// follower knows of a record a little later than the leader. Empty: the
	// leader. At most 255 bytes.
	Rack string
	// RetryFor is how long to go on trying when nothing can be read. 0:
	// DefaultReadRetry; negative: for ever.
	RetryFor time.Duration
	// PastDivergence goes on at the safe offset that a leader names when the
	// log has another history than what was read: what was read from there on
	// is no longer in the log, and other records take its place, with the same
	// offsets. Otherwise the partition ends with an [Error] that has a
	// Divergence.
	PastDivergence bool
}

func (o ReaderOptions) withDefaults() ReaderOptions {
	if o.BufferBytes == 0 {
		o.BufferBytes = DefaultFetchBytes
	}
	if o.FrameBytes == 0 {
		o.FrameBytes = DefaultFrameBytes
	}
	switch {
	case o.RetryFor == 0:
		o.RetryFor = DefaultReadRetry
	case o.RetryFor < 0:
		o.RetryFor = math.MaxInt64
	}
	return o
}

func (o *ReaderOptions) validate() error {
	switch {
	case o.Topic == "":
		return &InvalidOptionError{"Topic", "is empty"}
	case o.BufferBytes < minFetchBytes:
		return &InvalidOptionError{"BufferBytes", "is less than 8 MiB"}
	case o.FrameBytes < minFrameBytes || o.FrameBytes > maxFrameBytes:
		return &InvalidOptionError{"FrameBytes", "is not between 4 KiB and 3 MiB"}
	}
	return nil
}

// Reader reads partitions of one topic. Next, Records and Position are for
// one goroutine; Close may be called from any.
//
// INVARIANT: the records of a partition are delivered in order, each once,
// from its position on, whatever happens to the stream in between.
type Reader struct {
	client *Client
	opts   ReaderOptions // fixed at NewReader
	topic  *pb.Topic

	ctx    context.Context //nolint:containedctx // ends the goroutines.
	cancel context.CancelFunc
	done   chan struct{} // closed when the sender has returned

	// frames are what the receiver hands over, in order. The sender closes it
	// when all is read; final is set before: io.EOF or why the reader gave up.
	frames chan *frame
	final  error

	pooled sync.Pool // of *frame

	subs    subscriptions
	share   atomic.Int64   // of BufferBytes for a route, in bytes
	directs sync.WaitGroup // the senders of routes to leaders
	// connecting ends when no connection to a leader is waited for any more.
	connecting     context.Context //nolint:containedctx // as ctx.
	stopConnecting context.CancelFunc

	// What follows belongs to the goroutine that calls Next.
	cursor  cursor
	record  FetchedRecord
	current *frame
	batch   int   // index of the next batch of current
	from    int64 // records before it are skipped
	to      int64 // records from it on are skipped
	at      *progress
	reached map[uint32]*progress
	decoder compress.Decoder
	names   names
}

// progress is how far Next has come in a partition.
type progress struct {
	start         Position // until something is read
	offset        int64    // of the next record, -1 until known
	epoch         int32
	highWatermark int64
	over          bool // damaged: what still comes is not wanted
}

// frame is a FetchResponse on its way to Next, with the bytes it points into.
type frame struct {
	wire.Frame

	route *route // that it came on
	buf   *[]byte
	to    int64 // records from it on are not wanted
	err   error // to return once the records are
}

// NewReader returns a reader of a topic that exists. Close it.
func (c *Client) NewReader(ctx context.Context, o ReaderOptions) (*Reader, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	topic, err := c.topic(ctx, "fetch", o.Topic)
	if err != nil {
		return nil, err
	}
	r := &Reader{
		client: c, opts: o, topic: topic, done: make(chan struct{}),
		frames:  make(chan *frame, maxFrames),
		reached: make(map[uint32]*progress),
	}
	r.subs.routes.own = newRoute(c.addr)
	if !c.onlyAddr {
		r.subs.routes.begin = r.readDirect
		r.subs.brokers = slices.Clone(c.addrs)
	}
	r.cursor.names = &r.names
	r.pooled.New = func() any { return new(frame) }
	partitions := o.Partitions
	if len(partitions) == 0 {
		for p := range topic.GetPartitionCount() {
			partitions = append(partitions, p)
		}
	}
	for _, p := range partitions {
		if p >= topic.GetPartitionCount() {
			return nil, unknownPartition("fetch", o.Topic, p, &InvalidOptionError{"Partitions", fmt.Sprintf("topic %s has no partition %d", o.Topic, p)})
		}
		if r.reached[p] != nil {
			return nil, &InvalidOptionError{"Partitions", fmt.Sprintf("partition %d is named twice", p)}
		}
		start, ok := o.Positions[p]
		if !ok {
			start = o.From
		}
		r.reached[p] = &progress{start: start, offset: -1, epoch: NoEpoch}
		r.subs.add(p, start)
	}
	r.share.Store(int64(o.BufferBytes))
	r.ctx, r.cancel = context.WithCancel(c.ctx)
	r.connecting, r.stopConnecting = context.WithCancel(r.ctx)
	c.open.Go(r.run)
	return r, nil
}

// Next returns the next record. It blocks until there is one or ctx ends.
//
// BORROWED: the record and its bytes are valid until the next call of Next,
// or Close; Clone it to keep it.
//
// io.EOF says that every partition is finished. An [Error] with a partition,
// or a [DamagedError], says that this partition is over; Next goes on with
// the others. After any other error of the reader (not of ctx) there is
// nothing more.
func (r *Reader) Next(ctx context.Context) (*FetchedRecord, error) {
	for {
		for r.cursor.next(&r.record) {
			if r.record.Offset < r.from || r.record.Offset >= r.to {
				continue
			}
			r.at.offset, r.at.epoch = r.record.Offset+1, r.record.LeaderEpoch
			return &r.record, nil
		}
		if err := r.advance(ctx); err != nil {
			return nil, err
		}
	}
}

// Records returns an iterator over the records, as Next gives them. It ends
// at io.EOF, and after an error.
func (r *Reader) Records(ctx context.Context) iter.Seq2[*FetchedRecord, error] {
	return func(yield func(*FetchedRecord, error) bool) {
		for {
			record, err := r.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}

// Position returns the position after the last record that Next returned of a
// partition, to resume from, and the offset after the last readable record as
// last heard, -1 if nothing was heard yet.
func (r *Reader) Position(partition uint32) (position Position, highWatermark int64) {
	p := r.reached[partition]
	switch {
	case p == nil:
		return Position{}, -1
	case p.offset < 0:
		return p.start, -1
	}
	return AtOffset(p.offset, p.epoch), p.highWatermark
}

// Close ends the reader.
func (r *Reader) Close() {
	r.cancel()
	<-r.done
}

// advance goes to the next batch, of this frame or of the next that comes.
func (r *Reader) advance(ctx context.Context) error {
	f := r.current
	if f != nil && !r.cursor.finish() {
		return r.damaged(&wire.MalformedError{Message: "RecordBatch", What: "does not hold the records that it promises"})
	}
	if f != nil && r.batch < len(f.Batches) {
		l := &f.Batches[r.batch]
		r.batch++
		return r.enter(l)
	}
	if f != nil {
		err := f.err
		if err == nil {
			r.at.offset, r.at.highWatermark = max(r.at.offset, min(f.NextOffset, f.to)), f.HighWatermark
		}
		r.leave()
		if err != nil {
			return err
		}
	}
	return r.await(ctx)
}

// await takes the next frame.
func (r *Reader) await(ctx context.Context) error {
	var f *frame
	var ok bool
	select {
	case f, ok = <-r.frames:
	default:
		select {
		case f, ok = <-r.frames:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if !ok {
		return r.final
	}
	r.at = r.reached[f.Partition]
	if r.at.over {
		r.release(f)
		return nil
	}
	r.current, r.batch, r.from, r.to = f, 0, f.FirstOffset, f.to
	r.record.Partition = f.Partition
	return nil
}

// enter begins a batch.
func (r *Reader) enter(l *wire.LogBatch) error {
	switch {
	case l.IsControl():
		return nil
	case !l.IsReadable():
		return r.damaged(fmt.Errorf("batch has attributes %#x, which this version cannot read", l.Attributes))
	case l.Compression() == 0:
		r.cursor.start(l, l.Bytes)
		return nil
	}
	packed, err := wire.Compressed(l.Bytes)
	if err != nil {
		return r.damaged(err)
	}
	records, err := r.decoder.Decode(pb.Compression(l.Compression()), packed, compress.MaxDecompressed)
	if err != nil {
		return r.damaged(err)
	}
	r.cursor.start(l, records)
	return nil
}

// damaged ends a partition at what cannot be read.
func (r *Reader) damaged(cause error) error {
	f := r.current
	err := &DamagedError{Topic: r.opts.Topic, Partition: f.Partition, Offset: max(r.at.offset, f.FirstOffset), Cause: cause}
	r.subs.end(f.Partition)
	r.at.over = true
	r.leave()
	r.subs.notifyAll()
	return err
}

// leave gives the bytes and the credit of the current frame back.
func (r *Reader) leave() {
	f := r.current
	r.current, r.cursor = nil, cursor{names: &r.names}
	r.release(f)
}

func (r *Reader) release(f *frame) {
	rt := f.route
	freed := rt.freed.Add(int64(f.CreditUsed))
	r.client.pool.Put(f.buf)
	*f = frame{Frame: wire.Frame{Batches: f.Batches[:0]}}
	r.pooled.Put(f)
	if freed-rt.asked.Load() >= r.share.Load()/4 {
		rt.notify()
	}
}
