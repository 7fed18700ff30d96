package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/lease"

	"github.com/millstream-io/millstream/controller/store"
)

const (
	// maintainEvery is how often a member looks after its store.
	maintainEvery = time.Minute
	// promoteEvery is how often it looks after learners.
	promoteEvery = time.Second
	// defragBytes is the least size of a store for which it is worth it.
	defragBytes = 64 << 20
	// defragLock is the lease that the member holds whose store is written anew.
	//
	// WHY a lease alone, without a key: a key would be a revision of which images,
	// and so brokers, never hear, and that they would wait for.
	defragLock = 1
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
// added gets its vote when it has everything, and one whose store differs from
// the others' is taken out. Nobody has to do anything but what it says in the log of
// authorities.
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
			m.takeOutCorrupt(short)
			cancel()
			m.tellStale(ctx)
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
	if err := m.whileRunning(func() error {
		backend.ForceCommit() // or what was dropped counts as used for a moment still
		return nil
	}); err != nil {
		return err
	}
	size, used := backend.Size(), backend.SizeInUse()
	if full && used < size/10*9 || size >= defragBytes && used < size/2 {
		if err := m.defragment(ctx); err != nil {
			return err
		}
	}
	if full && backend.Size() < m.quota/10*9 {
		return m.endFull(ctx)
	}
	return nil
}

// whileRunning calls fn unless the server stops, which waits for fn.
//
// WHY: a server that stops by itself closes its files, and whoever touches them
// after that panics.
func (m *Member) whileRunning(fn func() error) error {
	ended := make(chan error, 1)
	m.etcd.Server.GoAttach(func() { ended <- fn() })
	select {
	case err := <-ended:
		return err
	case <-m.etcd.Server.StoppingNotify(): // fn was perhaps not called
		return errors.New("the metadata store stops")
	}
}

// endFull ends the alarm of a full store: that of this member, and those of all
// if it leads. One that has no room yet says so again at the next change, and one
// that is gone, or never comes back, says nothing.
func (m *Member) endFull(ctx context.Context) error {
	_, leading := m.Leadership()
	for _, a := range m.etcd.Server.Alarms() {
		if a.GetAlarm() != pb.AlarmType_NOSPACE || !leading && a.GetMemberID() != uint64(m.etcd.Server.MemberID()) {
			continue
		}
		if err := m.disarm(ctx, a); err != nil {
			return err
		}
		m.logger.InfoContext(ctx, "the metadata store has room again", slog.Int64("bytes", m.StoredBytes()))
	}
	return nil
}

func (m *Member) disarm(ctx context.Context, a *pb.AlarmMember) error {
	_, err := m.client.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: a.GetMemberID(), Alarm: a.GetAlarm()})
	if err != nil {
		return fmt.Errorf("end the alarm: %w", err)
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

// compact drops all revisions but the last.
func (m *Member) compact(ctx context.Context) error {
	resp, err := m.client.Get(ctx, store.ElectionKey.String())
	if err != nil {
		return fmt.Errorf("read the revision: %w", err)
	}
	_, err = m.client.Compact(ctx, resp.Header.Revision, clientv3.WithCompactPhysical())
	// A full store gets no new revision: it is compacted already at the second
	// look, and at that of the next leader.
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("drop old revisions: %w", err)
	}
	return nil
}

// defragment gives back the space that is not used, unless another member is
// at it. The store answers nothing meanwhile, so a member that leads hands over
// first, if there is another.
func (m *Member) defragment(ctx context.Context) (err error) {
	_, err = m.etcd.Server.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: defragLock, TTL: defragTTL})
	switch {
	case errors.Is(err, lease.ErrLeaseExists):
		return nil // at the next look
	case err == nil:
		defer func() {
			_, gone := m.etcd.Server.LeaseRevoke(context.WithoutCancel(ctx), &pb.LeaseRevokeRequest{ID: defragLock})
			err = errors.Join(err, gone)
		}()
	case !m.alarmed(pb.AlarmType_NOSPACE):
		return fmt.Errorf("take turns: %w", err)
	default: // a full store grants nothing either; the turns are those of chance then
	}
	if _, err := m.HandOver(ctx); err != nil {
		return err
	}
	before := m.etcd.Server.Backend().Size()
	if err := m.whileRunning(m.etcd.Server.Defragment); err != nil {
		return fmt.Errorf("give space back: %w", err)
	}
	m.logger.InfoContext(ctx, "metadata store written anew", slog.Int64("bytes_before", before), slog.Int64("bytes", m.etcd.Server.Backend().Size()))
	return nil
}
