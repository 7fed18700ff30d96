// Package caller says who calls an internal service: which broker or
// controller of the cluster, as the verified certificate of its connection
// does. Who somebody is never comes from a request.
//
// It refuses to own certificates (server/tlsfile) and what a role may do
// beyond being let in.
//
// INVARIANT: with certificates nobody but brokers and controllers of the same
// cluster is let in, and a broker speaks in its own name only. The package has
// no state and starts no goroutine.
package caller

import (
	"context"
	"fmt"
	"strconv"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/pki"
	"github.com/millstream-io/millstream/server/rpc"
)

// Func says who calls; an error says why that is not known. The method Peer of
// a tlsfile.Source is one. A nil Func stands for a service without
// certificates, as in dev or with --insecure: there, requests are believed.
type Func func(context.Context) (pki.Identity, error)

// Error says that a caller is not one whom a call is for, or not the one that
// its request names.
type Error struct {
	// Why says it.
	Why string
	// Cause is why the caller is not known, if that is it.
	Cause error
}

// Error says it for people.
func (e *Error) Error() string { return e.Why }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Fault is how the error is told to the caller.
func (e *Error) Fault() *rpc.Fault {
	return &rpc.Fault{Code: codes.PermissionDenied, Reason: pb.ErrorReason_ERROR_REASON_WRONG_IDENTITY, Message: e.Why}
}

// Authorize returns what lets in the brokers and controllers of a cluster and
// nobody else, for rpc.Options. It fails with an *Error. f is not nil.
func Authorize(f Func) func(context.Context, string) error {
	return func(ctx context.Context, _ string) error {
		_, err := Member(ctx, f)
		return err
	}
}

// Member returns who calls, if it is a broker or a controller. It fails with an
// *Error. f is not nil.
func Member(ctx context.Context, f Func) (pki.Identity, error) {
	i, err := f(ctx)
	if err != nil {
		return i, &Error{Why: "only brokers and controllers of the cluster are served, and the caller is not known as one: " + err.Error(), Cause: err}
	}
	switch i.Role {
	case pki.RoleBroker, pki.RoleController:
		return i, nil
	default:
		return i, &Error{Why: fmt.Sprintf("only brokers and controllers are served, and the caller is %s", i)}
	}
}

// CheckBroker refuses what is said in the name of a broker by anybody but
// itself. It fails with an *Error.
func CheckBroker(ctx context.Context, f Func, id int32) error {
	if f == nil {
		return nil
	}
	i, err := Member(ctx, f)
	if err != nil {
		return err
	}
	return only(i, id)
}

// CheckBrokerOrController is CheckBroker for what controllers may ask for in
// any name.
func CheckBrokerOrController(ctx context.Context, f Func, id int32) error {
	if f == nil {
		return nil
	}
	i, err := Member(ctx, f)
	if err != nil || i.Role == pki.RoleController {
		return err
	}
	return only(i, id)
}

// only refuses everybody but one broker.
func only(i pki.Identity, id int32) error {
	if i.Role != pki.RoleBroker || i.ID != strconv.Itoa(int(id)) {
		return &Error{Why: fmt.Sprintf("the request is of broker %d, and its caller is %s: give the broker its own certificate, or the id of its certificate", id, i)}
	}
	return nil
}
