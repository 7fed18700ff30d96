package follower

import (
	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

func openOf(l *Link, o replica.Open, revision int64) *replicationv1.SessionOpen {
	topic := l.topic
	return &replicationv1.SessionOpen{
		Session: o.Session, TopicId: topic[:], Partition: uint32(l.number),
		LeaderEpoch: int32(o.Epoch), LastEpoch: int32(o.LastEpoch), End: int64(o.End), SyncedEnd: int64(o.SyncedEnd),
		LogStart: int64(o.LogStart), Credit: o.Credit, Revision: revision,
	}
}

func closeOf(session uint64, epoch record.LeaderEpoch, why replica.SessionError, revision int64) *replicationv1.SessionClose {
	return &replicationv1.SessionClose{
		Session: session, LeaderEpoch: int32(epoch), Error: replicationv1.SessionError(why), Revision: revision,
	}
}

func ackOf(a *replica.Ack) *replicationv1.SessionAck {
	return &replicationv1.SessionAck{
		Session: a.Session, LeaderEpoch: int32(a.Epoch), End: int64(a.End), SyncedEnd: int64(a.SyncedEnd), Credit: a.Credit,
	}
}

func openedOf(m *replicationv1.SessionOpened) replica.Opened {
	o := replica.Opened{
		Session: m.GetSession(), Epoch: record.LeaderEpoch(m.GetLeaderEpoch()), Error: replica.SessionError(m.GetError()),
		Reset: m.GetReset_(), LogStart: record.Offset(m.GetLogStart()), End: record.Offset(m.GetEnd()),
		HighWatermark: record.Offset(m.GetHighWatermark()),
	}
	if d := m.GetDivergence(); d != nil {
		o.Diverged = true
		o.Divergence = replica.Divergence{Epoch: record.LeaderEpoch(d.GetEpoch()), End: record.Offset(d.GetEnd())}
	}
	return o
}

func pushOf(m *replicationv1.Push) replica.Push {
	return replica.Push{
		Session: m.GetSession(), Epoch: record.LeaderEpoch(m.GetLeaderEpoch()), From: record.Offset(m.GetFrom()),
		HighWatermark: record.Offset(m.GetHighWatermark()), LogStart: record.Offset(m.GetLogStart()), End: record.Offset(m.GetEnd()),
	}
}
