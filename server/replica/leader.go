package replica

import (
	"slices"
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

// member is a replica as the leader sees it. The flags are memberships of the
// committed and the proposed ISR; proposed is meaningful while a proposal is
// open.
type member struct {
	id        ID
	committed bool
	proposed  bool
	Progress
	// reached is the greatest ack end, for the lag: it stays when a session
	// begins with a divergence, until the follower has said what is left.
	reached  record.Offset
	session  session
	throttle throttle
	added    bool // for a move
	away     bool // its broker has no stream here
}

// Leader is the state of a leader. The zero value leads nothing; Lead begins.
type Leader struct {
	self           ID
	epoch          record.LeaderEpoch
	partitionEpoch int32
	leading        bool
	minInSync      int
	asked          Durability // what the topic asks for
	granted        Durability // what acknowledgements may say by now
	highWatermark  record.Offset
	elected        record.Offset // the own end when this epoch began
	own            int           // index in members
	members        []member

	proposing bool
	attempts  int           // of proposals since the record last changed
	proposeAt time.Duration // not before
	marks     marks
	handOver  handOver
}

// New returns the state of a broker that leads nothing yet.
func New(self ID) Leader { return Leader{self: self, epoch: -1} }

// Lead begins leadership in a newer epoch. known is the highest high
// watermark that this replica has learned of, own how far its own log is; the
// progress of the others is unknown and counts as zero until they say.
//
// REQUIRES: self is in a.Replicas and a.InSync; a.Epoch is newer than every
// epoch heard of. Otherwise the step is Fenced.
func (l *Leader) Lead(a Assignment, own Progress, known record.Offset) Effects {
	if a.Epoch <= l.epoch || !slices.Contains(a.Replicas, l.self) || !slices.Contains(a.InSync, l.self) {
		return l.fenced()
	}
	l.epoch, l.leading = a.Epoch, true
	l.settled()
	l.proposeAt = 0
	l.granted = Memory // until every in-sync replica has said otherwise
	l.highWatermark = min(known, own.End)
	l.elected = own.End
	l.marks = marks{}
	l.handOver = handOver{}
	l.members = l.members[:0]
	l.assign(a)
	l.members[l.own].Progress = own
	return l.settle()
}

// Resign ends leadership, because of a newer epoch, a fence, or a failed
// directory. The high watermark stays as it is known, until Cut; no session is left.
func (l *Leader) Resign(epoch record.LeaderEpoch) {
	l.leading = false
	l.handOver = handOver{}
	l.settled()
	l.epoch = max(l.epoch, epoch)
	for i := range l.members {
		l.members[i].session.open = false
	}
}

// Cut says that the log was cut, to a leader's that lacks what was committed: the
// high watermark is known to hold up to there only.
//
// REQUIRES: another leads.
func (l *Leader) Cut(end record.Offset) { l.highWatermark = min(l.highWatermark, end) }

// Confirm takes a newer record of the partition in the same leader epoch: a
// confirmed proposal, a change of the ISR by the controller, or new settings.
// An older record, or one of another epoch, is Fenced.
func (l *Leader) Confirm(a Assignment) Effects {
	if !l.leading || a.Epoch != l.epoch || a.PartitionEpoch < l.partitionEpoch ||
		!slices.Contains(a.Replicas, l.self) || !slices.Contains(a.InSync, l.self) {
		return l.fenced()
	}
	if a.PartitionEpoch > l.partitionEpoch {
		// Whatever was asked for compared the partition epoch before: it has been
		// decided.
		l.settled()
	}
	l.assign(a)
	return l.settle()
}

// Advance takes how far the own log is, in the epoch that it was written in.
// It never shrinks within an epoch.
func (l *Leader) Advance(id ID, epoch record.LeaderEpoch, p Progress) Effects {
	if !l.leading || epoch != l.epoch || id != l.self {
		return l.fenced()
	}
	m := &l.members[l.own]
	m.advance(p)
	return l.settle()
}

func (m *member) advance(p Progress) {
	m.End = max(m.End, p.End)
	m.SyncedEnd = min(max(m.SyncedEnd, p.SyncedEnd), m.End)
}

// Leading says whether this replica leads.
func (l *Leader) Leading() bool { return l.leading }

// Epoch returns the leader epoch last heard of; -1 before the first.
func (l *Leader) Epoch() record.LeaderEpoch { return l.epoch }

// HighWatermark returns the offset below which everything is committed.
func (l *Leader) HighWatermark() record.Offset { return l.highWatermark }

// Durability returns what an acknowledgement may say now: Disk only once all
// committed records are on disk on every in-sync replica.
func (l *Leader) Durability() Durability { return l.granted }

// Asked returns the durability that the topic asks for.
func (l *Leader) Asked() Durability { return l.asked }

// InSync returns the number of replicas in the committed ISR.
func (l *Leader) InSync() int {
	n := 0
	for i := range l.members {
		if l.members[i].committed {
			n++
		}
	}
	return n
}

// EffectiveMinInSync returns how many replicas the committed ISR must have for
// the high watermark to move: no more than there are, at least one.
func (l *Leader) EffectiveMinInSync() int { return max(1, min(l.minInSync, len(l.members))) }

// Replicated tells whether there are others to bring records to.
func (l *Leader) Replicated() bool { return l.leading && len(l.members) > 1 }

// Quiet tells whether Tick and Offer would say nothing for as long as no other
// event comes: everybody is in sync, has everything, and was told the ends.
func (l *Leader) Quiet(logStart record.Offset) bool {
	if !l.leading {
		return true
	}
	if l.proposing || l.Leaving() {
		return false
	}
	own := &l.members[l.own]
	for i := range l.members {
		m := &l.members[i]
		if i == l.own {
			continue
		}
		if !m.committed || !m.session.open || m.at(l.asked) < own.End || m.session.told != (ends{l.highWatermark, logStart}) {
			return false
		}
	}
	return true
}

// OwnAckEnd returns how far the leader itself may acknowledge: what bounds
// acks of scope LEADER.
func (l *Leader) OwnAckEnd() record.Offset {
	if len(l.members) == 0 {
		return 0
	}
	return l.members[l.own].at(l.asked)
}

// ReadableEnd returns the end of what may be read here: the high watermark,
// but not more than this replica may acknowledge itself. While a topic is on
// its way from Memory to Disk the older, weaker bound holds, so that the
// readable end does not go back.
func (l *Leader) ReadableEnd() record.Offset {
	if len(l.members) == 0 {
		return 0
	}
	return min(l.highWatermark, l.members[l.own].at(l.granted))
}

// KnowsEnd says whether the high watermark has reached what the log held when
// this epoch began. Before, a client may have seen a higher one of another
// leader: its end is not told, and reads at or above it wait (rule H7).
func (l *Leader) KnowsEnd() bool { return l.highWatermark >= l.elected }

func (l *Leader) fenced() Effects { return Effects{HighWatermark: l.highWatermark, Fenced: true} }

// assign takes the sets and settings of a record, keeping what is known of
// the progress of members that stay.
func (l *Leader) assign(a Assignment) {
	old := l.members
	l.members = make([]member, 0, len(a.Replicas))
	for _, id := range a.Replicas {
		m := member{id: id}
		if i := slices.IndexFunc(old, func(o member) bool { return o.id == id }); i >= 0 {
			m = old[i]
		}
		m.committed = slices.Contains(a.InSync, id)
		m.proposed = m.proposed && l.proposing
		m.throttle.adding(a, id, m.committed)
		m.added = slices.Contains(a.Adding, id)
		l.members = append(l.members, m)
	}
	l.own = l.index(l.self)
	l.partitionEpoch = a.PartitionEpoch
	l.minInSync = a.MinInSync
	l.asked = a.Durability
	l.handOver.heed(a, l.self)
	if l.asked == Memory {
		l.granted = Memory
	}
}

func (l *Leader) index(id ID) int {
	for i := range l.members {
		if l.members[i].id == id {
			return i
		}
	}
	return -1
}

// settle recomputes what follows from the state. It is the only place that
// moves the high watermark.
func (l *Leader) settle() Effects {
	before := l.highWatermark
	committed, allSynced := 0, true
	least := record.Offset(-1)
	for i := range l.members {
		m := &l.members[i]
		m.reached = max(m.reached, m.at(l.asked))
		if m.committed {
			committed++
		}
		if !m.committed && !m.proposed {
			continue
		}
		if end := m.at(l.asked); least < 0 || end < least {
			least = end
		}
		allSynced = allSynced && m.SyncedEnd >= l.highWatermark
	}
	if (committed >= l.EffectiveMinInSync() || mutation == IgnoreMinISR) && least > l.highWatermark {
		l.highWatermark = least
	}
	// Asked before the move: what was committed under Memory is on disk on
	// every in-sync replica, and what moves from here on is as well.
	if l.asked == Disk && l.granted == Memory && allSynced {
		l.granted = Disk
	}
	own := &l.members[l.own]
	return Effects{
		HighWatermark: l.highWatermark,
		Advanced:      l.highWatermark > before,
		NeedSync:      l.asked == Disk && own.SyncedEnd < own.End,
	}
}
