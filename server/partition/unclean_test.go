package partition

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// uncleanSeeds returns which stories to tell: some, and one in which what is
// readable was left above a batch that was cut as a whole. More of them:
// UNCLEAN_SEEDS=10000 go test ./server/partition -run TestWhoeverIsLetLead.
func uncleanSeeds() []uint64 {
	n, err := strconv.ParseUint(os.Getenv("UNCLEAN_SEEDS"), 10, 32)
	if err != nil {
		n = 120
	}
	seeds := []uint64{587}
	for seed := range n {
		seeds = append(seeds, seed)
	}
	return seeds
}

// unclean is a trio whose leaders may lack what was committed.
type unclean struct {
	*trio
	inSyncOf map[*env][]replica.ID // as whom it leads with was said
	// committed are beginnings of logs that were committed, told apart by the
	// leader epochs of their records: by offset, from 0 on.
	committed [][]record.LeaderEpoch
}

// lead has a replica lead, with some others in sync.
func (g *unclean) lead(e *env, inSync ...replica.ID) {
	slices.Sort(inSync)
	g.epoch, g.leader, g.inSync = g.epoch+1, e, inSync
	g.inSyncOf[e] = inSync
	g.tell(e)
}

// knows tells whether what a replica has below end was committed.
func (g *unclean) knows(e *env, end record.Offset) bool {
	at := e.p.log.EpochAt(end - 1)
	return end <= e.p.log.Start() || slices.ContainsFunc(g.committed, func(c []record.LeaderEpoch) bool {
		return int(end) <= len(c) && c[end-1] == at
	})
}

// look checks what holds when nothing is under way: what can be read of a replica
// was committed, or every replica has it that its leader waits for.
func (g *unclean) look(what string) {
	g.t.Helper()
	synctest.Wait()
	for _, e := range g.all {
		s := e.p.State()
		if e.p.Quarantined() || len(e.seen.failed) > 0 || s.HighWatermark > s.End {
			g.t.Fatalf("%s: replica %d: %v, %v, %+v", what, e.self, e.seen.quarantined, e.seen.failed, s)
		}
		if !s.Leading || g.knows(e, s.HighWatermark) {
			continue
		}
		at := e.p.log.EpochAt(s.HighWatermark - 1)
		for _, f := range g.all {
			if slices.Contains(g.inSyncOf[e], f.self) && (f.p.log.End() < s.HighWatermark || f.p.log.EpochAt(s.HighWatermark-1) != at) {
				g.t.Fatalf("%s: replica %d, which leads, can be read to %d, and %d does not have that: %+v", what, e.self, s.HighWatermark, f.self, f.p.State())
			}
		}
		c := make([]record.LeaderEpoch, s.HighWatermark)
		for i := range c {
			c[i] = e.p.log.EpochAt(record.Offset(i))
		}
		g.committed = append(g.committed, c)
	}
	for _, e := range g.all {
		if s := e.p.State(); !g.knows(e, s.HighWatermark) {
			g.t.Fatalf("%s: replica %d can be read to %d, which nobody has committed: %+v", what, e.self, s.HighWatermark, s)
		}
	}
}

// between returns the batches with the records [from, end).
func (e *env) between(from, end record.Offset) []byte {
	r := e.p.log.NewReader()
	defer r.Close()
	var out []byte
	for from < end {
		got, err := r.Read(from, end, 1<<20, func(n int) []byte { return make([]byte, n) })
		if err != nil {
			e.t.Fatal(err)
		}
		if got.Next == from {
			break // The batch reaches beyond the end.
		}
		out, from = append(out, got.Bytes...), got.Next
	}
	return out
}

