package reconcile

import (
	"log/slog"
	"slices"
	"time"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/store"
)

// A broker says with its heartbeats what is the matter with its disk. What
// counts stands in its record: then it is asked to hand over what it leads, leads
// nothing new, and is in sync only where too few others are (election.Enough),
// until it says that it has been well for a while. If nobody else can lead, it
// goes on: bad is better than nothing.
//
// That its disk is slow counts only if it is slower than those of others, and no
// longer when it has been like them for a while. What makes all of them slow is
// the load, and leading from one to the other would cure nothing.
//
// INVARIANT: a record is changed only by what the broker has said itself under
// this active controller: one that takes over goes on from the record.

const (
	// slowerThanOthers is how many times slower a disk is than those of most.
	slowerThanOthers = 3
	// A slow disk that is less than likeOthers times slower for likeFor is one
	// like the others.
	likeOthers = 2
	likeFor    = 30 * time.Second
	// mostDelayUs is the longest delay that a heartbeat is believed, in
	// microseconds.
	mostDelayUs = uint64(time.Hour / time.Microsecond)
)

// isImpaired tells whether something is the matter with the disk of a broker.
func isImpaired(b *controllerv1.BrokerRecord) bool {
	return b.GetImpairment() != controllerv1.Impairment_IMPAIRMENT_UNSPECIFIED
}

// planImpairments returns the records of brokers with whose disks something
// else is the matter than they say.
func (a *active) planImpairments(v *image.View) []*store.Edit {
	var edits []*store.Edit
	for id, b := range v.Brokers {
		said, alive := a.sessions.last(id, b.Record.GetBrokerEpoch())
		if !alive || !said.heard || b.Record.GetFenced() {
			continue
		}
		is := said.impaired
		if is == controllerv1.Impairment_IMPAIRMENT_SLOW_DISK {
			is = a.slow(v, id, b.Record, said.delay)
		} else {
			delete(a.alike, id)
		}
		if is == b.Record.GetImpairment() {
			continue
		}
		if is == controllerv1.Impairment_IMPAIRMENT_UNSPECIFIED {
			a.o.Logger.Info("broker is not impaired any more", slog.Int("broker_id", int(id)))
		} else {
			a.o.Logger.Warn("broker is impaired: others are to lead", slog.Int("broker_id", int(id)), slog.String("impairment", is.String()),
				slog.Duration("disk_delay", said.delay))
		}
		edits = append(edits, a.edit(b, func(r *controllerv1.BrokerRecord) { r.Impairment = is }))
	}
	return edits
}

// slow returns what counts of a disk that its broker finds slow, with that delay.
func (a *active) slow(v *image.View, id int32, rec *controllerv1.BrokerRecord, delay time.Duration) controllerv1.Impairment {
	now := time.Now()
	switch {
	case !isImpaired(rec):
		if !a.slower(v, id, delay, slowerThanOthers) {
			return controllerv1.Impairment_IMPAIRMENT_UNSPECIFIED
		}
	case a.slower(v, id, delay, likeOthers):
		delete(a.alike, id)
	case a.alike[id].IsZero():
		a.alike[id] = now
	case now.Sub(a.alike[id]) >= likeFor:
		delete(a.alike, id)
		return controllerv1.Impairment_IMPAIRMENT_UNSPECIFIED
	}
	return controllerv1.Impairment_IMPAIRMENT_SLOW_DISK
}

// slower tells whether a disk with that delay is so many times slower than those
// of most other brokers.
func (a *active) slower(v *image.View, id int32, delay time.Duration, times int) bool {
	var others []time.Duration
	for other, b := range v.Brokers {
		if said, alive := a.sessions.last(other, b.Record.GetBrokerEpoch()); other != id && alive && said.heard && !b.Record.GetFenced() {
			others = append(others, said.delay)
		}
	}
	if len(others) == 0 {
		return false // nobody could lead instead
	}
	slices.Sort(others)
	return delay >= time.Duration(times)*others[len(others)/2] // of two, the slower one
}
