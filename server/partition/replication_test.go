package partition

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// line is the streams between a follower and a leader, as both see them.
type line struct {
	leader, follower *env

	mu    sync.Mutex
	heard atomic.Int64
	feeds map[uint64]*Feed
	last  uint64 // session that was asked for
	cut   bool
	down  chan func()
	// before, if not nil, is called before an offer of records is read.
	before func(f *Feed)
	// slow, if not nil, holds acks up until it is closed.
	slow chan struct{}
	up   chan func()
	over chan struct{}
}

func newLine(leader, follower *env) *line {
	l := &line{leader: leader, follower: follower, feeds: map[uint64]*Feed{}, down: make(chan func(), 1000), up: make(chan func(), 1000), over: make(chan struct{})}
	l.heard.Store(int64(Uptime()))
	for _, c := range []chan func(){l.down, l.up} {
		go func() {
			for {
				select {
				case do := <-c:
					do()
				case <-l.over:
					return
				}
			}
		}()
	}
	return l
}

// say has the other side do something, in order, unless the line is cut.
func (l *line) say(c chan func(), do func()) {
	select {
	case c <- do:
	case <-l.over:
	}
}

func (l *line) Opened(a replica.Opened, f *Feed) {
	l.mu.Lock()
	cut := l.cut
	if f != nil && !cut {
		l.feeds[f.Session()] = f
	}
	l.mu.Unlock()
	if f != nil && cut {
		f.Close()
	}
	l.say(l.down, func() { l.follower.p.SessionOpened(a) })
}

func (l *line) Offer(f *Feed) {
	l.say(l.down, func() {
		if l.before != nil && f.offer.Records {
			l.before(f)
		}
		push, b, end, ok := f.Read(func(n int) []byte { return make([]byte, n) })
		if !ok {
			return
		}
		f.Sent(end, len(b))
		in := Pushed{Push: push, End: end}
		if len(b) > 0 {
			k := len(b) / 3 // as the transport hands it over: in pieces
			in.Batches = record.Pieces{b[:k], b[k:]}
		}
		l.follower.p.Push(in)
	})
}

func (l *line) Closed(f *Feed, _ replica.SessionError) {
	l.say(l.down, func() { l.follower.p.SessionClosed(f.Session()) })
}

func (l *line) Heard() time.Duration { return time.Duration(l.heard.Load()) }

// Ask pings: the answer comes when the follower has said all that it said
// before.
func (l *line) Ask(w Waiter) {
	sent := Uptime()
	l.say(l.down, func() {
		l.say(l.up, func() {
			l.heard.Store(max(l.heard.Load(), int64(sent)))
			w.Wake()
		})
	})
}

func (l *line) Open(o replica.Open) {
	l.mu.Lock()
	l.last = o.Session
	l.mu.Unlock()
	l.say(l.up, func() { l.leader.p.OpenSession(l.follower.self, 1, o, l) })
}

func (l *line) Ack(a replica.Ack) {
	l.say(l.up, func() {
		if l.slow != nil {
			<-l.slow
		}
		if f := l.feed(a.Session); f != nil {
			f.Ack(a)
		}
	})
}

func (l *line) Close(session uint64, epoch record.LeaderEpoch, _ replica.SessionError) {
	l.say(l.up, func() {
		if f := l.feed(session); f != nil {
			f.Left(epoch)
		}
	})
}

func (l *line) feed(session uint64) *Feed {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.feeds[session]
}

// end cuts the line; both sides notice.
func (l *line) end() {
	l.mu.Lock()
	if l.cut {
		l.mu.Unlock()
		return
	}
	l.cut = true
	feeds, last := l.feeds, l.last
	l.mu.Unlock()
	close(l.over)
	for _, f := range feeds {
		f.Close()
	}
	l.follower.p.Disconnect(last)
}

// trio is three replicas of one partition.
type trio struct {
	lone       bool         // the leader alone is in sync, the records say
	inSync     []replica.ID // who is, they say; nil: as the others say
	fill       uint64       // replica 3 is added, and filled with so many bytes a second; 0: it is in sync
	t          *testing.T
	durability replica.Durability
	epoch      record.LeaderEpoch
	leader     *env
	all        []*env
	lines      map[*env]*line // by follower
}

