package partition

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
)

// told is depose, and the old leader hears from its followers why they leave.
// If it is the next as well, it is not told of that.
func (g *trio) told(next *env) (old *env) {
	old = g.leader
	g.epoch++
	g.leader = next
	if next != old {
		next.p.Lead(g.assignment())
	}
	was := g.lines
	g.lines = map[*env]*line{}
	for _, e := range g.all {
		if e != old && e != next {
			g.tell(e)
		}
	}
	synctest.Wait() // what they say is heard
	for _, l := range was {
		l.end()
	}
	synctest.Wait()
	return old
}

// A leader that the controllers do not reach hears of its successor from those
// who followed it.
func TestALeaderWhoseFollowersKnowANewerOneGivesUp(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.begin()
		old := g.told(g.all[1])
		a := &answers{}
		r := old.send(a, batch("in vain", 1))
		synctest.Wait()
		if !old.p.State().Leading {
			t.Fatal("it gave up at once: the metadata may be on its way")
		}
		<-time.After(deposedFor)
		synctest.Wait()
		if s := old.p.State(); s.Leading || s.Leader != replica.None || s.LeaderEpoch != 1 {
			t.Fatalf("leading %v, leader %d, epoch %d", s.Leading, s.Leader, s.LeaderEpoch)
		}
		mustBe[*NotLeaderError](t, old.p.Append(t.Context(), batch("too late", 1)))
		<-time.After(limboFor)
		synctest.Wait()
		if !errors.Is(r.Err, ErrUnknownOutcome) {
			t.Fatalf("what was in flight: %v", r.Err)
		}
		g.tell(old) // the controllers are there again
		synctest.Wait()
		g.leader.acked(batch("goes on", 1))
		g.leader.wantLog("before#0", "goes on#0")
		g.wantSame()
	})
}

// With all streams down there is no session to end: who followed says it on the
// next stream.
func TestALeaderIsToldOfANewerOneWithoutASession(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.begin()
		old := g.leader
		for _, l := range g.lines {
			l.end()
		}
		a := &answers{}
		r := old.send(a, batch("in vain", 1))
		old.p.HeardOf(1) // its own
		<-time.After(2 * deposedFor)
		synctest.Wait()
		if !old.p.State().Leading {
			t.Fatal("it gave up in the newest epoch")
		}
		old.p.HeardOf(2)
		<-time.After(deposedFor)
		synctest.Wait()
		if s := old.p.State(); s.Leading || s.LeaderEpoch != 1 {
			t.Fatalf("leading %v, epoch %d", s.Leading, s.LeaderEpoch)
		}
		<-time.After(limboFor)
		synctest.Wait()
		if !errors.Is(r.Err, ErrUnknownOutcome) {
			t.Fatalf("what was in flight: %v", r.Err)
		}
	})
}

// The newer epoch may be the same leader's, who is told of it later than its
// followers.
func TestALeaderThatGaveUpLeadsInTheEpochItHeardOf(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.begin()
		old, a := g.told(g.all[0]), &answers{}
		r := old.send(a, batch("waits", 1))
		<-time.After(deposedFor + earlyFor)
		synctest.Wait()
		if old.p.State().Leading {
			t.Fatal("it leads on in the epoch before")
		}
		if !old.p.Lead(g.assignment()) {
			t.Fatal("it may not lead in the newer epoch")
		}
		for _, e := range g.all[1:] {
			g.mend(e)
		}
		synctest.Wait()
		if r.Err != nil || len(a.list()) != 1 {
			t.Fatalf("what was in flight: %v", r.Err)
		}
		g.leader.acked(batch("goes on", 1))
		if err := old.p.AwaitFresh(t.Context(), Uptime()); err != nil {
			t.Fatal(err)
		}
		g.leader.wantLog("before#0", "waits#0", "goes on#0")
	})
}

func TestAPlannedChangeIsNotTakenForACut(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.begin()
		old := g.told(g.all[1])
		g.tell(old)
		<-time.After(2 * deposedFor)
		synctest.Wait()
		if s := old.p.State(); s.Leader != g.leader.self || s.LeaderEpoch != g.epoch {
			t.Fatalf("leader %d, epoch %d", s.Leader, s.LeaderEpoch)
		}
	})
}
