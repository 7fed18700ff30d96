package replica

import (
	"slices"
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

// A planned change of leaders leaves nothing in flight. The controller names a
// successor in the partition's record. The leader takes no records from when it
// sees that, until all that it has is committed; then it asks the controller to
// let the successor lead, and goes on waiting until it hears of a newer epoch.
//
// INVARIANT: from when a leader asks to be followed by its successor, to when it
// knows a newer epoch, a record without a successor, or that it has waited for
// too long, it appends nothing. The controller carries out what is asked only
// at the partition epoch that it was asked at, so what the successor begins
// with is all that was ever appended in the epoch before, and is committed.
//
// A controller that is away would hold up the partition, so that the leader
// gives up after a while, and takes records again. What it has asked for is void
// long before (Proposal.Until), and the controller has decided before that who
// leads or taken its wish back: only one whose store takes longer than from the one
// to the other may still carry it out, and then records are left in flight as with
// any other election.

const (
	// askFor bounds how long what a leader asks for may be carried out: as long as
	// the controller waits for it, which has another lead then that is about to
	// stop, or takes its wish back.
	askFor = 1500 * time.Millisecond
	// handOverFor bounds how long a leader takes no records. WHY longer than it
	// asks: a put of either kind may be under way, and what is written before the
	// leader knows of it has an unknown outcome.
	handOverFor = 3 * time.Second
	// askEvery is how long it waits for an answer before it asks again.
	askEvery = 250 * time.Millisecond
)

// handOver is how far the leader is with handing its partition over.
type handOver struct {
	phase handOverPhase
	to    ID
	timed bool          // begun is set
	begun time.Duration // when it was first asked to leave
	asked bool          // the record that it knows was asked about
	askAt time.Duration // not again before
}

type handOverPhase uint8

const (
	// staying: there is no successor.
	staying handOverPhase = iota
	// leaving: it takes no records.
	leaving
	// remaining: it took too long; records are taken, whatever successor the
	// records of the partition name, until one names none, or another.
	remaining
)

// heed takes what a record says of a successor.
func (h *handOver) heed(a Assignment, self ID) {
	switch {
	case !a.HandsOver || a.Successor == self || !slices.Contains(a.InSync, a.Successor):
		*h = handOver{}
	case h.phase == staying || h.to != a.Successor:
		*h = handOver{phase: leaving, to: a.Successor}
	default:
		h.asked = false // what was asked for compared the record before
	}
}

// Leaving tells whether the leader is about to hand the partition over: it must
// take no records meanwhile.
func (l *Leader) Leaving() bool { return l.leading && l.handOver.phase == leaving }

// HandOver goes on with handing the partition over; it is to be called after
// every step. It returns a proposal if there is one to make. answered tells
// whether all requests were.
func (l *Leader) HandOver(now time.Duration, answered bool) (Proposal, bool) {
	if !l.Leaving() {
		return Proposal{}, false
	}
	h := &l.handOver
	if !h.timed {
		h.timed, h.begun = true, now
	}
	until := h.begun + askFor
	if now >= h.begun+handOverFor {
		h.phase = remaining
		return Proposal{}, false
	}
	if !answered && mutation != HandOverEarly || !l.drained() || h.asked && now < h.askAt || now >= until {
		return Proposal{}, false
	}
	h.asked, h.askAt = true, now+askEvery
	return Proposal{Epoch: l.epoch, PartitionEpoch: l.partitionEpoch, HandOver: true, Until: until}, true
}

// drained tells whether all that a leaving leader has is committed, and the
// successor has just that. WHY a session: a high watermark may be known from an
// epoch before, and the successor may have led then and have more.
func (l *Leader) drained() bool {
	if !l.Leaving() {
		return false
	}
	end, i := l.members[l.own].End, l.index(l.handOver.to)
	if i < 0 || mutation == HandOverEarly {
		return i >= 0
	}
	m := &l.members[i]
	return l.highWatermark >= end && m.session.open && m.at(l.asked) == end
}

// Drained returns the end of the log at which a leaving leader has everything
// committed; false: it is not leaving, or not so far.
func (l *Leader) Drained() (record.Offset, bool) {
	if !l.drained() {
		return 0, false
	}
	return l.members[l.own].End, true
}
