package follower

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// followed is a leader that a test plays: it begins every session, and keeps
// what it is told of their ends.
type followed struct {
	replicationv1.UnimplementedReplicationServiceServer

	opened chan struct{}
	closes chan *replicationv1.SessionClose
	known  chan *replicationv1.KnownEpoch
	ended  chan error
	drop   chan struct{} // ends the tail stream
	breaks atomic.Bool   // the stream ends when something is known, once
}

func (l *followed) Replicate(st grpc.BidiStreamingServer[replicationv1.ReplicateRequest, replicationv1.ReplicateResponse]) error {
	first, err := st.Recv()
	if err != nil {
		return err
	}
	if err := st.Send(&replicationv1.ReplicateResponse{Hello: &replicationv1.LeaderHello{BrokerId: 2}}); err != nil {
		return err
	}
	if first.GetHello().GetLane() != replicationv1.Lane_LANE_TAIL {
		<-st.Context().Done()
		return st.Context().Err()
	}
	heard := make(chan error, 1)
	go func() { heard <- l.hear(st) }()
	select {
	case err = <-heard:
	case <-l.drop:
		return errCut
	}
	if errors.Is(err, io.EOF) {
		l.ended <- err
		return nil
	}
	return err
}

func (l *followed) hear(st grpc.BidiStreamingServer[replicationv1.ReplicateRequest, replicationv1.ReplicateResponse]) error {
	for {
		req, err := st.Recv()
		if err != nil {
			return err
		}
		for _, o := range req.GetOpens() {
			if err := st.Send(&replicationv1.ReplicateResponse{Opened: []*replicationv1.SessionOpened{{Session: o.GetSession(), LeaderEpoch: o.GetLeaderEpoch()}}}); err != nil {
				return err
			}
			l.opened <- struct{}{}
		}
		for _, c := range req.GetCloses() {
			l.closes <- c
		}
		for _, k := range req.GetKnown() {
			l.known <- k
			if l.breaks.CompareAndSwap(true, false) {
				return errCut
			}
		}
	}
}

// story is broker 1, that follows broker 2.
type story struct {
	t      *testing.T
	leader *followed
	f      *Followers
	p      *partition.Partition
}

func newStory(t *testing.T, way *cutOff) *story {
	t.Helper()
	s := &story{t: t, leader: &followed{
		opened: make(chan struct{}, 10), closes: make(chan *replicationv1.SessionClose, 10), ended: make(chan error, 10),
		known: make(chan *replicationv1.KnownEpoch, 10), drop: make(chan struct{}, 1),
	}}
	server := grpc.NewServer()
	replicationv1.RegisterReplicationServiceServer(server, s.leader)
	lis := rpc.ListenInProcess()
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(lis) })
	conn, err := lis.Dial()
	if err != nil {
		t.Fatal(err)
	}
	fs := memfs.New()
	if err := fs.MkdirAll("/d", 0o755); err != nil {
		t.Fatal(err)
	}
	log, _, err := commitlog.Open(commitlog.Options{FS: fs, Dir: "/d/p"})
	if err != nil {
		t.Fatal(err)
	}
	s.p = partition.New(partition.Options{Log: log, Self: 1, Logger: slog.New(slog.DiscardHandler)})
	s.f = New(Options{
		Self: 1, Revision: func() int64 { return 5 }, Identity: func() Identity { return Identity{} },
		Dial: way.dial(conn), Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	running.Go(func() { _ = s.f.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = s.p.Close()
		_ = conn.Close()
		server.Stop()
		running.Wait()
	})
	return s
}

// follow follows broker 2 in a leader epoch.
func (s *story) follow(epoch record.LeaderEpoch) *Link {
	l := s.f.Follow(record.TopicID{1}, 3, 2, s.p)
	s.p.Follow(replica.Assignment{Epoch: epoch, Replicas: []replica.ID{2, 1}, InSync: []replica.ID{2, 1}, MinInSync: 1}, 2, l)
	s.f.Start(l)
	return l
}

// leave has another lead in an epoch, and this replica be none any more.
func (s *story) leave(l *Link, epoch record.LeaderEpoch) {
	s.p.Resign(3, epoch)
	s.f.Stop(l, epoch)
}

// A leader that does not hear the controllers learns from nothing else that it
// was replaced: not even the last of what is followed there goes without a word.
func TestTheLastSessionSaysWhyItEnds(t *testing.T) {
	s := newStory(t, &cutOff{tried: make(chan struct{}, 1)})
	epoch := record.LeaderEpoch(0)
	for range 20 {
		epoch++
		l := s.follow(epoch)
		_ = within(t, "a session", s.leader.opened)
		epoch++
		s.leave(l, epoch)
		if c := within(t, "its end", s.leader.closes); c.GetLeaderEpoch() != int32(epoch) {
			t.Fatalf("the leader is told of epoch %d, want %d", c.GetLeaderEpoch(), epoch)
		}
		if k := within(t, "the newer epoch", s.leader.known); k.GetLeaderEpoch() != int32(epoch) {
			t.Fatalf("the leader is told of epoch %d, want %d", k.GetLeaderEpoch(), epoch)
		}
		_ = within(t, "the end of the stream", s.leader.ended)
	}
}

func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("nothing came: %s", what)
		panic("unreachable")
	}
}

