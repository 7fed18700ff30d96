package sim

import (
	"slices"
	"time"

	"github.com/millstream-io/millstream/controller/election"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/record"
)

const sessionTimeout = 2 * time.Second

// partition is the record of the partition, as the metadata has it.
type partition struct {
	election.Partition
	epoch      int32
	revision   int64 // of the metadata that it was read from
	durability replica.Durability
	successor  int32         // whom the leader is to hand over to; 0: nobody
	wishedAt   time.Duration // when that was asked
	handedOver bool          // the leader was changed by the wish of the one before
}

const (
	// wishPatience is how long the controller waits for a leader to hand over.
	wishPatience = 1500 * time.Millisecond
	// wishChance is that of a wish each time that the controller ticks: one in so
	// many.
	wishChance = 12
)

func (p partition) assignment() replica.Assignment {
	return replica.Assignment{
		Epoch: record.LeaderEpoch(p.LeaderEpoch), PartitionEpoch: p.epoch, Replicas: ids(p.Replicas),
		InSync: ids(p.ISR), MinInSync: p.MinISR, Durability: p.durability,
		HandsOver: p.successor > 0, Successor: replica.ID(p.successor),
	}
}

// trusted are the brokers that may lead: they have everything acknowledged.
func (p partition) trusted() []replica.ID { return ids(slices.Concat(p.ISR, p.ELR)) }

func ids(in []int32) []replica.ID {
	out := make([]replica.ID, len(in))
	for i, id := range in {
		out[i] = replica.ID(id)
	}
	return out
}

// heartbeat is what a broker says of itself.
type heartbeat struct {
	epoch  int64
	failed bool
	last   record.LeaderEpoch // of its log
	end    record.Offset
}

// registration is a broker as the controller knows it.
type registration struct {
	epoch     int64
	life      int // of the process that it was given to
	unfenced  bool
	failed    bool
	heardAt   time.Duration // on the controller's clock
	trulyAt   time.Duration // the same, for the checker
	recovered bool          // it has said what its log has, in this epoch
	heartbeat
}

// controller is the active controller and the metadata. That there is one at a
// time is not in question here.
type controller struct {
	w        *world
	time     *clock
	away     time.Duration // until then it hears nothing
	backAt   time.Duration // when it was away last, on its own clock
	trulyAt  time.Duration // the same, for the checker
	stale    int           // how often it has refused who is gone
	revision int64
	p        partition
	brokers  []registration // by id
}

func newController(w *world) *controller {
	c := &controller{w: w, revision: 1, time: newClock(w), brokers: make([]registration, len(w.brokers)+1)}
	c.p = partition{durability: w.durability, epoch: 1}
	c.p.Leader, c.p.MinISR = election.NoLeader, w.minISR
	for i := range w.brokers {
		c.p.Replicas = append(c.p.Replicas, int32(i+1))
	}
	c.p.ISR = slices.Clone(c.p.Replicas)
	w.after(0, c.tick)
	return c
}

// call asks the controller. ask returns what the broker does with the answer.
// Either way a message may be lost, and then nobody does anything.
func (c *controller) call(b *broker, late time.Duration, ask func(*controller) func()) {
	life := b.life
	c.w.net.send(b.id, 0, late, func() {
		if c.away > c.w.now {
			return
		}
		answer := ask(c)
		c.w.net.send(0, b.id, 0, func() { b.alive(life, answer) })
	})
}

// clock is what it counts silence by.
func (c *controller) clock() time.Duration {
	if c.w.mistake == SessionsByTimeOfDay {
		return c.time.timeOfDay()
	}
	return c.time.steady()
}

// register makes an incarnation known, and bumps the leader epoch of what the
// one before led (rule H6). What it had counts only if it may be counted on
// (rule H4).
func (c *controller) register(b *broker, life int, eligible bool) int64 {
	r := &c.brokers[b.id]
	if life < r.life {
		return 0 // a late call of a dead process
	}
	if r.life == life {
		return r.epoch
	}
	c.revision++
	*r = registration{epoch: c.revision, life: life, heardAt: c.clock(), trulyAt: c.w.now}
	c.w.say("controller: broker %d registers, epoch %d, eligible %v", b.id, r.epoch, eligible)
	next := c.p.Partition
	if !eligible {
		b.registeredLost()
		next, _ = election.Distrust(next, int32(b.id))
	}
	if next.Leader == int32(b.id) {
		next.Leader = election.NoLeader
		next.LeaderEpoch++
	}
	c.elect(next)
	return r.epoch
}

func (c *controller) heartbeat(b *broker, h heartbeat) partition {
	r := &c.brokers[b.id]
	if h.epoch != r.epoch {
		return c.read()
	}
	r.heardAt, r.trulyAt, r.heartbeat, r.recovered = c.clock(), c.w.now, h, true
	if !r.unfenced || r.failed != h.failed {
		r.unfenced, r.failed = true, h.failed
		c.w.say("controller: broker %d is unfenced, failed %v", b.id, h.failed)
		c.elect(c.p.Partition)
	}
	return c.read()
}

