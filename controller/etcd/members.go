package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/millstream-io/millstream/controller/store"
)

var _ store.Members = (*Member)(nil)

// changePause is the pause before a change that is not possible yet is tried
// again.
const changePause = 100 * time.Millisecond

// Members returns the members, confirmed by a quorum, in the order of their
// identities.
func (m *Member) Members(ctx context.Context) ([]store.Member, error) {
	resp, err := m.client.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the controllers: %w", err)
	}
	infos := make([]store.Member, len(resp.Members))
	for i, p := range resp.Members {
		infos[i] = store.Member{Key: p.ID, ID: idOf(p.Name), Serves: servedAt(p.ClientURLs), Learner: p.IsLearner, Leading: p.ID == uint64(m.etcd.Server.Leader())}
		if len(p.PeerURLs) > 0 {
			infos[i].URL = p.PeerURLs[0]
		}
	}
	slices.SortFunc(infos, func(a, b store.Member) int { return int(a.ID) - int(b.ID) })
	return infos, nil
}

// Serving returns where members that have a vote serve brokers, HOST:PORT, in
// order, as this member knows it.
func (m *Member) Serving() []string {
	var addrs []string
	for _, p := range m.etcd.Server.Cluster().Members() {
		if at := servedAt(p.ClientURLs); at != "" && !p.IsLearner {
			addrs = append(addrs, at)
		}
	}
	slices.Sort(addrs)
	return addrs
}

// idOf is the inverse of memberName; -1: the member has no name yet.
func idOf(name string) int32 {
	var id int32
	if _, err := fmt.Sscanf(name, memberForm, &id); err != nil {
		return -1
	}
	return id
}

// AddLearner makes room for a controller that is reached there, HOST:PORT or
// with the scheme of this one's own address, which may then
// be started with Join on an empty directory, and returns the key it has from
// now on. It has no vote, so that the quorum does not depend on it before it
// has everything. While too few of the others are reached, or have been for less
// than five seconds, it waits until ctx ends. It fails with
// *store.MembershipError.
func (m *Member) AddLearner(ctx context.Context, address string) (uint64, error) {
	if m.scheme == "" {
		return 0, &store.MembershipError{Why: "this one was made without peers, and has no address for others: restore a backup to more of them instead"}
	}
	at := address
	if !strings.HasPrefix(address, m.scheme+"://") {
		at = m.scheme + "://" + address
	}
	var key uint64
	var full error
	err := whenPossible(ctx, func() error {
		resp, err := m.client.MemberAddAsLearner(ctx, []string{at})
		switch {
		case err == nil:
			key = resp.Member.ID
		case errors.Is(err, rpctypes.ErrTooManyLearners): // that takes as long as it takes
			full = membershipError(err)
			return nil
		}
		return err
	})
	return key, errors.Join(err, full)
}

// Promote gives a learner its vote as soon as it has everything that the others
// have; it waits for that until ctx ends. It fails with *store.MembershipError.
func (m *Member) Promote(ctx context.Context, key uint64) error {
	return whenPossible(ctx, func() error {
		_, err := m.client.MemberPromote(ctx, key)
		return err
	})
}

// whenPossible makes a change as soon as it is possible, or says when ctx ends
// why it is not.
func whenPossible(ctx context.Context, change func() error) error {
	for {
		err := change()
		if err == nil {
			return nil
		}
		failed := membershipError(err)
		if e, ok := errors.AsType[*store.MembershipError](failed); !ok || !e.Retryable {
			return failed
		}
		select {
		case <-ctx.Done():
			return failed
		case <-time.After(changePause):
		}
	}
}

// Remove takes the vote from a member for good. What was its directory is of no
// use afterwards: one that comes back is added anew, on an empty directory.
// While those that are left could not go on without waiting for one that is
// away, or has been there for less than five seconds, it waits until ctx ends.
// It fails with *store.MembershipError.
func (m *Member) Remove(ctx context.Context, key uint64) error {
	return whenPossible(ctx, func() error {
		_, err := m.client.MemberRemove(ctx, key)
		return err
	})
}

// membershipError says what kept a change from being made.
func membershipError(err error) error {
	for _, known := range []struct {
		cause     error
		refusal   store.Refusal
		why       string
		retryable bool
	}{
		{rpctypes.ErrUnhealthy, store.RefusedAtRisk, "too few of them are reached; a change now could leave no quorum", true},
		{rpctypes.ErrMemberNotEnoughStarted, store.RefusedAtRisk, "too few of them are started; a change now could leave no quorum", true},
		{rpctypes.ErrMemberLearnerNotReady, store.RefusedAtRisk, "the learner has not got everything yet", true},
		{rpctypes.ErrTooManyLearners, store.RefusedAtRisk, "another one is being added", true},
		{rpctypes.ErrMemberNotFound, store.RefusedUnknown, "there is no such member", false},
		{rpctypes.ErrMemberNotLearner, store.RefusedExists, "it has its vote already", false},
		{rpctypes.ErrMemberExist, store.RefusedExists, "it is a member already", false},
		{rpctypes.ErrPeerURLExist, store.RefusedExists, "another one is reached at that address", false},
	} {
		if errors.Is(err, known.cause) {
			return &store.MembershipError{Refusal: known.refusal, Why: known.why, Retryable: known.retryable, Cause: err}
		}
	}
	return fmt.Errorf("change the controllers: %w", err)
}

// HandOver has another member lead, if there is one with a vote, and reports
// whether there was.
func (m *Member) HandOver(ctx context.Context) (bool, error) {
	if _, leading := m.Leadership(); !leading {
		return true, nil
	}
	members, err := m.Members(ctx)
	if err != nil {
		return false, err
	}
	var failed error
	for _, p := range members {
		if p.Leading || p.Learner {
			continue
		}
		if _, err := m.client.MoveLeader(ctx, p.Key); err == nil {
			return true, nil
		} else {
			failed = err
		}
	}
	if failed != nil {
		return false, fmt.Errorf("hand over: %w", failed)
	}
	return false, nil
}

// promoteLearners gives learners that have everything their vote, if this
// member leads. One that has not is tried again.
func (m *Member) promoteLearners(ctx context.Context) {
	if _, leading := m.Leadership(); !leading {
		return
	}
	for _, p := range m.etcd.Server.Cluster().Members() {
		if !p.IsLearner || p.Name == "" {
			continue
		}
		_, err := m.client.MemberPromote(ctx, uint64(p.ID))
		failed, known := errors.AsType[*store.MembershipError](membershipError(err))
		switch {
		case err == nil:
			m.logger.InfoContext(ctx, "a controller has its vote", slog.Int("controller_id", int(idOf(p.Name))), slog.Any("peers", p.PeerURLs))
		case !known || !failed.Retryable:
			m.logger.WarnContext(ctx, "a controller has no vote yet", slog.Int("controller_id", int(idOf(p.Name))), slog.Any("err", err))
		}
	}
}