func inTrio(t *testing.T, d replica.Durability, story func(t *testing.T, g *trio)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &trio{t: t, durability: d, lines: map[*env]*line{}}
		for id := range 3 {
			e := newEnv(t)
			e.self = replica.ID(id + 1)
			e.openOn(e.fs)
			g.all = append(g.all, e)
		}
		defer func() {
			for _, l := range g.lines {
				l.end()
			}
			for _, e := range g.all {
				for _, h := range e.holds {
					h.letGo()
				}
				_ = e.p.Close()
				e.flusher.running.Wait()
			}
		}()
		story(t, g)
	})
}

func (g *trio) assignment() replica.Assignment {
	a := replica.Assignment{
		Epoch: g.epoch, PartitionEpoch: int32(g.epoch), Replicas: []replica.ID{1, 2, 3}, InSync: []replica.ID{1, 2, 3},
		MinInSync: 2, Durability: g.durability,
	}
	if g.lone {
		a.InSync = []replica.ID{g.leader.self}
	}
	if g.inSync != nil {
		a.InSync = g.inSync
	}
	if g.fill > 0 {
		a.InSync, a.Adding, a.AddingRate = []replica.ID{1, 2}, []replica.ID{3}, g.fill
	}
	return a
}

// elect has a replica lead; the others hear of it in some order.
func (g *trio) elect(leader *env) {
	g.epoch++
	g.leader = leader
	for _, e := range g.all {
		g.tell(e)
	}
}

// tell has a replica hear who leads.
func (g *trio) tell(e *env) {
	if e == g.leader {
		e.p.Lead(g.assignment())
		if l := g.lines[e]; l != nil {
			l.end()
			delete(g.lines, e)
		}
		return
	}
	l := newLine(g.leader, e)
	e.p.Follow(g.assignment(), g.leader.self, l)
	if was := g.lines[e]; was != nil {
		was.end()
	}
	g.lines[e] = l
	e.p.Connect(l)
}

// mend opens a session again where there is none.
func (g *trio) mend(e *env) {
	if l := g.lines[e]; l != nil {
		e.p.Connect(l)
	}
}

func (g *trio) tick() {
	for _, e := range g.all {
		if e.p.Restless() {
			e.p.Tick()
		}
	}
	synctest.Wait()
}

// wantSame compares all logs byte by byte.
func (g *trio) wantSame() {
	g.t.Helper()
	var first []byte
	for i, e := range g.all {
		b := e.stored()
		if i == 0 {
			first = b
		} else if !bytes.Equal(first, b) {
			g.t.Errorf("the log of replica %d has %d bytes, and not those of replica 1, which has %d", e.self, len(b), len(first))
		}
	}
}

// streaming tells whether a session has begun in which the leader is followed.
func (e *env) streaming() bool {
	streaming := false
	e.p.exclusively(func() { _, streaming = e.p.owner.follow.Session() })
	return streaming
}

// stored returns the batches of a log, up to its end.
func (e *env) stored() []byte {
	r := e.p.log.NewReader()
	defer r.Close()
	var out []byte
	for from, end := e.p.log.Start(), e.p.log.End(); from < end; {
		got, err := r.Read(from, end, 1<<20, func(n int) []byte { return make([]byte, n) })
		if err != nil {
			e.t.Fatal(err)
		}
		out, from = append(out, got.Bytes...), got.Next
	}
	return out
}

func TestWhatALeaderAcknowledgesItsFollowersHave(t *testing.T) {
	for _, d := range []replica.Durability{replica.Disk, replica.Memory} {
		t.Run(d.String(), func(t *testing.T) {
			inTrio(t, d, func(t *testing.T, g *trio) {
				g.elect(g.all[0])
				synctest.Wait()
				for i := range 10 {
					r := g.leader.acked(batch(fmt.Sprint("b", i), 3))
					if want := map[replica.Durability]Medium{replica.Disk: MediumDisk, replica.Memory: MediumMemory}[d]; r.Medium != want || r.InSync != 3 {
						t.Errorf("acknowledged as %v of %d replicas", r.Medium, r.InSync)
					}
					for _, e := range g.all {
						if s := e.p.State(); s.End != r.Base+3 || (d == replica.Disk && s.SyncedEnd != s.End) {
							t.Fatalf("replica %d ends at %d, %d on disk, and %d is acknowledged", e.self, s.End, s.SyncedEnd, r.Base+3)
						}
					}
				}
				g.wantSame()
				<-time.After(150 * time.Millisecond) // of the bubble: the followers hear the high watermark
				g.tick()
				for _, e := range g.all {
					if s := e.p.State(); s.HighWatermark != 30 {
						t.Errorf("replica %d knows the high watermark %d, want 30", e.self, s.HighWatermark)
					}
				}
				if g.leader.p.Restless() {
					g.tick()
				}
				if g.leader.p.Restless() {
					t.Error("all is done, and the leader wants to look at the clock")
				}
			})
		})
	}
}

