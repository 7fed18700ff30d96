package api

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/grpc"
	"pgregory.net/rapid"

	"github.com/millstream-io/millstream/server/broker"
)

// bareStream returns a Produce stream without goroutines and transport.
func bareStream(t testing.TB) *produceStream {
	t.Helper()
	s := newTestService(t)
	p := s.newProduceStream(t.Context(), func(error) {}, grpc.ServerStream(nil))
	return p
}

// Requests that are split among lanes at will, whose partitions are done in
// any order: every request is answered once, and in each lane in the order of
// the stream.
func TestAnswersComeInTheOrderOfEveryLane(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := bareStream(t)
		lanes := make([]*lane, 4)
		for i := range lanes {
			lanes[i] = p.in.lanes.find([]byte("t"), uint32(i))
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		count := rapid.IntRange(1, 30).Draw(rt, "requests")
		var inside [4][]*unit // what each partition has, in order
		var answered []*produceRequest
		expected := make(map[*lane][]*produceRequest)
		collect := func() {
			for r := p.ready.head; r != nil; {
				next := r.next
				answered = append(answered, r)
				r = next
			}
			p.ready = requestList{}
		}
		finish := func(i int) {
			u := inside[i][0]
			inside[i] = inside[i][1:]
			p.completed(u)
			collect()
		}
		for range count {
			if !p.begin() {
				rt.Fatal("intake ended")
			}
			r := p.newRequest()
			for _, i := range random.Perm(4)[:1+random.IntN(4)] {
				u := r.addUnit()
				u.lane = lanes[i]
				inside[i] = append(inside[i], u)
				expected[u.lane] = append(expected[u.lane], r)
			}
			p.enter(r)
			for random.IntN(3) > 0 {
				if i := random.IntN(4); len(inside[i]) > 0 {
					finish(i)
				}
			}
		}
		for left := true; left; {
			left = false
			for i := range inside {
				if len(inside[i]) > 0 {
					finish(i)
					left = true
				}
			}
		}
		if len(answered) != count {
			rt.Fatalf("%d answers to %d requests", len(answered), count)
		}
		place := make(map[*produceRequest]int)
		for i, r := range answered {
			place[r] = i
		}
		for l, rs := range expected {
			for i := 1; i < len(rs); i++ {
				if place[rs[i]] < place[rs[i-1]] {
					rt.Fatalf("in lane %d the answer to request %d came before that to %d", l.partition, i, i-1)
				}
			}
			if l.head != nil || l.inside != 0 {
				rt.Fatalf("lane %d is not empty", l.partition)
			}
		}
	})
}

func TestLanesAreForgottenUnlessTheyRefuse(t *testing.T) {
	p := bareStream(t)
	p.in.lanes = newLaneSet(10)
	s := &p.in.lanes
	refusing := s.find([]byte("bad"), 0)
	refusing.refusing = true
	busy := s.find([]byte("busy"), 0)
	r := p.newRequest()
	u := r.addUnit()
	u.lane = busy
	p.enter(r)
	for i := range uint32(100) {
		if s.full() {
			s.forget()
		}
		s.find([]byte("idle"), i)
		if s.count > 10 {
			t.Fatalf("%d lanes", s.count)
		}
	}
	if s.find([]byte("bad"), 0) != refusing || s.find([]byte("busy"), 0) != busy {
		t.Error("a lane was forgotten that is needed")
	}
	p.completed(u)
	s.forget()
	if s.find([]byte("busy"), 0) == busy {
		t.Error("a lane without requests was kept")
	}
	for i := range uint32(20) {
		if s.full() {
			s.forget()
		}
		if s.full() {
			return
		}
		s.find([]byte("bad"), i+1).refusing = true
	}
	t.Error("refusing lanes are not bounded")
}

func TestCreditIsATotal(t *testing.T) {
	var c credit
	if !c.fits(1 << 60) {
		t.Error("without a grant credit is unlimited")
	}
	c.take(100) // before the first grant
	c = credit{}
	c.grant(1000)
	steps := []struct {
		grant, take uint64
		fits        []uint64
		not         []uint64
	}{
		{fits: []uint64{1, 1000, 5000}},                              // nothing is owed: one may exceed
		{take: 400, fits: []uint64{600}, not: []uint64{601, 5000}},   // 400 owed
		{grant: 900, fits: []uint64{600}, not: []uint64{601}},        // it never shrinks
		{grant: 1400, fits: []uint64{1000, 9000}},                    // all given back
		{take: 9000, not: []uint64{0 + 1}},                           // exceeded
		{grant: 10_399, fits: []uint64{999}, not: []uint64{1000}},    // one byte is still owed
		{grant: 10_400, fits: []uint64{1000, 9000}, not: []uint64{}}, // none
	}
	for i, s := range steps {
		if s.grant > 0 {
			c.grant(s.grant)
		}
		c.take(s.take)
		for _, n := range s.fits {
			if !c.fits(n) {
				t.Errorf("step %d: %d bytes do not fit into %+v", i, n, c)
			}
		}
		for _, n := range s.not {
			if c.fits(n) {
				t.Errorf("step %d: %d bytes fit into %+v", i, n, c)
			}
		}
	}
}

func TestNothingFitsIntoNoCredit(t *testing.T) {
	var c credit
	c.grant(0)
	if c.fits(1) || c.room() != 0 {
		t.Error("a grant of nothing lets something pass")
	}
	c.grant(10)
	if !c.fits(100) {
		t.Error("the first real grant is the window")
	}
}

func TestLimitsAreChecked(t *testing.T) {
	for i, l := range []Limits{{UnreadAnswers: -1}, {FrameBytes: 1}, {FrameBytes: 2 << 20}, {StreamInFlightBytes: 1}, {StallTimeout: -1}} {
		if err := l.withDefaults().validate(); err == nil {
			t.Errorf("limits %d are accepted", i)
		}
	}
	if err := (Limits{}).withDefaults().validate(); err != nil {
		t.Error(err)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("an API of nothing was made")
	}
}

var errTest = errors.New("of a test")

func TestUnforeseenErrorsAreNotShown(t *testing.T) {
	s := newTestService(t)
	if f := s.faultOf(fmt.Errorf("secret: %w", errTest)); f.Code != 13 || f.Message == "" || f.Message == errTest.Error() {
		t.Errorf("got %+v", f)
	}
	if f := FaultOf(&broker.BudgetError{Bytes: 2, Limit: 1}); f.Limit.GetActual() != 2 {
		t.Errorf("got %+v", f)
	}
}
