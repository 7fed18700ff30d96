package broker

import (
	"testing"
	"time"

	"github.com/millstream-io/millstream/server/replica"
)

func TestAnAnswerCountsWhenItIsCarriedOut(t *testing.T) {
	v := newVouched()
	want := func(what string, at time.Duration) {
		t.Helper()
		if got := v.time(); got != at {
			t.Errorf("%s: %v, want %v", what, got, at)
		}
	}
	want("before anything", replica.Never)
	v.carriedOut(7)
	want("nobody was asked", replica.Never)
	v.answered(time.Second, 9)
	want("revision 9 is not here", replica.Never)
	v.carriedOut(8)
	want("revision 9 is not here", replica.Never)
	v.carriedOut(9)
	want("it is", time.Second)
	v.answered(2*time.Second, 9)
	want("nothing has changed", 2*time.Second)
	v.answered(3*time.Second, 10)
	want("revision 10 is not here", 2*time.Second)
	v.carriedOut(11)
	want("more than that is", 3*time.Second)
}
