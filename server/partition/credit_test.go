package partition

import (
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/server/replica"
)

// An offer has the credit that there was when it was made. The ack of all that is
// under way comes before the offer is read, and the next batch is larger than
// what the offer has: there is credit enough by then, and no ack to come that
// would say so.
func TestCreditThatComesWhileAnOfferIsUnderWayCounts(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		g.leader.acked(batch("zero", 1))
		l := g.lines[g.all[1]]
		l.slow = make(chan struct{})
		read := make(chan struct{})
		l.before = func(f *Feed) {
			if f.offer.From != 2 {
				return
			}
			// As if what is under way had left so little.
			f.offer.Budget, f.offer.Whole = 1, false
			l.before = nil
			<-read
		}
		a := &answers{}
		g.leader.send(a, batch("one", 1))
		synctest.Wait()
		g.leader.send(a, batch("two", 1))
		synctest.Wait()
		if end := g.all[1].p.State().End; end != 2 || len(a.list()) != 0 {
			t.Fatalf("it ends at %d, and there are %d answers", end, len(a.list()))
		}
		close(l.slow)
		synctest.Wait()
		if len(a.list()) != 1 {
			t.Fatalf("the ack gave %d answers", len(a.list()))
		}
		close(read)
		synctest.Wait()
		if end := g.all[1].p.State().End; end != 3 || len(a.list()) != 2 {
			t.Errorf("the next batch was not sent: it ends at %d, and there are %d answers", end, len(a.list()))
		}
	})
}
