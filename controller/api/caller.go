package api

import (
	"context"
	"fmt"
	"strconv"

	"github.com/millstream-io/millstream/server/pki"
)

// Callers says who calls, as the verified certificate of the connection does;
// an error says why that is not known.
type Callers func(context.Context) (pki.Identity, error)

// CallerError says that a caller is not one whom a call is for, or not the one
// that its request names.
type CallerError struct {
	// Why says it.
	Why string
	// Cause is why the caller is not known, if that is it.
	Cause error
}

// Error says it for people.
func (e *CallerError) Error() string { return e.Why }

// Unwrap returns the cause.
func (e *CallerError) Unwrap() error { return e.Cause }

// Authorize returns what lets in the brokers and controllers of a cluster and
// nobody else, for rpc.Options. It fails with a *CallerError.
func Authorize(callers Callers) func(context.Context, string) error {
	return func(ctx context.Context, _ string) error {
		_, err := member(ctx, callers)
		return err
	}
}

// member returns who calls, if it is a broker or a controller.
func member(ctx context.Context, callers Callers) (pki.Identity, error) {
	caller, err := callers(ctx)
	if err != nil {
		return caller, &CallerError{Why: "the controller serves brokers and controllers of its cluster, and the caller is not known as one: " + err.Error(), Cause: err}
	}
	switch caller.Role {
	case pki.RoleBroker, pki.RoleController:
		return caller, nil
	default:
		return caller, &CallerError{Why: fmt.Sprintf("the controller serves brokers and controllers, and the caller is %s", caller)}
	}
}

// checkCaller refuses what is said in the name of a broker by anybody but
// itself: who it is comes from the connection, never from the request.
func (s *Service) checkCaller(ctx context.Context, brokerID int32) error {
	if s.o.Callers == nil { // dev, or --insecure
		return nil
	}
	caller, err := member(ctx, s.o.Callers)
	if err != nil {
		return err
	}
	return only(caller, brokerID)
}

// checkWatcher is checkCaller for what controllers may ask for too.
func (s *Service) checkWatcher(ctx context.Context, brokerID int32) error {
	if s.o.Callers == nil {
		return nil
	}
	caller, err := member(ctx, s.o.Callers)
	if err != nil || caller.Role == pki.RoleController {
		return err
	}
	return only(caller, brokerID)
}

// only refuses everybody but one broker.
func only(caller pki.Identity, brokerID int32) error {
	if caller.Role != pki.RoleBroker || caller.ID != strconv.Itoa(int(brokerID)) {
		return &CallerError{Why: fmt.Sprintf("the request is of broker %d, and its caller is %s: give the broker its own certificate, or the broker-id of its certificate", brokerID, caller)}
	}
	return nil
}
