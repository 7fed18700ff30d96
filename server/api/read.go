package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/record"
)

// readBytes is how much of a log a Read takes at once.
const readBytes = 256 << 10

// readCall is one Read. The handler's goroutine decides when it ends; run reads
// and sends.
type readCall struct {
	s     *BrokerService
	ctx   context.Context
	form  pb.ReadForm
	topic metadata.TopicID
	id    uint32

	part   *partition.Partition
	reader *partition.Reader
	near   *nearEnd // of one that a replica near serves to its end; nil: another one

	next   record.Offset
	goal   goal
	left   uint64 // records to send; meaningful if capped
	capped bool

	mem  *reading
	out  *frameWriter
	more chan struct{} // capacity 1; readable when the partition woke it
}

// Read returns plain records.
func (s *BrokerService) Read(r *pb.ReadRequest, stream grpc.ServerStreamingServer[pb.ReadResponse]) error {
	if _, known := pb.ReadForm_name[int32(r.GetForm())]; !known {
		return fieldFault("form", "is no value of ReadForm")
	}
	if err := sendUncompressed(stream); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(errFinished)
	topic, err := s.topicOf(ctx, r.GetTopic(), r.GetMinRevision())
	if err != nil {
		return err
	}
	if err := checkSeenEnd(r.End, !r.GetFollow(), "goes without follow only"); err != nil {
		return err
	}
	if err := expected(ctx, s.metadata, topic, r.GetPartition()); err != nil {
		return err
	}
	near, err := s.readNear(ctx, topic, r)
	if err != nil {
		return err
	}
	if near != nil {
		if err := s.read(ctx, cancel, r, stream, near); err != nil {
			return err
		}
		return near.ended()
	}
	p := &passage{s: s, topic: topic, asked: r, stream: stream, cancel: cancel, end: seenEnd(r.End)}
	part, err := p.locate(ctx)
	if e, ok := errors.AsType[*readOver](err); ok {
		return e.cause
	}
	if err != nil || part == nil {
		return err
	}
	c, err := p.here(ctx, part)
	if err != nil {
		return err
	}
	if err := s.read(ctx, cancel, p.request(), stream, c); err != nil {
		return err
	}
	return c.ended()
}

// ended returns why a Read that was served has less than it should; nil: it has
// not, or has as much as was asked for.
//
// REQUIRES: run has returned.
func (c *readCall) ended() error {
	if enough := c.capped && c.left == 0; c.goal.short != nil && !enough {
		return c.failed(c.goal.short)
	}
	return nil
}

// here begins a Read of a partition that this broker leads, or goes on with one
// that others led so far.
func (p *passage) here(ctx context.Context, part *partition.Partition) (*readCall, error) {
	c := &readCall{topic: p.topic.ID, part: part, reader: part.NewReader(), goal: goal{end: noEnd}}
	since := partition.Uptime()
	var err error
	if c.next, err = startOf(ctx, part, p.request(), since); err != nil {
		return nil, err
	}
	if !p.asked.GetFollow() {
		if c.goal, err = goalOf(ctx, part, p.end, since); err != nil {
			return nil, err
		}
	}
	began := forward.Began{Start: c.next, Epoch: part.EpochBefore(c.next), End: c.goal.end}
	return c, began.Say(ctx)
}

// read sends what c begins with, until its end.
func (s *BrokerService) read(ctx context.Context, cancel context.CancelCauseFunc, r *pb.ReadRequest, stream grpc.ServerStream, c *readCall) error {
	c.s, c.ctx, c.form, c.id = s, ctx, r.GetForm(), r.GetPartition()
	c.left, c.capped, c.more = r.GetMaxRecords(), r.GetMaxRecords() > 0, make(chan struct{}, 1)
	c.mem = newReading(s.reading)
	c.out = newFrameWriter(stream, s.limits.StallTimeout, s.endStalled(cancel))
	c.out.lent = c.mem
	s.metrics.fetchStreams.Inc()
	defer s.metrics.fetchStreams.Dec()
	ends := c.goal.end >= 0 // run may change where
	s.streams.Go(func() {
		defer c.mem.rest()
		cancel(c.run())
	})
	err := c.decide(ends)
	s.endReading(stream.Context(), c.mem)
	return err
}

