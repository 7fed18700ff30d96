package partition

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
)

// Followers that hear of a leader before it does are followers at once when it
// knows.
func TestAFollowerMayHearOfALeaderBeforeItDoes(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		g.leader.acked(batch("before", 1))
		for _, next := range []*env{g.all[1], g.all[2], g.all[0]} {
			g.epoch++
			g.leader = next
			others := slices.DeleteFunc(slices.Clone(g.all), func(e *env) bool { return e == next })
			for _, e := range others {
				g.tell(e)
			}
			synctest.Wait()
			for _, e := range others {
				if e.streaming() {
					t.Fatalf("replica %d has a session before its leader knows", e.self)
				}
			}
			g.tell(next)
			synctest.Wait()
			next.acked(batch("after", 1)) // by all three, and no time has passed
			g.wantSame()
		}
	})
}

// Whoever asks for an epoch that never comes is told so in the end.
func TestAWishForAnEpochThatNeverComesIsRefused(t *testing.T) {
	for name, end := range map[string]func(*env){
		"after a while":            func(*env) { <-time.After(earlyFor) },
		"when its leader closes":   func(e *env) { _ = e.p.Close() },
		"when it is newer by then": func(e *env) { e.p.Resign(3, 9) },
	} {
		t.Run(name, func(t *testing.T) {
			inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
				g.elect(g.all[0])
				synctest.Wait()
				out := &refusals{}
				for session := range uint64(3) { // of several the last counts
					g.all[0].p.OpenSession(2, 1, replica.Open{Session: 100 + session, Epoch: 5}, out)
					synctest.Wait()
				}
				if got := out.list(); len(got) != 0 {
					t.Fatalf("refused at once: %v", got)
				}
				end(g.all[0])
				synctest.Wait()
				if got := out.list(); len(got) != 1 || got[0].Session != 102 || got[0].Error == replica.NoError {
					t.Errorf("answered is %+v", got)
				}
			})
		})
	}
}

// refusals is an Outlet on which no session begins.
type refusals struct {
	mu  sync.Mutex
	all []replica.Opened
}

func (r *refusals) list() []replica.Opened {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *refusals) Opened(a replica.Opened, _ *Feed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, a)
}
func (*refusals) Offer(*Feed)                        {}
func (*refusals) Closed(*Feed, replica.SessionError) {}
func (*refusals) Ask(Waiter)                         {}
func (*refusals) Heard() time.Duration               { return 0 }
