package partition

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
)

// timed notes how long a request took, on the clock of the bubble.
type timed struct {
	Request

	sent time.Time
	took atomic.Int64 // -1: it is not complete
}

func (r *timed) Complete(*Request) { r.took.Store(int64(time.Since(r.sent))) }

// A replica that is added counts from when it is proposed. If it is throttled,
// and owes for the last push at that moment, producers would wait for it to be
// allowed the next.
func TestNobodyWaitsForTheThrottle(t *testing.T) {
	var longest time.Duration
	for more := range 5 { // the last push is of any length
		longest = max(longest, longestWhileFilled(t, 60+5*more))
	}
	if longest > 0 { // disks and streams take no time here
		t.Errorf("a record took %v", longest)
	}
}

// longestWhileFilled is how long a record took at most while a replica got so
// many of 10 kB, and came in sync.
func longestWhileFilled(t *testing.T, records int) (longest time.Duration) {
	t.Helper()
	inTrio(t, replica.Disk, func(t *testing.T, g *trio) {
		begun := time.Now()
		for _, e := range g.all {
			e.p.uptime = func() time.Duration { return time.Since(begun) }
		}
		g.fill = 1_000_000
		g.epoch, g.leader = 1, g.all[0]
		proposed := make(chan struct{}, 1)
		g.leader.p.propose = func(p replica.Proposal) {
			if slices.ContainsFunc(p.InSync, func(m replica.InSyncReplica) bool { return m.ID == 3 }) {
				select {
				case proposed <- struct{}{}:
				default:
				}
			}
		}
		for _, e := range g.all[:2] {
			g.tell(e)
		}
		synctest.Wait()
		for range records {
			g.leader.acked(batch(strings.Repeat("x", 10_000), 1))
		}
		g.tell(g.all[2])
		var sent []*timed
		joined := 0
		for step := 0; joined < 20; step++ { // of 10 ms
			if step == 1000 {
				t.Fatalf("it is not in sync: %+v", g.all[2].p.State())
			}
			r := &timed{Request: *batch(fmt.Sprint("r", step, strings.Repeat("y", 1000)), 1), sent: time.Now()}
			r.Done = r
			r.took.Store(-1)
			if err := g.leader.p.Append(t.Context(), &r.Request); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, r)
			synctest.Wait()
			// The leader looks when it does most harm: just behind a push.
			if step%10 == 0 || g.all[2].p.State().SyncedEnd == g.leader.p.State().HighWatermark {
				g.tick()
			}
			<-time.After(10 * time.Millisecond)
			switch {
			case joined > 0:
				joined++
			case len(proposed) > 0:
				joined = 1
			}
			if joined == 5 { // the metadata says so a moment later
				a := g.assignment()
				a.InSync, a.PartitionEpoch = []replica.ID{1, 2, 3}, a.PartitionEpoch+1
				g.leader.p.Confirm(a)
			}
		}
		for i, r := range sent {
			if r.took.Load() < 0 || r.Err != nil {
				t.Fatalf("record %d is not acknowledged: %v", i, r.Err)
			}
			longest = max(longest, time.Duration(r.took.Load()))
		}
	})
	return longest
}
