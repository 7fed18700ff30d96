package follower

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/record"
)

// Options are what the streams of a broker are made of.
type Options struct {
	// Self is this broker.
	Self int32
	// Identity is the incarnation that follows.
	Identity func() Identity
	// Dial returns a connection to a broker, which belongs to somebody else.
	Dial func(broker int32) (*grpc.ClientConn, error)
	// Revision is that of the metadata here.
	Revision func() int64
	// Logger takes changes of state; slog.Default unless set.
	Logger *slog.Logger
}

// Identity is who follows.
type Identity struct {
	ClusterID   [16]byte
	Generation  uint32
	BrokerEpoch int64
}

// Followers are the streams to all leaders. Its methods may be called from any
// goroutine.
type Followers struct {
	o      Options
	logger *slog.Logger

	mu    sync.Mutex // guards what follows; nothing else is done under it
	ctx   context.Context
	pairs map[int32]*pair
	runs  sync.WaitGroup
}

// New returns Followers that follow nobody. They start nothing before Run.
func New(o Options) *Followers {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Followers{o: o, logger: o.Logger, pairs: make(map[int32]*pair)}
}

// retryEvery is how often sessions are looked for that are to be opened again.
const retryEvery = 50 * time.Millisecond

// Run keeps the streams until ctx ends, and waits for them.
func (f *Followers) Run(ctx context.Context) error {
	f.mu.Lock()
	f.ctx = ctx
	for _, p := range f.pairs {
		p.start(ctx)
	}
	f.mu.Unlock()
	t := time.NewTicker(retryEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			f.mu.Lock()
			pairs := f.pairs
			f.pairs, f.ctx = make(map[int32]*pair), nil
			f.mu.Unlock()
			for _, p := range pairs {
				p.stop()
			}
			f.runs.Wait()
			return nil
		case <-t.C:
		}
		for _, p := range f.all() {
			p.look()
			f.leave(p)
		}
	}
}

func (f *Followers) all() []*pair {
	f.mu.Lock()
	defer f.mu.Unlock()
	ps := make([]*pair, 0, len(f.pairs))
	for _, p := range f.pairs {
		ps = append(ps, p)
	}
	return ps
}

// Follow returns the way to the leader of a partition. Start is the next step,
// when the partition knows it.
func (f *Followers) Follow(topic record.TopicID, number record.PartitionID, leader int32, p *partition.Partition) *Link {
	return &Link{f: f, topic: topic, number: number, leader: leader, p: p, lane: tail}
}

// Start opens sessions on a link from now on, until Stop.
func (f *Followers) Start(l *Link) {
	f.mu.Lock()
	p := f.pairOf(l.leader)
	p.add(l)
	f.mu.Unlock()
	p.connect(l)
}

// pairOf returns the pair with a leader, which is made if there is none.
//
// REQUIRES: the mutex is held.
func (f *Followers) pairOf(leader int32) *pair {
	p := f.pairs[leader]
	if p == nil {
		p = newPair(f, leader)
		f.pairs[leader] = p
		if f.ctx != nil {
			p.start(f.ctx)
		}
	}
	return p
}

// Stop ends the use of a link. Its partition follows somebody else by now, or
// nobody, in a newer leader epoch, which the leader is told of; -1: in none.
func (f *Followers) Stop(l *Link, newer record.LeaderEpoch) {
	f.mu.Lock()
	p := f.pairs[l.leader]
	if p != nil {
		p.remove(l, newer)
	}
	f.mu.Unlock()
	if p != nil {
		f.leave(p)
	}
}

// leave retires a pair of which nothing is followed, when what is owed to its
// leader can be said.
func (f *Followers) leave(p *pair) {
	f.mu.Lock()
	done := f.pairs[p.leader] == p && p.done()
	if done {
		delete(f.pairs, p.leader)
	}
	f.mu.Unlock()
	if done {
		p.retire()
	}
}

// Connect opens a session on a link, if there is none and its stream is up: its
// partition follows the same leader in a newer epoch.
func (f *Followers) Connect(l *Link) {
	if p := l.pair.Load(); p != nil {
		p.connect(l)
	}
}
