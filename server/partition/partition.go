package partition

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
)

// Partition is a replica that this broker holds. Its methods may be called
// from any goroutine, but for those that say otherwise.
type Partition struct {
	// Fixed at New.
	log       *commitlog.Log
	self      replica.ID
	flusher   Flusher
	observer  Observer
	logger    *slog.Logger
	limits    Limits
	idleAfter time.Duration
	now       func() time.Time
	lagMax    time.Duration
	uptime    func() time.Duration
	vouched   func() time.Duration
	away      func(replica.ID) bool
	propose   func(replica.Proposal)
	impaired  func(replica.ID) bool
	auditor   Auditor // nil: nobody is told

	// settings is stored by SetSettings, loaded by Append and the owner.
	settings atomic.Pointer[Settings]

	mail mailbox
	wake chan struct{}  // capacity 1; sent to when mail.parked is cleared
	run  sync.WaitGroup // the goroutine

	// Published: stored by the owner (status: under mail.mu, by anybody),
	// loaded by everybody. readable is stored after what it covers is in the
	// log and the log's end is published.
	readable atomic.Int64
	status   atomic.Pointer[status]
	// elected is the end of the log when this leadership began: what may have
	// been readable before it. Stored before the status that leads.
	elected atomic.Int64
	// quorum is whom the leader has to hear; nil: this replica does not lead.
	quorum atomic.Pointer[quorum]
	// streaming says that a session with the leader is open; cuts counts how often
	// records were cut that could be read here.
	streaming atomic.Bool
	cuts      atomic.Int64
	// lags is how far followers are behind, as of the last look at the clock; nil:
	// nobody is.
	lags atomic.Pointer[[]replica.Lag]
	// restless and behind are for those who look after many partitions.
	restless atomic.Bool
	behind   atomic.Int64
	waiters  waiters

	owner owner
}

// owner is the state that only the owner touches. Ownership passes under
// mail.mu, which orders the accesses.
type owner struct {
	core   replica.Leader
	follow replica.Follower
	up     Upstream // nil: nobody is followed
	ack    replica.Ack
	ackDue bool        // ack is to be sent, once the checkpoint below it is written
	inSync uint32      // replicas in sync when the leader commits, as far as was known when up was set
	limbo  *time.Timer // ends the wait of what a former leadership left; nil: none
	// limboCause is why it waits, limboEnds until when.
	limboCause error
	limboEnds  time.Duration
	// newer is the newest leader epoch that others have said there is, deposed
	// ends the wait for metadata that says so; nil: nothing is waited for.
	newer     record.LeaderEpoch
	deposed   *time.Timer
	deposedAt time.Duration
	// heldBack says that requests are left in the queue, leavingAt since when, and
	// askedAt when the controller was first asked for another leader, if it was.
	heldBack, asked    bool
	leavingAt, askedAt time.Duration
	feeds              []*Feed
	early              []early     // wishes for sessions in epochs that are not known yet
	earlyTimer         *time.Timer // ends their wait; nil: none waits
	audited            audited
	lagsDue            time.Duration // when lags are published next
	pending            queue         // written, not complete; offsets rise
	syncing            bool          // a sync is submitted and its end has not been taken
	closed             bool          // the log is closed
	// stale says that a checkpoint could not be written: nothing is published
	// until one is.
	stale bool
	// unsyncable says that the last sync could not be begun.
	unsyncable bool
	group      []*commitlog.Batch // scratch
	woken      []Waiter           // scratch
	// Room of what was taken last.
	roomFeeds   []*Feed
	roomArrived []arrival
}

// status is what changes rarely. It is immutable.
type status struct {
	leading bool
	leader  replica.ID
	epoch   record.LeaderEpoch
	inSync  int
	closed  bool
	failed  error // *FailedError
	damaged error // *QuarantinedError
	// follower says that this replica follows the leader and is in sync, as far
	// as the metadata says.
	follower bool
	// notLeader is the *NotLeaderError of a status that does not lead.
	notLeader error
}

// impaired returns why nothing can be read though the partition is open.
func (s *status) impaired() error {
	if s.failed != nil {
		return s.failed
	}
	if !s.leading {
		return s.notLeader
	}
	return nil
}

// unreadable returns why nothing can be read here, or nil.
func (s *status) unreadable() error {
	if s.closed {
		return ErrClosed
	}
	return s.impaired()
}

// unwritable returns why nothing is admitted here, or nil.
func (s *status) unwritable() error {
	if err := s.unreadable(); err != nil {
		return err
	}
	return s.damaged
}

// New returns a partition over an open log. It leads nothing before Lead, and
// starts nothing.
func New(o Options) *Partition {
	o = o.withDefaults()
	p := &Partition{
		log: o.Log, self: o.Self, flusher: o.Flusher, observer: o.Observer, logger: o.Logger,
		limits: o.Limits, idleAfter: o.IdleAfter, now: o.Now,
		lagMax: o.LagMax, uptime: o.Uptime, vouched: o.Vouched, away: o.Away, propose: o.Propose, impaired: o.Impaired, auditor: o.Auditor,
		wake: make(chan struct{}, 1),
	}
	p.owner.core = replica.New(o.Self)
	p.owner.follow = replica.NewFollower(o.Log, o.Sessions, followWindow)
	p.settings.Store(&o.Settings)
	s := &status{leader: replica.None, epoch: -1, notLeader: &NotLeaderError{Leader: replica.None, Epoch: -1}}
	if o.Damage != nil {
		s.damaged = &QuarantinedError{Cause: o.Damage}
	}
	p.status.Store(s)
	return p
}

