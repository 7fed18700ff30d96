package partition

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// wishes are the hand-overs that a replica asks for.
type wishes struct {
	mu  sync.Mutex
	all []replica.Proposal
}

func (w *wishes) take(p replica.Proposal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.HandOver {
		w.all = append(w.all, p)
	}
}

func (w *wishes) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}

// leaving is the record by which the leader is to hand over to a replica.
func (g *trio) leaving(to *env) replica.Assignment {
	a := g.assignment()
	a.PartitionEpoch++
	a.HandsOver, a.Successor = true, to.self
	return a
}

// listen returns what a leader asks for from now on.
func (g *trio) listen() *wishes {
	w := &wishes{}
	g.leader.p.propose = w.take
	return w
}

// begin has the first replica lead, with a record that all have.
func (g *trio) begin() {
	g.t.Helper()
	g.elect(g.all[0])
	synctest.Wait()
	g.leader.acked(batch("before", 1))
}

// What is in flight when the leader is asked to hand over is acknowledged by
// it; what comes later waits, and was surely not written when another leads.
func TestNothingIsInFlightWhenTheLeaderIsHandedOver(t *testing.T) {
	inTrio(t, replica.Disk, func(t *testing.T, g *trio) {
		g.begin()
		old, w, a := g.leader, g.listen(), &answers{}
		h := g.all[1].hold(faultfs.Sync)
		flying := old.send(a, batch("in flight", 2))
		synctest.Wait()
		old.p.Confirm(g.leaving(g.all[1]))
		var late []*Request
		for range 3 {
			late = append(late, old.send(a, batch("late", 1)))
		}
		synctest.Wait()
		if len(a.list()) != 0 || w.count() != 0 || old.p.State().End != 3 {
			t.Fatalf("with a record in flight: %d answers, %d wishes, the end is %d", len(a.list()), w.count(), old.p.State().End)
		}
		h.letGo()
		synctest.Wait()
		if len(a.list()) != 1 || flying.Err != nil || flying.InSync != 3 {
			t.Fatalf("what was in flight: %d answers, %v", len(a.list()), flying.Err)
		}
		if w.count() != 1 || old.p.State().End != 3 || old.p.Held() != 3 {
			t.Fatalf("drained: %d wishes, the end is %d, %d are held", w.count(), old.p.State().End, old.p.Held())
		}
		// The successor knows by now that all of it is committed.
		if hw := g.all[1].p.State().HighWatermark; hw != 3 {
			t.Errorf("the successor knows the high watermark %d", hw)
		}
		g.elect(g.all[1])
		synctest.Wait()
		for i, r := range late {
			gone := wantError[*NotLeaderError](t, r.Err)
			if gone.Leader != g.leader.self || gone.Epoch != g.epoch {
				t.Errorf("late request %d: %v", i, r.Err)
			}
		}
		if !slices.Equal(old.seen.handOvers, []bool{true}) {
			t.Errorf("told of hand-overs is %v", old.seen.handOvers)
		}
		if old.p.Held() != 0 || old.p.owner.limbo != nil {
			t.Errorf("%d are held; in limbo: %v", old.p.Held(), old.p.owner.limbo != nil)
		}
		g.leader.wantLog("before#0", "in flight#0", "in flight#1")
		g.leader.acked(batch("after", 1))
		g.wantSame()
	})
}

// Leaders follow each other while requests come all the time: none has an
// unknown outcome, and what was refused is in no log.
func TestLeadersFollowEachOtherAndNoOutcomeIsUnknown(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.begin()
		want, refused := []string{"before#0"}, 0
		for round := range 30 {
			w, a := g.listen(), &answers{}
			next := g.all[(round+1)%3]
			var sent []*Request
			for n := range 20 {
				if n == 7 {
					synctest.Wait()
					g.leader.p.Confirm(g.leaving(next))
				}
				sent = append(sent, g.leader.send(a, batch("r", 1)))
			}
			synctest.Wait()
			if w.count() == 0 {
				t.Fatalf("round %d: nobody is asked for", round)
			}
			g.elect(next)
			synctest.Wait()
			for _, r := range sent {
				if r.Err == nil {
					want = append(want, "r#0")
					continue
				}
				mustBe[*NotLeaderError](t, r.Err)
				refused++
			}
			if len(a.list()) != 20 {
				t.Fatalf("round %d: %d answers", round, len(a.list()))
			}
			g.leader.acked(batch("first", 1)) // the new one takes records at once
			want = append(want, "first#0")
			g.wantSame()
		}
		g.leader.wantLog(want...)
		if refused == 0 || refused == 600 {
			t.Errorf("%d of 600 were refused", refused)
		}
	})
}

