package partition

import (
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/server/replica"
)

// A leader that was deposed had to cut what it had committed: the new one was let
// lead without it. What comes in its place is not committed because that was,
// whoever leads then.
func TestWhatTakesThePlaceOfCommittedRecordsIsNotCommitted(t *testing.T) {
	for name, next := range map[string]func(g *trio, old *env){
		"nobody leads": func(g *trio, old *env) { old.p.Resign(replica.None, g.epoch) },
		"nobody leads, and then it does": func(g *trio, old *env) {
			old.p.Resign(replica.None, g.epoch)
			old.p.Tick()
			synctest.Wait()
			g.epoch, g.leader = g.epoch+1, old
			g.tell(old)
		},
		"the other leads on": func(g *trio, old *env) { g.tell(old) },
		"a third leads": func(g *trio, old *env) {
			g.leader = g.all[2]
			g.tell(g.leader)
			g.tell(old)
		},
		"it leads again": func(g *trio, old *env) {
			g.leader = old
			g.tell(old)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
				old, other := g.all[0], g.all[1]
				g.elect(old)
				synctest.Wait()
				old.acked(batch("kept", 2))
				g.lines[other].end()
				g.epoch, g.inSync = g.epoch+1, []replica.ID{1, 3}
				g.tell(old)
				g.tell(g.all[2])
				synctest.Wait()
				old.acked(batch("lost", 3))
				for _, l := range g.lines {
					l.end()
				}
				// Another is let lead. It has half of that, and commits nothing.
				g.epoch, g.leader, g.inSync = g.epoch+1, other, []replica.ID{2, 3}
				g.tell(other)
				other.send(&answers{}, batch("new", 5))
				g.tell(old)
				synctest.Wait()
				if s := old.p.State(); s.End != 7 || s.HighWatermark != 2 || old.seen.lost != 3 {
					t.Fatalf("%+v, %d lost", s, old.seen.lost)
				}
				g.epoch, g.inSync = g.epoch+1, []replica.ID{1, 2, 3}
				next(g, old)
				synctest.Wait()
				old.p.Tick()
				synctest.Wait()
				if s := old.p.State(); s.HighWatermark != 2 {
					t.Errorf("readable to %d: %+v", s.HighWatermark, s)
				}
			})
		})
	}
}
