package broker

import (
	"context"
	"time"

	"github.com/millstream-io/millstream/server/partition"
)

const (
	// scrubEvery is how often a piece of what is scrubbed is read.
	scrubEvery = 250 * time.Millisecond
	// scrubLook is what looking at a log counts for, however little it holds: its
	// files are opened for that.
	scrubLook = 16 << 10
)

// scrub reads all logs again and again, at most so many bytes a second, so that
// damage is found, and repaired, before a client or a fail-over needs what is
// damaged. What is read is checked as for a client.
func (b *Broker) scrub(ctx context.Context) error {
	if b.opts.ScrubBytes <= 0 {
		return nil
	}
	s := scrubber{b: b, share: max(1, int64(float64(b.opts.ScrubBytes)*scrubEvery.Seconds()))}
	return every(ctx, scrubEvery, nil, func() { s.step(ctx) })
}

// scrubber is where scrubbing is.
type scrubber struct {
	b     *Broker
	share int64 // bytes a step
	debt  int64 // read beyond the share
	begun time.Time
	queue []*localLog      // of this round
	pass  *partition.Scrub // nil: of none
}

// step reads the share of a step.
func (s *scrubber) step(ctx context.Context) {
	s.debt -= s.share
	for s.debt <= 0 && ctx.Err() == nil {
		if s.pass == nil && !s.next() {
			s.debt = 0 // what was not used is not saved up
			return
		}
		n, more := s.pass.Next()
		s.b.metrics.scrubbed.Add(float64(n))
		s.debt += int64(n)
		if !more {
			s.pass = nil
		}
	}
}

// next takes the next log; false: the round is over, and it is too soon for
// another. WHY rounds: what a broker with little to read holds would be read
// all the time.
func (s *scrubber) next() bool {
	if now := s.b.opts.Now(); len(s.queue) == 0 && (s.begun.IsZero() || now.Sub(s.begun) >= s.b.opts.ScrubRound) {
		s.begun, s.queue = now, s.b.allLogs()
	}
	for len(s.queue) > 0 {
		l := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		if p := l.opened.Load(); p != nil {
			s.pass = p.NewScrub()
			s.debt += scrubLook
			return true
		}
	}
	return false
}
