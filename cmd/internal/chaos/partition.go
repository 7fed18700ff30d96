package chaos

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/check"
	"github.com/millstream-io/millstream/cmd/internal/cluster"
	"github.com/millstream-io/millstream/cmd/internal/history"
)

// drawCut draws who is cut off from whom: alone is the name of a broker or a
// controller, others are names of such, and perhaps clients. A majority of
// brokers and of controllers stay together and in the reach of clients.
func drawCut(random *rand.Rand, brokers, controllers []string) (alone string, others []string) {
	but := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == alone })
	}
	shape := random.IntN(6)
	broker, controller := brokers[random.IntN(len(brokers))], controllers[random.IntN(len(controllers))]
	another := random.IntN(len(brokers) - 1)
	switch shape {
	case 0: // a broker from all other members: clients find it still
		alone = broker
		return alone, append(but(brokers), controllers...)
	case 1: // a broker from all
		alone = broker
		return alone, append(append(but(brokers), controllers...), clients)
	case 2: // a broker from the controllers
		return broker, slices.Clone(controllers)
	case 3: // two brokers from each other
		alone = broker
		return alone, but(brokers)[another : another+1]
	case 4: // a controller from all
		alone = controller
		return alone, append(append(but(controllers), brokers...), clients)
	default: // a controller from the others
		alone = controller
		return alone, but(controllers)
	}
}

// partition cuts the network for a while, in one direction or both.
func (r *run) partition(ctx context.Context, kind history.FaultKind) error {
	return r.cut(ctx, kind, 500*time.Millisecond, 12*time.Second)
}

// longCut cuts it by turns in both directions and in one, for longer than a
// partition may take no append: what is left has to go on without who is cut
// off.
func longCut(ctx context.Context, r *run) error {
	kind := history.FaultKind("partition")
	if r.turn("long-cut")%2 == 1 {
		kind = "one-way"
	}
	return r.cut(ctx, kind, check.RecoveryMax+5*time.Second, 2*check.RecoveryMax)
}

// cut cuts the network for a while that is drawn.
func (r *run) cut(ctx context.Context, kind history.FaultKind, least, most time.Duration) error {
	alone, others := drawCut(r.random, names(r.brokers()), names(r.controllers()))
	way := r.random.IntN(2) // drawn for both kinds, and needed for one
	while := r.between(least, most)
	var broker int32
	for _, m := range r.brokers() {
		if m.Name() == alone {
			broker = brokerOf(m)
		}
	}
	from, to, arrow := []string{alone}, others, "—/—"
	if kind == "one-way" {
		arrow = "—/→"
		if way == 1 {
			arrow = "←/—"
			from, to = to, from
		}
	}
	r.say("%9s %-16s %s %s %s\n", "", kind, alone, arrow, strings.Join(others, " "))
	r.book.Fault(kind, broker)
	defer r.book.Healed(kind, broker)
	if err := r.rig.network.Cut(from, to); err != nil {
		return err
	}
	if kind == "partition" {
		if err := r.rig.network.Cut(to, from); err != nil {
			return err
		}
	}
	pause(ctx, min(while, r.left()))
	return r.rig.network.Heal()
}

func names(ms []*cluster.Member) []string {
	var all []string
	for _, m := range ms {
		all = append(all, m.Name())
	}
	return all
}
