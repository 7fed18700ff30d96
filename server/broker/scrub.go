package broker

import (
	"context"
	"time"

	"github.com/millstream-io/millstream/server/partition"
)

// scrubEvery is how often a piece of what is scrubbed is read.
const scrubEvery = 250 * time.Millisecond

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
	queue []*localLog
	pass  *partition.Scrub // nil: of none
}

// step reads the share of a step.
func (s *scrubber) step(ctx context.Context) {
	if s.debt -= s.share; s.debt > 0 {
		return
	}
	for looked := 0; s.debt <= 0 && ctx.Err() == nil; {
		if s.pass == nil {
			if looked++; looked > 1000 || !s.next() { // many may have nothing
				s.debt = 0
				return
			}
		}
		n, more := s.pass.Next()
		s.b.metrics.scrubbed.Add(float64(n))
		s.debt += int64(n)
		if !more {
			s.pass = nil
		}
	}
}

// next takes the next log; false: a round has ended.
func (s *scrubber) next() bool {
	if len(s.queue) == 0 {
		s.queue = s.b.allLogs()
		if len(s.queue) == 0 {
			return false
		}
	}
	l := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	if p := l.opened.Load(); p != nil {
		s.pass = p.NewScrub()
		return true
	}
	return len(s.queue) > 0 && s.next()
}
