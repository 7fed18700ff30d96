package pusher

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

const (
	// pingEvery is how often the leader says that it is there.
	pingEvery = 500 * time.Millisecond
	// perMessage bounds what one message says of sessions.
	perMessage = 1000
	// maxAsking bounds who is woken by an answer to a ping: the others have
	// patience of their own, and look again.
	maxAsking = 10_000
)

// stream is one stream of a follower. It is a partition.Outlet.
type stream struct {
	s        *Service
	ctx      context.Context
	cancel   context.CancelCauseFunc
	call     grpc.BidiStreamingServer[replicationv1.ReplicateRequest, replicationv1.ReplicateResponse]
	follower replica.ID
	epoch    int64
	ended    chan struct{} // closed when nothing of it is left
	more     chan struct{} // capacity 1; never closed
	heard    atomic.Int64  // Uptime of the last ping that was answered, ns

	mu     sync.Mutex // guards what follows; nothing else is done under it
	feeds  map[uint64]*partition.Feed
	offers []*partition.Feed // in turn
	opened []*replicationv1.SessionOpened
	closes []*replicationv1.SessionClose
	ping   bool               // one is due
	pinged int64              // Uptime of the last one, ns
	asking []partition.Waiter // are woken by the next answer to a ping
	over   bool               // the stream has ended: nothing is begun on it
}

func newStream(s *Service, ctx context.Context, cancel context.CancelCauseFunc, call grpc.BidiStreamingServer[replicationv1.ReplicateRequest, replicationv1.ReplicateResponse], h *replicationv1.FollowerHello) *stream {
	st := &stream{
		s: s, ctx: ctx, cancel: cancel, call: call, follower: replica.ID(h.GetBrokerId()), epoch: h.GetBrokerEpoch(),
		ended: make(chan struct{}), more: make(chan struct{}, 1), feeds: make(map[uint64]*partition.Feed),
		ping: true, // who has just begun to lead is not fresh before an answer
	}
	st.heard.Store(int64(-time.Hour)) // nothing was answered yet
	return st
}

// serve runs the stream until one of its goroutines has a reason to end it.
func (st *stream) serve() error {
	var sending sync.WaitGroup
	sending.Go(func() { st.cancel(st.send()) })
	go func() { st.cancel(st.receive()) }() // it ends when the handler has returned
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-st.ctx.Done():
			// WHY not wait for the sender: it may be in a Send that only the end of
			// this handler ends. It holds offers of feeds that end now.
			if err := context.Cause(st.ctx); !errors.Is(err, io.EOF) {
				return err
			}
			return nil // the follower has said all, and all was heard
		case <-tick.C:
			st.mu.Lock()
			st.ping = true
			st.mu.Unlock()
			st.wake()
		}
	}
}

// end ends the sessions.
func (st *stream) end() {
	st.mu.Lock()
	feeds, asking := st.feeds, st.asking
	st.feeds, st.offers, st.asking, st.over = nil, nil, nil, true
	st.mu.Unlock()
	for _, w := range asking {
		w.Wake()
	}
	for _, f := range feeds {
		f.Close()
	}
}

func (st *stream) wake() {
	select {
	case st.more <- struct{}{}:
	default:
	}
}

// Opened takes a partition's answer to an open.
func (st *stream) Opened(a replica.Opened, feed *partition.Feed) {
	st.mu.Lock()
	over := st.over
	if !over {
		if feed != nil {
			st.feeds[feed.Session()] = feed
		}
		st.opened = append(st.opened, openedOf(&a, st.s.o.Revision()))
	}
	st.mu.Unlock()
	if over && feed != nil {
		feed.Close()
	}
	st.wake()
}

// Offer puts a feed in the line.
func (st *stream) Offer(f *partition.Feed) {
	st.mu.Lock()
	if !st.over {
		st.offers = append(st.offers, f)
	}
	st.mu.Unlock()
	st.wake()
}

// Closed ends a session, and says why.
func (st *stream) Closed(f *partition.Feed, why replica.SessionError) {
	st.mu.Lock()
	if st.feeds[f.Session()] == f {
		delete(st.feeds, f.Session())
		st.closes = append(st.closes, &replicationv1.SessionClose{
			Session: f.Session(), LeaderEpoch: -1, Error: replicationv1.SessionError(why), Revision: st.s.o.Revision(),
		})
	}
	st.mu.Unlock()
	st.wake()
}

// Heard is when the last ping was sent that the follower has answered.
func (st *stream) Heard() time.Duration { return time.Duration(st.heard.Load()) }

// Ask pings the follower, unless a ping is under way: then who waits looks at
// the answer to that and asks again. So however many ask, there are no more
// pings than answers.
func (st *stream) Ask(w partition.Waiter) {
	st.mu.Lock()
	over := st.over
	if !over {
		if len(st.asking) < maxAsking {
			st.asking = append(st.asking, w)
		}
		st.ping = st.ping || st.pinged <= st.heard.Load()
	}
	st.mu.Unlock()
	if over {
		w.Wake()
		return
	}
	st.wake()
}

// answered notes that the follower has answered the ping that was sent then.
func (st *stream) answered(sent int64) {
	if sent <= st.heard.Load() || sent > int64(partition.Uptime()) {
		return
	}
	st.heard.Store(sent)
	st.mu.Lock()
	asking := st.asking
	st.asking = nil
	st.mu.Unlock()
	for _, w := range asking {
		w.Wake()
	}
}

// receive takes what the follower says until the stream ends.
func (st *stream) receive() error {
	for {
		req, err := st.call.Recv()
		if err != nil {
			return err
		}
		for _, c := range req.GetCloses() {
			if f := st.take(c.GetSession()); f != nil {
				f.Left(record.LeaderEpoch(c.GetLeaderEpoch()))
			}
		}
		for _, o := range req.GetOpens() {
			st.open(o)
		}
		for _, a := range req.GetAcks() {
			if f := st.feed(a.GetSession()); f != nil {
				f.Ack(ackOf(a))
			}
		}
		st.answered(req.GetPing().GetEchoNs())
		for _, k := range req.GetKnown() {
			if p := st.partition(k.GetTopicId(), k.GetPartition()); p != nil {
				p.HeardOf(record.LeaderEpoch(k.GetLeaderEpoch()))
			}
		}
	}
}

// partition returns the partition of that name; nil: this broker holds none.
func (st *stream) partition(id []byte, number uint32) *partition.Partition {
	var topic record.TopicID
	if copy(topic[:], id) != len(topic) {
		return nil
	}
	return st.s.o.Partition(topic, record.PartitionID(number))
}

// open asks a partition for a session.
func (st *stream) open(o *replicationv1.SessionOpen) {
	p := st.partition(o.GetTopicId(), o.GetPartition())
	if p == nil {
		st.Opened(replica.Opened{Session: o.GetSession(), Epoch: -1, Error: replica.NotLeader}, nil)
		return
	}
	p.OpenSession(st.follower, st.epoch, openOf(o), st)
}

func (st *stream) feed(session uint64) *partition.Feed {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.feeds[session]
}

func (st *stream) take(session uint64) *partition.Feed {
	st.mu.Lock()
	defer st.mu.Unlock()
	f := st.feeds[session]
	delete(st.feeds, session)
	return f
}
