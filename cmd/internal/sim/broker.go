package sim

import (
	"slices"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

const (
	tickEvery      = 100 * time.Millisecond
	heartbeatEvery = 500 * time.Millisecond
	lagMax         = 3 * time.Second // the product has 10: runs are short
	lease          = time.Second
	window         = 2000 // bytes of credit
	pushEntries    = 8
)

// request is a producer's batch that waits for its acknowledgement.
type request struct {
	value uint64
	at    record.Offset
	done  func(at record.Offset, ok bool)
}

// outgoing is a session with a follower, and the stream that it is on.
type outgoing struct {
	stream  *stream
	session uint64
}

// broker is a machine with a disk, and on it a process that may be gone.
type broker struct {
	w    *world
	id   replica.ID
	time *clock
	log  *log // survives the process
	lost bool // the disk is new, and the controller does not know yet
	// rejoins says that the lost disk has not been in the ISR again.
	rejoins bool
	slow    time.Duration // the disk's syncs take that much longer
	poison  bool          // the next sync fails

	up          bool
	life        int // incarnation
	pausedUntil time.Duration
	dozes       time.Duration // for how long it is stranded, once it has asked its followers; 0: it is not

	// The process.
	epoch    int64 // of the broker; 0: not registered
	eligible bool
	failed   bool // the log directory
	record   partition
	lead     replica.Leader
	follow   replica.Follower
	in       *stream         // to the leader
	out      []outgoing      // by follower
	heard    []time.Duration // by follower: when it was asked what it has answered
	retryAt  time.Duration
	pending  []request
	held     []request // while it hands over
	syncing  bool
	shown    record.Offset // how far the checker has seen what may be read
}

func newBroker(w *world, id replica.ID) *broker {
	b := &broker{w: w, id: id, log: newLog(), time: newClock(w)}
	b.start()
	return b
}

// alive does something in the process, if it is still the one; a paused one
// does it when it goes on.
func (b *broker) alive(life int, do func()) {
	if !b.up || b.life != life {
		return
	}
	if b.pausedUntil > b.w.now {
		b.w.after(b.pausedUntil-b.w.now, func() { b.alive(life, do) })
		return
	}
	do()
}

// later does something in this process after a while.
func (b *broker) later(d time.Duration, do func()) {
	life := b.life
	b.w.after(d, func() { b.alive(life, do) })
}

// clock is what the process counts by.
func (b *broker) clock() time.Duration { return b.time.steady() }

// leaseClock is what it counts by how long ago a follower was heard.
func (b *broker) leaseClock() time.Duration {
	if b.w.mistake == LeaseByTimeOfDay {
		return b.time.timeOfDay()
	}
	return b.clock()
}

// start runs a new process on the disk as it is.
func (b *broker) start() {
	n := 16
	b.up, b.pausedUntil, b.dozes = true, 0, 0
	b.time.wake(b.w.now)
	b.life++
	b.epoch, b.failed, b.syncing = 0, false, false
	b.eligible = !b.lost && !b.log.torn
	if b.w.mistake != TrustPageCache {
		b.log.rewriteTail()
	}
	b.record, b.shown = partition{}, 0
	b.lead = replica.New(b.id)
	b.follow = replica.NewFollower(b.log, &replica.Sessions{}, window)
	b.in, b.out, b.heard, b.pending, b.held = nil, make([]outgoing, n), slices.Repeat([]time.Duration{replica.Never}, n), nil, nil
	b.w.say("broker %d starts: end %d, synced %d, eligible %v", b.id, b.log.End(), b.log.synced, b.eligible)
	b.later(b.w.between(10*time.Millisecond, 200*time.Millisecond), b.register)
	b.later(tickEvery, b.tick)
	b.sync() // what recovery has written again
}

// stop ends the process.
func (b *broker) stop() {
	if b.in != nil {
		b.in.tear()
	}
	for _, o := range b.out {
		if o.stream != nil {
			o.stream.tear()
		}
	}
	b.up = false
	b.life++
	b.pending, b.held = nil, nil // nobody will know
}

func (b *broker) register() {
	if b.epoch != 0 {
		return
	}
	life, eligible := b.life, b.eligible
	b.w.controller.call(b, 0, func(c *controller) func() {
		epoch := c.register(b, life, eligible)
		return func() {
			if b.epoch == 0 {
				b.epoch = epoch
				b.heartbeat()
			}
		}
	})
	b.later(heartbeatEvery, b.register)
}

// registeredLost is told when the controller has heard that what was on the
// disk cannot be counted on.
func (b *broker) registeredLost() { b.lost, b.log.torn = false, false }

func (b *broker) heartbeat() {
	h := heartbeat{epoch: b.epoch, failed: b.failed, last: b.log.LastEpoch(), end: b.log.End()}
	b.w.controller.call(b, 0, func(c *controller) func() {
		p := c.heartbeat(b, h)
		return func() { b.apply(p) }
	})
	b.later(heartbeatEvery, b.heartbeat)
}

// apply takes the record of the partition, if it is news.
func (b *broker) apply(p partition) {
	if b.epoch == 0 || p.revision < b.epoch || p.epoch <= b.record.epoch || b.failed {
		return
	}
	b.w.check.follows(b, p)
	b.record = p
	a := p.assignment()
	if replica.ID(p.Leader) == b.id {
		known := max(b.follow.HighWatermark(), b.log.committed())
		if b.lead.Epoch() < a.Epoch {
			known = max(known, b.lead.HighWatermark())
		}
		if e := b.lead.Lead(a, b.log.progress(), known); !e.Fenced {
			b.w.say("broker %d leads in epoch %d from %d, high watermark %d", b.id, a.Epoch, b.log.End(), e.HighWatermark)
			b.effects(b.follow.Stop(a.Epoch))
			b.w.check.leads(b)
			b.settle(e)
			return
		}
		if e := b.lead.Confirm(a); !e.Fenced {
			b.settle(e)
		}
		return
	}
	b.resign(a.Epoch)
	if p.Leader < 0 {
		b.effects(b.follow.Stop(a.Epoch))
		return
	}
	known := max(b.lead.HighWatermark(), b.log.committed())
	b.effects(b.follow.Follow(a, replica.ID(p.Leader), b.log.progress(), known))
	b.connect()
}

// deposedFor is how long a leader that has heard of a newer epoch waits for the
// record that says so.
const deposedFor = time.Second

// heardOf has a leader resign that hears of a newer epoch from a follower, and
// not from the controllers.
func (b *broker) heardOf(epoch record.LeaderEpoch) {
	if !b.lead.Leading() || epoch <= b.lead.Epoch() {
		return
	}
	b.later(deposedFor, func() {
		if b.lead.Leading() && epoch > b.lead.Epoch() {
			b.w.say("broker %d gives up: there is an epoch %d", b.id, epoch)
			b.resign(b.lead.Epoch())
		}
	})
}

// resign answers what waits: nobody knows what becomes of it.
func (b *broker) resign(epoch record.LeaderEpoch) {
	b.lead.Resign(epoch)
	for _, r := range slices.Concat(b.pending, b.held) {
		r.done(0, false)
	}
	b.pending, b.held = nil, nil
	clear(b.out)
}

// tick is what a broker does by the clock.
func (b *broker) tick() {
	b.later(time.Duration(float64(tickEvery)/b.time.rate), b.tick)
	if p, ok := b.lead.Tick(b.clock(), lagMax, nil); ok && !b.failed {
		b.propose(p)
	}
	b.retain()
	b.handOver()
	b.pump()
	b.connect()
	b.w.check.shows(b)
	for _, o := range b.out {
		if s := o.stream; s != nil {
			sent := b.leaseClock()
			s.down(func() { s.follower.ping(s, sent) })
		}
	}
	if b.w.durability == replica.Memory && b.w.roll(10) == 0 {
		b.sync()
	}
	if b.dozes > 0 {
		b.w.nemesis.doze(b)
	}
}

// ping answers a leader.
func (b *broker) ping(s *stream, sent time.Duration) {
	if b.in == s {
		s.up(func() { s.leader.answered(b.id, s, sent) })
	}
}

// answered notes when a follower was asked what it has answered.
func (b *broker) answered(from replica.ID, s *stream, sent time.Duration) {
	if b.w.mistake == HeardWhenAnswered {
		sent = b.leaseClock()
	}
	if b.out[from].stream == s {
		b.heard[from] = sent
	}
}

// handOver goes on with handing over, and takes again what was held if that has
// come to nothing.
func (b *broker) handOver() {
	if p, ok := b.lead.HandOver(b.clock(), len(b.pending) == 0); ok && !b.failed {
		b.propose(p)
	}
	if b.lead.Leaving() {
		return
	}
	held := b.held
	b.held = nil
	for _, r := range held {
		b.produce(r)
	}
}

func (b *broker) propose(p replica.Proposal) {
	b.w.say("broker %d proposes %v at partition epoch %d, hand over %v", b.id, p.InSync, p.PartitionEpoch, p.HandOver)
	late := b.w.nemesis.delayProposal(b, p)
	b.w.controller.call(b, late, func(c *controller) func() {
		next, ok := c.alter(b, p)
		return func() {
			if !ok {
				if p.HandOver {
					return
				}
				b.settle(b.lead.Refused(p.PartitionEpoch))
				return
			}
			b.apply(next)
		}
	})
}

// sync brings the log to the disk, once at a time.
func (b *broker) sync() {
	if b.syncing || b.failed || b.log.synced >= b.log.End() {
		return
	}
	b.syncing = true
	to, cuts := b.log.End(), b.log.cuts
	b.later(b.w.between(500*time.Microsecond, 8*time.Millisecond)+b.slow, func() {
		b.syncing = false
		if b.poison {
			b.poison = false
			b.log.doomed = min(b.log.doomed, b.log.synced)
			b.w.say("broker %d: sync failed at %d", b.id, b.log.synced)
			if b.w.mistake != RetrySync {
				b.fail()
				return
			}
		}
		if b.log.cuts == cuts {
			b.log.synced = max(b.log.synced, to)
		}
		b.advanced()
		b.sync()
	})
}

// advanced tells the cores how far the log is.
func (b *broker) advanced() {
	own := b.log.progress()
	if b.lead.Leading() {
		b.settle(b.lead.Advance(b.id, b.lead.Epoch(), own))
		return
	}
	b.effects(b.follow.Synced(own))
}

// fail is the end of a log directory: nothing is acked any more. At some time
// the process or the machine is restarted.
func (b *broker) fail() {
	b.failed = true
	b.resign(b.lead.Epoch())
	b.effects(b.follow.Stop(b.follow.Epoch()))
	restart := b.w.nemesis.power
	if b.w.roll(2) == 0 {
		restart = b.w.nemesis.kill
	}
	b.later(b.w.between(0, 4*time.Second), func() { restart(b) })
}

// torn notices the end of a stream.
func (b *broker) torn(s *stream) {
	if b.in == s {
		b.in = nil
		b.follow.Disconnect()
		b.retry()
	}
	for id, o := range b.out {
		if o.stream == s {
			b.out[id] = outgoing{}
			b.lead.Close(replica.ID(id), o.session)
		}
	}
}

func (b *broker) retry() {
	b.retryAt = b.w.now + b.w.between(50*time.Millisecond, 400*time.Millisecond)
}
