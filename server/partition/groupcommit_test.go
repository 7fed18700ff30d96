package partition

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// While one group is written, what arrives becomes the next one.
func TestWhatArrivesDuringAWriteIsOneGroup(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Memory)
		e.acked(batch("first", 1)) // so that the segment is there
		h := e.hold(faultfs.Write)
		a := &answers{}
		e.send(a, batch("second", 1))
		synctest.Wait()
		for i := range 10 {
			e.send(a, batch(fmt.Sprintf("later %d", i), 1))
		}
		synctest.Wait()
		if len(a.list()) != 0 {
			t.Fatal("answered before it was written")
		}
		h.letGo()
		synctest.Wait()
		if got := e.seen.groups; !slices.Equal(got, []int{1, 1, 10}) || h.calls() != 2 {
			t.Fatalf("groups %v in %d held writes", got, h.calls())
		}
		for i, r := range a.list() {
			if r.Err != nil || r.Base != 1+r.end-2 || int(r.Base) != i+1 || r.Medium != MediumMemory || r.InSync != 1 || r.Epoch != 1 {
				t.Fatalf("answer %d: %+v", i, r)
			}
		}
	})
}

// At DISK the writer goes on while a sync runs, and an answer comes only after
// a sync that began when the batch was written.
func TestTheWriterDoesNotWaitForTheSync(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Disk)
		e.acked(batch("first", 1))
		h := e.hold(faultfs.Sync)
		a := &answers{}
		e.send(a, batch("second", 2))
		synctest.Wait()
		for i := range 5 {
			e.send(a, batch(fmt.Sprintf("later %d", i), 1))
			synctest.Wait()
		}
		s := e.p.State()
		if s.End != 8 || s.HighWatermark != 1 || len(a.list()) != 0 || h.calls() != 1 {
			t.Fatalf("during the sync: %+v, %d answers, %d syncs", s, len(a.list()), h.calls())
		}
		h.one() // the first sync covers only what was written before it
		synctest.Wait()
		if got := a.list(); len(got) != 1 || got[0].Base != 1 || got[0].Medium != MediumDisk {
			t.Fatalf("after the first sync: %d answers", len(got))
		}
		if s := e.p.State(); s.HighWatermark != 3 || h.calls() != 2 {
			t.Fatalf("after the first sync: %+v, %d syncs", s, h.calls())
		}
		h.letGo()
		synctest.Wait()
		if got := a.list(); len(got) != 6 || h.calls() != 2 {
			t.Fatalf("%d answers after %d syncs", len(got), h.calls())
		}
		for i, r := range a.list() {
			if want := []int{1, 3, 4, 5, 6, 7}[i]; int(r.Base) != want || r.Err != nil {
				t.Fatalf("answer %d is for offset %d (%v), want %d", i, r.Base, r.Err, want)
			}
		}
	})
}

// Rule S2: write, sync, checkpoint, answer.
func TestTheCheckpointComesBeforeTheAnswer(t *testing.T) {
	for _, d := range []replica.Durability{replica.Memory, replica.Disk} {
		t.Run(d.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *env) {
				e.lead(1, d)
				e.acked(batch("first", 1))
				e.mem.StartLog()
				var at []memfs.Op
				r := batch("second", 1)
				r.Done = completerFunc(func(*Request) { at = e.mem.TakeLog() })
				if err := e.p.Append(context.Background(), r); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				var kinds []string
				for _, op := range at {
					kinds = append(kinds, fmt.Sprintf("%s %s", op.Kind, op.Name))
				}
				log, cp := "/d/p/00000000000000000000.log", "/d/p/checkpoint"
				want := []string{"write " + log, "write " + cp}
				if d == replica.Disk {
					want = []string{"write " + log, "sync " + log, "write " + cp}
				}
				if !slices.Equal(kinds, want) {
					t.Fatalf("before the answer: %q, want %q", kinds, want)
				}
			})
		})
	}
}

type completerFunc func(*Request)

func (f completerFunc) Complete(r *Request) { f(r) }

