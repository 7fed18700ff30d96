package etcd

import (
	"context"
	"log/slog"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Stores are compared at each compaction, and when a member starts. When they
// differ, etcd takes no change any more, from anybody, until somebody ends that:
// nobody else can. What a majority has is right, so a member that has something
// else loses its vote, and then all goes on without it. It stops, like any that
// is removed, and what it has is of no use any more; another one is added in its
// place by whoever runs the cluster.

// Corrupt reports whether the stores of the members were found to differ.
func (m *Member) Corrupt() bool { return m.alarmed(pb.AlarmType_CORRUPT) }

// takeOutCorrupt takes out members whose stores differ from what a majority has,
// and ends the alarm. If there is none that a majority has, nothing is changed
// any more until a backup is restored: nobody can know what is right.
//
// WHY they are taken out, and not only told to stop: a member that is cut off
// would not hear of it, and come back with what it has.
func (m *Member) takeOutCorrupt(ctx context.Context) {
	alarms := m.etcd.Server.Alarms()
	_, leading := m.Leadership()
	removed := false
	for _, a := range alarms {
		if a.GetAlarm() != pb.AlarmType_CORRUPT || a.GetMemberID() == 0 {
			continue
		}
		if a.GetMemberID() == uint64(m.etcd.Server.MemberID()) {
			m.standBack(ctx)
			return // another takes this one out
		}
		if !leading {
			continue
		}
		if err := m.takeOut(ctx, a); err != nil {
			m.logger.WarnContext(ctx, "a controller whose metadata store differs from the others' is not taken out yet; it is tried again", slog.Any("err", err))
			return
		}
		removed = true
	}
	if !removed {
		return
	}
	// While some were away, it may have been unknown who is right. If it still is,
	// the next comparison says so again.
	for _, a := range alarms {
		if a.GetAlarm() == pb.AlarmType_CORRUPT && a.GetMemberID() == 0 {
			if err := m.disarm(ctx, a); err != nil {
				m.logger.WarnContext(ctx, "the metadata store takes no changes yet", slog.Any("err", err))
			}
		}
	}
}

// standBack has another member lead: this one is wrong.
func (m *Member) standBack(ctx context.Context) {
	m.logger.ErrorContext(ctx, "the metadata store of this controller differs from the others': it is taken out of them; add another one with an empty directory")
	if _, err := m.HandOver(ctx); err != nil {
		m.logger.WarnContext(ctx, "no other controller takes over yet", slog.Any("err", err))
	}
}

// takeOut removes a member, if it is one still, and ends its alarm.
func (m *Member) takeOut(ctx context.Context, a *pb.AlarmMember) error {
	for _, p := range m.etcd.Server.Cluster().Members() {
		if uint64(p.ID) != a.GetMemberID() {
			continue
		}
		if _, err := m.client.MemberRemove(ctx, a.GetMemberID()); err != nil {
			return membershipError(err)
		}
		m.logger.ErrorContext(ctx, "a controller was taken out, as its metadata store differs from the others': add another one with an empty directory",
			slog.Int("controller_id", int(idOf(p.Name))), slog.Any("peers", p.PeerURLs))
	}
	return m.disarm(ctx, a)
}
