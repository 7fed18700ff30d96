package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/controller/pace"
	"github.com/millstream-io/millstream/controller/store"
	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
)

// place is where a pacer lives in these tests: its quorum, its loop, its disk,
// and what the others say.
type place struct {
	mu      sync.Mutex // guards what follows
	leads   bool
	active  bool
	took    time.Duration // by each write
	calls   pace.Calls
	at      int64 // the revision
	answers map[int32]*controllerv1.DescribeControllerResponse
	asked   int
	moved   []uint64 // to whom it was handed over
	steps   int      // of the loop in which it was
	refuse  error
	mute    bool // the store does not say how long its disk takes
}

func (q *place) Leadership() (uint64, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return 1, q.leads
}

func (q *place) Others() []store.Member {
	return []store.Member{{Key: 20, ID: 2, Serves: "c2:1"}, {Key: 30, ID: 3, Serves: "c3:1"}, {Key: 40, ID: 4}}
}

func (q *place) HandOverTo(_ context.Context, key uint64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refuse != nil {
		return q.refuse
	}
	q.leads, q.active, q.moved = false, false, append(q.moved, key)
	return nil
}

func (q *place) Active() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.active
}

func (q *place) HandOver(ctx context.Context, move func(context.Context) error) error {
	q.mu.Lock()
	q.steps++
	q.mu.Unlock()
	return move(ctx)
}

func (q *place) ask(_ context.Context, m store.Member) (*controllerv1.DescribeControllerResponse, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asked++
	if r := q.answers[m.ID]; r != nil {
		return r, nil
	}
	return nil, errors.New("it is not reached")
}

// diskCalls adds two writes for each time that it is asked, if there are any.
func (q *place) diskCalls() (pace.Calls, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if s := q.took.Seconds(); s > 0 {
		q.calls = pace.Calls{Count: q.calls.Count + 2, Seconds: q.calls.Seconds + 2*s, Squares: q.calls.Squares + 2*s*s}
	}
	if q.mute {
		return pace.Calls{}, errors.New("it does not say")
	}
	return q.calls, nil
}

func (q *place) revision() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.at
}

// says is what a controller at revision 7 says of itself.
func says(id int32, delay time.Duration) *controllerv1.DescribeControllerResponse {
	return &controllerv1.DescribeControllerResponse{ControllerId: id, Revision: 7, DiskDelayUs: uint64(delay.Microseconds())}
}

// pacing runs a pacer in a place for a while, in a bubble.
func pacing(t *testing.T, q *place, then func(p *pacer)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		p := &pacer{id: 1, judge: pace.NewJudge(), calls: q.diskCalls, quorum: q, loop: q, revision: q.revision, ask: q.ask, logger: slog.New(slog.DiscardHandler)}
		ended := make(chan error, 1)
		go func() { ended <- p.run(ctx) }()
		then(p)
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	})
}