// A leader that cannot get rid of what is in flight, or is not answered, takes
// records again after a while.
func TestALeaderThatCannotHandOverGoesOn(t *testing.T) {
	for name, slow := range map[string]bool{"a follower is slow": true, "the controller is away": false} {
		t.Run(name, func(t *testing.T) {
			inTrio(t, replica.Disk, func(t *testing.T, g *trio) {
				g.begin()
				w, a := g.listen(), &answers{}
				var h *held
				if slow {
					h = g.all[2].hold(faultfs.Sync)
				}
				g.leader.send(a, batch("in flight", 1))
				synctest.Wait()
				begun := time.Now()
				g.leader.p.Confirm(g.leaving(g.all[1]))
				r := g.leader.send(a, batch("held", 1))
				for g.leader.p.State().End == 2 {
					<-time.After(100 * time.Millisecond) // of the bubble
					if g.tick(); time.Since(begun) > 5*time.Second {
						t.Fatal("records are never taken again")
					}
				}
				if took := time.Since(begun); took < 2900*time.Millisecond || took > 3200*time.Millisecond {
					t.Errorf("it took %v", took)
				}
				if asked := w.count(); slow != (asked == 0) {
					t.Errorf("it asked %d times", asked)
				}
				asked := w.count()
				if slow {
					h.letGo()
				}
				synctest.Wait()
				g.tick()
				if r.Err != nil || len(a.list()) != 2 || w.count() != asked {
					t.Errorf("%d answers, %v; asked %d times", len(a.list()), r.Err, w.count())
				}
				if err := g.leader.p.AwaitFresh(t.Context(), Uptime()); err != nil {
					t.Fatal(err)
				}
				g.leader.wantLog("before#0", "in flight#0", "held#0")
				if !slices.Equal(g.leader.seen.handOvers, []bool{false}) {
					t.Errorf("told of hand-overs is %v", g.leader.seen.handOvers)
				}
			})
		})
	}
}

// A wish that is taken back lets go at once what was held.
func TestAWishThatIsTakenBackHoldsNothing(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.begin()
		g.listen()
		g.leader.p.Confirm(g.leaving(g.all[1]))
		a := &answers{}
		r := g.leader.send(a, batch("held", 1))
		synctest.Wait()
		if len(a.list()) != 0 {
			t.Fatalf("answered while it hands over: %v", r.Err)
		}
		back := g.assignment()
		back.PartitionEpoch += 2
		g.leader.p.Confirm(back)
		synctest.Wait()
		if len(a.list()) != 1 || r.Err != nil {
			t.Fatalf("%d answers, %v", len(a.list()), r.Err)
		}
	})
}

// What waits is bounded as ever, and is answered when the leader is closed.
func TestWhatWaitsForAHandOverIsBounded(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.begin()
		g.listen()
		g.leader.p.limits = Limits{Requests: 4, Bytes: 1 << 20}
		g.leader.p.Confirm(g.leaving(g.all[1]))
		a := &answers{}
		for range 4 {
			g.leader.send(a, batch("held", 1))
		}
		over := make(chan error, 1)
		go func() {
			r := batch("over", 1)
			r.Done = a
			over <- g.leader.p.Append(context.Background(), r)
		}()
		synctest.Wait()
		if len(over) != 0 || g.leader.p.Held() != 4 {
			t.Fatalf("admitted beyond the limit; %d are held", g.leader.p.Held())
		}
		end := g.leader.p.State().End
		_ = g.leader.p.Close()
		if err := <-over; err == nil {
			t.Error("admitted by a partition that is closed")
		}
		for _, r := range a.list() {
			if r.Err == nil {
				t.Error("written by a partition that is closed")
			}
		}
		if len(a.list()) != 4 || end != record.Offset(1) {
			t.Errorf("%d answers, the end is %d", len(a.list()), end)
		}
	})
}

// The leader fails in the middle: what was held is answered, and was not
// written.
func TestALeaderThatFailsWhileItHandsOver(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.begin()
		g.listen()
		g.leader.p.Confirm(g.leaving(g.all[1]))
		a := &answers{}
		r := g.leader.send(a, batch("held", 1))
		synctest.Wait()
		g.leader.p.Fail(context.DeadlineExceeded)
		synctest.Wait()
		mustBe[*FailedError](t, r.Err)
		g.elect(g.all[2])
		synctest.Wait()
		g.leader.wantLog("before#0")
	})
}
