package replica

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/millstream-io/millstream/storage/record"
)

// following returns broker 2 as a follower of broker 1 that has opened a
// session, and what it said.
func following(t *testing.T, h *paper, epoch record.LeaderEpoch, known record.Offset) (*Follower, Open) {
	t.Helper()
	f := NewFollower(h, &Sessions{}, 1000)
	f.Follow(three(epoch, Memory, 1, 2, 3), 1, h.written(), known)
	e := f.Connect()
	if !e.Opens || e.Truncate {
		t.Fatalf("%+v", e)
	}
	return &f, e.Open
}

func TestFollowerAppendsAndAcks(t *testing.T) {
	f, o := following(t, log([2]int{1, 10}), 2, 4)
	if o.Session != 1 || o.Epoch != 2 || o.LastEpoch != 1 || o.End != 10 || o.Credit != 1000 {
		t.Fatalf("%+v", o)
	}
	if e := f.Push(Push{Session: 1, Epoch: 2, From: 10}, 12, 50); !e.Fenced {
		t.Fatal("a push before the session has begun")
	}
	f.Opened(Opened{Session: 1, Epoch: 2, HighWatermark: 6, End: 30})
	if f.ReadableEnd() != 6 || f.Behind() != 20 {
		t.Fatalf("readable to %d, %d behind", f.ReadableEnd(), f.Behind())
	}
	e := f.Push(Push{Session: 1, Epoch: 2, From: 10, HighWatermark: 11, LogStart: 3, End: 30}, 12, 50)
	if !e.Append || e.LogStart != 3 || e.Acks {
		t.Fatalf("%+v", e)
	}
	// A second one comes before the first is written.
	if e = f.Push(Push{Session: 1, Epoch: 2, From: 12, HighWatermark: 11, LogStart: 3}, 15, 60); !e.Append || e.LogStart != -1 {
		t.Fatalf("%+v", e)
	}
	if f.ReadableEnd() != 10 {
		t.Fatalf("readable to %d, beyond the log", f.ReadableEnd())
	}
	e = f.Appended(progress(15, 10))
	if want := (Ack{Session: 1, Epoch: 2, Progress: progress(15, 10), Credit: 1110}); !e.Acks || e.Ack != want {
		t.Fatalf("%+v", e)
	}
	if e = f.Synced(progress(15, 15)); !e.Acks || e.Ack.SyncedEnd != 15 {
		t.Fatalf("%+v", e)
	}
	// Ends alone.
	if e = f.Push(Push{Session: 1, Epoch: 2, From: 15, HighWatermark: 15}, 15, 0); e.Append || e.Close || f.ReadableEnd() != 15 {
		t.Fatalf("%+v", e)
	}
}

// A sync that ends while the session is being opened is the last for long, if
// nothing is appended: without this ack the replica would never be in sync.
func TestASyncBeforeTheAnswerIsAcked(t *testing.T) {
	f, _ := following(t, log([2]int{1, 10}), 2, 0)
	f.own.SyncedEnd, f.opened.SyncedEnd = 7, 7
	if e := f.Synced(progress(10, 10)); e.Acks {
		t.Fatalf("%+v: there is no session yet", e)
	}
	if e := f.Opened(Opened{Session: 1, Epoch: 2}); !e.Acks || e.Ack.SyncedEnd != 10 || e.Ack.Credit != 1000 {
		t.Fatalf("%+v", e)
	}
}