// SetSettings changes the topic's settings for requests to come.
func (p *Partition) SetSettings(s Settings) { p.settings.Store(&s) }

// State returns the partition at a glance. It takes no lock.
func (p *Partition) State() State {
	s := p.status.Load()
	// In this order, so that LogStart ≤ HighWatermark ≤ End in what is returned:
	// each of them only grows.
	start := p.log.Start()
	readable := record.Offset(p.readable.Load())
	return State{
		LogStart: start, HighWatermark: max(start, readable), SyncedEnd: p.log.SyncedEnd(), End: p.log.End(),
		LeaderEpoch: s.epoch, Leader: s.leader, Leading: s.leading && s.unwritable() == nil, InSync: s.inSync,
		Bytes: p.log.Size(), Segments: p.log.Segments(), Offline: s.unwritable(),
	}
}

// Quarantined tells whether damage was found in the log.
func (p *Partition) Quarantined() bool { return p.status.Load().damaged != nil }

// Waiting returns how many readers wait at the tail, for metrics.
func (p *Partition) Waiting() int { return int(p.waiters.count.Load()) }

// Held returns how many requests are admitted and not complete, for metrics.
func (p *Partition) Held() int {
	p.mail.mu.Lock()
	defer p.mail.mu.Unlock()
	return p.mail.heldRequests
}

// Unsynced tells whether the log has records that are not on disk.
func (p *Partition) Unsynced() bool { return p.log.SyncedEnd() < p.log.End() }

// Fail ends the partition because the storage below it has failed for good:
// what is written and not acknowledged is answered ErrUnknownOutcome, what
// only waits *FailedError. Only Close is of use afterwards.
func (p *Partition) Fail(cause error) {
	failed := &FailedError{Cause: cause}
	m := &p.mail
	m.mu.Lock()
	changed := p.change(func(s *status) bool {
		if s.failed != nil || s.closed {
			return false
		}
		s.failed = failed
		return true
	})
	if changed {
		m.turnAway(failed)
		m.alarmed = true
		p.rouse()
	}
	m.mu.Unlock()
	if changed {
		p.logger.Error("partition failed", "err", cause)
		p.wakeAll()
	}
}

// quarantine notes damage that a reader or recovery found. It may be called
// by any goroutine.
func (p *Partition) quarantine(damage error) {
	damaged := &QuarantinedError{Cause: damage}
	m := &p.mail
	m.mu.Lock()
	changed := p.change(func(s *status) bool {
		if s.damaged != nil {
			return false
		}
		s.damaged = damaged
		return true
	})
	if changed {
		m.turnAway(damaged)
	}
	m.mu.Unlock()
	if changed {
		p.logger.Error("partition quarantined", "err", damage)
		p.observer.Quarantined(damage)
		p.wakeAll()
	}
}

// change publishes an altered copy of the status, if alter says so.
//
// REQUIRES: mail.mu is held.
func (p *Partition) change(alter func(*status) bool) bool {
	next := *p.status.Load()
	if !alter(&next) {
		return false
	}
	p.status.Store(&next)
	return true
}

// refusal returns why nothing is admitted, or nil.
//
// REQUIRES: mail.mu is held, so that nothing is admitted behind a change.
func (p *Partition) refusal() error { return p.status.Load().unwritable() }

// checkTime refuses create times that are too far ahead (rule F6).
func (p *Partition) checkTime(r *Request) error {
	s := p.settings.Load()
	if s.AppendTime || !r.Summary.HasTimestamp {
		return nil
	}
	now := p.now().UnixMilli()
	// WHY the sign: the difference to one far in the past would wrap.
	if at := r.Summary.MaxTimestampMs; at > 0 && at-now > s.MaxAheadMs {
		return &TimestampError{TimestampMs: r.Summary.MaxTimestampMs, NowMs: now, MaxAheadMs: s.MaxAheadMs}
	}
	return nil
}

// Close ends the partition: nothing more is admitted, what is queued is
// written and acknowledged, what is in memory is synced, readers are woken,
// the log is closed. It waits for all of that; after Fail it only answers.
// It returns the error of the last sync or of closing the log.
//
// It must not be called from Complete or Wake.
func (p *Partition) Close() error {
	m := &p.mail
	m.mu.Lock()
	changed := p.change(func(s *status) bool {
		was := s.closed
		s.closed = true
		return !was
	})
	if changed {
		m.turnAway(ErrClosed)
	}
	m.mu.Unlock()
	if !changed {
		return ErrClosed
	}
	p.wakeAll()
	var err error
	p.exclusively(func() { err = p.shut() })
	p.run.Wait()
	return err
}

// shut finishes what is there and closes the log.
//
// REQUIRES: the caller owns the partition.
func (p *Partition) shut() error {
	o := &p.owner
	p.awaitSync()
	if p.Unsynced() && p.writable() {
		p.sync()
		p.awaitSync()
	}
	p.abandon(ErrClosed) // what waits for others, or for a checkpoint
	p.sever(replica.Stopping)
	p.leaveLimbo()
	p.undeposed()
	o.closed = true
	var err error
	if s := p.status.Load(); s.failed != nil {
		err = s.failed
	}
	return errors.Join(err, p.log.Close())
}

// writable tells whether the log can still be written and synced.
//
// REQUIRES: the caller owns the partition.
func (p *Partition) writable() bool {
	return !p.owner.closed && p.status.Load().failed == nil && p.log.Failed() == nil && p.log.Withheld() == nil
}
