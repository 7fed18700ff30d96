package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/reconcile"
	"github.com/millstream-io/millstream/controller/store"
)

const (
	// reachTimeout is for how long a controller is tried to be reached.
	reachTimeout = time.Second
	// changeTimeout is for how long a change of the controllers may not be
	// possible yet, as when one was started just now, before it is refused.
	changeTimeout = 8 * time.Second
	// maxControllers is 5 and one that takes the place of another.
	maxControllers = 6
)

// ListControllers is part of ControllerService.
func (s *Service) ListControllers(ctx context.Context, _ *controllerv1.ListControllersRequest) (*controllerv1.ListControllersResponse, error) {
	list, err := s.controllers(ctx)
	if err != nil {
		return nil, err
	}
	return &controllerv1.ListControllersResponse{Controllers: records(list)}, nil
}

// DescribeController is part of ControllerService. Any controller answers.
func (s *Service) DescribeController(context.Context, *controllerv1.DescribeControllerRequest) (*controllerv1.DescribeControllerResponse, error) {
	at := s.o.Pace()
	return &controllerv1.DescribeControllerResponse{
		ControllerId: at.ControllerID, Revision: s.o.Image.Revision(), DiskDelayUs: uint64(at.Delay.Microseconds()), DiskSlow: at.Slow,
	}, nil
}

// AddController is part of ControllerService.
func (s *Service) AddController(ctx context.Context, r *controllerv1.AddControllerRequest) (*controllerv1.AddControllerResponse, error) {
	if id := r.GetControllerId(); id < 0 || id > maxBrokerID {
		return nil, &FieldError{"controller_id", fmt.Sprintf("must be 0 to %d, not %d", maxBrokerID, id)}
	}
	if err := checkAddress(r.GetAddress()); err != nil {
		return nil, err
	}
	list, err := s.controllers(ctx)
	if err != nil {
		return nil, err
	}
	if err := mayAdd(list, r); err != nil {
		return nil, err
	}
	if r.GetValidateOnly() {
		return &controllerv1.AddControllerResponse{Controllers: records(list)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if _, err := s.o.Members.AddLearner(ctx, r.GetAddress()); err != nil {
		return nil, changed(err)
	}
	if list, err = s.controllers(ctx); err != nil {
		return nil, err
	}
	return &controllerv1.AddControllerResponse{Controllers: records(list)}, nil
}

// RemoveController is part of ControllerService. The active controller hands
// over before it is removed: then another carries the call out.
func (s *Service) RemoveController(ctx context.Context, r *controllerv1.RemoveControllerRequest) (*controllerv1.RemoveControllerResponse, error) {
	if r.GetAddress() != "" {
		if err := checkAddress(r.GetAddress()); err != nil {
			return nil, err
		}
	}
	list, err := s.controllers(ctx)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(list, func(m member) bool {
		if r.GetAddress() != "" {
			return m.address == r.GetAddress()
		}
		return m.ID >= 0 && m.ID == r.GetControllerId()
	})
	if at < 0 {
		return nil, &store.MembershipError{Refusal: store.RefusedUnknown, Why: "there is no such controller"}
	}
	gone := list[at]
	left := slices.Delete(slices.Clone(list), at, at+1)
	if err := mayRemove(gone, left); err != nil {
		return nil, err
	}
	if r.GetValidateOnly() {
		return &controllerv1.RemoveControllerResponse{Controllers: records(left)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	if gone.Leading {
		if _, err := s.o.Members.HandOver(ctx); err != nil {
			return nil, changed(err)
		}
		return nil, &reconcile.NotActiveError{Active: -1, Self: gone.ID}
	}
	if err := s.o.Members.Remove(ctx, gone.Key); err != nil {
		return nil, changed(err)
	}
	return &controllerv1.RemoveControllerResponse{Controllers: records(left)}, nil
}

// changed says of an error other than a refusal that the change may be carried
// out all the same.
func changed(err error) error {
	if _, refused := errors.AsType[*store.MembershipError](err); refused {
		return err
	}
	return fmt.Errorf("%w: %w", store.ErrUnknownOutcome, err)
}

// member is a controller and how it stands.
type member struct {
	store.Member
	address   string // HOST:PORT
	reachable bool
}

// controllers returns the controllers, if this is the active one: who changes
// them looks first, and two that do it at once had better be one after the
// other.
func (s *Service) controllers(ctx context.Context) ([]member, error) {
	if err := s.o.Loop.AwaitActive(ctx); err != nil {
		return nil, err
	}
	known, err := s.o.Members.Members(ctx)
	if err != nil {
		return nil, &unreadableError{err}
	}
	list := make([]member, len(known))
	var tries sync.WaitGroup
	for i, m := range known {
		tries.Go(func() { list[i] = reached(ctx, m) })
	}
	tries.Wait()
	slices.SortFunc(list, func(a, b member) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.address, b.address)) })
	return list, nil
}

// unreadableError says that no quorum confirms who the controllers are.
type unreadableError struct{ cause error }

func (e *unreadableError) Error() string { return "no quorum of the controllers: " + e.cause.Error() }
func (e *unreadableError) Unwrap() error { return e.cause }

// reached tries to connect to a controller. Who answers is reached, whoever it
// is; the quorum itself is the judge of every change.
func reached(ctx context.Context, m store.Member) member {
	out := member{Member: m, address: m.URL}
	u, err := url.Parse(m.URL)
	if err != nil {
		return out
	}
	out.address = u.Host
	if m.Leading {
		out.reachable = true
		return out
	}
	network := "tcp"
	if u.Scheme == "unix" {
		network = "unix"
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, u.Host)
	if err != nil {
		return out
	}
	_ = conn.Close() // nothing was said
	out.reachable = true
	return out
}

func records(list []member) []*controllerv1.ControllerRecord {
	rs := make([]*controllerv1.ControllerRecord, len(list))
	for i, m := range list {
		rs[i] = &controllerv1.ControllerRecord{ControllerId: m.ID, Address: m.address, Learner: m.Learner, Active: m.Leading, Reachable: m.reachable}
	}
	return rs
}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" {
		return &FieldError{"address", fmt.Sprintf("%q is not HOST:PORT", address)}
	}
	return checkText("address", address, maxAddressBytes)
}

