package partition

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// served reads all that a reader gets from an offset on.
func served(r *Reader, from record.Offset) (next record.Offset, err error) {
	for {
		got, err := r.Read(from, 1<<20, func(n int) []byte { return make([]byte, n) })
		if err != nil || len(got.Bytes) == 0 {
			return from, err
		}
		from = got.Next
	}
}

// follows has a trio in which all know that five records are committed.
func (g *trio) follows() *env {
	g.elect(g.all[0])
	synctest.Wait()
	g.leader.acked(batch("a", 3))
	g.leader.acked(batch("b", 2))
	<-time.After(150 * time.Millisecond)
	g.tick()
	return g.all[1]
}

func TestAFollowerServesWhatItKnowsToBeCommitted(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		f := g.follows()
		r := f.p.NewReplicaReader()
		defer r.Close()
		if next, err := served(r, 0); err != nil || next != 5 {
			t.Fatalf("read to %d, %v", next, err)
		}
		// Without the third replica nothing more is committed.
		g.lines[g.all[2]].end()
		a := &answers{}
		g.leader.send(a, batch("c", 5))
		synctest.Wait()
		<-time.After(150 * time.Millisecond)
		g.tick()
		if f.p.State().End != 10 {
			t.Fatalf("the follower ends at %d", f.p.State().End)
		}
		if next, err := served(r, 0); err != nil || next != 5 {
			t.Errorf("what is not committed is read, to %d, %v", next, err)
		}
		for what, c := range map[string]struct {
			off   record.Offset
			epoch record.LeaderEpoch
			want  bool
		}{
			"its end": {5, 1, true}, "the start": {0, -1, true}, "beyond what it knows": {6, -1, false}, "another history": {5, 7, false},
		} {
			if got := f.p.PositionHere(c.off, c.epoch); got != c.want {
				t.Errorf("%s: it knows the position: %t", what, got)
			}
		}
		if _, err := f.texts(0); err == nil {
			t.Error("who wants the leader is served by a follower")
		}
	})
}

func TestAFollowerThatHearsNobodyServesNobody(t *testing.T) {
	for what, lose := range map[string]func(g *trio, f *env){
		"its stream has ended": func(g *trio, f *env) { g.lines[f].end() },
		"it is out of sync": func(g *trio, f *env) {
			a := g.assignment()
			a.InSync, a.PartitionEpoch = []replica.ID{1, 3}, a.PartitionEpoch+1
			f.p.Follow(a, 1, g.lines[f])
		},
		"nobody leads": func(g *trio, f *env) { f.p.Resign(replica.None, g.epoch+1) },
	} {
		t.Run(what, func(t *testing.T) {
			inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
				f := g.follows()
				r := f.p.NewReplicaReader()
				defer r.Close()
				tail := &bell{rung: make(chan struct{}, 1)}
				if !r.Notify(tail, 5) {
					t.Fatal("not armed")
				}
				lose(g, f)
				synctest.Wait()
				select {
				case <-tail.rung:
				default:
					t.Error("who waits at its end is not woken")
				}
				_, err := served(r, 0)
				mustBe[*NotLeaderError](t, err)
				if r.Notify(tail, 5) {
					t.Error("armed at a replica that serves nobody")
				}
			})
		})
	}
}

// cutTo removes what a leader does not have.
func (e *env) cutTo(to record.Offset) {
	e.p.exclusively(func() { e.p.cut(replica.FollowerEffects{Truncate: true, To: to, Lost: true, LogStart: -1}) })
}

func TestAReaderNoticesThatWhatItReadWasCut(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		f := g.follows()
		r := f.p.NewReplicaReader()
		defer r.Close()
		if next, err := served(r, 0); err != nil || next != 5 {
			t.Fatalf("read to %d, %v", next, err)
		}
		f.cutTo(3)
		for _, from := range []record.Offset{0, 3, 5} {
			_, err := served(r, from)
			mustBe[*CutError](t, err)
		}
		again := f.p.NewReplicaReader()
		defer again.Close()
		if next, err := served(again, 0); err != nil || next != 3 {
			t.Errorf("who begins now reads to %d, %v", next, err)
		}
	})
}

func TestAReaderGoesOnWhenItsReplicaLeads(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		f := g.follows()
		r := f.p.NewReplicaReader()
		defer r.Close()
		g.elect(f)
		synctest.Wait()
		g.leader.acked(batch("c", 5))
		if next, err := served(r, 0); err != nil || next != 10 {
			t.Errorf("read to %d, %v", next, err)
		}
	})
}

// What it waits for may never come: the log is shorter now, and nobody may write
// to it for long.
func TestNobodyWaitsBehindACut(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		f := g.follows()
		r := f.p.NewReplicaReader()
		defer r.Close()
		tail := &bell{rung: make(chan struct{}, 1)}
		if !r.Notify(tail, 5) {
			t.Fatal("not armed")
		}
		f.cutTo(3)
		select {
		case <-tail.rung:
		default:
			t.Error("who waits at the end that was is not woken")
		}
		// So too who was about to: it had read to the end, and wrote that to a client
		// that was slow.
		if r.Notify(tail, 5) {
			t.Error("armed behind the end of the log")
		}
		again := f.p.NewReplicaReader()
		defer again.Close()
		if !again.Notify(tail, 3) {
			t.Error("who began behind the cut is not armed at the end that is")
		}
		f.p.Cancel(tail)
	})
}

// A reader may be asleep, for want of credit, from one leadership of its replica
// to the next.
func TestAReaderNoticesACutBetweenTwoLeaderships(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Memory)
		e.acked(batch("a", 3))
		e.acked(batch("c", 2))
		r, kept := e.p.NewReader(), e.p.NewReader()
		defer r.Close()
		defer kept.Close()
		if next, err := served(r, 0); err != nil || next != 5 {
			t.Fatalf("read to %d, %v", next, err)
		}
		e.p.Resign(2, 2)
		if !e.p.Lead(alone(3, replica.Memory)) {
			t.Fatal("does not lead")
		}
		if next, err := served(kept, 0); err != nil || next != 5 {
			t.Errorf("nothing was cut, and it is read to %d, %v", next, err)
		}
		e.p.Resign(2, 4)
		e.cutTo(3)
		if !e.p.Lead(alone(5, replica.Memory)) {
			t.Fatal("does not lead")
		}
		e.acked(batch("b", 5))
		for _, from := range []record.Offset{0, 5} {
			_, err := served(r, from)
			mustBe[*CutError](t, err)
		}
		if r.Notify(&bell{rung: make(chan struct{}, 1)}, 8) {
			t.Error("armed")
		}
		e.wantLog("a#0", "a#1", "a#2", "b#0", "b#1", "b#2", "b#3", "b#4")
	})
}
