package pusher

import (
	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

func openOf(m *replicationv1.SessionOpen) replica.Open {
	return replica.Open{
		Session: m.GetSession(), Epoch: record.LeaderEpoch(m.GetLeaderEpoch()), LastEpoch: record.LeaderEpoch(m.GetLastEpoch()),
		Progress: replica.Progress{End: record.Offset(m.GetEnd()), SyncedEnd: record.Offset(m.GetSyncedEnd())},
		LogStart: record.Offset(m.GetLogStart()), Credit: m.GetCredit(),
	}
}

func openedOf(o *replica.Opened, revision int64) *replicationv1.SessionOpened {
	m := &replicationv1.SessionOpened{
		Session: o.Session, LeaderEpoch: int32(o.Epoch), Error: replicationv1.SessionError(o.Error), Reset_: o.Reset,
		LogStart: int64(o.LogStart), End: int64(o.End), HighWatermark: int64(o.HighWatermark), Revision: revision,
	}
	if o.Diverged {
		m.Divergence = &replicationv1.LogDivergence{Epoch: int32(o.Divergence.Epoch), End: int64(o.Divergence.End)}
	}
	return m
}

func ackOf(m *replicationv1.SessionAck) replica.Ack {
	return replica.Ack{
		Session: m.GetSession(), Epoch: record.LeaderEpoch(m.GetLeaderEpoch()), Credit: m.GetCredit(),
		Progress: replica.Progress{End: record.Offset(m.GetEnd()), SyncedEnd: record.Offset(m.GetSyncedEnd())},
	}
}

func pushOf(p *replica.Push, end record.Offset) *replicationv1.Push {
	return &replicationv1.Push{
		Session: p.Session, LeaderEpoch: int32(p.Epoch), From: int64(p.From), HighWatermark: int64(p.HighWatermark),
		LogStart: int64(p.LogStart), End: int64(p.End), BatchesEnd: int64(end),
	}
}
