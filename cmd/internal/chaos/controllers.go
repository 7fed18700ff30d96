package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// leaveTimeout bounds the time in which a controller ends by itself that was
// removed; it may have been cut off when it was.
const leaveTimeout = 15 * time.Second

// replaceController has the spare controller take the place of another, which
// is the spare from then on, with nothing on its disk.
func (r *run) replaceController(ctx context.Context) error {
	joining, leaving := r.spareController, r.anyController()
	r.book.Fault("membership", 0)
	defer r.book.Healed("membership", 0)
	if err := r.amid(ctx, joining.Name()+" is told of", func(ctx context.Context) error {
		_, err := r.admin().AddController(ctx, &pb.AddControllerRequest{ControllerId: int32(joining.ID), Address: joining.InternalAddr})
		return unless(err, pb.ErrorReason_ERROR_REASON_CONTROLLER_EXISTS) // it was done, and the answer lost
	}); err != nil {
		return err
	}
	joining.Join(r.controllers())
	if err := r.launch(joining); err != nil {
		return err
	}
	r.spareController = nil
	if err := r.amid(ctx, joining.Name()+" joins", func(ctx context.Context) error { return r.votes(ctx, joining) }); err != nil {
		return err
	}
	r.guard.expect(leaving) // it ends by itself
	if err := r.amid(ctx, leaving.Name()+" is removed", func(ctx context.Context) error {
		_, err := r.admin().RemoveController(ctx, &pb.RemoveControllerRequest{ControllerId: int32(leaving.ID)})
		return unless(err, pb.ErrorReason_ERROR_REASON_UNKNOWN_CONTROLLER)
	}, leaving); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, leaveTimeout)
	defer cancel()
	select {
	case <-leaving.Exited():
	case <-waiting.Done():
		r.say("%9s %-16s %s was removed and runs still: it is killed\n", "", "upheaval", leaving.Name())
		leaving.Kill()
	}
	r.spareController = leaving
	return empty(leaving.DataDir())
}

// votes fails while a controller has no vote.
func (r *run) votes(ctx context.Context, m *cluster.Member) error {
	got, err := r.admin().ListControllers(ctx, &pb.ListControllersRequest{})
	if err != nil {
		return err
	}
	for _, c := range got.GetControllers() {
		if c.GetControllerId() == int32(m.ID) && !c.GetLearner() {
			return nil
		}
	}
	return fmt.Errorf("%s has no vote yet", m.Name())
}
