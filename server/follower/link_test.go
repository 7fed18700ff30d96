package follower

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newLink returns a link to broker 2 that was started, of an empty partition
// that follows nobody.
func newLink(t *testing.T) (*Link, *pair) {
	t.Helper()
	fs := memfs.New()
	if err := fs.MkdirAll("/d", 0o755); err != nil {
		t.Fatal(err)
	}
	log, _, err := commitlog.Open(commitlog.Options{FS: fs, Dir: "/d/p"})
	if err != nil {
		t.Fatal(err)
	}
	p := partition.New(partition.Options{Log: log, Self: 1, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = p.Close() })
	f := New(Options{Self: 1, Revision: func() int64 { return 5 }})
	l := f.Follow(record.TopicID{1}, 3, 2, p)
	f.Start(l)
	return l, l.pair.Load()
}

// begin puts a stream up that nobody sends on.
func begin(p *pair) *stream {
	s := &stream{pair: p, lane: tail, more: make(chan struct{}, 1), sessions: map[uint64]*Link{}}
	p.up(s)
	return s
}

func ackOn(t *testing.T, s *stream) uint64 {
	t.Helper()
	req := s.next()
	if len(req.GetAcks()) != 1 {
		t.Fatalf("%d acks are said", len(req.GetAcks()))
	}
	return req.GetAcks()[0].GetSession()
}

// Without the acks of the new session its leader would never take the replica
// for one that is in sync.
func TestAnAckThatWentDownWithItsStreamHoldsBackNoOther(t *testing.T) {
	l, p := newLink(t)
	first := begin(p)
	l.Open(replica.Open{Session: 1})
	l.Ack(replica.Ack{Session: 1}) // nobody sends it any more
	p.down(first)

	second := begin(p)
	l.Open(replica.Open{Session: 2})
	l.Ack(replica.Ack{Session: 2})
	if got := ackOn(t, second); got != 2 {
		t.Errorf("the ack is of session %d", got)
	}
}

// The stream may go between the wish for a session and its turn: the partition
// then has a session under way that nobody was asked for, and is told so, or
// it would never wish for another.
func TestASessionThatNobodyWasAskedForIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLink(t)
		l.p.Follow(replica.Assignment{Epoch: 1, Replicas: []replica.ID{2, 1}, InSync: []replica.ID{2}, MinInSync: 1}, 2, l)
		l.p.Connect(l) // of a stream that was there a moment ago
		synctest.Wait()

		s := begin(p)
		synctest.Wait()
		<-time.After(mostRetry)
		p.look()
		synctest.Wait()
		if req := s.next(); len(req.GetOpens()) != 1 {
			t.Errorf("said %v", req)
		}
	})
}

func TestOfSeveralAcksTheLastIsSaidOnce(t *testing.T) {
	l, p := newLink(t)
	s := begin(p)
	l.Open(replica.Open{Session: 1})
	for end := range record.Offset(5) {
		l.Ack(replica.Ack{Session: 1, Progress: replica.Progress{End: end}})
	}
	req := s.next()
	if len(req.GetOpens()) != 1 || len(req.GetAcks()) != 1 || req.GetAcks()[0].GetEnd() != 4 {
		t.Errorf("said %v", req)
	}
	if again := s.next(); again != nil {
		t.Errorf("said again: %v", again)
	}
}

// A leader that hears an answer to its ping knows that what was closed before
// has been said.
func TestAPingIsAnsweredBehindAllCloses(t *testing.T) {
	l, p := newLink(t)
	s := begin(p)
	for session := range uint64(perMessage + 1) {
		l.Open(replica.Open{Session: session + 1})
		l.Close(session+1, 1, replica.NoError)
	}
	p.mu.Lock()
	s.pong = 77
	p.mu.Unlock()
	if req := s.next(); len(req.GetCloses()) != perMessage || req.GetPing() != nil {
		t.Fatalf("%d closes, ping %v", len(req.GetCloses()), req.GetPing())
	}
	if req := s.next(); len(req.GetCloses()) != 1 || req.GetPing().GetEchoNs() != 77 {
		t.Errorf("%d closes, ping %v", len(req.GetCloses()), req.GetPing())
	}
}
