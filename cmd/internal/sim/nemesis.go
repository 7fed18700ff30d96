package sim

import (
	"time"

	"github.com/millstream-io/millstream/server/replica"
)

// nemesis makes the faults.
type nemesis struct{ w *world }

// faults are drawn with equal chance: what is here twice is twice as likely.
var faults = []func(*nemesis, *broker){
	(*nemesis).kill, (*nemesis).kill, (*nemesis).power, (*nemesis).blackout, (*nemesis).pause, (*nemesis).pause,
	(*nemesis).cutOne, (*nemesis).cutOne, (*nemesis).isolate, (*nemesis).breakStreams, (*nemesis).slowDisk,
	(*nemesis).poisonSync, (*nemesis).wipe, (*nemesis).deafController, (*nemesis).slowNetwork, (*nemesis).deposeLeader,
	(*nemesis).setClock, (*nemesis).setClock, (*nemesis).drift, (*nemesis).sleep, (*nemesis).strand, (*nemesis).strand,
}

// strike makes a fault now, and another later, until there is calm.
func (n *nemesis) strike() {
	if n.w.calm {
		return
	}
	n.w.after(n.w.between(100*time.Millisecond, 2500*time.Millisecond), n.strike)
	b := n.w.brokers[n.w.roll(len(n.w.brokers))]
	if leader := n.w.controller.p.Leader; leader > 0 && n.w.roll(3) == 0 {
		b = n.w.broker(replica.ID(leader))
	}
	faults[n.w.roll(len(faults))](n, b)
}

// kill ends the process; the page cache stays.
func (n *nemesis) kill(b *broker) { n.down(b, "is killed", func() {}) }

// power restarts the machine. What only memory held is gone, so that it does
// not happen where memory is what was promised.
func (n *nemesis) power(b *broker) {
	if n.w.durability == replica.Memory && !b.failed {
		return
	}
	n.down(b, "loses power", func() {
		b.time.boot()
		b.log.losePower(n.w)
	})
}

func (n *nemesis) blackout(*broker) {
	if n.w.durability == replica.Memory {
		return
	}
	for _, b := range n.w.brokers {
		n.power(b)
	}
}

// wipe gives a broker a new disk, if the promise survives that.
func (n *nemesis) wipe(b *broker) {
	if p := n.w.controller.p; n.mayLoseDisk() && len(p.ISR) == len(p.Replicas) {
		n.replaceDisk(b, n.w.between(100*time.Millisecond, 3*time.Second))
	}
}

// mayLoseDisk: one at a time, and only if acknowledged records are on two.
func (n *nemesis) mayLoseDisk() bool {
	for _, b := range n.w.brokers {
		if b.rejoins || b.lost {
			return false
		}
	}
	return n.w.minISR > 1 && !n.w.calm
}

func (n *nemesis) replaceDisk(b *broker, down time.Duration) {
	n.w.say("broker %d loses its disk", b.id)
	if b.up {
		b.stop()
	}
	// The old process never writes to the new disk.
	b.log, b.lost, b.rejoins = newLog(), true, true
	n.restart(b, down)
}

func (n *nemesis) down(b *broker, what string, lose func()) {
	if !b.up {
		return
	}
	n.w.say("broker %d %s", b.id, what)
	b.stop()
	lose()
	n.w.check.holders("after " + what)
	n.restart(b, n.w.between(50*time.Millisecond, 4*time.Second))
}

func (n *nemesis) restart(b *broker, d time.Duration) {
	life := b.life
	n.w.after(d, func() {
		if !b.up && b.life == life {
			b.start()
		}
	})
}

func (n *nemesis) pause(b *broker) {
	d := n.w.between(50*time.Millisecond, 4*time.Second)
	n.w.say("broker %d pauses for %v", b.id, d)
	b.pausedUntil = max(b.pausedUntil, n.w.now+d)
}

// sleep pauses a machine, as when it is moved: when it goes on, its clocks
// know nothing of that.
func (n *nemesis) sleep(b *broker) {
	d := n.w.between(50*time.Millisecond, 6*time.Second)
	n.w.say("the machine of broker %d sleeps for %v", b.id, d)
	b.pausedUntil = max(b.pausedUntil, n.w.now+d)
	b.time.sleep(d)
}

// setClock sets the time of day somewhere, to what may be nonsense.
func (n *nemesis) setClock(b *broker) {
	what, c := "broker", b.time
	if n.w.roll(3) == 0 {
		what, c = "the controller instead of broker", n.w.controller.time
	}
	n.setTo(c, what, b.id)
}

func (n *nemesis) setTo(c *clock, what string, id replica.ID) {
	to := []time.Duration{c.timeOfDay() + time.Hour, c.timeOfDay() - time.Hour, y2100, 0, today}[n.w.roll(5)]
	n.w.say("the time of day of %s %d is set to %v", what, id, to)
	c.set(to)
}

// drift changes the rate of a clock.
func (n *nemesis) drift(b *broker) {
	what, c := "broker", b.time
	if n.w.roll(4) == 0 {
		what, c = "the controller instead of broker", n.w.controller.time
	}
	c.drift()
	n.w.say("the clock of %s %d goes at %.3f", what, b.id, c.rate)
}

// strand takes a leader out of the world, whose time of day somebody sets
// meanwhile, and which does not notice: nothing tells it that a stream is dead.
func (n *nemesis) strand(*broker) {
	leader := n.w.controller.p.Leader
	if leader < 0 {
		return
	}
	b := n.w.broker(replica.ID(leader))
	n.w.net.numb[b.id] = true
	d := n.w.between(2*time.Second, 7*time.Second)
	if n.w.roll(2) == 0 {
		b.dozes = d
		return
	}
	n.isolateFor(b, d)
	n.w.after(n.w.between(0, time.Second), func() { n.setTo(b.time, "broker", b.id) })
	n.w.after(d, func() { n.w.net.numb[b.id] = false })
}

