package api

import (
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/wire"
	"github.com/millstream-io/millstream/storage/record"
)

// awayLane is what a lane has whose partition another broker leads, or has led.
// It is receive's own.
type awayLane struct {
	producer *forward.Producer
	order    forward.Lane
	to       forward.Target
	snap     *metadata.Snapshot // that says so
	active   bool               // the last request was forwarded
	told     bool               // the client is told of this leader
}

// leads tells whether requests go to another broker, as the metadata has it.
func (a *awayLane) leads(s *metadata.Snapshot, topic [16]byte) bool {
	return a.active && a.snap == s && a.to.Topic == topic
}

// failed tells whether a request that was forwarded failed, and none with
// Restart has come since.
func (a *awayLane) failed() bool { return a != nil && a.producer.Failed(&a.order) }

// goAway directs a lane to the leader that an error names. It returns why it
// may not.
func (p *produceStream) goAway(l *lane, u *unit, cause error) error {
	to, ok := p.s.to(p.ctx, u.req.topic, cause)
	if !ok || u.req.wire.NoForward {
		return cause
	}
	a := l.away
	if a == nil {
		if p.elsewhere == nil {
			p.elsewhere = forward.NewProducer(p.ctx, p.s.peers, p.s.streams.Go)
		}
		a = &awayLane{producer: p.elsewhere}
		l.away = a
	}
	if !a.active || a.to.Leader != to.Leader || a.to.Topic != to.Topic {
		if !p.alone(l) {
			return leaderChanges()
		}
		if l.order != nil && !a.active && l.order.Failed() && u.ordered && !u.Restart {
			return partition.ErrPrecedingFailed
		}
		a.told = false
	}
	a.active, a.to, a.snap = true, to, p.s.metadata.Current()
	if a.snap.Revision != to.Revision {
		a.snap = nil // newer than what was looked at: look again next time
	}
	return nil
}

// comeHome directs a lane to this broker, which leads its partition now.
func (p *produceStream) comeHome(l *lane, u *unit) error {
	if !p.alone(l) {
		return leaderChanges()
	}
	if l.away.failed() && u.ordered && !u.Restart {
		return partition.ErrPrecedingFailed
	}
	l.away.active, l.away.order, l.order = false, forward.Lane{}, new(partition.Lane)
	return nil
}

// alone tells whether the request in hand is the only one of its lane that is
// not done: only then a lane may change its leader (rule W1).
func (p *produceStream) alone(l *lane) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return l.inside == 1
}

// leaderChanges says that a request may not overtake those before it.
func leaderChanges() error {
	return retryLater(pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE,
		"the leader of the partition has changed, and earlier requests of the stream are with the one before")
}

// forward sends a unit to the leader.
func (p *produceStream) forward(l *lane, u *unit) error {
	a := l.away
	if u.forward == nil {
		u.forward = &forward.Request{}
	}
	*u.forward = forward.Request{
		To: a.to, Topic: l.topic.name, Partition: record.PartitionID(l.partition), Batch: u.Batch, CRC: u.Summary.CRC,
		Acks: u.req.wire.Acks, Restart: u.Restart, Done: u,
	}
	if u.ordered {
		u.forward.Lane = &a.order
	}
	// Whatever becomes of the request: if that leader refuses it the client may
	// still want to ask there itself. An answer has room for one; of a request that
	// was split the others are told with their next answers.
	if !a.told && u.req.reroute == nil {
		a.told = true
		u.req.reroute = &pb.Reroute{Topic: l.topic.name, Partition: l.partition, Leader: p.s.hintOf(a.to)}
	}
	u.away = true
	if err := a.producer.Send(u.forward); err != nil {
		u.away = false
		return err
	}
	p.s.metrics.forwarded.Inc()
	return nil
}

// Forwarded takes the outcome from the leader.
func (u *unit) Forwarded(r *forward.Request) {
	// With ACKS_NONE the client was answered when the request was taken.
	if u.Acks != partition.AcksNone {
		u.Err = r.Err
		u.Base, u.Epoch = r.Base, r.Epoch
		u.Medium, u.InSync = partition.Medium(r.Ack.GetMedium()), r.Ack.GetInSyncReplicas()
	}
	r.Batch = nil
	u.req.stream.completed(u)
}

// hintOf tells a client where the leader is.
func (f *forwarding) hintOf(to forward.Target) *pb.LeaderHint {
	h := &pb.LeaderHint{BrokerId: to.Leader, LeaderEpoch: to.Epoch, Revision: to.Revision}
	if b := f.metadata.Current().Broker(to.Leader); b != nil {
		h.Address = b.Address
	}
	return h
}

// checkLeader checks the leader epoch that a broker sends with what it
// forwards.
func (p *produceStream) checkLeader(q *wire.ProduceRequest, m *metadata.Snapshot, topic *metadata.Topic) error {
	switch {
	case !q.HasLeaderEpoch:
		return nil
	case !p.s.internal:
		return unsupportedField("leader_epoch", "leader_epoch is for brokers: it is not supported from clients")
	case !q.HasPartition:
		return nil
	}
	return leadsIn(m, topic, uint32(q.Partition), int32(q.LeaderEpoch))
}
