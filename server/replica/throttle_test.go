package replica

import (
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

// A replica that is added is filled as fast as was said, and others as fast as
// can be; and so is it once it is in sync.
func TestAReplicaThatIsAddedIsFilledAsFastAsWasSaid(t *testing.T) {
	const rate, push = 1_000_000, 50_000
	a := three(1, Memory, 1, 2)
	a.Adding, a.AddingRate = []ID{3}, rate
	l := New(1)
	l.Lead(a, progress(1000, 0), 0)
	fill := func(id ID, looks int) (bytes int64) {
		resume(t, &l, id, progress(0, 0))
		m := &l.members[l.index(id)]
		m.session.credit = 1 << 40
		for look := range looks { // ten times a second
			now := time.Minute + time.Duration(look)*100*time.Millisecond
			for range 20 {
				o, ok := l.Offer(id, from(0), now)
				if !ok || !o.Records {
					break
				}
				l.Sent(id, o, o.From+1, push, now)
				bytes += push
			}
		}
		return bytes
	}
	if got := fill(3, 40); got < 39*rate/10 || got > 42*rate/10+push {
		t.Errorf("in four seconds the one that is added got %d bytes", got)
	}
	if got := fill(2, 1); got != 20*push {
		t.Errorf("another got %d bytes at once", got)
	}
	a.InSync, a.PartitionEpoch = []ID{1, 2, 3}, 1
	l.Confirm(a)
	l.members[l.index(3)].session.number = 0
	if got := fill(3, 1); got != 20*push {
		t.Errorf("in sync it got %d bytes at once", got)
	}
}

// From when it is proposed a replica counts: a leader that kept records from it
// would keep those waiting who produce.
func TestAReplicaThatIsProposedIsNotHeldBack(t *testing.T) {
	const rate, push = 1_000_000, 500_000
	a := three(1, Memory, 1, 2)
	a.Adding, a.AddingRate = []ID{3}, rate
	l := New(1)
	l.Lead(a, progress(1000, 0), 0)
	resume(t, &l, 3, progress(999, 0))
	l.members[l.index(3)].session.credit = 1 << 40
	now := time.Minute
	send := func() bool {
		o, ok := l.Offer(3, from(0), now)
		if ok = ok && o.Records; ok {
			l.Sent(3, o, o.From+1, push, now)
		}
		return ok
	}
	grow := func(end record.Offset) bool {
		l.Advance(1, 1, progress(end, 0))
		return send()
	}
	if !send() || grow(1001) {
		t.Fatal("it is not held back as was said")
	}
	say(t, &l, 3, progress(1000, 0))
	if p, ok := l.Tick(now, lagMax, nil); !ok || len(p.InSync) != 3 {
		t.Fatalf("it has what is committed, and the leader proposes %v, %v", p, ok)
	}
	if !send() || !grow(1002) {
		t.Error("proposed, it is held back")
	}
	if e := l.Refused(0); e.Fenced {
		t.Fatal("the refusal was not taken")
	}
	if grow(1003) {
		t.Error("refused, it is filled faster than was said")
	}
}