func TestAPushThatDoesNotContinueTheLogEndsTheSession(t *testing.T) {
	for story, push := range map[string]struct {
		Push
		end   record.Offset
		bytes int64
	}{
		"a gap":                     {Push{Session: 1, Epoch: 2, From: 11}, 12, 1},
		"an overlap":                {Push{Session: 1, Epoch: 2, From: 9}, 12, 1},
		"ends before it begins":     {Push{Session: 1, Epoch: 2, From: 10}, 9, 1},
		"ends, from somewhere else": {Push{Session: 1, Epoch: 2, From: 11}, 11, 0},
	} {
		f, _ := following(t, log([2]int{1, 10}), 2, 0)
		f.Opened(Opened{Session: 1, Epoch: 2})
		e := f.Push(push.Push, push.end, push.bytes)
		if e.Append || !e.Close || e.Closed != 1 || e.Why != NotContinued || !f.Closed() {
			t.Errorf("%s: %+v", story, e)
		}
		// The rest of that session is dropped; the next has another number.
		if e = f.Push(Push{Session: 1, Epoch: 2, From: 10}, 12, 1); !e.Fenced {
			t.Errorf("%s: %+v", story, e)
		}
		if e = f.Connect(); !e.Opens || e.Open.Session != 2 {
			t.Errorf("%s: %+v", story, e)
		}
	}
}

// A leader that has more to send does not wait until all is written.
func TestWhatIsWrittenMakesRoomWhileTheRestIsBeingWritten(t *testing.T) {
	f, _ := following(t, log([2]int{1, 10}), 2, 0)
	f.Opened(Opened{Session: 1, Epoch: 2})
	for end := record.Offset(11); end <= 10+3*writingMarks; end++ {
		if e := f.Push(Push{Session: 1, Epoch: 2, From: end - 1}, end, 10); !e.Append {
			t.Fatalf("the push to %d is not taken", end)
		}
	}
	for end, credit := range map[record.Offset]int64{11: 1010, 13: 1030} {
		g := *f
		if e := g.Appended(progress(end, 10)); e.Ack.Credit != credit {
			t.Errorf("written to %d: credit %d", end, e.Ack.Credit)
		}
	}
	if e := f.Appended(progress(9+3*writingMarks, 10)); e.Ack.Credit >= 1000+30*writingMarks {
		t.Errorf("credit %d for more than is written", e.Ack.Credit)
	}
	if e := f.Appended(progress(10+3*writingMarks, 10)); e.Ack.Credit != 1000+30*writingMarks {
		t.Errorf("all is written: credit %d", e.Ack.Credit)
	}
}

func TestAPushBeyondTheCreditEndsTheSession(t *testing.T) {
	f, _ := following(t, log(), 2, 0)
	f.Opened(Opened{Session: 1, Epoch: 2})
	// One may be larger than the credit, when nothing is under way.
	if e := f.Push(Push{Session: 1, Epoch: 2}, 5, 5000); !e.Append {
		t.Fatalf("%+v", e)
	}
	if e := f.Push(Push{Session: 1, Epoch: 2, From: 5}, 6, 1); !e.Close {
		t.Fatalf("%+v", e)
	}
}

func TestFollowerIsFencedByEpochs(t *testing.T) {
	f, _ := following(t, log([2]int{1, 10}), 2, 0)
	f.Opened(Opened{Session: 1, Epoch: 2})
	if e := f.Follow(three(1, Memory, 3), 3, progress(10, 10), 0); !e.Fenced {
		t.Fatal("it followed into an older epoch")
	}
	if e := f.Follow(three(2, Memory, 1), 1, progress(10, 10), 0); e.Close {
		t.Fatal("the same again")
	}
	// A newer epoch ends the session: nothing is acked to the old leader.
	if e := f.Follow(three(3, Memory, 3), 3, progress(10, 10), 0); !e.Close || e.Closed != 1 {
		t.Fatalf("%+v", e)
	}
	if e := f.Appended(progress(10, 10)); e.Acks {
		t.Fatalf("%+v", e)
	}
	if e := f.Push(Push{Session: 1, Epoch: 2, From: 10}, 12, 1); !e.Fenced {
		t.Fatalf("%+v", e)
	}
	if e := f.Stop(2); !e.Fenced {
		t.Fatal("it stopped in an older epoch")
	}
	f.Stop(4)
	if e := f.Connect(); !e.Fenced || f.Closed() || f.Leader() != None {
		t.Fatalf("%+v", e)
	}
}

