package api

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/server/topicconfig"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/record"
)

// intake is what receive keeps from one request to the next. It is receive's
// own.
type intake struct {
	lanes     laneSet
	validator record.Validator
	splitter  wire.Splitter
	// nameless is the lane of topics that cannot exist: they never refuse.
	nameless lane
}

// admit takes a request that has arrived: it is counted, checked, and given to
// its partition, or refused. An error ends the stream.
func (p *produceStream) admit(r *produceRequest) error {
	n := r.frame.msg.Len()
	if err := p.hold(n); err != nil {
		return err
	}
	if err := p.s.budget.Acquire(p.ctx, n); err != nil {
		p.held.Release(n)
		return err
	}
	r.bytes = n
	p.received()
	q := &r.wire
	invalid := q.Parse(r.frame.msg)
	if isType[*wire.MalformedError](invalid) {
		return rpc.MalformedFault(invalid)
	}
	if q.CorrelationID == 0 {
		return fieldFault("correlation_id", "must not be 0")
	}
	l, err := p.laneOf(q)
	if err != nil {
		return err
	}
	p.plan(r, l, invalid)
	p.enter(r)
	if q.Acks == pb.Acks_ACKS_NONE {
		p.submitUnacknowledged(r)
		return nil
	}
	// The request may be answered and used again as soon as its last unit is
	// submitted.
	for i, n := 0, len(r.units); i < n; i++ {
		p.submit(r.units[i])
	}
	return nil
}

// hold takes bytes of what the stream may have in flight. A stream that waits
// for its own answers is counted: its client sees that it gets on slowly, and not
// which of the limits is why.
func (p *produceStream) hold(n int) error {
	if p.held.TryAcquire(n) {
		return nil
	}
	m := p.s.metrics
	m.streamWaits.Inc()
	m.streamWaiters.Inc()
	defer m.streamWaiters.Dec()
	return p.held.Acquire(p.ctx, n)
}

// laneOf returns the lane that a request belongs to before it is looked at.
// The error ends the stream.
func (p *produceStream) laneOf(q *wire.ProduceRequest) (*lane, error) {
	if !p.in.lanes.knows(q.Topic) && topicconfig.ValidateName(string(q.Topic)) != nil {
		return &p.in.nameless, nil
	}
	if p.in.lanes.full() {
		p.mu.Lock()
		p.in.lanes.forget()
		p.mu.Unlock()
		if p.in.lanes.full() {
			return nil, rpc.LimitFault(codes.ResourceExhausted, "stream.partitions", int64(p.in.lanes.limit), int64(p.in.lanes.count)+1,
				"too many partitions of the stream have failed requests (stream.partitions): send restart, or open another stream")
		}
	}
	if q.HasPartition {
		return p.in.lanes.find(q.Topic, uint32(q.Partition)), nil
	}
	return &p.in.lanes.topic(q.Topic).undirected, nil
}

// plan makes the units of a request: what it asks of which partition, or why
// it is refused.
func (p *produceStream) plan(r *produceRequest, l *lane, invalid error) {
	q := &r.wire
	refuse := func(f *rpc.Fault) {
		u := r.addUnit()
		u.lane, u.fault = l, f
		l.refusing = l != &p.in.nameless
	}
	if q.Restart {
		l.refusing = false
	}
	if l.refusing {
		refuse(precedingFailed())
		return
	}
	topic, f := p.check(q, invalid)
	if f != nil {
		refuse(f)
		return
	}
	r.topic = topic.ID
	sum, f := p.validate(q, topic)
	if f != nil {
		refuse(f)
		return
	}
	if !q.HasPartition {
		if f := p.divide(r, l, topic, sum); f != nil {
			refuse(f)
		}
		return
	}
	u := r.addUnit()
	u.lane, u.Batch, u.Summary = l, q.Batch, sum
}

// check looks at everything of a request but its batch.
func (p *produceStream) check(q *wire.ProduceRequest, invalid error) (*metadata.Topic, *rpc.Fault) {
	if invalid != nil {
		return nil, p.s.faultOf(invalid)
	}
	if name := q.ReservedField(); name != "" {
		return nil, unsupportedField(name, name+" is not supported by this version of the broker")
	}
	m, err := p.s.snapshot(p.ctx, q.MinRevision)
	if err != nil {
		return nil, p.s.faultOf(err)
	}
	topic := m.TopicByNameBytes(q.Topic)
	if topic == nil {
		return nil, p.s.faultOf(noTopic(string(q.Topic)))
	}
	if err := p.checkLeader(q, m, topic); err != nil {
		return nil, p.s.faultOf(err)
	}
	if q.HasTopicID && q.TopicID != record.TopicID(topic.ID) {
		return nil, otherTopic(topic.Name)
	}
	if !q.HasBatch {
		return nil, fieldFault("batch", "is missing")
	}
	return topic, nil
}

