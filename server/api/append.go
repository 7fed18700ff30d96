package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/record"
)

// appendCall is one Append: a batch for each partition, and what became of it.
// It outlives a caller that gives up, until its partitions are done.
type appendCall struct {
	s       *BrokerService
	topic   *metadata.Topic
	request *pb.AppendRequest
	parts   []*appendPart
	byID    map[uint32]*appendPart
	places  []place // of the records, in the order of the request
	pending atomic.Int32
	done    chan struct{} // closed when no partition has a part
}

// appendPart is what a call appends to one partition.
type appendPart struct {
	partition.Request
	call  *appendCall
	id    uint32
	bytes []byte
	count int64 // records
	held  int   // bytes taken from the budget
	fault *rpc.Fault
	away  bool // another broker appends it
}

// place is where a record is: so many records into a part.
type place struct {
	part  *appendPart
	delta int64
}

// Complete takes the outcome from the partition.
func (p *appendPart) Complete(*partition.Request) { p.finish(p.Err) }

// finish notes the outcome of a part.
func (p *appendPart) finish(err error) {
	s := p.call.s
	if err != nil {
		p.fault = s.faultAt(p.call.topic.ID, p.id, err)
	}
	if p.away {
		s.metrics.forwarded.Inc()
	} else {
		s.metrics.appended(&p.Request, p.fault)
	}
	s.budget.Release(p.held)
	if p.call.pending.Add(-1) == 0 {
		close(p.call.done)
	}
}

// Append appends plain records.
func (s *BrokerService) Append(ctx context.Context, r *pb.AppendRequest) (*pb.AppendResponse, error) {
	if _, known := pb.Acks_name[int32(r.GetAcks())]; !known {
		return nil, fieldFault("acks", "is no value of Acks")
	}
	switch n := len(r.GetRecords()); {
	case n == 0:
		return nil, fieldFault("records", "is empty")
	case n > s.limits.AppendRecords:
		return nil, rpc.LimitFault(codes.InvalidArgument, "append.records", int64(s.limits.AppendRecords), int64(n),
			fmt.Sprintf("%d records in one Append, at most %d are allowed (append.records)", n, s.limits.AppendRecords))
	}
	topic, err := s.topicOf(ctx, r.GetTopic(), r.GetMinRevision())
	if err != nil {
		return nil, err
	}
	c := &appendCall{s: s, topic: topic, request: r, byID: make(map[uint32]*appendPart), done: make(chan struct{})}
	if err := c.encode(r); err != nil {
		return nil, err
	}
	if err := c.submit(ctx, acksOf(r.GetAcks())); err != nil {
		return nil, err
	}
	return c.response(acksOf(r.GetAcks()))
}

// encode makes the batches, and checks them all before anything is appended.
func (c *appendCall) encode(r *pb.AppendRequest) error {
	keyless := c.s.spread.Add(1) % uint32(len(c.topic.Partitions))
	total := 0
	for i, in := range r.GetRecords() {
		rec, err := recordOf(in, fmt.Sprintf("records[%d]", i))
		if err != nil {
			return err
		}
		id := keyless
		switch {
		case r.Partition != nil:
			id = r.GetPartition()
		case rec.Key != nil:
			id = uint32(record.PartitionForKey(rec.Key, uint32(len(c.topic.Partitions))))
		}
		p := c.part(id)
		before := len(p.bytes)
		p.bytes = record.AppendRecord(p.bytes, &rec)
		if total += len(p.bytes) - before; total > c.s.limits.AppendBytes {
			return rpc.LimitFault(codes.InvalidArgument, "append.bytes", int64(c.s.limits.AppendBytes), int64(total),
				fmt.Sprintf("the records have more than %d bytes (append.bytes)", c.s.limits.AppendBytes))
		}
		c.places = append(c.places, place{part: p, delta: p.count})
		p.count++
	}
	var v record.Validator
	for _, p := range c.parts {
		p.Batch = record.Pieces{p.bytes}
		var err error
		if p.Summary, err = v.Validate(p.Batch, limitsOf(c.topic)); err != nil {
			return err
		}
	}
	return nil
}

func (c *appendCall) part(id uint32) *appendPart {
	p := c.byID[id]
	if p == nil {
		p = &appendPart{call: c, id: id}
		p.Done = p
		c.byID[id] = p
		c.parts = append(c.parts, p)
	}
	return p
}