func TestWithoutItsFollowersALeaderAcknowledgesNothing(t *testing.T) {
	inTrio(t, replica.Disk, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		g.leader.acked(batch("before", 1))
		g.lines[g.all[1]].end()
		a := &answers{}
		r := g.leader.send(a, batch("alone", 1))
		synctest.Wait()
		if len(a.list()) != 0 {
			t.Fatalf("acknowledged with a follower cut off: %v", r.Err)
		}
		// It comes back: the session begins where its log ends.
		g.tell(g.all[1])
		synctest.Wait()
		if len(a.list()) != 1 || r.Err != nil {
			t.Fatalf("not acknowledged after the follower came back: %v", r.Err)
		}
		g.wantSame()
	})
}

func TestAFollowerGivesUpWhatTheNewLeaderDoesNotHave(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		g.leader.acked(batch("kept", 2))
		for _, l := range g.lines {
			l.end()
		}
		a := &answers{}
		lost := g.leader.send(a, batch("nobody has it", 2))
		synctest.Wait()
		g.elect(g.all[1])
		synctest.Wait()
		if lost.Err == nil {
			t.Error("what the old leader alone had is acknowledged")
		}
		g.leader.acked(batch("new", 2))
		g.wantSame()
		g.leader.wantLog("kept#0", "kept#1", "new#0", "new#1")
		for _, e := range g.all {
			if e.seen.lost != 0 {
				t.Errorf("replica %d reports %d lost records: nothing committed was", e.self, e.seen.lost)
			}
		}
	})
}

func TestAFollowerWhoseDiskIsFullFollowsAgainWhenThereIsRoom(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		g.leader.acked(batch("before", 1))
		full := g.all[2]
		full.fs.Add(&faultfs.Rule{Op: faultfs.Write, Path: "*.log", Times: 1, Err: syscall.ENOSPC})
		a := &answers{}
		r := g.leader.send(a, batch("no room", 1))
		synctest.Wait()
		if len(a.list()) != 0 {
			t.Fatalf("acknowledged though a follower has no room: %v", r.Err)
		}
		g.mend(full)
		synctest.Wait()
		if len(a.list()) != 1 || r.Err != nil {
			t.Fatalf("not acknowledged when there was room again: %v", r.Err)
		}
		g.wantSame()
	})
}

// Records are deleted up to the middle of a batch. A replica that has nothing yet,
// or less than that, gets the whole batch, and starts where the leader does.
func TestALogThatStartsInsideABatchIsFollowed(t *testing.T) {
	const begun = -1 // at the log start, with nothing, as was done once
	for _, has := range []int{0, 1, 4, begun} {
		inTrio(t, replica.Disk, func(t *testing.T, g *trio) {
			g.inSync = []replica.ID{1, 2}
			g.epoch, g.leader = 1, g.all[0]
			late := g.all[2]
			g.tell(g.all[0])
			g.tell(g.all[1])
			if has > 0 {
				g.tell(late)
			}
			synctest.Wait()
			g.leader.acked(batch("a", 1))
			if has > 1 {
				g.leader.acked(batch("b", has-1))
			}
			if has > 0 {
				synctest.Wait()
				g.lines[late].end()
				if end := late.p.State().End; end != record.Offset(has) {
					t.Fatalf("it has %d", end)
				}
			}
			first := g.leader.acked(batch("cut", 5)).Base
			last := g.leader.acked(batch("c", 2)).Base
			if start, err := g.leader.p.DeleteRecords(t.Context(), first+3); err != nil || start != first+3 {
				t.Fatalf("%d, %v", start, err)
			}
			if has == begun {
				late.p.exclusively(func() {
					if err := late.p.log.ResetTo(first + 3); err != nil {
						t.Fatal(err)
					}
				})
			}
			g.tell(late)
			synctest.Wait()
			<-time.After(150 * time.Millisecond) // of the bubble: the followers hear of the ends
			g.tick()
			for _, e := range g.all {
				if s := e.p.State(); s.LogStart != first+3 || s.End != last+2 || s.Offline != nil && e == g.leader {
					t.Errorf("replica %d, which had %d: %+v", e.self, has, s)
				}
			}
			g.wantSame()
			g.leader.acked(batch("d", 1))
			g.leader.wantLog("cut#3", "cut#4", "c#0", "c#1", "d#0")
		})
	}
}