// startOf returns the offset where a Read begins.
func startOf(ctx context.Context, p *partition.Partition, r *pb.ReadRequest, since time.Duration) (record.Offset, error) {
	hasEpoch := r.LeaderEpoch != nil && r.GetLeaderEpoch() != -1
	if _, isOffset := r.GetStart().(*pb.ReadRequest_Offset); hasEpoch && !isOffset {
		return 0, fieldFault("leader_epoch", "goes with an offset only")
	}
	switch at := r.GetStart().(type) {
	case *pb.ReadRequest_Offset:
		return offsetOf(ctx, p, at.Offset, r.GetLeaderEpoch(), hasEpoch, since)
	case *pb.ReadRequest_Time:
		return timeOf(ctx, p, "time", at.Time, since)
	case *pb.ReadRequest_BeforeEnd:
		return beforeEnd(ctx, p, "before_end", at.BeforeEnd, since)
	case *pb.ReadRequest_Latest:
		if at.Latest {
			return freshEnd(ctx, p, since)
		}
	}
	return p.State().LogStart, nil
}

// decide waits for the first reason to end; ends says that it does by itself.
func (c *readCall) decide(ends bool) error {
	draining := c.s.draining
	if ends {
		draining = nil // unless it is cut
	}
	select {
	case <-c.ctx.Done():
		cause := context.Cause(c.ctx)
		if errors.Is(cause, errFinished) {
			return nil
		}
		return cause
	case <-draining:
		return rpc.ShuttingDownFault()
	}
}

// run sends records until the end.
func (c *readCall) run() error {
	defer c.reader.Close()
	for c.goal.end < 0 || c.next < c.goal.end {
		if c.capped && c.left == 0 {
			return errFinished
		}
		// All that a first message may need: so each turn gets on.
		if err := c.mem.reserve(c.ctx, readReserve(readBytes, 0)+record.MaxDecompressedBytes+readMessageReserve); err != nil {
			return err
		}
		got, err := c.reader.Read(c.next, readBytes, c.mem.alloc)
		if isType[*partition.NotFreshError](err) {
			c.mem.rest()
			if err := c.part.AwaitCurrent(c.ctx); err != nil {
				return c.failed(err)
			}
			continue
		}
		if err != nil {
			return c.failed(err)
		}
		if len(got.Bytes) == 0 {
			c.mem.rest()
			if err := c.await(); err != nil {
				return err
			}
			continue
		}
		size, whole := len(got.Bytes), true
		for rest := got.Bytes; len(rest) > 0 && whole; {
			h, batch, size, err := record.ParseLogBatch(rest)
			if err != nil {
				return c.failed(err)
			}
			rest = rest[size:]
			if whole, err = c.sendBatch(&h, batch); err != nil {
				return err
			}
			if whole { // so that each turn gets on, whatever is in the batch
				c.next = max(c.next, h.End())
			}
		}
		if whole { // else from where it is, once more
			c.s.metrics.fetchBytes.Add(float64(size))
			c.next = max(c.next, got.Next)
		}
		c.mem.drop()
	}
	return errFinished
}

func (c *readCall) failed(err error) error {
	f := c.s.faultAt(c.topic, c.id, err)
	c.s.metrics.fetchErrors.WithLabelValues(reasonLabel(f.Reason)).Inc()
	return f
}

// await waits until there is more to read.
func (c *readCall) await() error {
	if !c.reader.Notify(c, c.next) {
		return nil
	}
	// Once it is armed: a leader that comes later wakes it.
	if c.near.outdated(c.part) {
		c.part.Cancel(c)
		return c.seeEndAgain()
	}
	select {
	case <-c.more:
		return nil
	case <-c.ctx.Done():
		c.part.Cancel(c)
		return context.Cause(c.ctx)
	}
}

// Wake lets run go on.
func (c *readCall) Wake() { wake(c.more) }

const (
	// smallMessage is a message of Read that does not count in the budget: the
	// transport takes no more than one beyond 64 KiB of them.
	smallMessage = 64 << 10
	// readMessageReserve is what the largest message of Read may need: a value
	// shown as JSON beside key and headers.
	readMessageReserve = (maxJSONBytes + record.MaxRecordBytes + smallMessage) * 5 / 4
)

// sendBatch sends the records of a batch that were asked for. It returns false
// if what is left is to be read again, since the budget has no more at once or
// the client did not read for long.
func (c *readCall) sendBatch(h *record.Header, batch []byte) (whole bool, err error) {
	it := &c.mem.batch.it
	if h.Attributes.Compression() != record.None {
		// The first message's reserve stays until then, if it is still there.
		need := c.mem.hold() + record.MaxDecompressedBytes - min(it.Held(), record.MaxDecompressedBytes)
		if !c.mem.grow(need - c.mem.own) {
			return false, nil
		}
	}
	it.ResetLogBatch(h, batch)
	c.mem.keep(c.mem.hold() + readMessageReserve)
	for it.Next() {
		offset := it.Offset()
		if offset < c.next {
			continue
		}
		if (c.goal.end >= 0 && offset >= c.goal.end) || (c.capped && c.left == 0) {
			return false, errFinished
		}
		m := &pb.ReadResponse{
			Partition: c.id, Offset: int64(offset), LeaderEpoch: int32(h.LeaderEpoch), Time: timestampOf(it.TimestampMs()),
		}
		fill(m, it.Record(), c.form)
		b, ok, err := c.encode(m)
		if err != nil || !ok {
			return false, err
		}
		c.s.metrics.fetchRecords.Inc()
		c.next = offset + 1
		c.left--
		if kept, err := c.send(b); err != nil || !kept {
			return false, err
		}
	}
	if err := it.Err(); err != nil {
		return false, c.failed(err)
	}
	return true, nil
}

