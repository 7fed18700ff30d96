package partition

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// journal is an auditor that remembers what it is told, of all replicas in one
// list.
type journal struct {
	mu    sync.Mutex
	lines []string
}

// pen writes for one replica.
type pen struct {
	j  *journal
	id int
}

func (p pen) say(format string, a ...any) {
	p.j.mu.Lock()
	p.j.lines = append(p.j.lines, fmt.Sprintf("%d "+format, append([]any{p.id}, a...)...))
	p.j.mu.Unlock()
}

func (p pen) Led(a replica.Assignment, minInSync int, hw record.Offset) {
	p.say("leads in %d from %d, min %d", a.Epoch, hw, minInSync)
}
func (p pen) InSync(a replica.Assignment, _ int) { p.say("in sync %v", a.InSync) }
func (p pen) Heard(id replica.ID, epoch record.LeaderEpoch, has replica.Progress) {
	p.say("hears %d in %d at %d", id, epoch, has.End)
}
func (p pen) Resigned(epoch record.LeaderEpoch)                { p.say("resigned %d", epoch) }
func (p pen) Committed(_ record.LeaderEpoch, hw record.Offset) { p.say("committed %d", hw) }
func (p pen) Written(end record.Offset)                        { p.say("written %d", end) }
func (p pen) Synced(end record.Offset)                         { p.say("synced %d", end) }
func (p pen) Truncated(from, to record.Offset)                 { p.say("truncated %d to %d", from, to) }
func (p pen) Started(start record.Offset)                      { p.say("starts at %d", start) }

func TestAnAuditorHearsOfEverythingBeforeItHasAnEffect(t *testing.T) {
	inTrio(t, replica.Disk, func(t *testing.T, g *trio) {
		j := &journal{}
		for i, e := range g.all {
			_ = e.p.Close()
			e.auditor = pen{j, i + 1}
			e.openOn(e.fs)
		}
		g.elect(g.all[0])
		synctest.Wait()
		r := batch("one", 3)
		r.Done = completed(func(*Request) { pen{j, 0}.say("acknowledged") })
		if err := g.leader.p.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		lines := j.lines
		before := func(first, then string) {
			t.Helper()
			a, b := slices.Index(lines, first), slices.Index(lines, then)
			if a < 0 || b < 0 || a > b {
				t.Errorf("%q at %d, and %q at %d: %q", first, a, then, b, lines)
			}
		}
		before("1 written 0", "1 leads in 1 from 0, min 2") // it is empty, and says so
		before("1 leads in 1 from 0, min 2", "1 written 3")
		for id := 2; id <= 3; id++ {
			before(fmt.Sprintf("%d written 0", id), fmt.Sprintf("1 hears %d in 1 at 0", id))
			before(fmt.Sprintf("1 hears %d in 1 at 0", id), fmt.Sprintf("%d written 3", id))
		}
		for id := 1; id <= 3; id++ {
			before(fmt.Sprintf("%d written 3", id), fmt.Sprintf("%d synced 3", id))
			before(fmt.Sprintf("%d synced 3", id), "1 committed 3")
		}
		before("1 committed 3", "0 acknowledged")

		for _, l := range g.lines {
			l.end()
		}
		g.leader.send(&answers{}, batch("lost", 2))
		synctest.Wait()
		g.elect(g.all[1])
		synctest.Wait()
		lines = j.lines
		before("1 resigned 1", "1 truncated 5 to 3")
	})
}

// completed is a Completer that is a function.
type completed func(*Request)

func (c completed) Complete(r *Request) { c(r) }
