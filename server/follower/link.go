package follower

import (
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// lane is one of the two streams of a pair.
type lane int

const (
	tail lane = iota
	catchUp
	lanes
)

const (
	// farBehind is how many offsets a replica is behind that belongs on the
	// stream for those, nearEnd when it belongs there no longer.
	farBehind = 50_000
	nearEnd   = 5_000
	// leastRetry and mostRetry bound the pause before a session is opened again.
	leastRetry, mostRetry = 50 * time.Millisecond, 400 * time.Millisecond
)

// Link is the way of one partition to its leader. It is a partition.Upstream.
type Link struct {
	f      *Followers
	topic  record.TopicID
	number record.PartitionID
	leader int32
	p      *partition.Partition

	pair atomic.Pointer[pair] // set by Start

	// What follows is guarded by the mutex of the pair.
	lane    lane
	session uint64 // the last one asked for; 0: none
	stream  *stream
	end     record.Offset // of the own log, when it was asked for
	live    bool          // the session was asked for and has not ended
	retryAt time.Time     // zero: there is nothing to try again
	ack     replica.Ack
	acked   bool // ack waits to be sent
	gone    bool
}

// Open asks the leader for a session.
//
// REQUIRES: Start was called: only then the partition is connected.
func (l *Link) Open(o replica.Open) {
	p := l.pair.Load()
	if l.ask(p, o) {
		return
	}
	// The stream has gone since the partition wished for a session. It has one
	// under way, and would wish for no other: it is told first, and only then is
	// there a time to try again, so that the wish comes behind.
	l.p.Disconnect(o.Session)
	p.mu.Lock()
	defer p.mu.Unlock()
	l.retry()
}

// ask has the leader asked for a session; false: there is no stream to it.
func (l *Link) ask(p *pair, o replica.Open) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streams[l.lane].up
	if s == nil || l.gone {
		return false
	}
	l.forget()
	l.session, l.stream, l.end, l.live, l.retryAt = o.Session, s, o.End, true, time.Time{}
	s.sessions[o.Session] = l
	s.opens = append(s.opens, openOf(l, o, p.f.o.Revision()))
	s.wake()
	return true
}

// Ack tells the leader how far this replica is.
//
// REQUIRES: as Open.
func (l *Link) Ack(a replica.Ack) {
	p := l.pair.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := l.stream
	if s == nil || a.Session != l.session || l.gone {
		return
	}
	if l.ack = a; !l.acked {
		l.acked = true
		s.acks = append(s.acks, l)
	}
	s.wake()
}

// Close tells the leader that a session has ended.
func (l *Link) Close(session uint64, epoch record.LeaderEpoch, why replica.SessionError) {
	p := l.pair.Load()
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := l.stream; s != nil && session == l.session {
		s.closes = append(s.closes, closeOf(session, epoch, why, p.f.o.Revision()))
		s.wake()
	}
	if session == l.session {
		l.forget()
		l.retry()
	}
}

// retry has a session opened again, in a while.
//
// REQUIRES: the pair's mutex is held.
func (l *Link) retry() {
	if !l.gone {
		l.retryAt = time.Now().Add(leastRetry + rand.N(mostRetry-leastRetry))
	}
}

// forget ends what there is of a session here.
//
// REQUIRES: the pair's mutex is held.
func (l *Link) forget() {
	if l.stream != nil {
		delete(l.stream.sessions, l.session)
	}
	// What waits to be sent on the stream goes with it: the acks of the next
	// session have a place in the line of theirs.
	l.stream, l.live, l.acked = nil, false, false
}

// Leader is who is followed on the link.
func (l *Link) Leader() int32 { return l.leader }
