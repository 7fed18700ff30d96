package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/forward"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/record"
)

// forwarding passes on what another broker leads. The zero value forwards
// nothing.
type forwarding struct {
	peers    *forward.Calls // nil: nothing is forwarded
	metadata *metadata.Mirror
	wait     time.Duration // how long a request that was not carried out waits for a leader
}

func newForwarding(o Options, inside bool) forwarding {
	f := forwarding{metadata: o.Metadata, wait: o.Limits.RevisionWait}
	if !inside {
		f.peers = o.calls
	}
	return f
}

// to returns who leads, if err says that it is another broker and the call may
// be passed on to it.
func (f *forwarding) to(ctx context.Context, topic metadata.TopicID, err error) (forward.Target, bool) {
	if f.peers == nil || err == nil {
		return forward.Target{}, false
	}
	e, ok := errors.AsType[*broker.NotLeaderError](err)
	if !ok || e.Leader < 0 || forward.Forwarded(ctx) {
		return forward.Target{}, false
	}
	return forward.Target{Topic: topic, Leader: e.Leader, Epoch: int32(e.Epoch), Revision: e.Revision}, true
}

// deposed tells whether a request that is not passed on already was refused by a
// partition that is led no more although the metadata that is here says so:
// followers or clients have told it first. The metadata will say who leads.
func (f *forwarding) deposed(ctx context.Context, err error) bool {
	return f.peers != nil && isType[*partition.NotLeaderError](err) && !forward.Forwarded(ctx)
}

// settled carries something out here, again while this broker is deposed, until
// patience ends: the client would know no better where to go.
func (f *forwarding) settled(ctx, patience context.Context, here func() error) error {
	for {
		seen := f.metadata.Current()
		if err := here(); !f.deposed(ctx, err) || !f.pause(patience, seen) {
			return err
		}
	}
}

// run carries a request out here, or has the leader do it. What surely was not
// carried out because the leader is gone is tried again when the metadata has
// another, for as long as requests wait for metadata.
//
// here fails with *broker.NotLeaderError where another broker leads.
func (f *forwarding) run(ctx context.Context, topic *metadata.Topic, here func() error, there func(forward.Target) error) error {
	patience, cancel := context.WithTimeout(ctx, f.wait)
	defer cancel()
	seen := f.metadata.Current()
	err := f.settled(ctx, patience, here)
	to, ok := f.to(ctx, topic.ID, err)
	if !ok {
		return err
	}
	for {
		if err = there(to); !leaderGone(err) {
			return err
		}
		for ok = false; !ok; {
			if !f.pause(patience, seen) {
				return err
			}
			seen = f.metadata.Current()
			local := here()
			to, ok = f.to(ctx, topic.ID, local)
			if !ok && !leaderGone(local) {
				return local
			}
		}
	}
}

// pause waits until the metadata is newer than what was seen, or for a while.
// It returns false when ctx has ended.
func (f *forwarding) pause(ctx context.Context, seen *metadata.Snapshot) bool {
	t := time.NewTimer(retryAfter)
	defer t.Stop()
	select {
	case <-seen.Superseded():
	case <-t.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// leaderGone tells whether a request was surely not carried out, because who
// was asked does not lead, or does not any more.
func leaderGone(err error) bool {
	if err == nil {
		return false
	}
	f := FaultOf(err)
	if f == nil || !f.Retryable {
		return false
	}
	switch f.Reason {
	case pb.ErrorReason_ERROR_REASON_NOT_LEADER, pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE,
		pb.ErrorReason_ERROR_REASON_SHUTTING_DOWN, pb.ErrorReason_ERROR_REASON_NOT_FRESH,
		pb.ErrorReason_ERROR_REASON_STORAGE_FAILED, pb.ErrorReason_ERROR_REASON_CORRUPT_SEGMENT:
		return true
	default:
		return false
	}
}

// expected checks that this broker leads a partition as whoever forwarded the
// call thinks.
func expected(ctx context.Context, m *metadata.Mirror, t *metadata.Topic, id uint32) error {
	topic, epoch, ok := forward.Expected(ctx)
	if !ok {
		return nil
	}
	if topic != t.ID {
		return otherTopic(t.Name)
	}
	return leadsIn(m.Current(), t, id, epoch)
}

// leadsIn checks the leader epoch of a partition.
func leadsIn(m *metadata.Snapshot, t *metadata.Topic, id uint32, epoch int32) error {
	p := t.Partition(id)
	if p == nil || p.LeaderEpoch == epoch {
		return nil // that there is no such partition is said elsewhere
	}
	e := &broker.NotLeaderError{
		Topic: t.Name, Partition: id, Leader: p.Leader, Epoch: record.LeaderEpoch(p.LeaderEpoch), Revision: m.Revision,
	}
	if b := m.Broker(p.Leader); b != nil {
		e.Address = b.Address
	}
	return e
}

// forwardFault maps why a request that was passed on has no answer.
func forwardFault(err error) *rpc.Fault {
	if e, ok := errors.AsType[*forward.UnreachableError](err); ok {
		return retryLater(pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE, e.Error())
	}
	if e, ok := errors.AsType[*forward.BusyError](err); ok {
		f := rpc.LimitFault(codes.ResourceExhausted, "forwarded.calls", int64(e.Most), int64(e.Most)+1, e.Error())
		f.Retryable, f.RetryAfter = true, retryAfter
		return f
	}
	if e, ok := errors.AsType[*forward.BrokenError](err); ok {
		return fault(codes.Unknown, pb.ErrorReason_ERROR_REASON_UNKNOWN_OUTCOME, e.Error())
	}
	if errors.Is(err, forward.ErrPrecedingFailed) {
		return precedingFailed()
	}
	return nil
}

// repeatable says of an error that the same request may be sent again, which
// is so where nothing is changed, or to the same end.
func repeatable(err error) error {
	if e, ok := errors.AsType[*forward.BrokenError](err); ok {
		return retryLater(pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE, e.Error())
	}
	return err
}
