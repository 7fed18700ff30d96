package partition

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// depose has another replica lead, which the old leader does not hear of.
func (g *trio) depose(next *env) (old *env) {
	old = g.leader
	g.epoch++
	g.leader = next
	for _, e := range g.all {
		if e != old {
			g.tell(e)
		}
	}
	synctest.Wait()
	return old
}

func TestADeposedLeaderDoesNotSayWhereTheEndIs(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		g.leader.acked(batch("old", 2))
		if err := g.leader.p.AwaitFresh(t.Context(), Uptime()); err != nil {
			t.Fatalf("a leader that is followed: %v", err)
		}
		old := g.depose(g.all[1])
		// The others have moved on, and at a min ISR of two can commit.
		begun := Uptime()
		e := wantError[*NotFreshError](t, old.p.AwaitFresh(t.Context(), begun))
		if !slices.Equal(e.Silent, []replica.ID{2, 3}) {
			t.Errorf("silent are %v", e.Silent)
		}
		if waited := Uptime() - begun; waited != leaderLease {
			t.Errorf("it was waited for %v", waited)
		}
	})
}

func TestADeposedLeaderServesWhatItHasForALease(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		g.leader.acked(batch("old", 2))
		old := g.leader
		if err := old.p.AwaitFresh(t.Context(), Uptime()); err != nil {
			t.Fatal(err)
		}
		<-time.After(leaderLease) // in which nobody is pinged
		old.wantLog("old#0", "old#1")
		r := old.p.NewReader()
		defer r.Close()
		tail := &bell{rung: make(chan struct{}, 1)}
		if !old.p.Notify(tail, 2) {
			t.Fatal("there is nothing at the end")
		}
		old.p.LookFresh()
		<-time.After(time.Nanosecond)
		for what, from := range map[string]record.Offset{"a record": 0, "the end": 2, "beyond it": 3} {
			_, err := r.Read(from, 1<<20, func(n int) []byte { return make([]byte, n) })
			t.Log(what)
			mustBe[*NotFreshError](t, err)
		}
		select {
		case <-tail.rung:
			t.Error("a reader was woken though all is well")
		default:
		}
		old.p.LookFresh()
		select {
		case <-tail.rung:
		default:
			t.Error("who waits at the end is not told")
		}
		// It is connected again, and was not deposed.
		if err := old.p.AwaitCurrent(t.Context()); err != nil {
			t.Fatal(err)
		}
		old.wantLog("old#0", "old#1")
	})
}

func TestOneSilentFollowerOfTwoStopsNoReader(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		g.leader.acked(batch("old", 2))
		g.lines[g.all[2]].end()
		<-time.After(10 * leaderLease)
		if err := g.leader.p.AwaitCurrent(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.leader.wantLog("old#0", "old#1")
		// It may lead, though, as far as is known here: of one min ISR that would
		// be enough.
		mustBe[*NotFreshError](t, g.leader.p.AwaitFresh(t.Context(), Uptime()))
		a := g.assignment()
		a.InSync, a.PartitionEpoch = []replica.ID{1, 2}, a.PartitionEpoch+1
		if !g.leader.p.Confirm(a) {
			t.Fatal("not confirmed")
		}
		if err := g.leader.p.AwaitFresh(t.Context(), Uptime()); err != nil {
			t.Errorf("who is not in sync is not asked: %v", err)
		}
	})
}

// What a follower says before it answers counts before the answer, also while
// the owner is busy and has not heard of it.
func TestASessionThatHasEndedIsNotHeard(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		busy := g.leader.hold(faultfs.Write)
		g.leader.send(&answers{}, batch("being written", 1))
		synctest.Wait()
		if busy.calls() != 1 {
			t.Fatal("the owner is not busy")
		}
		old := g.leader
		for _, e := range g.all[1:] {
			e.p.Resign(replica.None, g.epoch+1) // it says that its session has ended
		}
		synctest.Wait()
		mustBe[*NotFreshError](t, old.p.AwaitFresh(t.Context(), Uptime()))
		busy.letGo()
		synctest.Wait()
	})
}

func TestAFreshLeaderIsHeardAtOnce(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		<-time.After(time.Minute) // nothing has been said for long
		begun := Uptime()
		if err := g.leader.p.AwaitFresh(t.Context(), begun); err != nil {
			t.Fatal(err)
		}
		if waited := Uptime() - begun; waited != 0 {
			t.Errorf("it was waited for %v: the followers answer as soon as they are asked", waited)
		}
	})
}

func TestReadingAsksNobodyAndAllocatesNothing(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		if n := testing.AllocsPerRun(100, func() {
			if err := g.leader.p.stale(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// heardAlways is a stream whose follower has just answered.
type heardAlways struct{ Outlet }

func (heardAlways) Heard() time.Duration { return Uptime() }

// What a read costs more than before leaders had to be sure of themselves.
func BenchmarkStale(b *testing.B) {
	p := &Partition{uptime: Uptime, vouched: func() time.Duration { return replica.Never }}
	q := &quorum{Quorum: replica.Quorum{Enough: true, MinInSync: 2}, over: make(chan struct{})}
	for id := replica.ID(2); id <= 3; id++ {
		q.Others = append(q.Others, replica.Other{ID: id, InSync: true, Session: 1})
		q.feeds = append(q.feeds, &Feed{p: p, id: id, outlet: heardAlways{}, session: 1})
	}
	p.quorum.Store(q)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.stale(); err != nil {
			b.Fatal(err)
		}
	}
}