// alter takes another ISR from the leader, by compare-and-set.
func (c *controller) alter(b *broker, p replica.Proposal) (partition, bool) {
	if c.p.Leader != int32(b.id) || c.p.LeaderEpoch != int32(p.Epoch) || c.p.epoch != p.PartitionEpoch {
		return c.read(), false
	}
	if p.HandOver {
		return c.handOver(b)
	}
	next := c.p.Partition
	next.ISR = nil
	for _, m := range p.InSync {
		id := int32(m.ID)
		known := &c.brokers[id]
		member := slices.Contains(c.p.ISR, id)
		switch {
		case m.BrokerEpoch != 0 && m.BrokerEpoch != known.epoch && c.w.mistake != NoBrokerEpoch:
			c.stale++
			c.w.say("controller: no to %v: broker %d is another by now (stale broker epoch)", p.InSync, id)
			return c.read(), false
		case m.BrokerEpoch == 0 && !member && m.ID != b.id, !member && c.standing(id) != election.Serving:
			c.w.say("controller: no to %v", p.InSync)
			return c.read(), false
		}
		next.ISR = append(next.ISR, id)
	}
	in := func(id int32) bool { return slices.Contains(next.ISR, id) }
	if len(next.ISR) >= next.MinISR {
		next.ELR, next.LastKnown = nil, nil // from here on records are acknowledged without them
	} else {
		for _, id := range c.p.ISR {
			if !slices.Contains(next.ELR, id) {
				next.ELR = append(slices.Clone(next.ELR), id)
			}
		}
		next.ELR = slices.DeleteFunc(slices.Clone(next.ELR), in)
		next.LastKnown = slices.DeleteFunc(slices.Clone(next.LastKnown), in)
	}
	c.put(next)
	c.w.check.joined(c.p)
	c.elect(c.p.Partition)
	return c.read(), true
}

// wish asks the leader now and then to hand over, and takes that back when it
// takes long.
func (c *controller) wish() {
	p := &c.p
	switch {
	case p.successor > 0:
		if c.w.now-p.wishedAt > wishPatience {
			c.w.say("controller: broker %d does not hand over", p.Leader)
			p.successor = 0
			c.put(p.Partition)
		}
	case !c.w.calm && p.Leader > 0 && c.standing(p.Leader) == election.Serving && c.w.roll(wishChance) == 0:
		if id := p.ISR[c.w.roll(len(p.ISR))]; id != p.Leader && c.standing(id) == election.Serving {
			p.successor, p.wishedAt = id, c.w.now
			c.put(p.Partition)
		}
	}
}

// handOver lets the successor lead, at the wish of the leader.
func (c *controller) handOver(b *broker) (partition, bool) {
	next := c.p.successor
	if next == 0 || c.standing(next) != election.Serving {
		return c.read(), false
	}
	c.w.check.handsOver(b, c.w.broker(replica.ID(next)))
	c.put(election.Succeed(c.p.Partition, next))
	c.p.handedOver = true
	return c.read(), true
}

// read returns the record as of now.
func (c *controller) read() partition {
	p := c.p
	p.revision = c.revision
	return p
}

func (c *controller) standing(id int32) election.Standing {
	if r := &c.brokers[id]; !r.unfenced || r.failed {
		return election.Gone
	}
	return election.Serving
}

// elect makes of the partition what it should be, and tells it.
func (c *controller) elect(p election.Partition) {
	next, _ := election.Next(p, c.standing)
	next, recovered := c.recover(next)
	if recovered {
		next, _ = election.Next(next, c.standing)
	}
	if next.Leader != c.p.Leader || next.LeaderEpoch != c.p.LeaderEpoch || !slices.Equal(next.ISR, c.p.ISR) ||
		!slices.Equal(next.ELR, c.p.ELR) || !slices.Equal(next.LastKnown, c.p.LastKnown) {
		c.put(next)
	}
}

// recover lets the replica with the greatest log lead when nobody can be
// trusted and all who once had everything have said what they have (rule H4).
func (c *controller) recover(p election.Partition) (election.Partition, bool) {
	if len(p.ISR) > 0 || len(p.ELR) > 0 || len(p.LastKnown) == 0 {
		return p, false
	}
	best := p.LastKnown[0]
	for _, id := range p.LastKnown {
		r, b := &c.brokers[id], &c.brokers[best]
		if !r.recovered || c.standing(id) != election.Serving {
			return p, false
		}
		if r.last > b.last || r.last == b.last && r.end > b.end {
			best = id
		}
	}
	c.w.say("controller: broker %d has the greatest log of %v", best, p.LastKnown)
	p.ISR = []int32{best}
	p.LastKnown = slices.DeleteFunc(slices.Clone(p.LastKnown), func(id int32) bool { return id == best })
	return p, true
}

// put writes the record and sends it to all.
func (c *controller) put(p election.Partition) {
	c.revision++
	if p.LeaderEpoch != c.p.LeaderEpoch || !slices.Contains(p.ISR, c.p.successor) {
		c.p.handedOver = c.p.handedOver && p.LeaderEpoch == c.p.LeaderEpoch
		c.p.successor = 0
	}
	c.p.Partition = p
	c.p.epoch++
	c.w.say("controller: partition epoch %d: leader %d in epoch %d, successor %d, ISR %v, ELR %v, last known %v",
		c.p.epoch, p.Leader, p.LeaderEpoch, c.p.successor, p.ISR, p.ELR, p.LastKnown)
	c.w.check.holders("a new record")
	for _, b := range c.w.brokers {
		life, p := b.life, c.read()
		c.w.net.send(0, b.id, 0, func() { b.alive(life, func() { b.apply(p) }) })
	}
}

// tick fences who is silent, counting only while it listened itself.
func (c *controller) tick() {
	c.w.after(200*time.Millisecond, c.tick)
	if c.away > c.w.now {
		c.backAt, c.trulyAt = c.clock(), c.w.now
		return
	}
	c.wish()
	for id := 1; id < len(c.brokers); id++ {
		r := &c.brokers[id]
		if r.unfenced && c.clock()-max(r.heardAt, c.backAt) > sessionTimeout {
			c.w.check.fences(id, max(r.trulyAt, c.trulyAt))
			r.unfenced, r.recovered = false, false
			c.w.say("controller: broker %d is fenced", id)
			c.elect(c.p.Partition)
		}
	}
}
