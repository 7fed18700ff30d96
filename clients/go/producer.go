package millstream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/millstream-io/millstream/clients/go/internal/compress"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// Defaults and bounds of ProducerOptions.
const (
	DefaultBatchBytes  = 256 << 10
	DefaultBufferBytes = 32 << 20
	DefaultRetryFor    = 2 * time.Minute

	minBatchBytes = 1 << 10
	maxBatchBytes = 3 << 20
	// maxBatchRecords keeps the count of a batch far from its 32 bits.
	maxBatchRecords = 1 << 20
)

// ProducerOptions say how a producer works. Only Topic is required.
type ProducerOptions struct {
	// Topic to append to. It must exist.
	Topic string
	// Acks: AcksAll unless said.
	Acks Acks
	// Compression of batches: none unless said.
	Compression Compression
	// BatchBytes is when a batch is full, in bytes before compression: 1 KiB
	// to 3 MiB, and never more than `max.batch.bytes` of the topic.
	// 0: DefaultBatchBytes.
	BatchBytes int
	// BatchRecords is when a batch is full, in records. 0: no limit but bytes.
	BatchRecords int
	// Linger is how long a record may wait for others to share its batch. 0: a
	// record is sent at once when nothing of its partition is in flight; what
	// comes meanwhile shares the next batch.
	Linger time.Duration
	// BufferBytes bounds the memory of records not acknowledged yet: Append
	// blocks when it is used up. 0: DefaultBufferBytes.
	BufferBytes int
	// RetryFor is how long a batch is tried again, from its first record on,
	// before it fails with a GaveUpError. 0: DefaultRetryFor.
	RetryFor time.Duration
	// OnBatch is told of each batch that was acknowledged or that failed, in
	// order per partition. It is called from the goroutine that reads answers:
	// it must not block, and not call the producer.
	OnBatch func(BatchResult)
}

// BatchResult is what became of a batch.
type BatchResult struct {
	Place
	// Records is how many it has. Record k has offset Offset+k.
	Records int
	// Err is nil if they were acknowledged.
	Err error
}

// Place is where a record is.
type Place struct {
	Partition uint32
	// Offset is -1 with AcksNone and for records that were not acknowledged.
	Offset      int64
	LeaderEpoch int32
	// Scope and Medium say what the acknowledgement means, InSync how many
	// replicas were in sync.
	Scope  pb.AckScope
	Medium pb.AckMedium
	InSync uint32
}

// InvalidOptionError names an option that is not acceptable.
type InvalidOptionError struct{ Option, What string }

// Error names the option.
func (e *InvalidOptionError) Error() string {
	return fmt.Sprintf("millstream: option %s: %s", e.Option, e.What)
}

func (o ProducerOptions) withDefaults() ProducerOptions {
	if o.BatchBytes == 0 {
		o.BatchBytes = DefaultBatchBytes
	}
	if o.BatchRecords == 0 {
		o.BatchRecords = maxBatchRecords
	}
	if o.BufferBytes == 0 {
		o.BufferBytes = DefaultBufferBytes
	}
	if o.RetryFor == 0 {
		o.RetryFor = DefaultRetryFor
	}
	return o
}

func (o *ProducerOptions) validate() error {
	switch {
	case o.Topic == "":
		return &InvalidOptionError{"Topic", "is empty"}
	case o.BatchBytes < minBatchBytes || o.BatchBytes > maxBatchBytes:
		return &InvalidOptionError{"BatchBytes", "is not between 1 KiB and 3 MiB"}
	case o.BatchRecords < 1 || o.BatchRecords > maxBatchRecords:
		return &InvalidOptionError{"BatchRecords", "is not between 1 and 1,048,576"}
	case o.BufferBytes < 1<<20:
		return &InvalidOptionError{"BufferBytes", "is less than 1 MiB"}
	case o.Linger < 0 || o.RetryFor < 0:
		return &InvalidOptionError{"Linger and RetryFor", "must not be negative"}
	}
	return nil
}

