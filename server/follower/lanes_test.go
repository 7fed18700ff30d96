package follower

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"

	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
)

// opens returns the session that is asked for on a stream; 0: none is.
func opens(t *testing.T, s *stream) uint64 {
	t.Helper()
	synctest.Wait()
	var session uint64
	for {
		req := s.next()
		if req == nil {
			return session
		}
		for _, o := range req.GetOpens() {
			if session != 0 {
				t.Fatalf("asked for twice: %v", o)
			}
			session = o.GetSession()
		}
	}
}

// A replica far behind is filled on a stream of its own, so that what is there
// for others does not wait for it, and comes back when it is near the end.
func TestAReplicaFarBehindIsFilledOnAnotherStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLink(t)
		streams := [...]*stream{tail: begin(p), catchUp: {pair: p, lane: catchUp, more: make(chan struct{}, 1), sessions: map[uint64]*Link{}}}
		p.up(streams[catchUp])
		answer := func(n lane, session uint64, end record.Offset) {
			streams[n].opened(&replicationv1.SessionOpened{Session: session, LeaderEpoch: 1, End: int64(end), HighWatermark: int64(end)})
			synctest.Wait()
		}
		l.p.Follow(replica.Assignment{Epoch: 1, Replicas: []replica.ID{2, 1}, InSync: []replica.ID{2}, MinInSync: 1}, 2, l)
		l.p.Connect(l)

		// Not far: it stays.
		session := opens(t, streams[tail])
		answer(tail, session, farBehind)
		if got := opens(t, streams[catchUp]); session == 0 || got != 0 || l.lane != tail {
			t.Fatalf("%d behind, session %d of the other stream is asked for", farBehind, got)
		}
		// The leader ends the session, and is further ahead when the next begins.
		again := func(n lane) uint64 {
			streams[n].told(&replicationv1.ReplicateResponse{Closes: []*replicationv1.SessionClose{{Session: l.session}}})
			<-time.After(mostRetry)
			p.look()
			return opens(t, streams[n])
		}
		session = again(tail)
		answer(tail, session, farBehind+1)
		next := opens(t, streams[catchUp])
		if session == 0 || next == 0 || next == session {
			t.Fatalf("far behind, it is asked for session %d, then for %d on the other stream", session, next)
		}
		answer(catchUp, next, nearEnd+1)
		p.look()
		if got := opens(t, streams[tail]); got != 0 || l.lane != catchUp {
			t.Errorf("%d behind it goes back", nearEnd+1)
		}
		session = again(catchUp)
		answer(catchUp, session, nearEnd)
		p.look()
		if got := opens(t, streams[tail]); got == 0 || l.lane != tail {
			t.Errorf("near the end it does not go back")
		}
	})
}