// The case of KIP-101: the high watermark that a follower knows says nothing
// of where to cut.
func TestRestartedFollowerKeepsWhatIsCommitted(t *testing.T) {
	// Replica 2 has two records, has acked both, and does not know yet that the
	// second is committed. It restarts, and the leader is there.
	own := log([2]int{0, 2})
	f, o := following(t, own, 0, 1)
	l := leading(0, own)
	a, _ := l.Open(2, 7, o, own)
	if e := f.Opened(a); e.Truncate || e.Reset {
		t.Fatalf("%+v", e)
	}
	if _, open := f.Session(); !open {
		t.Fatal("no session")
	}
}

func TestFollowerReportsLossOfCommittedRecords(t *testing.T) {
	f, _ := following(t, log([2]int{1, 10}), 3, 8)
	e := f.Opened(Opened{Session: 1, Epoch: 3, Diverged: true, Divergence: Divergence{1, 5}})
	if !e.Truncate || e.To != 5 || !e.Lost {
		t.Fatalf("%+v", e)
	}
	if e = f.Truncated(progress(5, 5)); !e.Opens || e.Open.Session != 2 || f.HighWatermark() != 5 {
		t.Fatalf("%+v", e)
	}
	f, _ = following(t, log([2]int{1, 10}), 3, 5)
	if e = f.Opened(Opened{Session: 1, Epoch: 3, Diverged: true, Divergence: Divergence{1, 5}}); e.Lost {
		t.Fatal("what is cut was not committed")
	}
	f, _ = following(t, log([2]int{1, 10}), 3, 10)
	if e = f.Opened(Opened{Session: 1, Epoch: 3, Reset: true, LogStart: 40}); !e.Reset || e.To != 40 || e.Lost {
		t.Fatalf("%+v: the leader has let it go as well", e)
	}
	// All that was committed had been let go, more than the leader has.
	gone := log()
	gone.start = 10
	f, _ = following(t, gone, 3, 10)
	if e = f.Opened(Opened{Session: 1, Epoch: 3, Reset: true, LogStart: 4}); !e.Reset || e.Lost {
		t.Fatalf("%+v: there was nothing to lose", e)
	}
}

func TestFailedAppendEndsTheSession(t *testing.T) {
	f, _ := following(t, log([2]int{1, 10}), 2, 0)
	f.Opened(Opened{Session: 1, Epoch: 2})
	f.Push(Push{Session: 1, Epoch: 2, From: 10}, 20, 100)
	if e := f.AppendFailed(progress(12, 10)); !e.Close || e.Why != FailedLog {
		t.Fatalf("%+v", e)
	}
	if e := f.Connect(); !e.Opens || e.Open.End != 12 {
		t.Fatalf("%+v", e)
	}
}

func TestRefusedAndClosedSessions(t *testing.T) {
	f, _ := following(t, log(), 2, 0)
	if e := f.Opened(Opened{Session: 9, Epoch: 2}); !e.Fenced {
		t.Fatal("an answer to another session")
	}
	f.Opened(Opened{Session: 1, Error: UnknownLeaderEpoch})
	if !f.Closed() {
		t.Fatal("it was refused")
	}
	f.Connect()
	f.Opened(Opened{Session: 2, Epoch: 2})
	if e := f.ClosedByLeader(1); !e.Fenced || f.Closed() {
		t.Fatal("that one was over")
	}
	if f.ClosedByLeader(2); !f.Closed() {
		t.Fatal("it was closed")
	}
	f.Connect()
	f.Disconnect()
	if e := f.Opened(Opened{Session: 3, Epoch: 2}); !e.Fenced {
		t.Fatalf("%+v: the stream has ended", e)
	}
}

