package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/reconcile"
	"github.com/millstream-io/millstream/controller/store"
)

// quorum is controllers that a test made up. Only those that lead are reached.
type quorum struct {
	Loop
	store.Members
	members []store.Member
	passive bool
	fails   error
	did     []string
}

func (q *quorum) AwaitActive(context.Context) error {
	if q.passive {
		return &reconcile.NotActiveError{Active: 2, Self: 1}
	}
	return nil
}

func (q *quorum) list() []store.Member { return slices.Clone(q.members) }

type quorumMembers struct{ *quorum }

func (q quorumMembers) Members(context.Context) ([]store.Member, error) { return q.list(), q.fails }

func (q quorumMembers) AddLearner(_ context.Context, address string) (uint64, error) {
	q.did = append(q.did, "add "+address)
	q.members = append(q.members, store.Member{ID: -1, URL: "https://" + address, Learner: true})
	return 9, nil
}

func (q quorumMembers) Remove(_ context.Context, key uint64) error {
	q.did = append(q.did, fmt.Sprint("remove ", key))
	return nil
}

func (q quorumMembers) HandOver(context.Context) (bool, error) {
	q.did = append(q.did, "hand over")
	return true, nil
}

// at are members, of which those that are reached lead.
func at(learner bool, reached ...bool) []store.Member {
	var ms []store.Member
	for i, r := range reached {
		// Nobody listens on port 1.
		ms = append(ms, store.Member{Key: uint64(i + 1), ID: int32(i + 1), URL: fmt.Sprintf("https://127.0.0.%d:1", i+1), Leading: r})
	}
	if learner {
		ms = append(ms, store.Member{Key: 7, ID: -1, URL: "https://127.0.0.7:1", Learner: true})
	}
	return ms
}

func (q *quorum) service() *Service {
	return New(Options{Loop: q, Members: quorumMembers{q}, Logger: slog.New(slog.DiscardHandler)})
}

func refusal(err error) string {
	if err == nil {
		return ""
	}
	f := FaultOf(err)
	if f == nil {
		return err.Error()
	}
	return f.Reason.String()[len("ERROR_REASON_"):]
}

func TestWhoIsAddedToTheControllers(t *testing.T) {
	const free = "127.0.0.9:1"
	for name, c := range map[string]struct {
		members []store.Member
		id      int32
		address string
		refused string
	}{
		"one more":                        {at(false, true, true, true), 9, free, ""},
		"one more than one":               {at(false, true), 9, free, ""},
		"one more than two":               {at(false, true, true), 9, free, ""},
		"one more than two, one lost":     {at(false, true, false), 9, free, "QUORUM_AT_RISK"},
		"while one is lost":               {at(false, true, true, false), 9, free, "QUORUM_AT_RISK"},
		"while one of five is lost":       {at(false, true, true, true, true, false), 9, free, ""},
		"while another is added":          {at(true, true, true, true), 9, free, "QUORUM_AT_RISK"},
		"an identity that is taken":       {at(false, true, true, true), 3, free, "CONTROLLER_EXISTS"},
		"an address that is taken":        {at(false, true, true, true), 9, "127.0.0.2:1", "CONTROLLER_EXISTS"},
		"more than there may be":          {at(false, true, true, true, true, true, true), 9, free, "LIMIT_EXCEEDED"},
		"at an address that is none":      {at(false, true, true, true), 9, "there", "INVALID_FIELD"},
		"with an identity that cannot be": {at(false, true, true, true), -1, free, "INVALID_FIELD"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, dry := range []bool{true, false} {
				q := &quorum{members: c.members}
				r, err := q.service().AddController(t.Context(), &controllerv1.AddControllerRequest{ControllerId: c.id, Address: c.address, ValidateOnly: dry})
				if got := refusal(err); got != c.refused {
					t.Errorf("it is refused with %q (%v)", got, err)
				}
				if done := len(q.did) > 0; done != (c.refused == "" && !dry) {
					t.Errorf("dry run %v: it did %v", dry, q.did)
				}
				if c.refused == "" && !dry && len(r.GetControllers()) != len(c.members)+1 {
					t.Errorf("they are %v", r)
				}
			}
		})
	}
}

