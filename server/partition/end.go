package partition

import (
	"context"

	"github.com/millstream-io/millstream/storage/record"
)

// AwaitEnd waits until the readable end is at least what the log held when
// this leadership began. Before that the end that is known here may be below
// one that clients have seen, before a crash or of another leader: whoever
// asks for the end, or for an offset near it, waits first (rule H7). At one
// replica that is as long as a sync.
//
// It fails with *EndUnknownError when ctx ends first, or with why nothing can
// be read. A quarantined partition is not waited for: it has the end it has.
func (p *Partition) AwaitEnd(ctx context.Context) error {
	var w *bell
	for {
		s := p.status.Load()
		if err := s.unreadable(); err != nil {
			return err
		}
		readable, elected := p.readable.Load(), p.elected.Load()
		if readable >= elected || s.damaged != nil {
			return nil
		}
		if w == nil {
			w = &bell{rung: make(chan struct{}, 1)}
		}
		if !p.Notify(w, record.Offset(elected-1)) {
			continue
		}
		select {
		case <-w.rung:
		case <-ctx.Done():
			p.Cancel(w)
			return &EndUnknownError{Readable: record.Offset(readable), Elected: record.Offset(elected)}
		}
	}
}

// bell is a Waiter that one goroutine waits for.
type bell struct{ rung chan struct{} } // capacity 1

// Wake rings, unless it has rung.
func (b *bell) Wake() {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}
