package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// maintainEvery is how often a member looks after its store.
	maintainEvery = time.Minute
	// promoteEvery is how often it looks after learners.
	promoteEvery = time.Second
	// defragBytes is the least size of a store for which it is worth it.
	defragBytes = 64 << 20
	// defragLock is held by the member whose store is written anew. It is no
	// metadata, and lies outside of what images load.
	defragLock = "/upkeep/defrag"
	// defragTTL frees the lock of a member that died. Two at a time would do no
	// harm but that of two stalls.
	defragTTL = 60
	// maintainTimeout bounds each look.
	maintainTimeout = 30 * time.Second
)

// Maintain looks after the store until ctx ends, and returns its cause: old
// revisions are dropped when the store has grown, the space that they leave is
// given back, one member at a time and none while it leads others, and the
// alarm of a full store is ended when there is room again. A member that was
// added gets its vote when it has everything. Nobody has to do anything.
func (m *Member) Maintain(ctx context.Context) error {
	t := time.NewTicker(maintainEvery)
	defer t.Stop()
	promote := time.NewTicker(promoteEvery)
	defer promote.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-promote.C:
			short, cancel := context.WithTimeout(ctx, maintainTimeout)
			m.promoteLearners(short)
			cancel()
			continue
		case <-t.C:
		}
		look, cancel := context.WithTimeout(ctx, maintainTimeout)
		err := m.maintain(look)
		cancel()
		if err != nil && ctx.Err() == nil {
			m.logger.WarnContext(ctx, "metadata store not looked after; it is tried again", slog.Any("err", err))
		}
	}
}

// maintain looks once.
func (m *Member) maintain(ctx context.Context) error {
	backend := m.etcd.Server.Backend()
	full := m.alarmed(pb.AlarmType_NOSPACE)
	if _, leading := m.Leadership(); leading && (full || backend.Size() > m.quota/2) {
		if err := m.compact(ctx); err != nil {
			return err
		}
	}
	size, used := backend.Size(), backend.SizeInUse()
	if full && used < size/10*9 || size >= defragBytes && used < size/2 {
		if err := m.defragment(ctx); err != nil {
			return err
		}
	}
	if full && m.alarmed(pb.AlarmType_NOSPACE) && backend.Size() < m.quota/10*9 {
		// Its own alone: each member knows its own disk.
		_, err := m.client.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: uint64(m.etcd.Server.MemberID()), Alarm: pb.AlarmType_NOSPACE})
		if err != nil {
			return fmt.Errorf("end the alarm: %w", err)
		}
		m.logger.InfoContext(ctx, "the metadata store has room again", slog.Int64("bytes", backend.Size()))
	}
	return nil
}

// alarmed reports whether an alarm is on for any member.
func (m *Member) alarmed(kind pb.AlarmType) bool {
	for _, a := range m.etcd.Server.Alarms() {
		if a.GetAlarm() == kind {
			return true
		}
	}
	return false
}

// Corrupt reports whether the stores of the members were found to differ. The
// member that is wrong is to be replaced.
func (m *Member) Corrupt() bool { return m.alarmed(pb.AlarmType_CORRUPT) }

// compact drops all revisions but the last.
func (m *Member) compact(ctx context.Context) error {
	resp, err := m.client.Get(ctx, defragLock)
	if err != nil {
		return fmt.Errorf("read the revision: %w", err)
	}
	_, err = m.client.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical())
	if err != nil {
		return fmt.Errorf("drop old revisions: %w", err)
	}
	return nil
}

// defragment gives back the space that is not used, unless another member is
// at it. The store answers nothing meanwhile, so a member that leads hands over
// first, if there is another.
func (m *Member) defragment(ctx context.Context) (err error) {
	lease, err := m.client.Grant(ctx, defragTTL)
	if err != nil && !m.alarmed(pb.AlarmType_NOSPACE) {
		return fmt.Errorf("take turns: %w", err)
	}
	// A full store takes no lock either; the turns are those of chance then.
	if err == nil {
		defer func() {
			_, gone := m.client.Revoke(context.WithoutCancel(ctx), lease.ID)
			err = errors.Join(err, gone)
		}()
		got, err := m.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(defragLock), "=", 0)).
			Then(clientv3.OpPut(defragLock, "", clientv3.WithLease(lease.ID))).Commit()
		if err == nil && !got.Succeeded {
			return nil // at the next look
		}
		if err != nil && !m.alarmed(pb.AlarmType_NOSPACE) {
			return fmt.Errorf("take turns: %w", err)
		}
	}
	if _, err := m.HandOver(ctx); err != nil {
		return err
	}
	before := m.etcd.Server.Backend().Size()
	if err := m.etcd.Server.Defragment(); err != nil {
		return fmt.Errorf("give space back: %w", err)
	}
	m.logger.InfoContext(ctx, "metadata store written anew", slog.Int64("bytes_before", before), slog.Int64("bytes", m.etcd.Server.Backend().Size()))
	return nil
}
