package partition

import (
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// A leader that hears nothing of the controllers is not told that another leads.
// Its followers are, and say so when they leave: with them gone it commits
// nothing any more (rule H5), and what it took would wait for as long as it is
// cut off.
//
// INVARIANT: a leader that has heard of a newer leader epoch than its own
// resigns within deposedFor, and one look at the clock. The epoch that it goes
// on knowing is its own: in the newer one it may be this replica that leads.

// deposedFor is longer than metadata takes to come. WHY it is waited for: it
// says who leads, so that requests are passed on and not refused, and in a
// planned change of leaders the followers often hear of it first.
const deposedFor = time.Second

// HeardOf takes a leader epoch that another broker knows of, who has no session
// here in which it could say so. It does not block.
func (p *Partition) HeardOf(epoch record.LeaderEpoch) {
	m := &p.mail
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.status.Load().closed {
		return
	}
	m.told, m.newer = true, max(m.newer, epoch)
	p.rouse()
}

// heardOf notes that somebody knows of a leader epoch.
func (p *Partition) heardOf(epoch record.LeaderEpoch) {
	o := &p.owner
	if !o.core.Leading() || epoch <= max(o.core.Epoch(), o.newer) {
		return
	}
	o.newer = epoch
	if o.deposed == nil {
		o.deposedAt = p.uptime() + deposedFor // before the tick that looks at it
		o.deposed = time.AfterFunc(deposedFor, p.Tick)
	}
}

// endDeposed resigns when the metadata has not come in time.
func (p *Partition) endDeposed() {
	o := &p.owner
	switch {
	case o.deposed == nil:
	case !o.core.Leading() || o.newer <= o.core.Epoch():
		p.undeposed()
	case p.uptime() >= o.deposedAt:
		p.logger.Warn("leadership given up: followers know of a newer leader epoch, and the controllers are not heard of",
			"leader_epoch", int32(o.core.Epoch()), "newer", int32(o.newer))
		p.resign(replica.None, o.core.Epoch())
	}
}

// undeposed forgets what was heard: it is known who leads in that epoch, or
// nothing is led.
func (p *Partition) undeposed() {
	if o := &p.owner; o.deposed != nil {
		o.deposed.Stop()
		o.deposed = nil
	}
}
