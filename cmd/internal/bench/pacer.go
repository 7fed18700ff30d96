package bench

import (
	"context"
	"time"
)

// pacer says when the i-th of records at an even rate is due, and waits for
// it. It belongs to one goroutine.
type pacer struct {
	start time.Time
	rate  int64
	alarm alarm
}

func newPacer(start time.Time, rate int) (*pacer, error) {
	p := &pacer{start: start, rate: int64(rate)}
	return p, p.alarm.open()
}

// due returns when record i is due.
func (p *pacer) due(i int64) time.Time {
	whole, part := i/p.rate, i%p.rate
	return p.start.Add(time.Duration(whole)*time.Second + time.Duration(part)*time.Second/time.Duration(p.rate))
}

// await waits until record i is due, not at all if it is late.
func (p *pacer) await(ctx context.Context, i int64) (due time.Time, err error) {
	due = p.due(i)
	if err := ctx.Err(); err != nil {
		return due, context.Cause(ctx)
	}
	if d := time.Until(due); d > 0 {
		return due, p.alarm.sleep(ctx, d)
	}
	return due, nil
}

func (p *pacer) close() { p.alarm.close() }