// A topic that asks for DISK now gets it of what came at MEMORY too, at replicas
// that rest and hear nothing else.
func TestWhatCameAtMemoryIsSyncedWhenDiskIsAskedFor(t *testing.T) {
	inTrio(t, replica.Memory, func(t *testing.T, g *trio) {
		g.elect(g.all[0])
		synctest.Wait()
		g.leader.acked(batch("a", 1))
		pass(10 * time.Second)
		for _, e := range g.all {
			if s := e.p.State(); s.End != 1 || s.SyncedEnd != 0 {
				t.Fatalf("replica %d at MEMORY: %+v", e.self, s)
			}
		}
		g.durability = replica.Disk
		if !g.leader.p.Confirm(g.assignment()) {
			t.Fatal("not taken")
		}
		for e, l := range g.lines {
			e.p.Follow(g.assignment(), g.leader.self, l)
		}
		synctest.Wait()
		for _, e := range g.all {
			if s := e.p.State(); s.SyncedEnd != 1 {
				t.Errorf("replica %d at DISK: %+v", e.self, s)
			}
		}
		if r := g.leader.acked(batch("b", 1)); r.Medium != MediumDisk {
			t.Errorf("acknowledged as %v", r.Medium)
		}
	})
}

// TestWhateverHappensToStreamsAndLeadersWhatWasAcknowledgedStays has leaders
// change and streams break at any time, and looks at all logs in the end.
func TestWhateverHappensToStreamsAndLeadersWhatWasAcknowledgedStays(t *testing.T) {
	total := 0
	for seed := range uint64(60) {
		d := replica.Durability(seed % 2)
		inTrio(t, d, func(t *testing.T, g *trio) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			g.elect(g.all[rnd.IntN(3)])
			a := &answers{}
			texts := map[*Request]string{}
			for step := range 120 {
				switch n := rnd.IntN(20); {
				case n < 12:
					text := fmt.Sprint("s", step)
					r := batch(text, 1+rnd.IntN(3))
					r.Done = a
					if e := g.all[rnd.IntN(3)]; e.p.Append(t.Context(), r) == nil {
						texts[r] = text
					}
				case n < 14:
					e := g.all[rnd.IntN(3)]
					if l := g.lines[e]; l != nil {
						l.end()
					}
				case n < 15: // some hear of it later
					g.epoch++
					g.leader = g.all[rnd.IntN(3)]
					for _, i := range rnd.Perm(3)[:1+rnd.IntN(3)] {
						g.tell(g.all[i])
					}
				case n < 18:
					g.tell(g.all[rnd.IntN(3)])
				default:
					<-time.After(time.Duration(rnd.IntN(100)) * time.Millisecond)
					g.tick()
				}
				if rnd.IntN(3) == 0 {
					synctest.Wait()
				}
			}
			g.elect(g.all[rnd.IntN(3)])
			synctest.Wait()
			for range 3 {
				for _, e := range g.all {
					if e != g.leader && !e.streaming() {
						g.tell(e)
					}
				}
				synctest.Wait()
				g.tick()
			}
			last := g.leader.acked(batch("last", 1))
			g.wantSame()
			got, err := g.leader.texts(0)
			if err != nil {
				t.Fatal(err)
			}
			acked := 0
			for _, r := range a.list() {
				if r.Err != nil {
					continue
				}
				acked++
				for i := range record.Offset(r.Summary.Records) {
					if want := fmt.Sprintf("%s#%d", texts[r], i); got[r.Base+i] != want {
						t.Errorf("seed %d: %q was acknowledged at %d, and there is %q", seed, want, r.Base+i, got[r.Base+i])
					}
				}
			}
			if n := len(got); n != int(last.Base)+1 {
				t.Errorf("seed %d: %d records, and the last is at %d", seed, n, last.Base)
			}
			for _, e := range g.all {
				if e.seen.lost != 0 {
					t.Errorf("seed %d: replica %d gave up %d committed records", seed, e.self, e.seen.lost)
				}
			}
			total += acked
		})
	}
	if total < 500 {
		t.Errorf("only %d batches were acknowledged in all", total)
	}
}