// submit gives the parts to their partitions and waits for them. The error is
// the end of ctx; what became of each part is in the part.
func (c *appendCall) submit(ctx context.Context, acks partition.Acks) error {
	// One more than there are parts, so that done is not closed before all are
	// submitted.
	c.pending.Store(int32(len(c.parts)) + 1)
	away := false
	for _, p := range c.parts {
		p.Acks = acks
		if err := c.s.budget.Acquire(ctx, len(p.bytes)); err != nil {
			p.finish(err)
			continue
		}
		p.held = len(p.bytes)
		err := c.here(ctx, p)
		if _, elsewhere := c.s.to(ctx, c.topic.ID, err); elsewhere || c.s.deposed(ctx, err) {
			away = true
			c.s.streams.Go(func() { c.anywhere(ctx, p) })
			continue
		}
		if err != nil {
			p.finish(err)
		}
	}
	if c.pending.Add(-1) == 0 {
		close(c.done)
	}
	// With ACKS_NONE a broker elsewhere answers when it has taken its part.
	if acks == partition.AcksNone && !away {
		return nil
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// response says where the records are. If nothing was appended, the call has
// failed.
func (c *appendCall) response(acks partition.Acks) (*pb.AppendResponse, error) {
	if acks == partition.AcksNone {
		out := &pb.AppendResponse{}
		for _, at := range c.places {
			out.Places = append(out.Places, &pb.RecordPlace{Partition: at.part.id})
		}
		return out, nil
	}
	out := &pb.AppendResponse{Places: make([]*pb.RecordPlace, len(c.places))}
	failed := 0
	for _, p := range c.parts {
		if p.fault != nil {
			failed++
			continue
		}
		if out.Ack == nil {
			out.Ack = &pb.Ack{Scope: scopeOf(acks), Medium: pb.AckMedium(p.Medium), InSyncReplicas: p.InSync}
		}
		out.Ack.Medium = min(out.Ack.Medium, pb.AckMedium(p.Medium))
		out.Ack.InSyncReplicas = min(out.Ack.InSyncReplicas, p.InSync)
	}
	if failed == len(c.parts) {
		return nil, c.failure()
	}
	for i, at := range c.places {
		place := &pb.RecordPlace{Partition: at.part.id}
		if at.part.fault != nil {
			place.Error = at.part.fault.RequestError()
		} else {
			place.Offset, place.LeaderEpoch = new(int64(at.part.Base)+at.delta), int32(at.part.Epoch)
		}
		out.Places[i] = place
	}
	return out, nil
}

// failure is what the call fails with when every part has. That a part may
// have been written outweighs everything: the fault says retryable only if
// each part's does, or a client would append records a second time.
func (c *appendCall) failure() *rpc.Fault {
	worst := c.parts[0].fault
	for _, p := range c.parts[1:] {
		if p.fault.Reason == pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME || worst.Retryable && !p.fault.Retryable {
			worst = p.fault
		}
	}
	return worst
}

func scopeOf(acks partition.Acks) pb.AckScope {
	if acks == partition.AcksLeader {
		return pb.AckScope_ACK_SCOPE_LEADER
	}
	return pb.AckScope_ACK_SCOPE_ISR
}

// recordOf makes a record of a plain one; path names it in errors.
func recordOf(in *pb.AppendRecord, path string) (record.Record, error) {
	var out record.Record
	switch k := in.GetKeyForm().(type) {
	case *pb.AppendRecord_Key:
		out.Key = present(k.Key)
	case *pb.AppendRecord_KeyText:
		out.Key = present([]byte(k.KeyText))
	}
	switch v := in.GetValueForm().(type) {
	case *pb.AppendRecord_Value:
		out.Value = present(v.Value)
	case *pb.AppendRecord_Text:
		out.Value = present([]byte(v.Text))
	case *pb.AppendRecord_Json:
		b, err := jsonBytes(v.Json)
		if err != nil {
			return out, fieldFault(path+".json", "is no JSON value: "+err.Error())
		}
		out.Value = b
	}
	for _, h := range in.GetHeaders() {
		header := record.RecordHeader{Key: []byte(h.GetKey())}
		switch v := h.GetValueForm().(type) {
		case *pb.AppendHeader_Value:
			header.Value = present(v.Value)
		case *pb.AppendHeader_Text:
			header.Value = present([]byte(v.Text))
		}
		out.Headers = append(out.Headers, header)
	}
	if t := in.GetTime(); t != nil {
		if err := t.CheckValid(); err != nil {
			return out, fieldFault(path+".time", "is no valid time")
		}
		out.TimestampMs, out.HasTimestamp = t.AsTime().UnixMilli(), true
	}
	return out, nil
}

// present returns b, but never nil, which would be null.
func present(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// jsonBytes returns a value as JSON without spaces, keys in order.
//
// WHY not protojson: it varies its spaces from build to build on purpose.
func jsonBytes(v *structpb.Value) ([]byte, error) {
	if err := checkJSON(v); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v.AsInterface()); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// checkJSON refuses a value that JSON does not have, which would become another
// one: NaN the text "NaN", a value of no kind null.
func checkJSON(v *structpb.Value) error {
	switch k := v.GetKind().(type) {
	case nil:
		return errors.New("it is of no kind, or holds what is")
	case *structpb.Value_NumberValue:
		if math.IsNaN(k.NumberValue) || math.IsInf(k.NumberValue, 0) {
			return fmt.Errorf("JSON has no number %v", k.NumberValue)
		}
	case *structpb.Value_ListValue:
		for _, e := range k.ListValue.GetValues() {
			if err := checkJSON(e); err != nil {
				return err
			}
		}
	case *structpb.Value_StructValue:
		for _, e := range k.StructValue.GetFields() {
			if err := checkJSON(e); err != nil {
				return err
			}
		}
	}
	return nil
}
