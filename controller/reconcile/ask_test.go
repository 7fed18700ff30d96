package reconcile

import (
	"context"
	"errors"
	"testing"

	"github.com/millstream-io/millstream/controller/store"
)

// The step goes on when its caller has given up; what it says then is nobody's.
func TestWhoHasGivenUpDoesNotLookAtTheAnswer(t *testing.T) {
	l := &Loop{calls: make(chan call)}
	ctx, cancel := context.WithCancel(t.Context())
	gone, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		c := <-l.calls
		c.done <- c.step(ctx, nil)
	}()
	answer, err := ask(ctx, l, func(context.Context, *active) (*int, error) {
		cancel()
		<-gone
		return new(int), nil
	})
	close(gone)
	if answer != nil || !errors.Is(err, store.ErrUnknownOutcome) {
		t.Errorf("got %v, %v", answer, err)
	}
	<-ended
}
