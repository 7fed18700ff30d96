// Package replica owns the decisions of the leader of a partition: which
// offset is committed (the high watermark), what an acknowledgement may say,
// and when the leader has to step down. It is a pure step function: an event
// goes in, effects come out.
//
// It refuses to own bytes, clocks, files, network and goroutines, and it
// allocates only when the set of replicas changes. Whoever owns a Leader
// steps it from one goroutine and carries the effects out.
//
// Ranges are half-open and every end is exclusive: a high watermark of 10
// means that the offsets below 10 are committed.
//
// INVARIANT: the high watermark never goes back, and it moves only to an
// offset that every member of the maximal ISR has (at the durability asked
// for), while the committed ISR has at least the effective min ISR.
//
// The four words that are easy to mix up:
//
//   - committed ISR: what the metadata says;
//   - proposed ISR: what this leader has asked the controller for and has not
//     heard of yet;
//   - maximal ISR: the union of both. A proposed removal still counts until it
//     is confirmed, a proposed addition counts at once;
//   - effective min ISR: min(min.insync.replicas, number of replicas).
package replica

import (
	"slices"

	"github.com/millstream-io/millstream/storage/record"
)

// ID is the identity of a broker that holds a replica.
type ID int32

// None is no broker.
const None ID = -1

// Durability says how far a replica must have brought a batch for its
// acknowledgement to count.
type Durability uint8

// The durabilities. The zero value is the safe one.
const (
	// Disk counts what is synced.
	Disk Durability = iota
	// Memory counts what is written (in the page cache).
	Memory
)

// String returns the name of a durability.
func (d Durability) String() string {
	if d == Memory {
		return "memory"
	}
	return "disk"
}

// Assignment is the part of a partition's record that the leader decides by.
// BORROWED: the slices are copied by the step that takes them.
type Assignment struct {
	// Epoch is the leader epoch.
	Epoch record.LeaderEpoch
	// PartitionEpoch grows with every change of the record.
	PartitionEpoch int32
	// Replicas are all members, in any order.
	Replicas []ID
	// InSync is the committed ISR, a subset of Replicas.
	InSync []ID
	// MinInSync is min.insync.replicas as set; see EffectiveMinInSync.
	MinInSync int
	// Durability is what the topic asks for.
	Durability Durability
}

// Progress is how far a replica is.
type Progress struct {
	// End is the offset after the last record written.
	End record.Offset
	// SyncedEnd is the offset after the last record on disk, at most End.
	SyncedEnd record.Offset
}

// at returns the ack end: how far the replica may acknowledge.
func (p Progress) at(d Durability) record.Offset {
	if d == Memory {
		return p.End
	}
	return p.SyncedEnd
}

// Effects are what a step asks for.
type Effects struct {
	// HighWatermark is the high watermark after the step.
	HighWatermark record.Offset
	// Advanced says that the step moved it.
	Advanced bool
	// NeedSync says that the leader's own log has records that only a sync
	// can commit.
	NeedSync bool
	// Fenced says that the event belongs to another epoch and changed nothing.
	Fenced bool
}

// member is a replica as the leader sees it. The flags are memberships of the
// committed and the proposed ISR; proposed is meaningful while a proposal is
// open.
type member struct {
	id        ID
	committed bool
	proposed  bool
	Progress
}

// Leader is the state of a leader. The zero value leads nothing; Lead begins.
type Leader struct {
	self           ID
	epoch          record.LeaderEpoch
	partitionEpoch int32
	leading        bool
	proposing      bool
	minInSync      int
	asked          Durability // what the topic asks for
	granted        Durability // what acknowledgements may say by now
	highWatermark  record.Offset
	own            int // index in members
	members        []member
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
		return Effects{HighWatermark: l.highWatermark, Fenced: true}
	}
	l.epoch, l.leading = a.Epoch, true
	l.proposing = false
	l.granted = Memory // until every in-sync replica has said otherwise
	l.highWatermark = min(known, own.End)
	l.members = l.members[:0]
	l.assign(a)
	l.members[l.own].Progress = own
	return l.settle()
}

// Resign ends leadership. The high watermark stays as it is known.
func (l *Leader) Resign(epoch record.LeaderEpoch) {
	l.leading, l.proposing = false, false
	l.epoch = max(l.epoch, epoch)
}

// Confirm takes a newer record of the partition in the same leader epoch: a
// confirmed proposal, a change of the ISR by the controller, or new settings.
// An older record, or one of another epoch, is Fenced.
func (l *Leader) Confirm(a Assignment) Effects {
	if !l.leading || a.Epoch != l.epoch || a.PartitionEpoch < l.partitionEpoch ||
		!slices.Contains(a.Replicas, l.self) || !slices.Contains(a.InSync, l.self) {
		return Effects{HighWatermark: l.highWatermark, Fenced: true}
	}
	if a.PartitionEpoch > l.partitionEpoch {
		l.proposing = false // whatever was asked for has been decided
	}
	l.assign(a)
	return l.settle()
}

// Propose notes that the leader has asked the controller for another ISR.
// Until Confirm both sets count. Members that are no replicas are left out.
func (l *Leader) Propose(isr []ID) Effects {
	if !l.leading {
		return Effects{HighWatermark: l.highWatermark, Fenced: true}
	}
	l.proposing = true
	for i := range l.members {
		m := &l.members[i]
		m.proposed = slices.Contains(isr, m.id)
	}
	return l.settle()
}

// Advance takes how far a replica is, in the epoch in which it said so. What a
// replica said never shrinks within an epoch: a lower end is an old message.
func (l *Leader) Advance(id ID, epoch record.LeaderEpoch, p Progress) Effects {
	i := l.index(id)
	if !l.leading || epoch != l.epoch || i < 0 {
		return Effects{HighWatermark: l.highWatermark, Fenced: true}
	}
	m := &l.members[i]
	m.End = max(m.End, p.End)
	m.SyncedEnd = min(max(m.SyncedEnd, p.SyncedEnd), m.End)
	return l.settle()
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
		l.members = append(l.members, m)
	}
	l.own = l.index(l.self)
	l.partitionEpoch = a.PartitionEpoch
	l.minInSync = a.MinInSync
	l.asked = a.Durability
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
		if m.committed {
			committed++
		}
		if !m.committed && (!l.proposing || !m.proposed) {
			continue
		}
		if end := m.at(l.asked); least < 0 || end < least {
			least = end
		}
		allSynced = allSynced && m.SyncedEnd >= l.highWatermark
	}
	if committed >= l.EffectiveMinInSync() && least > l.highWatermark {
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