// voters counts those that have a vote, and those of them that are reached.
func voters(list []member) (all, reachable int) {
	for _, m := range list {
		if m.Learner {
			continue
		}
		if all++; m.reachable {
			reachable++
		}
	}
	return all, reachable
}

// mayAdd refuses what could leave no quorum: the new one counts as away, unless
// there is only one so far. That one cannot bear any to be away, and there would
// never be more: the new one has its vote when it is there and has everything.
func mayAdd(list []member, r *controllerv1.AddControllerRequest) error {
	for _, m := range list {
		if m.ID == r.GetControllerId() || m.address == r.GetAddress() {
			return &store.MembershipError{Refusal: store.RefusedExists, Why: fmt.Sprintf("controller %d is one of them, at %s", m.ID, m.address)}
		}
		if m.Learner {
			return &store.MembershipError{Why: "another one is being added, at " + m.address, Retryable: true}
		}
	}
	if len(list) >= maxControllers {
		return &reconcile.LimitError{Limit: "controllers", Most: maxControllers, Actual: int64(len(list)) + 1}
	}
	if all, here := voters(list); here < min(all, (all+1)/2+1) {
		return &store.MembershipError{Why: fmt.Sprintf("%d of %d are reached, too few for one more: remove those that are lost, or start them", here, all), Retryable: true}
	}
	return nil
}

// mayRemove refuses what would leave no quorum.
func mayRemove(gone member, left []member) error {
	if gone.Learner {
		return nil
	}
	if all, here := voters(left); all == 0 || here < all/2+1 {
		return &store.MembershipError{Why: fmt.Sprintf("%d of the %d that would be left are reached, which is no quorum", here, all), Retryable: all > 0}
	}
	return nil
}