// encode encodes a message. It returns false if the budget has no room for it
// at once.
func (c *readCall) encode(m *pb.ReadResponse) (b *[]byte, ok bool, err error) {
	b = c.out.buffer(proto.Size(m))
	if need := c.mem.hold() + cap(*b); cap(*b) > smallMessage && !c.mem.grow(need-c.mem.own) {
		rpc.SharedPool().Put(b)
		return nil, false, nil
	}
	enc, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend((*b)[:0], m)
	if err != nil {
		rpc.SharedPool().Put(b)
		return nil, false, err
	}
	*b = enc
	return b, true, nil
}

// send sends an encoded message. It returns false if the memory of the batch
// was given up meanwhile.
func (c *readCall) send(b *[]byte) (kept bool, err error) {
	counted := cap(*b) > smallMessage
	if counted {
		c.mem.keep(c.mem.hold() + cap(*b))
	} else {
		c.mem.keep(c.mem.hold())
	}
	parked := c.mem.parkBatch()
	if counted {
		err = c.out.lend(b)
	} else {
		err = c.out.write(b)
	}
	return c.mem.unparkBatch(parked), err
}

// timestampOf returns a time that every client can hold: years 1 to 9999.
func timestampOf(ms int64) *timestamppb.Timestamp {
	const first, last = -62_135_596_800_000, 253_402_300_799_999
	ms = min(max(ms, first), last)
	seconds, rest := ms/1000, ms%1000
	if rest < 0 {
		seconds, rest = seconds-1, rest+1000
	}
	return &timestamppb.Timestamp{Seconds: seconds, Nanos: int32(rest * 1e6)}
}

// fill puts key, value and headers into a response, in the form asked for.
func fill(m *pb.ReadResponse, r *record.Record, form pb.ReadForm) {
	asText := func(b []byte) bool { return form != pb.ReadForm_READ_FORM_BYTES && utf8.Valid(b) }
	switch {
	case r.Key == nil:
	case asText(r.Key):
		m.KeyForm = &pb.ReadResponse_KeyText{KeyText: string(r.Key)}
	default:
		m.KeyForm = &pb.ReadResponse_Key{Key: r.Key}
	}
	switch {
	case r.Value == nil:
	case form == pb.ReadForm_READ_FORM_JSON && fillJSON(m, r.Value):
	case asText(r.Value):
		m.ValueForm = &pb.ReadResponse_Text{Text: string(r.Value)}
	default:
		m.ValueForm = &pb.ReadResponse_Value{Value: r.Value}
	}
	for i := range r.Headers {
		h := &r.Headers[i]
		out := &pb.AppendHeader{Key: string(h.Key)}
		switch {
		case h.Value == nil:
		case asText(h.Value):
			out.ValueForm = &pb.AppendHeader_Text{Text: string(h.Value)}
		default:
			out.ValueForm = &pb.AppendHeader_Value{Value: h.Value}
		}
		m.Headers = append(m.Headers, out)
	}
}

// maxJSONDepth bounds the nesting of values shown as JSON; deeper ones are
// shown as text. A level is three messages, and protobuf parsers of other
// languages refuse more than 100 within one another.
const maxJSONDepth = 30

// maxJSONBytes bounds the messages of a value shown as JSON, which may be six
// times as large as its text, so that clients can receive them.
const maxJSONBytes = 2 << 20

// fillJSON sets the value if it is JSON.
func fillJSON(m *pb.ReadResponse, b []byte) bool {
	var v any
	if json.Unmarshal(b, &v) != nil || deeper(v, maxJSONDepth) {
		return false
	}
	value, err := structpb.NewValue(v)
	if err != nil || proto.Size(value) > maxJSONBytes {
		return false
	}
	m.ValueForm = &pb.ReadResponse_Json{Json: value}
	return true
}

// deeper tells whether a JSON value has more than so many levels.
func deeper(v any, levels int) bool {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if levels == 0 || deeper(e, levels-1) {
				return true
			}
		}
	case map[string]any:
		for _, e := range v {
			if levels == 0 || deeper(e, levels-1) {
				return true
			}
		}
	}
	return false
}