func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestAnActiveControllerWithASlowDiskHandsOver(t *testing.T) {
	const slow, quick = 400 * time.Millisecond, 5 * time.Millisecond
	both := map[int32]*controllerv1.DescribeControllerResponse{2: says(2, 9*time.Millisecond), 3: says(3, quick)}
	for name, c := range map[string]struct {
		place *place
		to    uint64 // 0: to nobody
		asked bool
		steps int
	}{
		"its disk is quick":        {&place{leads: true, active: true, took: quick, answers: both}, 0, false, 0},
		"nothing is written":       {&place{leads: true, active: true, answers: both}, 0, false, 0},
		"it does not lead":         {&place{took: slow, answers: both}, 0, false, 0},
		"it leads":                 {&place{leads: true, active: true, took: slow, at: 7, answers: both}, 30, true, 1},
		"it leads, not elected":    {&place{leads: true, took: slow, at: 7, answers: both}, 30, true, 0},
		"the others are behind":    {&place{leads: true, active: true, took: slow, at: 8, answers: both}, 0, true, 0},
		"the others are as slow":   {&place{leads: true, active: true, took: slow, answers: map[int32]*controllerv1.DescribeControllerResponse{2: says(2, slow), 3: says(3, slow/2)}}, 0, true, 0},
		"one is reached":           {&place{leads: true, active: true, took: slow, answers: map[int32]*controllerv1.DescribeControllerResponse{2: says(2, quick)}}, 20, true, 1},
		"somebody else is there":   {&place{leads: true, active: true, took: slow, answers: map[int32]*controllerv1.DescribeControllerResponse{2: says(9, quick)}}, 0, true, 0},
		"nobody is":                {&place{leads: true, active: true, took: slow}, 0, true, 0},
		"the quorum refuses it":    {&place{leads: true, active: true, took: slow, answers: both, refuse: errors.New("no")}, 0, true, 1},
		"a slow one says all else": {&place{leads: true, active: true, took: slow, answers: map[int32]*controllerv1.DescribeControllerResponse{2: {ControllerId: 2, Revision: 7, DiskDelayUs: 1000, DiskSlow: true}}}, 0, true, 0},
	} {
		q := c.place
		pacing(t, q, func(p *pacer) {
			after(6*time.Second + time.Millisecond)
			handed := uint64(len(q.moved))
			if c.to == 0 && handed != 0 || c.to != 0 && (handed != 1 || q.moved[0] != c.to) {
				t.Errorf("%s: it is handed over to %v, want %d", name, q.moved, c.to)
			}
			if q.asked > 0 != c.asked || q.steps != c.steps || p.HandOvers() != handed {
				t.Errorf("%s: %d were asked; in %d steps; it counts %d", name, q.asked, q.steps, p.HandOvers())
			}
			if at := p.Standing(); at.ControllerID != 1 || at.Slow != (q.took == slow) || at.Delay.Round(time.Millisecond) != q.took {
				t.Errorf("%s: it says of itself %+v", name, at)
			}
		})
	}
}

// It leads again, as whoever may: its disk, which is still slow, is not thrown
// about for that, and neither are the others asked all the time.
func TestItHandsOverSeldom(t *testing.T) {
	q := &place{leads: true, active: true, took: time.Second, answers: map[int32]*controllerv1.DescribeControllerResponse{2: says(2, time.Millisecond)}}
	pacing(t, q, func(*pacer) {
		for range 30 * 60 {
			after(time.Second)
			q.mu.Lock()
			q.leads, q.active = true, true
			q.mu.Unlock()
		}
		if n := len(q.moved); n != 5 { // at once, and 1, 3, 7 and 15 minutes later
			t.Errorf("it handed over %d times in half an hour", n)
		}
	})
	q = &place{leads: true, active: true, took: time.Second}
	pacing(t, q, func(*pacer) {
		after(time.Minute)
		if q.asked < 20 || q.asked > 26 { // two of them, every 5 s
			t.Errorf("the others were asked %d times in a minute", q.asked)
		}
	})
}

// A store that does not say how fast its disk is keeps nobody from anything, and is
// believed when it says so again: what it had counted before is no single look.
func TestADiskOfWhichNothingIsKnownIsNotSlow(t *testing.T) {
	q := &place{leads: true, active: true, took: time.Second, mute: true, answers: map[int32]*controllerv1.DescribeControllerResponse{2: says(2, time.Millisecond)}}
	pacing(t, q, func(p *pacer) {
		after(time.Minute)
		if at := p.Standing(); len(q.moved) > 0 || q.asked > 0 || at.Slow || at.Delay != 0 {
			t.Errorf("it says %+v, has asked %d times, and handed over to %v", at, q.asked, q.moved)
		}
		q.mu.Lock()
		q.mute = false
		q.mu.Unlock()
		after(6 * time.Second)
		if len(q.moved) != 1 {
			t.Errorf("it handed over to %v", q.moved)
		}
	})
}
