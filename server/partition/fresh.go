package partition

import (
	"context"
	"fmt"
	"time"

	"github.com/millstream-io/millstream/server/replica"
)

// leaderLease is how long what was heard of the other replicas counts: a leader
// that was deposed meanwhile serves committed records no longer than that
// (rule H5).
const leaderLease = time.Second

// CurrentWait is how long it is worth waiting for a replica that may not be
// read: longer than it takes until a broker that has died is out of sync.
const CurrentWait = 3 * time.Second

// NotFreshError says that others may lead by now: this replica has not heard
// all that it has to hear to be sure that it leads still. Nothing was done.
type NotFreshError struct {
	// Silent are those that were not heard in time.
	Silent []replica.ID
}

// Error says it for people.
func (e *NotFreshError) Error() string {
	if len(e.Silent) == 0 {
		return "too few replicas are in sync to be sure who leads"
	}
	return fmt.Sprintf("replicas %v were not heard: another may lead by now", e.Silent)
}

// quorum is whom the leader has to hear, with the sessions in which it does.
// It is published by the owner whenever it changes, and immutable.
type quorum struct {
	replica.Quorum

	feeds []*Feed       // those of Others; nil: there is no session
	over  chan struct{} // closed when there is another
}

// heard says when the i-th of the others was heard: at the last ping that it has
// answered on the stream of its session.
//
// WHY in this order: what a follower says before its answer is noted before it,
// so that a session that it has ended is seen to have ended.
func (q *quorum) heard(i int) time.Duration {
	f := q.feeds[i]
	if f == nil {
		return replica.Never
	}
	at := f.outlet.Heard()
	if f.gone.Load() {
		return replica.Never
	}
	return at
}

// silent returns an error that names those who were not heard since.
func (q *quorum) silent(since time.Duration) error {
	e := &NotFreshError{}
	for i, o := range q.Others {
		if o.InSync && q.heard(i) < since {
			e.Silent = append(e.Silent, o.ID)
		}
	}
	return e
}

// stale returns a *NotFreshError if others may have committed more than this
// replica knows, for longer than the lease. It is asked behind every read, and
// costs a look at the clock and at the streams of the followers.
func (p *Partition) stale() error {
	q := p.quorum.Load()
	if q == nil || len(q.Others) == 0 {
		return nil
	}
	since := p.uptime() - leaderLease
	if q.Current(since, p.vouched(), q.heard) {
		return nil
	}
	return q.silent(since)
}

// AwaitFresh waits until this replica is sure that it led at some time since
// then, as Uptime: what is read of it afterwards is not older than that. Those
// who are not heard yet are asked at once. It fails with *NotFreshError if they
// have not answered a lease after that time, or when ctx ends, or with why
// nothing can be read.
func (p *Partition) AwaitFresh(ctx context.Context, since time.Duration) error {
	return p.awaitHeard(ctx, since+leaderLease, func(q *quorum) (time.Duration, bool) { return since, q.Fresh(since, q.heard) })
}

// AwaitCurrent waits until this replica may be read: after *NotFreshError, and
// for CurrentWait at most. It fails as AwaitFresh does.
func (p *Partition) AwaitCurrent(ctx context.Context) error {
	return p.awaitHeard(ctx, p.uptime()+CurrentWait, func(q *quorum) (time.Duration, bool) {
		since := p.uptime() - leaderLease
		return since, q.Current(since, p.vouched(), q.heard)
	})
}

// awaitHeard waits until enough says so, until that time at most; it also says
// since when the others have to have been heard.
func (p *Partition) awaitHeard(ctx context.Context, until time.Duration, enough func(*quorum) (time.Duration, bool)) error {
	var patience <-chan time.Time
	var answered *bell
	for {
		if err := p.status.Load().unreadable(); err != nil {
			return err
		}
		q := p.quorum.Load()
		if q == nil || len(q.Others) == 0 {
			return nil
		}
		since, ok := enough(q)
		if ok {
			return nil
		}
		if patience == nil {
			t := time.NewTimer(max(0, until-p.uptime()))
			defer t.Stop()
			patience, answered = t.C, &bell{rung: make(chan struct{}, 1)}
		}
		q.ask(since, answered)
		select {
		case <-answered.rung:
		case <-q.over:
		case <-patience:
			return q.silent(since)
		case <-ctx.Done():
			return q.silent(since)
		}
	}
}

// AskAgain has those answer who keep this replica from being read, and wakes w
// for each who does. It is for who was told *NotFreshError.
func (p *Partition) AskAgain(w Waiter) {
	if q := p.quorum.Load(); q != nil {
		q.ask(p.uptime()-leaderLease, w)
	}
}

// ask pings those that were not heard since. Who has ended its session would
// answer, and be asked again: only another session helps there, of which
// another quorum tells.
func (q *quorum) ask(since time.Duration, w Waiter) {
	for i := range q.Others {
		if f := q.feeds[i]; f != nil && !f.gone.Load() && f.outlet.Heard() < since {
			f.outlet.Ask(w)
		}
	}
}

// LookFresh wakes the readers at the tail if this replica may not be read any
// more: they would wait here for what another leader has. The broker calls it
// about once a second.
func (p *Partition) LookFresh() {
	if p.Waiting() > 0 && p.stale() != nil {
		p.wakeAll()
	}
}

// meet publishes whom the leader has to hear, if that has changed. It is called
// after each step that may change it, and before a proposal leaves.
//
// REQUIRES: the caller owns the partition.
func (p *Partition) meet() {
	o, was := &p.owner, p.quorum.Load()
	if !o.core.Leading() {
		if was != nil {
			p.quorum.Store(nil)
			close(was.over)
		}
		return
	}
	next := &quorum{Quorum: o.core.Quorum(), over: make(chan struct{})}
	next.feeds = make([]*Feed, len(next.Others))
	for i, other := range next.Others {
		for _, f := range o.feeds {
			if f.id == other.ID && f.session == other.Session {
				next.feeds[i] = f
			}
		}
	}
	p.quorum.Store(next)
	if was != nil {
		close(was.over)
	}
}
