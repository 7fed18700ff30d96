package sim

import (
	"time"

	"github.com/millstream-io/millstream/server/replica"
)

// network carries frames between brokers, and calls to the controller, which
// is node 0.
type network struct {
	w    *world
	cut  [][]bool      // [from][to]
	slow time.Duration // added to every delay
	// numb are nodes that nothing tells of a dead stream, as when a switch dies.
	numb []bool
}

func newNetwork(w *world, nodes int) *network {
	n := &network{w: w, numb: make([]bool, nodes)}
	for range nodes {
		n.cut = append(n.cut, make([]bool, nodes))
	}
	return n
}

func (n *network) delay() time.Duration {
	d := n.w.between(200*time.Microsecond, 3*time.Millisecond) + n.slow
	if n.w.roll(50) == 0 {
		d += n.w.between(0, 300*time.Millisecond)
	}
	return d
}

// send carries one message that may be lost.
func (n *network) send(from, to replica.ID, extra time.Duration, do func()) {
	if n.cut[from][to] || !n.w.calm && n.w.roll(100) == 0 {
		return
	}
	n.w.after(n.delay()+extra, do)
}

// stream carries frames between a follower and a leader, in order, until it
// breaks or one of the two processes dies.
type stream struct {
	n                *network
	follower, leader *broker
	lives            [2]int // incarnations of the two
	last             [2]time.Duration
	broken           bool
}

// dial makes a stream. It fails if nothing comes back.
func (n *network) dial(follower, leader *broker) *stream {
	if !leader.up || n.cut[follower.id][leader.id] || n.cut[leader.id][follower.id] {
		return nil
	}
	return &stream{n: n, follower: follower, leader: leader, lives: [2]int{follower.life, leader.life}}
}

// up carries a frame to the leader, down one to the follower.
func (s *stream) up(do func())   { s.send(0, s.follower, s.leader, do) }
func (s *stream) down(do func()) { s.send(1, s.leader, s.follower, do) }

func (s *stream) send(way int, from, to *broker, do func()) {
	if s.broken {
		return
	}
	if s.n.cut[from.id][to.id] {
		s.tear()
		return
	}
	w := s.n.w
	s.last[way] = max(s.last[way], w.now+s.n.delay())
	w.after(s.last[way]-w.now, func() {
		if !to.up || to.life != s.lives[1-way] {
			s.tear()
			return
		}
		to.alive(s.lives[1-way], do)
	})
}

// notice tells a side after a while that the stream is gone.
func (s *stream) notice(b *broker, life int, d time.Duration) {
	s.n.w.after(d, func() {
		if s.n.numb[b.id] {
			s.notice(b, life, s.n.w.between(0, 2*time.Second))
			return
		}
		b.alive(life, func() { b.torn(s) })
	})
}

// tear breaks the stream. What is under way may still come; both sides notice
// in their own time.
func (s *stream) tear() {
	if s.broken {
		return
	}
	s.broken = true
	for i, b := range []*broker{s.follower, s.leader} {
		life := s.lives[i]
		s.notice(b, life, s.n.w.between(0, 2*time.Second))
	}
}