// validate checks the batch of a request.
func (p *produceStream) validate(q *wire.ProduceRequest, topic *metadata.Topic) (record.Summary, *rpc.Fault) {
	sum, err := p.in.validator.Validate(q.Batch, limitsOf(topic))
	invalid, _ := errors.AsType[*record.InvalidBatchError](err)
	// Bytes that were damaged on their way are said to be so, and not by which
	// rule they happen to break. The checksum of a batch that is too large was
	// not computed.
	if q.HasBatchCRC && q.BatchCRC != sum.CRC && (invalid == nil || invalid.Kind != record.BatchTooLarge) {
		f := fieldFault("batch_crc32c", fmt.Sprintf("is %08x, and of the bytes that came %08x", q.BatchCRC, sum.CRC))
		f.Reason = pb.ErrorReason_ERROR_REASON_CRC_MISMATCH
		return sum, f
	}
	if err != nil {
		return sum, p.s.faultOf(err)
	}
	return sum, nil
}

func limitsOf(topic *metadata.Topic) record.Limits {
	return record.Limits{MaxBatchBytes: topic.Config.MaxBatchBytes, MaxRecordBytes: topic.Config.MaxRecordBytes}
}

// submit gives a unit to its partition. Without a fault the unit is not
// receive's afterwards.
func (p *produceStream) submit(u *unit) {
	l := u.lane
	if u.fault == nil {
		r := u.req
		if u.Restart = r.wire.Restart; u.Acks != partition.AcksNone {
			// WHY not with ACKS_NONE: the client does not hear of what fails later, so
			// it would not know to restart.
			u.ordered = true
		}
		err := p.append(l, u)
		if errors.Is(err, partition.ErrClosed) {
			l.at = nil // closed since, perhaps for another one
			err = p.append(l, u)
		}
		if err == nil {
			return
		}
		u.Err = err
		l.refusing = true
	}
	p.completed(u)
}

func (p *produceStream) append(l *lane, u *unit) error {
	if l.away != nil && l.away.leads(p.s.metadata.Current(), u.req.topic) {
		return p.forward(l, u)
	}
	at, err := p.route(l, u)
	if err != nil {
		if err := p.goAway(l, u, err); err != nil {
			return err
		}
		return p.forward(l, u)
	}
	if l.away != nil && l.away.active {
		if err := p.comeHome(l, u); err != nil {
			return err
		}
	}
	if u.ordered {
		u.Lane = l.order
	}
	return at.Append(p.ctx, &u.Request)
}

// submitUnacknowledged is submit for requests with ACKS_NONE, which are
// answered when the partitions have taken them. Until then receive counts as
// one that has a unit of the request.
func (p *produceStream) submitUnacknowledged(r *produceRequest) {
	p.mu.Lock()
	r.unsettled++
	p.mu.Unlock()
	for _, u := range r.units {
		p.submit(u)
	}
	p.mu.Lock()
	for _, u := range r.units {
		p.known(u)
	}
	msg, bytes := p.settle(r)
	p.mu.Unlock()
	p.giveBack(msg, bytes)
	wake(p.answered)
}

// route returns the partition of a lane, in the topic that the request was
// checked against: another one of that name has other limits, and was not
// meant (rule K6). It fails also where the order of the lane would be lost: the
// partition was closed here and is open again, as after it was moved away and back.
func (p *produceStream) route(l *lane, u *unit) (*partition.Partition, error) {
	s, id := p.s.metadata.Current(), u.req.topic
	if l.at != nil && l.atSnap == s && l.topicID == id {
		return l.at, nil
	}
	l.at = nil
	topic := s.TopicByName(l.topic.name)
	if topic == nil {
		return nil, noTopic(l.topic.name)
	}
	if topic.ID != id {
		return nil, otherTopic(topic.Name)
	}
	at, err := p.s.broker.PartitionOf(topic, l.partition)
	if err != nil {
		return nil, err
	}
	if at != l.last {
		if err := p.reopened(l, u); err != nil {
			return nil, err
		}
		l.last, l.order = at, new(partition.Lane)
	}
	l.at, l.atSnap, l.topicID = at, s, id
	return at, nil
}

// reopened tells why a request may not go to another partition than those of its
// lane before it: they are not done, or one of them failed.
func (p *produceStream) reopened(l *lane, u *unit) error {
	switch {
	case l.order == nil, l.away != nil && l.away.active: // comeHome looks
	case !p.alone(l):
		return leaderChanges()
	case l.order.Failed() && u.ordered && !u.Restart:
		return partition.ErrPrecedingFailed
	}
	return nil
}

func acksOf(a pb.Acks) partition.Acks {
	if a == pb.Acks_ACKS_UNSPECIFIED {
		return partition.AcksAll
	}
	return partition.Acks(a)
}
