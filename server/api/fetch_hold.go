package api

import (
	"time"

	"github.com/millstream-io/millstream/server/partition"
)

// holdRetry is when a subscription that is held looks again, if nothing wakes it
// before.
const holdRetry = 100 * time.Millisecond

// hold keeps a subscription whose partition may not be served now, since another
// broker may lead it by now. So a broker that was asleep, or has just begun to
// lead, does not send all its clients away. It returns false if that was not so,
// or for too long.
//
// REQUIRES: the subscription is in send's hands.
func (f *fetchStream) hold(s *subscription, err error) bool {
	if !isType[*partition.NotFreshError](err) {
		return false
	}
	now := time.Now()
	switch {
	case s.staleFrom.IsZero():
		s.staleFrom = now
	case now.Sub(s.staleFrom) >= partition.CurrentWait:
		return false
	}
	f.mem.rest()
	f.mu.Lock()
	if s.state == over {
		f.mu.Unlock()
		return true
	}
	s.state = holding
	f.mu.Unlock()
	w := (*heldSubscription)(s)
	s.part.AskAgain(w)
	time.AfterFunc(holdRetry, w.Wake) // it ends by itself
	return true
}

// heldSubscription is a subscription that is held, as its partition wakes it.
//
// WHY not the subscription itself: that may be armed again when this comes late.
type heldSubscription subscription

// Wake has the subscription look again.
func (h *heldSubscription) Wake() {
	s := (*subscription)(h)
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.state != holding {
		return
	}
	f.queue(s)
	wake(f.work)
}
