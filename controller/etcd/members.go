package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// changePause is the pause before a change that is not possible yet is tried
// again.
const changePause = 100 * time.Millisecond

// MemberInfo is a member as the quorum knows it.
type MemberInfo struct {
	// Key is how the quorum names it: another for each time it is added.
	Key uint64
	// ID is the controller's identity; -1: it was added and has not started.
	ID int32
	// URL is where its peers reach it.
	URL string
	// Learner says that it is being filled and has no vote yet.
	Learner bool
	// Leading says that it leads.
	Leading bool
}

// MembershipError says that the members cannot be changed now.
type MembershipError struct {
	// Why, to follow "the controllers cannot be changed: ".
	Why string
	// Retryable says that it may be possible later.
	Retryable bool
	Cause     error
}

// Error says it for people.
func (e *MembershipError) Error() string { return "the controllers cannot be changed: " + e.Why }

// Unwrap returns the cause.
func (e *MembershipError) Unwrap() error { return e.Cause }

// Members returns the members, confirmed by a quorum, in the order of their
// identities.
func (m *Member) Members(ctx context.Context) ([]MemberInfo, error) {
	resp, err := m.client.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the controllers: %w", err)
	}
	infos := make([]MemberInfo, len(resp.Members))
	for i, p := range resp.Members {
		infos[i] = MemberInfo{Key: p.ID, ID: idOf(p.Name), Learner: p.IsLearner, Leading: p.ID == uint64(m.etcd.Server.Leader())}
		if len(p.PeerURLs) > 0 {
			infos[i].URL = p.PeerURLs[0]
		}
	}
	slices.SortFunc(infos, func(a, b MemberInfo) int { return int(a.ID) - int(b.ID) })
	return infos, nil
}

// idOf is the inverse of memberName; -1: the member has no name yet.
func idOf(name string) int32 {
	var id int32
	if _, err := fmt.Sscanf(name, memberForm, &id); err != nil {
		return -1
	}
	return id
}

// AddLearner makes room for a controller that is reached there, which may then
// be started with Join on an empty directory, and returns the key it has from
// now on. It has no vote, so that the quorum does not depend on it before it
// has everything. It fails with *MembershipError.
func (m *Member) AddLearner(ctx context.Context, url string) (uint64, error) {
	resp, err := m.client.MemberAddAsLearner(ctx, []string{url})
	if err != nil {
		return 0, membershipError(err)
	}
	return resp.Member.ID, nil
}

// Promote gives a learner its vote as soon as it has everything that the others
// have; it waits for that until ctx ends. It fails with *MembershipError.
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
		if e, ok := errors.AsType[*MembershipError](failed); !ok || !e.Retryable {
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
// It fails with *MembershipError.
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
		why       string
		retryable bool
	}{
		{rpctypes.ErrUnhealthy, "too few of them are reached; a change now could leave no quorum", true},
		{rpctypes.ErrMemberNotEnoughStarted, "too few of them are started; a change now could leave no quorum", true},
		{rpctypes.ErrMemberLearnerNotReady, "the learner has not got everything yet", true},
		{rpctypes.ErrTooManyLearners, "another one is being added", true},
		{rpctypes.ErrMemberNotFound, "there is no such member", false},
		{rpctypes.ErrMemberNotLearner, "it has its vote already", false},
		{rpctypes.ErrMemberExist, "it is a member already", false},
		{rpctypes.ErrPeerURLExist, "another one is reached at that address", false},
	} {
		if errors.Is(err, known.cause) {
			return &MembershipError{Why: known.why, Retryable: known.retryable, Cause: err}
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
