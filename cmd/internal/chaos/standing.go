package chaos

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
)

// atOnce is so short that nobody is given up meanwhile, and what was acknowledged
// in memory last is on no disk.
const atOnce = 200 * time.Millisecond

// pausePower takes the power from a broker while others stand still, and has
// others stand still when those go on: at no time are two brokers awake that
// have all that was acknowledged. None of those that are may lead without it,
// and no epoch may have two leaders. All replicas are in sync before, and every
// record that is acknowledged is in the memory of one that only stood still: so
// nothing may be missing afterwards, at any durability.
func pausePower(ctx context.Context, r *run) error {
	if err := r.whole(ctx); err != nil {
		return err
	}
	all := r.inOrder(r.brokers())
	victim := all[len(all)-1]
	// Either one stands still, and those that go on acknowledge without it; or
	// all do but the one whose power is taken, which acknowledges nothing more.
	asleep := all[:1+r.random.IntN(len(all)-1)]
	awake := all[len(asleep) : len(all)-1]
	lateWake := r.random.IntN(2) == 1
	r.say("%9s %-16s %v stand still, %s loses its power, then %v stand still\n", "", "pause-power", names(asleep), victim.Name(), names(awake))
	for _, m := range asleep {
		if err := r.stall(m); err != nil {
			return err
		}
		r.linger(ctx, 0, 6*time.Second) // its session is over, or not
	}
	defer r.book.Healed(powerOf(victim), brokerOf(victim))
	if err := r.takePower([]*cluster.Member{victim}); err != nil {
		return err
	}
	if err := r.stall(awake...); err != nil {
		return err
	}
	if lateWake {
		if err := r.launch(victim); err != nil {
			return err
		}
		r.linger(ctx, 0, 3*time.Second)
	}
	if err := r.wake(asleep...); err != nil {
		return err
	}
	r.linger(ctx, 0, 3*time.Second)
	r.lookOffline(ctx, asleep)
	if !lateWake {
		if err := r.launch(victim); err != nil {
			return err
		}
		r.linger(ctx, 0, 3*time.Second)
		r.lookOffline(ctx, asleep)
	}
	if err := r.wake(awake...); err != nil {
		return err
	}
	for _, m := range r.inOrder(all) {
		if r.over() {
			break
		}
		if err := r.stall(m); err != nil {
			return err
		}
		r.linger(ctx, 0, 4*time.Second)
		if err := r.wake(m); err != nil {
			return err
		}
	}
	if err := r.awaitReady(ctx, victim); err != nil {
		return err
	}
	return r.whole(ctx)
}

// lastStanding cuts off one broker after the other, takes the power from the
// last one, and mends the three in one of the six orders, each in its turn.
// What the last one alone was left with is not enough to acknowledge anything:
// so all that was is in the memory of one that was cut off, and nothing may be
// missing afterwards, at any durability. Until the right one is back partitions
// are offline, and say whom they wait for.
func lastStanding(ctx context.Context, r *run) error {
	if err := r.whole(ctx); err != nil {
		return err
	}
	all := r.inOrder(r.brokers())
	last := all[len(all)-1]
	order := orderOf(r.turn("last-standing"))
	r.say("%9s %-16s %s are cut off, %s loses its power; back are %s\n", "", "last-standing",
		strings.Join(names(all[:2]), " and then "), last.Name(), strings.Join(names(pick(all, order)), ", then "))
	cut := map[string][]string{} // from whom, by broker
	// Often the two that are left have just begun to acknowledge without the
	// first when the second is cut off, and the power is gone at once; else
	// nobody is given up when it goes, or perhaps everybody.
	haste := r.random.IntN(4)
	for i, m := range all[:2] {
		others := slices.DeleteFunc(append(names(r.brokers()), names(r.controllers())...), func(name string) bool { return name == m.Name() })
		if r.random.IntN(2) == 1 {
			others = append(others, clients) // else they find it still
		}
		r.book.Fault("partition", brokerOf(m))
		defer r.book.Healed("partition", brokerOf(m))
		if err := r.cutOff(m.Name(), others); err != nil {
			return err
		}
		cut[m.Name()] = others
		switch {
		case haste == 0, haste > 1 && i == 1:
			r.linger(ctx, 0, atOnce)
		case haste == 1:
			r.linger(ctx, 0, 5*time.Second)
		default:
			r.linger(ctx, 3*time.Second, 6*time.Second)
		}
	}
	defer r.book.Healed(powerOf(last), brokerOf(last))
	if err := r.takePower([]*cluster.Member{last}); err != nil {
		return err
	}
	r.linger(ctx, 0, 3*time.Second)
	var back []*cluster.Member
	for _, m := range pick(all, order) {
		if m == last {
			if err := r.launch(m); err != nil {
				return err
			}
		} else {
			others := cut[m.Name()]
			delete(cut, m.Name())
			// From who is cut off still it stays cut off.
			others = slices.DeleteFunc(slices.Clone(others), func(name string) bool { return cut[name] != nil })
			if err := r.rig.network.Restore([]string{m.Name()}, others); err != nil {
				return err
			}
		}
		back = append(back, m)
		r.linger(ctx, 0, 4*time.Second)
		r.lookOffline(ctx, back)
	}
	if err := r.awaitReady(ctx, last); err != nil {
		return err
	}
	return r.whole(ctx)
}

// cutOff cuts a member off from others, in both directions.
func (r *run) cutOff(alone string, others []string) error {
	if err := r.rig.network.Cut([]string{alone}, others); err != nil {
		return err
	}
	return r.rig.network.Cut(others, []string{alone})
}

// orders are those in which three can come back.
var orders = [...][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {2, 0, 1}, {0, 2, 1}, {1, 2, 0}}

// orderOf is the order in which three come back in a turn.
func orderOf(turn int) []int { return orders[turn%len(orders)] }

// pick returns the members at places.
func pick(ms []*cluster.Member, places []int) []*cluster.Member {
	picked := make([]*cluster.Member, len(places))
	for i, place := range places {
		picked[i] = ms[place]
	}
	return picked
}