// cutOne cuts a link between two nodes in one direction, the controller's too.
func (n *nemesis) cutOne(b *broker) {
	n.cut(b.id, replica.ID(n.w.roll(len(n.w.brokers)+1)), n.w.between(100*time.Millisecond, 5*time.Second))
}

func (n *nemesis) cut(from, to replica.ID, d time.Duration) {
	if n.w.roll(2) == 0 {
		from, to = to, from
	}
	n.w.say("nothing comes from %d to %d for %v", from, to, d)
	n.w.net.cut[from][to] = true
	n.w.after(d, func() { n.w.net.cut[from][to] = false })
}

func (n *nemesis) isolate(b *broker) {
	n.isolateFor(b, n.w.between(100*time.Millisecond, 5*time.Second))
}

func (n *nemesis) isolateFor(b *broker, d time.Duration) {
	n.w.say("broker %d is alone for %v", b.id, d)
	for id := range n.w.net.cut {
		n.w.net.cut[b.id][id], n.w.net.cut[id][b.id] = true, true
	}
	n.w.after(d, func() {
		for id := range n.w.net.cut {
			n.w.net.cut[b.id][id], n.w.net.cut[id][b.id] = false, false
		}
	})
}

// deposeLeader hides the leader from the controller, and from nobody else.
func (n *nemesis) deposeLeader(*broker) {
	leader := n.w.controller.p.Leader
	if leader < 0 {
		return
	}
	d := n.w.between(2*time.Second, 6*time.Second)
	n.w.say("the controller hears nothing of broker %d for %v, nor it of the controller", leader, d)
	n.w.net.cut[leader][0], n.w.net.cut[0][leader] = true, true
	n.w.after(d, func() { n.w.net.cut[leader][0], n.w.net.cut[0][leader] = false, false })
}

// doze pauses a process that has just asked its followers something, and cuts it
// off once they have answered: it finds the answers when it goes on, long after
// they were given, and nothing else.
func (n *nemesis) doze(b *broker) {
	d, life := b.dozes, b.life
	b.dozes = 0
	n.w.say("broker %d pauses for %v, and nobody can reach it when it goes on", b.id, d)
	b.pausedUntil = max(b.pausedUntil, n.w.now+d)
	n.w.after(10*time.Millisecond, func() {
		if b.life == life {
			n.isolateFor(b, d+time.Second)
		}
	})
	n.w.after(d+time.Second, func() { n.w.net.numb[b.id] = false })
}

func (n *nemesis) breakStreams(b *broker) {
	n.w.say("the streams of broker %d break", b.id)
	if b.in != nil {
		b.in.tear()
	}
	for _, s := range b.out {
		if s.stream != nil {
			s.stream.tear()
		}
	}
}

func (n *nemesis) slowDisk(b *broker) {
	slow, d := n.w.between(50*time.Millisecond, time.Second), n.w.between(time.Second, 6*time.Second)
	n.w.say("the disk of broker %d takes %v more for %v", b.id, slow, d)
	b.slow = slow
	n.w.after(d, func() { b.slow = 0 })
}

func (n *nemesis) poisonSync(b *broker) {
	if n.w.durability == replica.Disk {
		b.poison = true
	}
}

func (n *nemesis) deafController(*broker) {
	d := n.w.between(time.Second, 4*time.Second)
	n.w.say("the controller is away for %v", d)
	n.w.controller.away = n.w.now + d
}

func (n *nemesis) slowNetwork(*broker) {
	slow, d := n.w.between(5*time.Millisecond, 200*time.Millisecond), n.w.between(500*time.Millisecond, 4*time.Second)
	n.w.say("everything takes %v more for %v", slow, d)
	n.w.net.slow = slow
	n.w.after(d, func() { n.w.net.slow = 0 })
}

// delayProposal lets some proposals come late. Of a replica that is to join it
// may be that its disk is replaced meanwhile (KIP-903): nothing was promised of
// that one yet. When the proposal has come, its leader may be killed: whoever is
// in sync then leads.
func (n *nemesis) delayProposal(b *broker, p replica.Proposal) time.Duration {
	if n.w.calm || n.w.roll(3) > 0 {
		return 0
	}
	record, late := n.w.controller.p, n.w.between(100*time.Millisecond, 3*time.Second)
	for _, m := range p.InSync {
		id := int32(m.ID)
		if !contains(record.ISR, id) && !contains(record.ELR, id) && !contains(record.LastKnown, id) &&
			m.ID != b.id && n.mayLoseDisk() {
			n.replaceDisk(n.w.broker(m.ID), n.w.between(20*time.Millisecond, 200*time.Millisecond))
			if n.w.roll(4) == 0 {
				late = n.w.between(0, 20*time.Second)
			}
			n.w.say("the proposal of broker %d is held for %v", b.id, late)
			if n.w.roll(2) == 0 {
				n.w.after(late+n.w.between(0, 50*time.Millisecond), func() {
					if !n.w.calm {
						n.kill(b)
					}
				})
			}
			break
		}
	}
	return late
}

func contains(ids []int32, id int32) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

// calmDown ends all faults.
func (n *nemesis) calmDown() {
	n.w.calm = true
	n.w.say("calm")
	for _, row := range n.w.net.cut {
		clear(row)
	}
	clear(n.w.net.numb)
	n.w.net.slow, n.w.controller.away = 0, 0
	for _, b := range n.w.brokers {
		b.slow, b.poison, b.dozes, b.pausedUntil = 0, false, 0, min(b.pausedUntil, n.w.now+time.Second)
		b.time.wake(b.pausedUntil)
	}
}
