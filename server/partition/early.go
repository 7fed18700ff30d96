package partition

import (
	"time"

	"github.com/millstream-io/millstream/server/replica"
)

// A follower may hear of a leader before the leader does, and ask it for a
// session. Its wish waits until the leader knows (rule P3): if it were refused,
// the follower would come again after a pause, in which nothing is committed.
//
// INVARIANT: at most one wish of a follower waits, and every wish is answered, if
// only after earlyFor, unless the follower has another by then.

// earlyFor is longer than metadata takes to come.
const earlyFor = time.Second

// early is a wish of a newer epoch than is known here.
type early struct {
	opening
	until time.Duration
}

// keepEarly has a wish wait. It replaces the one before of that follower.
func (p *Partition) keepEarly(w *opening) {
	o := &p.owner
	next := early{*w, p.uptime() + earlyFor}
	for i := range o.early {
		if was := &o.early[i]; was.id == w.id {
			*was = next
			return
		}
	}
	o.early = append(o.early, next)
	if o.earlyTimer == nil {
		o.earlyTimer = time.AfterFunc(earlyFor, p.Tick)
	}
}

// answerEarly answers the wishes that are not early any more, and refuses those
// that have waited for long; all, if there is nothing to wait for.
func (p *Partition) answerEarly(all bool) {
	o := &p.owner
	if len(o.early) == 0 {
		return
	}
	waiting, now := o.early, p.uptime()
	o.early = nil
	if o.earlyTimer != nil {
		o.earlyTimer.Stop()
		o.earlyTimer = nil
	}
	known := o.core.Epoch()
	for i := range waiting {
		w := &waiting[i]
		switch {
		case all:
			w.outlet.Opened(replica.Opened{Session: w.open.Session, Epoch: known, Error: replica.NotLeader}, nil)
		case w.open.Epoch <= known:
			p.openSession(&w.opening)
		case now >= w.until:
			w.outlet.Opened(replica.Opened{Session: w.open.Session, Epoch: known, Error: replica.UnknownLeaderEpoch}, nil)
		default:
			o.early = append(o.early, *w)
		}
	}
	if len(o.early) > 0 {
		o.earlyTimer = time.AfterFunc(max(0, o.early[0].until-now), p.Tick)
	}
}