// Producer appends records to one topic. It may be used by any number of
// goroutines; the records of each are kept in its order per partition.
//
// INVARIANT: every record that Append accepted is settled exactly once:
// acknowledged, or failed with an error that says whether it may have been
// written.
type Producer struct {
	client *Client
	opts   ProducerOptions // fixed at NewProducer
	topic  *pb.Topic
	// maxRecord is the largest record the topic takes, in bytes of its message.
	maxRecord int
	count     uint32 // of partitions
	encoder   *compress.Encoder

	ctx    context.Context //nolint:containedctx // ends the goroutines.
	cancel context.CancelFunc
	quit   chan struct{} // closed by Close when all is settled
	done   chan struct{} // closed when all senders have returned
	once   sync.Once     // guards closing quit

	// connecting ends when no connection to a leader is waited for any more.
	connecting     context.Context //nolint:containedctx // as ctx.
	stopConnecting context.CancelFunc
	directs        sync.WaitGroup // the senders of routes to leaders

	buffer // guarded by its mutex
}

// NewProducer returns a producer for a topic that exists. Close it.
func (c *Client) NewProducer(ctx context.Context, o ProducerOptions) (*Producer, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	encoder, err := compress.NewEncoder(o.Compression)
	if err != nil {
		return nil, &InvalidOptionError{"Compression", err.Error()}
	}
	topic, err := c.topic(ctx, "produce", o.Topic)
	if err != nil {
		return nil, err
	}
	if topic.GetPartitionCount() == 0 {
		return nil, fmt.Errorf("produce %s: the server says it has no partitions", o.Topic)
	}
	limit := setting(topic, "max.batch.bytes", maxBatchBytes)
	o.BatchBytes = min(o.BatchBytes, limit)
	p := &Producer{
		client: c, opts: o, topic: topic, count: topic.GetPartitionCount(), encoder: encoder,
		maxRecord: min(limit-maxFraming, setting(topic, "max.record.bytes", limit)),
		quit:      make(chan struct{}), done: make(chan struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(c.ctx)
	p.connecting, p.stopConnecting = context.WithCancel(p.ctx)
	p.init(c.pool, &p.opts, p.count, newRoute(c.addr), rand.N(p.count))
	if !c.onlyAddr {
		p.routes.begin = p.sendDirect
	}
	c.open.Go(p.run)
	return p, nil
}

// maxFraming is what a record's message takes at most beside its own bytes.
const maxFraming = 1 + 5

// setting returns a numeric setting of a topic, or otherwise.
func setting(t *pb.Topic, name string, otherwise int) int {
	v, err := strconv.ParseInt(t.GetConfig()[name], 10, 64)
	if err != nil || v <= 0 || v > int64(otherwise) {
		return otherwise
	}
	return int(v)
}

// Partitions returns the number of partitions of the topic.
func (p *Producer) Partitions() uint32 { return p.count }

// Append hands a record over, to the partition of its key, or to any if it
// has none, and returns at once. It blocks only while the buffer is full,
// until ctx ends. The record's bytes are copied: they may be used again.
//
// What becomes of the record is told by the Pending, which may be dropped, by
// OnBatch, and by the error of Flush and Close.
func (p *Producer) Append(ctx context.Context, r Record) (Pending, error) {
	var l *lane
	if r.Key != nil {
		l = &p.lanes[partitionForKey(r.Key, p.count)]
	}
	return p.append(ctx, l, &r)
}

// AppendTo is Append to a given partition. If the topic has none of that number
// the error is an InvalidRecordError, and an Error with its reason.
func (p *Producer) AppendTo(ctx context.Context, partition uint32, r Record) (Pending, error) {
	if partition >= p.count {
		return Pending{}, unknownPartition("produce", p.opts.Topic, partition, &InvalidRecordError{
			Field: "partition", What: fmt.Sprintf("topic %s has no partition %d", p.opts.Topic, partition),
			Limit: int64(p.count) - 1, Actual: int64(partition),
		})
	}
	return p.append(ctx, &p.lanes[partition], &r)
}

// AppendSync is Append and Wait: it returns when the record is acknowledged.
func (p *Producer) AppendSync(ctx context.Context, r Record) (Place, error) {
	pending, err := p.Append(ctx, r)
	if err != nil {
		return Place{Offset: -1}, err
	}
	return pending.Wait(ctx)
}

// recordTooLarge says which setting of the topic a record of n bytes is over: a
// batch has to hold it too.
func (p *Producer) recordTooLarge(n int) error {
	name := "max.record.bytes"
	if p.maxRecord < setting(p.topic, name, math.MaxInt) {
		name = "max.batch.bytes"
	}
	return &InvalidRecordError{
		Field: "size", What: fmt.Sprintf("is %d bytes; topic %s takes %d (%s)", n, p.opts.Topic, p.maxRecord, name),
		Limit: int64(p.maxRecord), Actual: int64(n),
	}
}

// append puts a record into the open batch of l, or of the partition whose
// turn it is for records without a key.
func (p *Producer) append(ctx context.Context, l *lane, r *Record) (Pending, error) {
	n := recordSize(r)
	if n > p.maxRecord {
		return Pending{}, p.recordTooLarge(n)
	}
	if len(r.Headers) > 0 || !r.Time.IsZero() {
		if err := checkRest(r); err != nil {
			return Pending{}, err
		}
	}
	size := sizeBytes(n)
	p.mu.Lock()
	for {
		at := l
		if at == nil {
			at = &p.lanes[p.sticky]
		}
		if b := at.open; b != nil && size <= b.limit-len(b.bytes) && !p.closed {
			pos := len(b.bytes)
			b.bytes = b.bytes[:pos+size]
			putRecord(b.bytes[pos:], r, n)
			index := b.records
			b.records++
			// A batch that has no room for another such record is not kept
			// waiting for one.
			if size > p.opts.BatchBytes-len(b.bytes) || b.records >= p.opts.BatchRecords {
				p.seal(at)
			}
			p.mu.Unlock()
			return Pending{out: b.out, index: index}, nil
		}
		if err := p.makeRoom(ctx, p.ctx, at, size); err != nil {
			p.mu.Unlock()
			return Pending{}, err
		}
	}
}

// Flush sends what waits and returns when every record handed over before is
// settled, or ctx ends. It returns an UnacknowledgedError if records failed
// since the last Flush, whoever handed them over.
func (p *Producer) Flush(ctx context.Context) error {
	for _, out := range p.flush() {
		select {
		case <-out.done:
		case <-ctx.Done():
			return fmt.Errorf("flush %s: %w", p.opts.Topic, context.Cause(ctx))
		}
	}
	return p.failures()
}

// Close refuses further records, flushes, and ends the stream. If ctx ends
// before everything is settled, what was not sent fails with ErrClosed (and with
// what the server said, if it was to be sent again) and what was sent and not
// answered with an UnknownOutcomeError.
func (p *Producer) Close(ctx context.Context) error {
	p.close()
	err := p.Flush(ctx)
	p.once.Do(func() {
		close(p.quit)
		p.stopConnecting()
	})
	if ctx.Err() != nil {
		p.cancel()
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.cancel()
		<-p.done
	}
	p.cancel()
	return errors.Join(err, p.failures())
}

// Pending is a record that was handed over. It may be kept as long as it is
// wanted, copied, or dropped; it takes no memory of its own.
type Pending struct {
	out   *outcome
	index int
}

// Done is closed when the record is settled.
func (p Pending) Done() <-chan struct{} { return p.out.done }

// Wait returns where the record is once it is acknowledged, or why it failed.
// When ctx ends first the record is not taken back: it may still be written.
func (p Pending) Wait(ctx context.Context) (Place, error) {
	select {
	case <-p.out.done:
	default:
		select {
		case <-p.out.done:
		case <-ctx.Done():
			return Place{Offset: -1}, context.Cause(ctx)
		}
	}
	place := p.out.place
	if place.Offset >= 0 {
		place.Offset += int64(p.index)
	}
	return place, p.out.err
}

// outcome is what becomes of a batch. Its fields are written before done is
// closed and not after.
type outcome struct {
	done  chan struct{}
	place Place
	err   error
}
