package partition

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

func TestWhatTheNewLeaderHasIsAcknowledgedByTheOldOne(t *testing.T) {
	inTrio(t, replica.Disk, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		old := g.leader
		old.acked(batch("before", 1)) // the segment is there
		h := old.hold(faultfs.Sync)   // the followers have it on disk, the leader has not
		a := &answers{}
		r := old.send(a, batch("handed over", 2))
		synctest.Wait()
		if len(a.list()) != 0 {
			t.Fatalf("acknowledged before the leader's own sync: %v", r.Err)
		}
		g.elect(g.all[1])
		synctest.Wait()
		h.letGo()
		synctest.Wait()
		<-time.After(150 * time.Millisecond) // of the bubble: the follower hears the high watermark
		g.tick()
		if len(a.list()) != 1 || r.Err != nil || r.InSync != 3 || r.Medium != MediumDisk {
			t.Fatalf("answers %d: %v, %d in sync, medium %d", len(a.list()), r.Err, r.InSync, r.Medium)
		}
		g.leader.wantLog("before#0", "handed over#0", "handed over#1")
	})
}

func TestWhatNobodyHearsOfHasAnUnknownOutcomeInTheEnd(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		for _, l := range g.lines {
			l.end()
		}
		a := &answers{}
		r := g.leader.send(a, batch("alone", 1))
		synctest.Wait()
		g.leader.p.Resign(replica.None, g.epoch+1)
		synctest.Wait()
		if len(a.list()) != 0 {
			t.Fatalf("answered at once: %v", r.Err)
		}
		<-time.After(limboFor)
		synctest.Wait()
		if len(a.list()) != 1 || !errors.Is(r.Err, ErrUnknownOutcome) {
			t.Fatalf("answers %d: %v", len(a.list()), r.Err)
		}
	})
}
