package store

import "context"

// Member is a controller as the quorum knows it.
type Member struct {
	// Key is how the quorum names it: another for each time it is added.
	Key uint64
	// ID is the controller's identity; -1: it was added and has not started.
	ID int32
	// URL is where its peers reach it.
	URL string
	// Serves is HOST:PORT where it serves brokers; empty: nobody was told.
	Serves string
	// Learner says that it is being filled and has no vote yet.
	Learner bool
	// Leading says that it leads.
	Leading bool
}

// MembershipError says that the members cannot be changed now.
type MembershipError struct {
	// Refusal is the kind of it.
	Refusal Refusal
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

// Refusal is why members cannot be changed.
type Refusal uint8

// The refusals.
const (
	// RefusedAtRisk: there could be no quorum afterwards.
	RefusedAtRisk Refusal = iota
	// RefusedUnknown: there is no such member.
	RefusedUnknown
	// RefusedExists: it is a member already.
	RefusedExists
)

// Members are the controllers that keep a store, and how they are changed.
type Members interface {
	// Members returns them, confirmed by a quorum, in the order of their
	// identities.
	Members(ctx context.Context) ([]Member, error)
	// AddLearner makes room for one that is reached at HOST:PORT. It fails with
	// *MembershipError.
	AddLearner(ctx context.Context, address string) (uint64, error)
	// Remove takes one out for good. It waits until ctx ends while that could
	// leave no quorum, and then fails with *MembershipError.
	Remove(ctx context.Context, key uint64) error
	// HandOver has another member lead, if this one leads and there is another
	// with a vote, and reports whether there was.
	HandOver(ctx context.Context) (bool, error)
}
