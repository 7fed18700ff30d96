package follower

import (
	"time"

	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	"github.com/millstream-io/millstream/storage/record"
)

// A leader that the controllers do not reach learns from those who followed it
// that another leads (server/partition/deposed.go). The end of a session says
// so; but there may be no session, because the stream was down when the metadata
// came. So whoever goes away says it once more, by itself, on a stream that is
// up, or on the next one.
//
// INVARIANT: a leader that was left is told of the newer epoch on some stream
// that it has heard the end of, or has gone on for heardAfter, unless there was
// none for toldFor. What is kept is bounded by the number of partitions.

const (
	// toldFor is how long somebody tries to say it: a broker that is away for
	// longer has been fenced and hears it when it is back.
	toldFor = 30 * time.Second
	// heardAfter is how long a stream has to go on for what was said on it to have
	// come: a connection on which nothing comes for longer is given up.
	heardAfter = 5 * time.Second
)

// subject is the partition that a word is about.
type subject struct {
	topic  record.TopicID
	number record.PartitionID
}

// word is a leader epoch that a leader is to be told of. Guarded by the mutex of
// its pair.
type word struct {
	known  *replicationv1.KnownEpoch
	until  time.Time // then it is given up
	on     *stream   // where it was said last; nil: nowhere yet
	saidAt time.Time
}

// tell has the leader of a link told of a newer epoch than the one that it is
// followed in.
//
// REQUIRES: the mutex is held.
func (p *pair) tell(l *Link, newer record.LeaderEpoch) {
	topic := l.topic
	p.owe(subject{l.topic, l.number}, &word{
		known: &replicationv1.KnownEpoch{
			TopicId: topic[:], Partition: uint32(l.number), LeaderEpoch: int32(newer), Revision: p.f.o.Revision(),
		},
		until: time.Now().Add(toldFor),
	})
}

// owe has a word said on the stream that is up, or on the next.
//
// REQUIRES: the mutex is held.
func (p *pair) owe(of subject, w *word) {
	if was := p.words[of]; was != nil && was.known.GetLeaderEpoch() >= w.known.GetLeaderEpoch() {
		return
	}
	p.words[of] = w
	if s := p.streams[tail].up; s != nil {
		s.words = append(s.words, w)
		s.wake()
	}
}

// repeat has everything said that is owed on a stream that has begun.
//
// REQUIRES: the mutex is held.
func (p *pair) repeat(s *stream) {
	if s.lane != tail || len(p.words) == 0 {
		return
	}
	for _, w := range p.words {
		s.words = append(s.words, w)
	}
	s.wake()
}

// settle forgets the words that have come, and those that are too old.
//
// REQUIRES: the mutex is held.
func (p *pair) settle(now time.Time) {
	up := p.streams[tail].up
	for of, w := range p.words {
		if now.After(w.until) || (up != nil && w.on == up && now.Sub(w.saidAt) >= heardAfter) {
			delete(p.words, of)
		}
	}
}

// owing takes the words that are owed still.
func (p *pair) owing() map[subject]*word {
	p.mu.Lock()
	defer p.mu.Unlock()
	owed := p.words
	p.words = make(map[subject]*word)
	for of, w := range owed {
		w.on = nil
		if time.Now().After(w.until) {
			delete(owed, of)
		}
	}
	return owed
}

// resume has words said that a retired pair owed: the stream on which they were
// the last did not end in order.
func (f *Followers) resume(leader int32, owed map[subject]*word) {
	if len(owed) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx == nil || f.ctx.Err() != nil {
		return
	}
	p := f.pairOf(leader)
	p.mu.Lock()
	defer p.mu.Unlock()
	for of, w := range owed {
		if !p.follows(of) {
			p.owe(of, w)
		}
	}
}

// follows tells whether there is a link for a partition: then its sessions say
// which epoch is known.
//
// REQUIRES: the mutex is held.
func (p *pair) follows(of subject) bool {
	for l := range p.links {
		if l.topic == of.topic && l.number == of.number {
			return true
		}
	}
	return false
}
