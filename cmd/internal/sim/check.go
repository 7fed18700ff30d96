package sim

import (
	"slices"
	"time"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

// checker looks at everything at once, as nobody in a cluster can.
//
// INVARIANT: every member of the ISR and the ELR has every acknowledged record
// at its place, at the durability promised. So has the leader of the newest
// epoch when it begins, and so had the newest leader what an older one acknowledges.
// INVARIANT: one broker acknowledges in a leader epoch.
// INVARIANT: an offset that was read, acknowledged, or could be read from any
// replica has one value for ever, a value one offset. So replicas are equal
// below what they know of the high watermark.
// INVARIANT: a leader that is handing over, and is followed at its own wish, has
// nothing in flight: its successor begins with all that it ever had.
// INVARIANT: who says that it is fresh, or that it may serve what it has, has
// not been overtaken a lease ago.
// INVARIANT: who is fenced was silent for a session.
type checker struct {
	w     *world
	acked []uint64 // value by offset; 0: not acknowledged
	// deleted is the greatest log start that a leader decided on: what is below
	// is owed to nobody.
	deleted record.Offset
	seen    []uint64 // value by offset; 0: not read
	count   int
	at      map[uint64]int       // where a value was read or acknowledged
	acker   map[int32]replica.ID // by leader epoch
	newest  struct {             // the newest leader
		b     *broker
		life  int
		epoch record.LeaderEpoch
	}
	firsts     []first // of the epochs that acknowledged something, in order
	handedOver int
}

// first is the first acknowledgement of an epoch later than all before it.
type first struct {
	epoch record.LeaderEpoch
	at    time.Duration
	awake []time.Duration // by broker, from 0: how long its machine was awake until then
}

// noteFirst notes the first acknowledgement of an epoch.
func (c *checker) noteFirst(epoch record.LeaderEpoch) {
	if n := len(c.firsts); n > 0 && c.firsts[n-1].epoch >= epoch {
		return
	}
	f := first{epoch: epoch, at: c.w.now}
	for _, b := range c.w.brokers {
		f.awake = append(f.awake, b.time.wasAwake())
	}
	c.firsts = append(c.firsts, f)
}

// acks checks an acknowledgement before anybody hears of it.
func (c *checker) acks(b *broker, r request) {
	epoch := b.lead.Epoch()
	c.w.say("broker %d acks %x at %d in epoch %d", b.id, r.value, r.at, epoch)
	c.count++
	if other, ok := c.acker[int32(epoch)]; ok && other != b.id {
		c.w.fail("brokers %d and %d acknowledge in epoch %d", other, b.id, epoch)
	}
	c.acker[int32(epoch)] = b.id
	c.noteFirst(epoch)
	c.settled(&c.acked, r.at, r.value)
	c.holds("acknowledging", r.at)
	if n := &c.newest; n.epoch > epoch && n.b.life == n.life && n.b.lead.Epoch() == n.epoch {
		if r.at >= c.deleted && !n.b.log.has(r.at, r.value) {
			c.w.fail("broker %d of epoch %d acknowledges %d, which the leader of epoch %d has not", b.id, epoch, r.at, n.epoch)
		}
	}
}

// reads checks what is delivered.
func (c *checker) reads(b *broker, at record.Offset, value uint64) {
	if at < record.Offset(len(c.seen)) && c.seen[at] != 0 && c.seen[at] != value {
		c.w.fail("broker %d delivers %x at %d, where %x was before", b.id, value, at, c.seen[at])
	}
	c.settled(&c.seen, at, value)
}

// shows checks what a replica may deliver by now.
func (c *checker) shows(b *broker) {
	end := b.follow.ReadableEnd()
	if b.lead.Leading() {
		end = b.lead.ReadableEnd()
	}
	for b.shown = max(b.shown, b.log.start); b.shown < min(end, b.log.End()); b.shown++ {
		c.reads(b, b.shown, b.log.entries[b.shown].value)
	}
}

// settled notes that a value stands at an offset.
func (c *checker) settled(of *[]uint64, at record.Offset, value uint64) {
	for int(at) >= len(*of) {
		*of = append(*of, 0)
	}
	(*of)[at] = value
	for _, known := range [][]uint64{c.acked, c.seen} {
		if int(at) < len(known) && known[at] != 0 && known[at] != value {
			c.w.fail("offset %d has two values, %x and %x", at, known[at], value)
		}
	}
	if old, ok := c.at[value]; ok && old != int(at) {
		c.w.fail("%x stands at %d and at %d", value, old, at)
	}
	c.at[value] = int(at)
}

// holds checks one acknowledged record on all who may lead.
func (c *checker) holds(when string, at record.Offset) {
	for _, id := range c.w.controller.p.trusted() {
		c.hold(when, c.w.broker(id), at)
	}
}

// holders checks all acknowledged records on all who may lead.
func (c *checker) holders(when string) {
	for _, id := range c.w.controller.p.trusted() {
		for at := range c.acked {
			if c.hold(when, c.w.broker(id), record.Offset(at)); c.w.failed != nil {
				return
			}
		}
	}
}

func (c *checker) hold(when string, b *broker, at record.Offset) {
	if b.lost || c.acked[at] == 0 || at < c.deleted {
		return
	}
	if !b.log.has(at, c.acked[at]) {
		c.w.fail("%s: broker %d may lead and has not the acknowledged record at %d", when, b.id, at)
	} else if b.log.holds(c.w.durability) <= at {
		c.w.fail("%s: broker %d may lead and has the acknowledged record at %d only in memory", when, b.id, at)
	}
}

// joined checks a changed ISR.
func (c *checker) joined(p partition) {
	for _, id := range ids(p.ISR) {
		if b := c.w.broker(id); !b.lost {
			b.rejoins = false
		}
	}
}

// leads checks a new leader.
func (c *checker) leads(b *broker) {
	epoch := b.lead.Epoch()
	if int32(epoch) < c.w.controller.p.LeaderEpoch {
		return // it does not know yet that it has been replaced, and will ack nothing more
	}
	c.newest.b, c.newest.life, c.newest.epoch = b, b.life, epoch
	for at, value := range c.acked {
		if at := record.Offset(at); value != 0 && at >= c.deleted && !b.log.has(at, value) {
			c.w.fail("broker %d leads in epoch %d without the acknowledged record at %d", b.id, epoch, at)
			return
		}
	}
}

// handsOver checks a leader that is about to be followed by whom it hands over
// to. One that has given up, and is followed all the same, is none.
func (c *checker) handsOver(b, successor *broker) {
	c.handedOver++
	if !b.up || !b.lead.Leaving() || int32(b.lead.Epoch()) != c.w.controller.p.LeaderEpoch {
		return
	}
	c.nothingInFlight(b)
	if !successor.lost && successor.log.End() != b.log.End() {
		c.w.fail("broker %d hands over %d records, and broker %d has %d", b.id, b.log.End(), successor.id, successor.log.End())
	}
}

// follows checks a leader that hears of another.
func (c *checker) follows(b *broker, p partition) {
	if p.handedOver && b.lead.Leaving() && p.LeaderEpoch == int32(b.lead.Epoch())+1 {
		c.nothingInFlight(b)
	}
}

func (c *checker) nothingInFlight(b *broker) {
	if len(b.pending) > 0 {
		c.w.fail("broker %d hands over with %d records in flight in epoch %d", b.id, len(b.pending), b.lead.Epoch())
	}
}

// rounded is what is lost where a clock that drifts is computed.
const rounded = time.Microsecond

// truly is how long a clock of that rate takes to show d.
func truly(d time.Duration, rate float64) time.Duration {
	return time.Duration(float64(d)/rate) + rounded
}

// fresh checks that nobody acknowledged in a later epoch longer ago than a
// lease, as the slowest clock counts it, and but for the time in which the
// machine itself has slept. Nothing is added for the clocks of the others: the
// leader compares its own with its own.
func (c *checker) fresh(b *broker) {
	for _, f := range c.firsts {
		if f.epoch <= b.lead.Epoch() {
			continue
		}
		if awake := b.time.wasAwake() - f.awake[b.id-1]; awake > truly(lease, 1-mostDrift) {
			c.w.fail("broker %d of epoch %d says that it is fresh, %v after epoch %d acknowledged, of which it was awake for %v",
				b.id, b.lead.Epoch(), c.w.now-f.at, f.epoch, awake)
		}
		return
	}
}

// fences checks that a broker which the controller fences was silent, for a
// session as the fastest clock counts it.
func (c *checker) fences(id int, since time.Duration) {
	if silent := c.w.now - since; silent+2*rounded < truly(sessionTimeout, 1+mostDrift) {
		c.w.fail("broker %d is fenced, which was heard %v ago", id, silent)
	}
}

// converged tells why the cluster is not yet as it should be without faults.
func (c *checker) converged() string {
	p := c.w.controller.p
	if p.Leader < 0 {
		return "nobody leads"
	}
	l := c.w.broker(replica.ID(p.Leader))
	switch {
	case !l.up || !l.lead.Leading() || int32(l.lead.Epoch()) != p.LeaderEpoch:
		return "the leader does not lead"
	case len(p.ISR) < len(p.Replicas):
		return "not all are in sync"
	case l.lead.HighWatermark() < l.log.End() || !l.lead.KnowsEnd():
		return "not all is committed"
	}
	for _, b := range c.w.brokers {
		if b.log.End() != l.log.End() || !slices.Equal(b.log.entries[c.deleted:], l.log.entries[c.deleted:]) {
			return "the logs differ"
		}
		if b != l && b.follow.ReadableEnd() != l.lead.HighWatermark() {
			return "a follower does not know the high watermark"
		}
	}
	return ""
}