// NONE is done once written; LEADER and ALL wait for the disk.
func TestAcks(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Disk)
		e.acked(batch("first", 1))
		h := e.hold(faultfs.Sync)
		a := &answers{}
		for _, acks := range []Acks{AcksAll, AcksLeader, AcksNone} {
			r := batch("x", 1)
			r.Acks = acks
			e.send(a, r)
		}
		synctest.Wait()
		if got := a.list(); len(got) != 1 || got[0].Acks != AcksNone || got[0].Err != nil || got[0].Medium != 0 {
			t.Fatalf("before the sync: %d answers", len(got))
		}
		h.letGo()
		synctest.Wait()
		got := a.list()
		if len(got) != 3 || got[1].Acks != AcksAll || got[2].Acks != AcksLeader || got[2].Medium != MediumDisk {
			t.Fatalf("after the sync: %d answers", len(got))
		}
	})
}

// With followers in the ISR, ALL waits for them (who never come, here) and
// LEADER does not; but the answers of a partition come in order.
func TestAllWaitsForTheInSyncReplicas(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.openOn(e.fs)
		two := replica.Assignment{Epoch: 1, Replicas: []replica.ID{1, 2}, InSync: []replica.ID{1, 2}, MinInSync: 2, Durability: replica.Memory}
		if !e.p.Lead(two) {
			t.Fatal("does not lead")
		}
		a := &answers{}
		leader, all := batch("leader", 1), batch("all", 1)
		leader.Acks = AcksLeader
		e.send(a, leader)
		e.send(a, all)
		synctest.Wait()
		if got := a.list(); len(got) != 1 || got[0] != leader || leader.InSync != 2 {
			t.Fatalf("%d answers", len(got))
		}
		if s := e.p.State(); s.HighWatermark != 0 || s.End != 2 {
			t.Fatalf("%+v: an uncommitted record can be read", s)
		}
		// The other is gone: the ISR is below the minimum, nothing is committed
		// and nothing taken.
		two.InSync, two.PartitionEpoch = []replica.ID{1}, 1
		if !e.p.Confirm(two) {
			t.Fatal("not confirmed")
		}
		e.send(a, batch("refused", 1))
		synctest.Wait()
		if len(a.list()) != 1 {
			t.Fatal("an answer overtook one before it")
		}
		two.MinInSync, two.PartitionEpoch = 1, 2
		e.p.Confirm(two)
		got := a.list()
		if len(got) != 3 || all.Err != nil || all.InSync != 1 {
			t.Fatalf("%d answers, %v", len(got), all.Err)
		}
		if short := wantError[*NotEnoughReplicasError](t, got[2].Err); short.InSync != 1 || short.Required != 2 {
			t.Fatalf("%+v", short)
		}
	})
}

// At MEMORY nobody waits for a sync, but what is only in memory does not pile
// up until a segment is full.
func TestMuchInMemoryIsSyncedBesideTheWriter(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.lead(1, replica.Memory)
		e.acked(batch("first", 1)) // so that the segment is there
		e.p.SetLogConfig(commitlog.Config{SegmentBytes: 8 << 20})
		h := e.hold(faultfs.Sync)
		large := strings.Repeat("v", 1<<20-64)
		for i := range 20 {
			if r := e.acked(batch(large, 1)); r.Medium != MediumMemory {
				t.Fatalf("batch %d: acknowledged as %v", i, r.Medium)
			}
		}
		synctest.Wait()
		if s := e.p.State(); h.calls() != 1 || s.HighWatermark != 21 || s.SyncedEnd >= s.End {
			t.Fatalf("%d syncs are under way; %+v", h.calls(), s)
		}
		h.letGo()
	})
}

// A follower syncs what has come during a sync as well, though nothing more
// comes that would remind it.
func TestAFollowerSyncsWhatCameDuringASync(t *testing.T) {
	inTrio(t, replica.Disk, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		g.leader.acked(batch("first", 1))
		h := g.all[2].hold(faultfs.Sync)
		a := &answers{}
		for _, text := range []string{"second", "third"} {
			g.leader.send(a, batch(text, 1))
			synctest.Wait()
		}
		if len(a.list()) != 0 || h.calls() != 1 {
			t.Fatalf("%d answers before all have it on disk, after %d syncs", len(a.list()), h.calls())
		}
		h.letGo()
		synctest.Wait()
		if len(a.list()) != 2 {
			t.Errorf("%d answers with all on disk", len(a.list()))
		}
	})
}
