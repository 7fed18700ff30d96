package follower

import (
	"context"
	"log/slog"
	"sync"
	"testing"
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
	ended  chan error
}

func (l *followed) Replicate(st grpc.BidiStreamingServer[replicationv1.ReplicateRequest, replicationv1.ReplicateResponse]) error {
	first, err := st.Recv()
	if err != nil {
		return err
	}
	if err := st.Send(&replicationv1.ReplicateResponse{Hello: &replicationv1.LeaderHello{BrokerId: 2}}); err != nil {
		return err
	}
	for {
		req, err := st.Recv()
		if err != nil {
			if first.GetHello().GetLane() == replicationv1.Lane_LANE_TAIL {
				l.ended <- err
			}
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
	}
}

// A leader that does not hear the controllers learns from nothing else that it
// was replaced: not even the last of what is followed there goes without a word.
func TestTheLastSessionSaysWhyItEnds(t *testing.T) {
	leader := &followed{opened: make(chan struct{}, 10), closes: make(chan *replicationv1.SessionClose, 10), ended: make(chan error, 10)}
	server := grpc.NewServer()
	replicationv1.RegisterReplicationServiceServer(server, leader)
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
	p := partition.New(partition.Options{Log: log, Self: 1, Logger: slog.New(slog.DiscardHandler)})
	f := New(Options{
		Self: 1, Revision: func() int64 { return 5 }, Identity: func() Identity { return Identity{} },
		Dial: func(int32) (*grpc.ClientConn, error) { return conn, nil }, Logger: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	running.Go(func() { _ = f.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = p.Close()
		_ = conn.Close()
		server.Stop()
		running.Wait()
	})
	epoch := record.LeaderEpoch(0)
	for range 20 {
		epoch++
		l := f.Follow(record.TopicID{1}, 3, 2, p)
		p.Follow(replica.Assignment{Epoch: epoch, Replicas: []replica.ID{2, 1}, InSync: []replica.ID{2, 1}, MinInSync: 1}, 2, l)
		f.Start(l)
		_ = within(t, "a session", leader.opened)
		epoch++
		p.Resign(3, epoch) // another leads, and this replica is none any more
		f.Stop(l)
		if c := within(t, "its end", leader.closes); c.GetLeaderEpoch() != int32(epoch) {
			t.Fatalf("the leader is told of epoch %d, want %d", c.GetLeaderEpoch(), epoch)
		}
		_ = within(t, "the end of the stream", leader.ended)
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