// cutOff is a way to a leader that can be cut.
type cutOff struct {
	cut   atomic.Bool
	tried chan struct{} // capacity 1
}

func (c *cutOff) dial(conn *grpc.ClientConn) func(int32) (*grpc.ClientConn, error) {
	return func(int32) (*grpc.ClientConn, error) {
		if !c.cut.Load() {
			return conn, nil
		}
		select {
		case c.tried <- struct{}{}:
		default:
		}
		return nil, errCut
	}
}

var errCut = errors.New("cut off")

// With its stream down there is no session to end: the leader is told when
// there is a way to it again, though nothing of it is followed any more.
func TestALeaderThatWasAwayWhenItWasReplacedIsToldWhenItIsBack(t *testing.T) {
	way := &cutOff{tried: make(chan struct{}, 1)}
	s := newStory(t, way)
	l := s.follow(1)
	_ = within(t, "a session", s.leader.opened)
	way.cut.Store(true)
	s.leader.drop <- struct{}{}
	_ = within(t, "an attempt to come back", way.tried)
	s.leave(l, 2)
	select {
	case k := <-s.leader.known:
		t.Fatalf("over a way that is cut it is told %v", k)
	case <-way.tried:
	}
	way.cut.Store(false)
	k := within(t, "the newer epoch", s.leader.known)
	if k.GetLeaderEpoch() != 2 || k.GetPartition() != 3 || record.TopicID(k.GetTopicId()) != (record.TopicID{1}) || k.GetRevision() != 5 {
		t.Errorf("it is told %v", k)
	}
	_ = within(t, "the end of the stream", s.leader.ended)
}

// What was said on a stream that broke may not have come.
func TestWhatMayNotHaveComeIsSaidAgain(t *testing.T) {
	s := newStory(t, &cutOff{tried: make(chan struct{}, 1)})
	l := s.follow(1)
	_ = within(t, "a session", s.leader.opened)
	s.leader.breaks.Store(true) // at the last words
	s.leave(l, 2)
	for range 2 {
		if k := within(t, "the newer epoch", s.leader.known); k.GetLeaderEpoch() != 2 {
			t.Fatalf("it is told %v", k)
		}
	}
	_ = within(t, "the end of the stream", s.leader.ended)
}

// Who leads again is told by the sessions in which epoch, and not that it was
// left once.
func TestALeaderThatIsFollowedAgainIsNotToldThatItWasLeft(t *testing.T) {
	l, p := newLink(t)
	l.f.Stop(l, 7)
	if len(p.words) != 1 || p.done() {
		t.Fatalf("%d words are owed, done %v", len(p.words), p.done())
	}
	again := l.f.Follow(l.topic, l.number, l.leader, l.p)
	l.f.Start(again)
	if s := begin(p); len(p.words) != 0 || len(s.words) != 0 {
		t.Errorf("%d words are owed, %d to be said", len(p.words), len(s.words))
	}
}

// A leader that never comes back is not tried for ever.
func TestWordsAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLink(t)
		l.f.Stop(l, 7)
		<-time.After(toldFor)
		p.look()
		if p.done() {
			t.Error("given up too early")
		}
		<-time.After(time.Second)
		p.look()
		if !p.done() {
			t.Error("it is owed still")
		}
	})
}
