package caller

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/pki"
)

// is returns callers who are all the same.
func is(role pki.Role, id int32) Func {
	return func(context.Context) (pki.Identity, error) { return pki.Numbered("prod", role, id), nil }
}

func unknown(context.Context) (pki.Identity, error) {
	return pki.Identity{}, errors.New("no certificate")
}

func TestWhoMaySayWhat(t *testing.T) {
	for _, c := range []struct {
		name                        string
		f                           Func
		letIn, asBroker, orAnything bool // in the name of broker 1
	}{
		{"the broker itself", is(pki.RoleBroker, 1), true, true, true},
		{"another broker", is(pki.RoleBroker, 11), true, false, false},
		{"a controller of that number", is(pki.RoleController, 1), true, false, true},
		{"a client", is(pki.RoleClient, 1), false, false, false},
		{"the public side of the broker", is(pki.RoleServer, 1), false, false, false},
		{"somebody without a certificate", unknown, false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for what, got := range map[string]struct {
				err  error
				want bool
			}{
				"let in":                       {Authorize(c.f)(t.Context(), "/any"), c.letIn},
				"speaking as broker 1":         {CheckBroker(t.Context(), c.f, 1), c.asBroker},
				"asking for what broker 1 may": {CheckBrokerOrController(t.Context(), c.f, 1), c.orAnything},
			} {
				if (got.err == nil) != got.want {
					t.Errorf("%s: %v", what, got.err)
				}
				if got.err == nil {
					continue
				}
				e, ok := errors.AsType[*Error](got.err)
				if !ok || e.Fault().Code != codes.PermissionDenied || e.Fault().Reason != pb.ErrorReason_ERROR_REASON_WRONG_IDENTITY || e.Fault().Message == "" {
					t.Errorf("%s: refused with %v", what, got.err)
				}
			}
		})
	}
}

func TestWithoutCertificatesRequestsAreBelieved(t *testing.T) {
	if err := errors.Join(CheckBroker(t.Context(), nil, 1), CheckBrokerOrController(t.Context(), nil, 1)); err != nil {
		t.Error(err)
	}
}