// TestSessionsEndWithEqualLogs lets any two logs that can come about meet, and
// looks that what is left of the follower's is a beginning of the leader's,
// that nothing they had in common is lost, and that it takes few sessions.
func TestSessionsEndWithEqualLogs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// One history of epochs. Each log follows it for a while, in each epoch it
		// has a beginning of what that epoch's leader appended.
		leader, follower := &paper{}, &paper{}
		common := rapid.IntRange(0, 5).Draw(t, "common epochs")
		for e := range common {
			n := rapid.IntRange(0, 4).Draw(t, "records")
			leader.write(record.LeaderEpoch(e), n)
			follower.write(record.LeaderEpoch(e), n)
		}
		shared := follower.End()
		for e := common; e < common+rapid.IntRange(0, 8).Draw(t, "epochs apart"); e++ {
			who := leader
			if rapid.Bool().Draw(t, "of the follower") {
				who = follower
			}
			who.write(record.LeaderEpoch(e), rapid.IntRange(0, 4).Draw(t, "records"))
		}
		l := New(1)
		l.Lead(three(50, Memory, 1, 2), leader.written(), 0)
		f := NewFollower(follower, &Sessions{}, 1)
		f.Follow(three(50, Memory, 1, 2), 1, follower.written(), 0)
		e := f.Connect()
		for range 20 {
			a, _ := l.Open(2, 1, e.Open, leader)
			e = f.Opened(a)
			if !e.Truncate && !e.Reset {
				break
			}
			if e.To >= follower.End() && !e.Reset {
				t.Fatalf("cut at %d of %d", e.To, follower.End())
			}
			if e.Reset {
				follower.start, follower.epochs = e.To, nil
			} else {
				follower.cut(e.To)
			}
			e = f.Truncated(follower.written())
		}
		if _, open := f.Session(); !open {
			t.Fatal("no session after 20 answers")
		}
		if follower.End() < shared {
			t.Fatalf("ends at %d, %d were in common", follower.End(), shared)
		}
		for i, epoch := range follower.epochs {
			if leader.epochs[i] != epoch {
				t.Fatalf("record %d is of epoch %d here and %d there", i, epoch, leader.epochs[i])
			}
		}
	})
}

// A replica that never got all that was committed leads after the loss was
// accepted, and writes records of its own: what it heard of the others is not
// to be taken for them when it follows again.
func TestAHighWatermarkBeyondTheOwnEndDiesWithTheFollowing(t *testing.T) {
	f, o := following(t, log([2]int{1, 3}), 2, 0)
	f.Opened(Opened{Session: o.Session, Epoch: 2, End: 100, HighWatermark: 100})
	f.Stop(3) // it leads in epoch 3, from 3 on
	f.Follow(three(4, Memory, 1, 2, 3), 1, progress(50, 50), 3)
	if hw := f.HighWatermark(); hw != 3 {
		t.Errorf("high watermark %d: what this replica wrote itself is taken for committed", hw)
	}
}

// The next leader may have been let lead with less: its log begins below that of the
// one before, and holds what that had let go.
func TestTheLogStartOfAFormerLeaderIsNotFollowed(t *testing.T) {
	f, o := following(t, log([2]int{1, 10}), 2, 4)
	// The first begins further on than this log has come; the stream ends.
	if e := f.Opened(Opened{Session: o.Session, Epoch: 2, LogStart: 12, End: 14, HighWatermark: 14}); e.LogStart != 12 {
		t.Fatalf("%+v", e)
	}
	f.Follow(three(3, Memory, 1, 2, 3), 3, progress(10, 10), 4)
	e := f.Connect()
	if e = f.Opened(Opened{Session: e.Open.Session, Epoch: 3, LogStart: 0, End: 15}); e.LogStart > 0 {
		t.Fatalf("%+v", e)
	}
	if e = f.Push(Push{Session: f.session, Epoch: 3, From: 10, End: 15}, 15, 50); !e.Append {
		t.Fatalf("%+v", e)
	}
	if e = f.Appended(progress(15, 15)); e.LogStart >= 0 {
		t.Errorf("lets go what is below %d, which the leader has", e.LogStart)
	}
}
