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

// The new leader is the only one in sync at first. It commits when another has
// joined it, of which the old leader need not have heard.
func TestAnAcknowledgementOfTheNextEpochCountsWhoItNeeds(t *testing.T) {
	inTrio(t, replica.Disk, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		old := g.leader
		old.acked(batch("before", 1))
		h := old.hold(faultfs.Sync)
		a := &answers{}
		r := old.send(a, batch("handed over", 2))
		synctest.Wait()
		g.epoch++
		g.leader = g.all[1]
		g.lone = true
		g.tell(old)
		g.lone = false
		g.tell(g.all[1])
		g.tell(g.all[2])
		synctest.Wait()
		h.letGo()
		synctest.Wait()
		for range 10 { // of the bubble: the follower hears the high watermark
			<-time.After(100 * time.Millisecond)
			g.tick()
			synctest.Wait()
		}
		if len(a.list()) != 1 || r.Err != nil || r.InSync < 2 {
			t.Fatalf("answers %d: %v, %d in sync", len(a.list()), r.Err, r.InSync)
		}
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

// The new leader's log begins above all that the old one has: that begins again
// there, and what it had written is nowhere.
func TestWhatIsBelowTheNewLeadersLogIsNotAcknowledged(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		old := g.leader
		old.acked(batch("kept", 1))
		for _, l := range g.lines {
			l.end()
		}
		a := &answers{}
		r := old.send(a, batch("nobody has it", 1))
		synctest.Wait()
		g.epoch++
		g.leader, g.inSync = g.all[1], []replica.ID{2, 3}
		old.p.Resign(replica.None, g.epoch)
		g.tell(g.all[1])
		g.tell(g.all[2])
		synctest.Wait()
		for range 3 {
			g.leader.acked(batch("new", 1))
		}
		if start, err := g.leader.p.DeleteRecords(t.Context(), 3); err != nil || start != 3 {
			t.Fatalf("%d, %v", start, err)
		}
		g.tell(old)
		synctest.Wait()
		<-time.After(150 * time.Millisecond) // of the bubble: the follower hears the high watermark
		g.tick()
		if s := old.p.State(); s.LogStart != 3 || s.End != 4 {
			t.Fatalf("the old leader has [%d, %d)", s.LogStart, s.End)
		}
		if len(a.list()) != 1 || !errors.Is(r.Err, ErrUnknownOutcome) {
			t.Errorf("answers %d: %v at %d", len(a.list()), r.Err, r.Base)
		}
	})
}