func TestWhoIsTakenOutOfTheControllers(t *testing.T) {
	for name, c := range map[string]struct {
		members []store.Member
		request *controllerv1.RemoveControllerRequest
		refused string
		did     []string
	}{
		"one that is lost": {at(false, true, true, false), &controllerv1.RemoveControllerRequest{ControllerId: 3}, "", []string{"remove 3"}},
		"by its address":   {at(false, true, true, false), &controllerv1.RemoveControllerRequest{Address: "127.0.0.3:1"}, "", []string{"remove 3"}},
		"one that never started": {at(true, true, false, false),
			&controllerv1.RemoveControllerRequest{Address: "127.0.0.7:1"}, "", []string{"remove 7"}},
		"the active one": {at(false, true, true, true), &controllerv1.RemoveControllerRequest{ControllerId: 1}, "CONTROLLER_UNAVAILABLE", []string{"hand over"}},
		"one without whom there is no quorum": {at(false, true, false, false),
			&controllerv1.RemoveControllerRequest{ControllerId: 2}, "QUORUM_AT_RISK", nil},
		"the only one":           {at(false, true), &controllerv1.RemoveControllerRequest{ControllerId: 1}, "QUORUM_AT_RISK", nil},
		"one that is not there":  {at(true, true, true, true), &controllerv1.RemoveControllerRequest{ControllerId: 9}, "UNKNOWN_CONTROLLER", nil},
		"one without an address": {at(true, true, true, true), &controllerv1.RemoveControllerRequest{ControllerId: -1}, "UNKNOWN_CONTROLLER", nil},
		"an address that is none": {at(true, true, true, true),
			&controllerv1.RemoveControllerRequest{Address: "there"}, "INVALID_FIELD", nil},
	} {
		t.Run(name, func(t *testing.T) {
			q := &quorum{members: c.members}
			c.request.ValidateOnly = true
			if _, err := q.service().RemoveController(t.Context(), c.request); len(q.did) > 0 || refusal(err) != c.refused && c.refused != "CONTROLLER_UNAVAILABLE" {
				t.Errorf("a dry run did %v: %v", q.did, err)
			}
			c.request.ValidateOnly = false
			_, err := q.service().RemoveController(t.Context(), c.request)
			if got := refusal(err); got != c.refused || !slices.Equal(q.did, c.did) {
				t.Errorf("it is refused with %q (%v), and did %v", got, err, q.did)
			}
		})
	}
}

func TestOnlyTheActiveControllerSaysWhoTheControllersAre(t *testing.T) {
	q := &quorum{members: at(true, true, true, false)}
	r, err := q.service().ListControllers(t.Context(), nil)
	if err != nil || len(r.GetControllers()) != 4 {
		t.Fatal(r, err)
	}
	if first := r.GetControllers()[0]; first.GetControllerId() != -1 || !first.GetLearner() || first.GetReachable() || first.GetAddress() != "127.0.0.7:1" {
		t.Errorf("one that was added is %v", first)
	}
	if last := r.GetControllers()[3]; last.GetControllerId() != 3 || last.GetReachable() || last.GetActive() {
		t.Errorf("one that is lost is %v", last)
	}
	q.fails = errors.New("no quorum")
	if _, err := q.service().ListControllers(t.Context(), nil); refusal(err) != "CONTROLLER_UNAVAILABLE" {
		t.Errorf("without a quorum: %v", err)
	}
	q.passive, q.fails = true, nil
	for name, err := range map[string]error{
		"list": func() error { _, err := q.service().ListControllers(t.Context(), nil); return err }(),
		"add": func() error {
			_, err := q.service().AddController(t.Context(), &controllerv1.AddControllerRequest{ControllerId: 9, Address: "a:1"})
			return err
		}(),
		"remove": func() error {
			_, err := q.service().RemoveController(t.Context(), &controllerv1.RemoveControllerRequest{ControllerId: 1})
			return err
		}(),
	} {
		if refusal(err) != "CONTROLLER_UNAVAILABLE" || len(q.did) > 0 {
			t.Errorf("%s where another is active: %v, and did %v", name, err, q.did)
		}
	}
}