// TestWhoeverIsLetLead: leaders are chosen that lack what was committed, or nobody
// leads for a while, records are deleted, up to the middle of a batch too, and
// segments let go, streams break. Nobody takes for committed what is not, and in the
// end all logs are the same.
func TestWhoeverIsLetLead(t *testing.T) {
	lost := 0
	for _, seed := range uncleanSeeds() {
		inTrio(t, replica.Durability(seed%2), func(t *testing.T, of *trio) {
			g := &unclean{trio: of, inSyncOf: map[*env][]replica.ID{}}
			rnd := rand.New(rand.NewPCG(seed, 3))
			for _, e := range g.all {
				e.p.SetLogConfig(commitlog.Config{SegmentBytes: 700, RetentionBytes: 4000})
			}
			g.lead(g.all[rnd.IntN(3)], 1, 2, 3)
			a := &answers{}
			for step := range 100 {
				what := fmt.Sprintf("seed %d, step %d", seed, step)
				switch n := rnd.IntN(24); {
				case n < 10:
					r := batch(fmt.Sprint("s", step), 1+rnd.IntN(6))
					r.Done = a
					_ = g.all[rnd.IntN(3)].p.Append(t.Context(), r)
				case n < 12:
					if l := g.lines[g.all[rnd.IntN(3)]]; l != nil {
						l.end()
					}
				case n < 15:
					what += ": another leads"
					next := g.all[rnd.IntN(3)]
					inSync := []replica.ID{next.self}
					for _, e := range g.all {
						if e != next && rnd.IntN(2) == 0 {
							inSync = append(inSync, e.self)
						}
					}
					g.lead(next, inSync...)
					for _, i := range rnd.Perm(3)[:rnd.IntN(3)] {
						g.tell(g.all[i])
					}
				case n < 16:
					what += ": nobody leads"
					g.epoch++
					g.all[rnd.IntN(3)].p.Resign(replica.None, g.epoch)
				case n < 20:
					g.tell(g.all[rnd.IntN(3)])
				case n < 21:
					p := g.all[rnd.IntN(3)].p
					s := p.State()
					_, _ = p.DeleteRecords(t.Context(), s.LogStart+record.Offset(rnd.Int64N(int64(s.HighWatermark-s.LogStart)+1)))
				case n < 22:
					if _, err := g.all[rnd.IntN(3)].p.Retain(time.Now()); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
				default:
					<-time.After(time.Duration(rnd.IntN(1200)) * time.Millisecond)
					g.tick()
				}
				g.look(what)
			}
			g.lead(g.all[rnd.IntN(3)], 1, 2, 3)
			for i := range 6 {
				for _, e := range g.all {
					if e != g.leader && (i == 0 || !e.streaming()) {
						g.tell(e)
					}
				}
				<-time.After(150 * time.Millisecond)
				g.tick()
				g.look(fmt.Sprintf("seed %d, the end", seed))
			}
			g.leader.acked(batch("last", 1))
			<-time.After(150 * time.Millisecond)
			g.tick()
			s := g.leader.p.State()
			for _, e := range g.all {
				lost += e.seen.lost
				if o := e.p.State(); o.End != s.End || o.HighWatermark != s.End ||
					!bytes.Equal(e.between(max(o.LogStart, s.LogStart), s.End), g.leader.between(max(o.LogStart, s.LogStart), s.End)) {
					t.Errorf("seed %d: replica %d has %+v, its leader %+v", seed, e.self, o, s)
				}
			}
		})
		if t.Failed() {
			return
		}
	}
	if lost == 0 {
		t.Error("nothing committed was lost: no leader was unclean")
	}
}

// A new replica at DISK gets the last batch, in the middle of which the log starts.
// That is synced with the log start, and the leader hears of it.
func TestALogStartThatIsFollowedIsAcknowledgedAsSynced(t *testing.T) {
	inTrio(t, replica.Disk, func(t *testing.T, g *trio) {
		g.inSync = []replica.ID{1, 2}
		g.epoch, g.leader = 1, g.all[0]
		g.tell(g.all[0])
		g.tell(g.all[1])
		synctest.Wait()
		g.leader.acked(batch("a", 4))
		if start, err := g.leader.p.DeleteRecords(t.Context(), 2); err != nil || start != 2 {
			t.Fatalf("%d, %v", start, err)
		}
		late := g.all[2]
		g.tell(late)
		synctest.Wait()
		if s := late.p.State(); s.LogStart != 2 || s.SyncedEnd != 4 || late.p.owner.ack.SyncedEnd != 4 {
			t.Errorf("%+v, and the leader was told %+v", s, late.p.owner.ack)
		}
	})
}
