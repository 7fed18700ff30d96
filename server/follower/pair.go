package follower

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/record"
)

// pair is this broker with one that it follows.
type pair struct {
	f      *Followers
	leader int32

	mu      sync.Mutex // guards what follows, links and streams; nothing else is done under it
	links   map[*Link]struct{}
	words   map[subject]*word
	streams [lanes]struct{ up *stream } // nil: there is none now
	cancel  context.CancelFunc
	retired bool // no stream is opened any more
}

func newPair(f *Followers, leader int32) *pair {
	return &pair{f: f, leader: leader, links: make(map[*Link]struct{}), words: make(map[subject]*word)}
}

// start keeps both streams until stop.
//
// REQUIRES: the mutex of Followers is held.
func (p *pair) start(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	p.mu.Lock()
	p.cancel = cancel
	p.mu.Unlock()
	for n := range lanes {
		p.f.runs.Go(func() { p.keep(ctx, n) })
	}
}

func (p *pair) stop() {
	p.mu.Lock()
	cancel := p.cancel
	p.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// retireFor bounds how long the last words on a stream take.
const retireFor = time.Second

// retire ends both streams when what is to be said on them has been said: the
// leader may know of no newer epoch but by that.
//
// REQUIRES: the pair has no links.
func (p *pair) retire() {
	p.mu.Lock()
	cancel, said := p.cancel, true
	p.retired = true
	for n := range p.streams {
		if s := p.streams[n].up; s != nil {
			s.last, said = true, false
			s.wake()
		}
	}
	p.mu.Unlock()
	switch {
	case cancel == nil:
	case said:
		cancel()
	default:
		time.AfterFunc(retireFor, cancel)
	}
}

func (p *pair) isRetired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retired
}

func (p *pair) add(l *Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.pair.Store(p)
	p.links[l] = struct{}{}
	delete(p.words, subject{l.topic, l.number}) // it leads again: its sessions say in which epoch
}

// remove takes a link out, and has its leader told of a newer epoch.
func (p *pair) remove(l *Link, newer record.LeaderEpoch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l.gone = true
	l.forget()
	delete(p.links, l)
	if newer >= 0 {
		p.tell(l, newer)
	}
}

// done tells whether nothing is followed, and what is owed can be said.
func (p *pair) done() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links) == 0 && (len(p.words) == 0 || p.streams[tail].up != nil)
}

// connect opens a session on a link, if its stream is up.
func (p *pair) connect(l *Link) {
	p.mu.Lock()
	up := p.streams[l.lane].up != nil && !l.live && !l.gone
	p.mu.Unlock()
	if up {
		l.p.Connect(l)
	}
}

// look opens sessions again whose time has come, and moves replicas that have
// caught up to the other stream.
func (p *pair) look() {
	now := time.Now()
	var again, moved []*Link
	p.mu.Lock()
	p.settle(now)
	for l := range p.links {
		switch {
		case !l.retryAt.IsZero() && !now.Before(l.retryAt) && p.streams[l.lane].up != nil:
			l.retryAt = time.Time{}
			again = append(again, l)
		case l.lane == catchUp && l.live && p.streams[tail].up != nil:
			moved = append(moved, l)
		}
	}
	p.mu.Unlock()
	for _, l := range moved {
		if l.p.Behind() <= nearEnd && p.move(l, tail) {
			again = append(again, l)
		}
	}
	for _, l := range again {
		l.p.Connect(l)
	}
}

// move ends the session of a link, so that the next is on the other stream. It
// tells whether there was one.
func (p *pair) move(l *Link, to lane) bool {
	p.mu.Lock()
	was, session, live := l.stream, l.session, l.live
	if live {
		was.closes = append(was.closes, closeOf(session, -1, 0, p.f.o.Revision()))
		was.wake()
		l.forget()
	}
	l.lane = to
	p.mu.Unlock()
	if live {
		l.p.Disconnect(session)
	}
	return live
}

const (
	// leastPause and mostPause bound the time between two attempts to connect.
	leastPause, mostPause = 20 * time.Millisecond, time.Second
)

// keep keeps one stream of the pair until ctx ends.
func (p *pair) keep(ctx context.Context, n lane) {
	if n == tail {
		defer func() { p.f.resume(p.leader, p.owing()) }()
	}
	pause := leastPause
	for ctx.Err() == nil {
		begun := time.Now()
		err := p.run(ctx, n)
		if ctx.Err() != nil || p.isRetired() {
			if n == tail && errors.Is(err, io.EOF) {
				_ = p.owing() // the leader has heard it
			}
			return
		}
		if time.Since(begun) > mostPause {
			pause = leastPause
		}
		p.f.logger.Info("replication stream ended", "leader", p.leader, "lane", int(n), "err", err)
		t := time.NewTimer(pause/2 + rand.N(pause))
		pause = min(2*pause, mostPause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// run opens a stream and serves it until it ends.
func (p *pair) run(ctx context.Context, n lane) error {
	conn, err := p.f.o.Dial(p.leader)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s, err := openStream(ctx, cancel, p, n, conn)
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	sending.Go(s.send)
	p.up(s)
	err = s.receive()
	cancel(err)
	p.down(s)
	sending.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// up opens a session for each link of a stream that has begun.
func (p *pair) up(s *stream) {
	p.mu.Lock()
	p.streams[s.lane].up = s
	p.repeat(s)
	if p.retired {
		s.last = true
		s.wake()
	}
	var links []*Link
	for l := range p.links {
		if l.lane == s.lane && !l.live {
			l.retryAt = time.Time{}
			links = append(links, l)
		}
	}
	p.mu.Unlock()
	for _, l := range links {
		l.p.Connect(l)
	}
}

// down ends the sessions of a stream that has ended.
func (p *pair) down(s *stream) {
	type cut struct {
		p       *partition.Partition
		session uint64
	}
	var cuts []cut
	p.mu.Lock()
	if p.streams[s.lane].up == s {
		p.streams[s.lane].up = nil
	}
	for session, l := range s.sessions {
		cuts = append(cuts, cut{l.p, session})
		l.forget()
		l.retryAt = time.Time{} // up will do it
	}
	p.mu.Unlock()
	for _, c := range cuts {
		c.p.Disconnect(c.session)
	}
}
