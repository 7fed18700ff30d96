package replica

import (
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

// run ticks ten times a second until a proposal comes, for at most a minute.
func run(l *Leader, now *time.Duration, each func()) (Proposal, bool) {
	for range 600 {
		*now += 100 * time.Millisecond
		each()
		if p, ok := l.Tick(*now, lagMax, nil); ok {
			return p, true
		}
	}
	return Proposal{}, false
}

func TestLaggingReplicaLeavesTheISR(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Memory, 1, 2, 3), progress(0, 0), 0)
	resume(t, &l, 2, progress(0, 0))
	resume(t, &l, 3, progress(0, 0))
	var now time.Duration
	// Nothing is appended: nobody lags, however silent.
	if p, ok := run(&l, &now, func() {}); ok {
		t.Fatalf("%+v though nothing was appended", p)
	}
	// Replica 2 follows half a second behind; replica 3 has stopped.
	began, end := now, record.Offset(0)
	p, ok := run(&l, &now, func() {
		end++
		l.Advance(1, 1, progress(end, 0))
		say(t, &l, 2, progress(max(0, end-5), 0))
	})
	if !ok || len(p.InSync) != 2 || p.InSync[0].ID != 1 || p.InSync[1].ID != 2 || p.PartitionEpoch != 0 || p.Epoch != 1 {
		t.Fatalf("%+v", p)
	}
	if took := now - began; took < lagMax || took > lagMax*9/8 {
		t.Fatalf("it took %v", took)
	}
	if lag := l.Lag(3, now); lag <= lagMax || l.Lag(2, now) > time.Second || l.Lag(1, now) != 0 {
		t.Fatalf("lags %v, %v, %v", l.Lag(1, now), l.Lag(2, now), lag)
	}
	// No answer: it is proposed again, a second later.
	asked := now
	if p, ok = run(&l, &now, func() {}); !ok || now-asked != time.Second || len(p.InSync) != 2 {
		t.Fatalf("%+v after %v", p, now-asked)
	}
	l.Confirm(three(1, Memory, 1, 2).at(1))
	wantHighWatermark(t, &l, end-5)
}

// Records wait for a replica that lags as long as they may. For one whose broker
// cannot even hold a stream to its leader they need not.
func TestAReplicaThatIsAwayLeavesTheISRSooner(t *testing.T) {
	away := func(id ID) bool { return id == 3 }
	for name, c := range map[string]struct {
		away   func(ID) bool
		comes  bool // its session is there
		lagMax time.Duration
		want   time.Duration
	}{
		"it is away":                  {away, false, lagMax, awayLag},
		"it may lag for less":         {away, false, time.Second, time.Second},
		"nobody knows":                {nil, false, lagMax, lagMax},
		"it has no session, a stream": {func(ID) bool { return false }, false, lagMax, lagMax},
		"it has a session":            {away, true, lagMax, lagMax},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(1)
			l.Lead(three(1, Memory, 1, 2, 3), progress(0, 0), 0)
			resume(t, &l, 2, progress(0, 0))
			if c.comes {
				resume(t, &l, 3, progress(0, 0))
			}
			l.Advance(1, 1, progress(10, 0))
			say(t, &l, 2, progress(10, 0))
			var now time.Duration
			for range 600 {
				now += 100 * time.Millisecond
				l.NoteAway(c.away)
				if p, ok := l.Tick(now, c.lagMax, nil); ok {
					if len(p.InSync) != 2 || p.InSync[0].ID != 1 || p.InSync[1].ID != 2 {
						t.Fatalf("%+v", p)
					}
					break
				}
			}
			if now < c.want || now > c.want+200*time.Millisecond {
				t.Errorf("it took %v, want %v", now, c.want)
			}
		})
	}
}

func TestReplicaThatNeverComesLeavesTheISR(t *testing.T) {
	l := New(1)
	// All of it is old. Nobody has said anything in this epoch.
	l.Lead(three(1, Memory, 1, 2, 3), progress(50, 50), 50)
	resume(t, &l, 2, progress(50, 0))
	var now time.Duration
	p, ok := run(&l, &now, func() {})
	if !ok || len(p.InSync) != 2 || now < lagMax {
		t.Fatalf("%+v after %v", p, now)
	}
}

func TestReplicaJoinsTheISRWhenItHasAllThatIsCommitted(t *testing.T) {
	l := New(1)
	l.Lead(three(1, Disk, 1, 2), progress(50, 50), 30)
	resume(t, &l, 2, progress(40, 40))
	wantHighWatermark(t, &l, 40)
	resume(t, &l, 3, progress(40, 40))
	// It has what is committed, but what the leader had at its election may have
	// been read before.
	if p, ok := l.Tick(0, lagMax, nil); ok {
		t.Fatalf("%+v", p)
	}
	say(t, &l, 3, progress(50, 45))
	if p, ok := l.Tick(1, lagMax, nil); ok {
		t.Fatalf("%+v: five records are not on its disk", p)
	}
	say(t, &l, 3, progress(50, 50))
	p, ok := l.Tick(2, lagMax, nil)
	if !ok || len(p.InSync) != 3 || p.InSync[2] != (InSyncReplica{ID: 3, BrokerEpoch: 7}) {
		t.Fatalf("%+v", p)
	}
	// The controller does not want it: it is asked again in a second, and the
	// high watermark does not wait for it meanwhile.
	if e := l.Refused(0); e.Fenced {
		t.Fatal("nothing was refused")
	}
	l.Advance(1, 1, progress(60, 60))
	say(t, &l, 2, progress(60, 60))
	wantHighWatermark(t, &l, 60)
	if _, ok = l.Tick(time.Second, lagMax, nil); ok {
		t.Fatal("it asks too often")
	}
	say(t, &l, 3, progress(60, 60))
	if _, ok = l.Tick(2*time.Second, lagMax, nil); !ok {
		t.Fatal("it does not ask again")
	}
	l.Close(3, 1)
	l.Refused(0)
	if p, ok = l.Tick(4*time.Second, lagMax, nil); ok {
		t.Fatalf("%+v: it has gone", p)
	}
}

func TestDivergedReplicaDoesNotLagAtOnce(t *testing.T) {
	l := New(1)
	l.Lead(three(2, Memory, 1, 2), progress(0, 0), 0)
	resume(t, &l, 2, progress(0, 0))
	l.Advance(1, 2, progress(100, 0))
	l.Tick(0, lagMax, nil)
	say(t, &l, 2, progress(100, 0))
	// Much later it comes back and has to truncate first. It lags only when
	// something that it misses is as old as that.
	o, _ := l.Open(2, 7, Open{Session: 2, Epoch: 2, LastEpoch: 1, Progress: progress(90, 0)}, log([2]int{0, 80}, [2]int{2, 20}))
	if !o.Diverged {
		t.Fatalf("%+v", o)
	}
	if p, ok := l.Tick(time.Hour, lagMax, nil); ok {
		t.Fatalf("%+v", p)
	}
	// What it had counts for nothing until it has said what is left.
	l.Advance(1, 2, progress(120, 0))
	wantHighWatermark(t, &l, 100)
}
