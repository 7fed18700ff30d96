package partition

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
)

// What a leader has written alone keeps nothing else from being kept: another may
// lead without it, and has what was acknowledged.
func TestRetentionEndsAtTheHighWatermark(t *testing.T) {
	for name, c := range map[string]commitlog.Config{
		"bytes": {SegmentBytes: 1000, RetentionBytes: 4000},
		"age":   {SegmentBytes: 1000, RetentionAge: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
				for _, e := range g.all {
					e.p.SetLogConfig(c)
				}
				g.elect(g.all[0])
				synctest.Wait()
				var want []string
				for i := range 4 {
					g.leader.acked(batch(fmt.Sprint("acked ", i), 1))
					want = append(want, fmt.Sprintf("acked %d#0", i))
				}
				for _, l := range g.lines {
					l.end()
				}
				a := &answers{}
				for i := range 100 {
					r := batch(fmt.Sprint("alone ", i), 1)
					r.Acks = AcksLeader
					g.leader.send(a, r)
					synctest.Wait()
				}
				<-time.After(2 * time.Second) // of the bubble
				if s := g.leader.p.State(); s.HighWatermark != 4 || s.Segments < 6 || len(a.list()) != 100 {
					t.Fatalf("%+v", s)
				}
				if _, err := g.leader.p.Retain(time.Now()); err != nil {
					t.Fatal(err)
				}
				if s := g.leader.p.State(); s.LogStart > 4 {
					t.Errorf("the log starts at %d, and 4 is the high watermark", s.LogStart)
				}
				for e := range g.lines {
					g.tell(e)
				}
				g.elect(g.all[1])
				synctest.Wait()
				g.leader.acked(batch("after", 1))
				if name == "bytes" {
					if got, err := g.leader.texts(0); err != nil || got[0] != want[0] || got[3] != want[3] {
						t.Errorf("%v, %v", got, err)
					}
				}
			})
		})
	}
}
