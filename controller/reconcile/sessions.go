package reconcile

import (
	"math"
	"sync"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// beat is what a broker last said.
type beat struct {
	epoch    int64
	revision int64
	ready    bool
	stopping bool
	failed   bool // its directory
	// heard says that the broker has said so itself, and not only that it is
	// counted as alive.
	heard    bool
	impaired controllerv1.Impairment
	delay    time.Duration // of its disk
}

type session struct {
	beat
	heard time.Duration // on the clock of sessions
}

// sessions is who is alive, as the active controller has heard it: nothing of
// it is stored, and the next active controller begins anew.
//
// Its clock is not the time of day: it goes on by at most two ticks for each
// tick, so that a controller that was itself asleep does not hold the silence
// against its brokers.
type sessions struct {
	timeout time.Duration
	tick    time.Duration

	mu       sync.Mutex // guards what follows
	clock    time.Duration
	byBroker map[int32]session
}

func newSessions(timeout time.Duration) *sessions {
	return &sessions{timeout: timeout, tick: timeout / ticksPerSession, byBroker: map[int32]session{}}
}

// reset begins anew: each of the brokers counts as just heard, in its epoch.
func (s *sessions) reset(epochs map[int32]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.byBroker)
	for id, epoch := range epochs {
		s.byBroker[id] = session{beat: beat{epoch: epoch}, heard: s.clock}
	}
}

// retire lets a broker be heard no more until begin: it is about to register
// anew, and what its old incarnation still says does not count.
func (s *sessions) retire(id int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byBroker[id] = session{beat: beat{epoch: math.MaxInt64}, heard: s.clock}
}

// begin counts a broker as just heard, in a new epoch.
func (s *sessions) begin(id int32, epoch int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byBroker[id] = session{beat: beat{epoch: epoch}, heard: s.clock}
}

// pass lets time go on.
func (s *sessions) pass(elapsed time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock += min(elapsed, 2*s.tick)
}

// hear notes a heartbeat of a broker, unless one of a later epoch was heard.
func (s *sessions) hear(id int32, b beat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byBroker[id].epoch <= b.epoch {
		s.byBroker[id] = session{beat: b, heard: s.clock}
	}
}

// lose counts a broker of that epoch as silent until it is heard again.
func (s *sessions) lose(id int32, epoch int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.byBroker[id]; got.epoch == epoch {
		got.heard = s.clock - s.timeout
		s.byBroker[id] = got
	}
}

// last returns what a broker of that epoch said last, and whether it has been
// heard within the timeout.
func (s *sessions) last(id int32, epoch int64) (beat, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	got, ok := s.byBroker[id]
	if !ok || got.epoch != epoch {
		return beat{}, false
	}
	return got.beat, s.clock-got.heard < s.timeout
}
