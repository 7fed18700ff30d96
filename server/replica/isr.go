package replica

import (
	"time"

	"github.com/millstream-io/millstream/storage/record"
)

// proposeEvery is how long a proposal waits for an answer, or for another
// chance.
const proposeEvery = time.Second

// awayLag is how long a replica may be behind whose broker is away: longer than
// the controller waits for a broker that is silent to it as well, and longer
// than it takes to come back after a connection was lost.
const awayLag = 3 * time.Second

// Proposal asks the controller for another ISR. It is to compare both epochs,
// and each BrokerEpoch with that of the broker as it is registered (KIP-903),
// and to raise the partition epoch whenever it takes a proposal, also if it
// changes nothing: then what was proposed before cannot be taken any more.
type Proposal struct {
	Epoch          record.LeaderEpoch
	PartitionEpoch int32
	InSync         []InSyncReplica
	// HandOver asks instead for the successor that the record of that partition
	// epoch names to lead.
	HandOver bool
	// Until is when the proposer has given up a hand-over: it is not to be
	// carried out later.
	Until time.Duration
}

// InSyncReplica is a member of a proposed ISR.
type InSyncReplica struct {
	ID ID
	// BrokerEpoch is the incarnation that caught up; 0: it has had no session in
	// this epoch, and was in the ISR before.
	BrokerEpoch int64
}

// Tick looks at the clock, some ten times a second: who lags longer than
// lagMax leaves the ISR, sooner if it is away; who has caught up joins it. It returns a proposal if
// there is one to make. While one is open, the same or another is made again
// every second: its outcome may be unknown, and then only a newer record ends
// it. The proposals of one partition epoch count together, so that whichever
// is taken has been counted.
//
// impaired tells which replicas are on disks that are in trouble; nil: none is.
// They join only as long as too few others are in sync, as the controller sees
// it too (election.Enough).
func (l *Leader) Tick(now, lagMax time.Duration, impaired func(ID) bool) (Proposal, bool) {
	if !l.leading {
		return Proposal{}, false
	}
	l.marks.note(l.members[l.own].End, now, lagMax)
	if now < l.proposeAt || l.Leaving() {
		return Proposal{}, false // who is in sync can wait until there is another leader
	}
	change := false
	for i := range l.members {
		m := &l.members[i]
		change = change || m.committed != l.wanted(i, now, lagMax, impaired)
	}
	if !change && !l.proposing {
		return Proposal{}, false
	}
	l.proposeAt = now + proposeEvery
	return l.propose(func(i int) bool { return l.wanted(i, now, lagMax, impaired) }), true
}

// propose counts the members that are in, until a newer record comes.
func (l *Leader) propose(in func(i int) bool) Proposal {
	p := Proposal{Epoch: l.epoch, PartitionEpoch: l.partitionEpoch}
	for i := range l.members {
		if in(i) {
			m := &l.members[i]
			m.proposed = true
			p.InSync = append(p.InSync, InSyncReplica{ID: m.id, BrokerEpoch: m.session.brokerEpoch})
		}
	}
	l.proposing = true
	l.attempts++
	return p
}

// wanted says whether a member should be in the ISR: the leader; one that is
// in and does not lag; one that has all that is committed, and all that the
// leader had when its epoch began, at the durability asked for.
func (l *Leader) wanted(i int, now, lagMax time.Duration, impaired func(ID) bool) bool {
	m := &l.members[i]
	switch {
	case i == l.own:
		return true
	case m.committed && m.away && !m.session.open:
		return l.lag(m, now) <= min(lagMax, awayLag)
	case m.committed:
		return l.lag(m, now) <= lagMax
	case impaired != nil && impaired(m.id) && l.enoughAreWell(impaired):
		return false // else everybody would wait for it again
	case mutation == UncleanReadd:
		return m.session.open
	}
	end := m.at(l.asked)
	return m.session.open && end >= l.highWatermark && end >= l.elected
}

// NoteAway notes which of those that have no session are away: their brokers do
// not keep a stream to this one, and the records that wait for them would wait
// for nothing. nil: none.
func (l *Leader) NoteAway(away func(ID) bool) {
	for i := range l.members {
		m := &l.members[i]
		m.away = away != nil && l.leading && i != l.own && m.committed && !m.session.open && away(m.id)
	}
}

// enoughAreWell tells whether nobody has to wait for an impaired replica: the
// minimum, and two where there are as many, are in sync without one.
func (l *Leader) enoughAreWell(impaired func(ID) bool) bool {
	n := 0
	for i := range l.members {
		if m := &l.members[i]; m.committed && !impaired(m.id) {
			n++
		}
	}
	return n >= max(l.EffectiveMinInSync(), min(2, len(l.members)))
}

// Refused takes the controller's refusal of the proposal made at a partition
// epoch. If it was the only one, nothing of it can be taken later.
func (l *Leader) Refused(partitionEpoch int32) Effects {
	if !l.leading || partitionEpoch != l.partitionEpoch || l.attempts != 1 {
		return l.fenced()
	}
	l.settled()
	return l.settle()
}

// settled forgets what was proposed.
func (l *Leader) settled() {
	l.proposing, l.attempts = false, 0
	for i := range l.members {
		l.members[i].proposed = false
	}
}

// Lag returns how long a replica has been behind: the time since the oldest
// record that is not below its ack end was appended; none: 0. It is up to a
// sixteenth of the longest lag too short.
func (l *Leader) Lag(id ID, now time.Duration) time.Duration {
	i := l.index(id)
	if !l.leading || i < 0 {
		return 0
	}
	return l.lag(&l.members[i], now)
}

func (l *Leader) lag(m *member, now time.Duration) time.Duration {
	if at, behind := l.marks.appended(m.reached); behind {
		return now - at
	}
	return 0
}

// marks remember when the end of the log was where, so that the time at which
// an offset was appended is known well enough.
//
// INVARIANT: offsets and times rise, and the times are at least a sixteenth of
// the longest lag apart, so that a full ring covers more than that lag.
type marks struct {
	ring  [20]mark
	first int
	count int
}

// mark says that all below end had been appended at that time.
type mark struct {
	end record.Offset
	at  time.Duration
}

// note remembers where the end is now, unless that is known well enough.
func (r *marks) note(end record.Offset, now, lagMax time.Duration) {
	if r.count > 0 {
		last := &r.ring[(r.first+r.count-1)%len(r.ring)]
		if end <= last.end || now-last.at < lagMax/16 {
			return
		}
	}
	if r.count == len(r.ring) {
		r.first = (r.first + 1) % len(r.ring)
		r.count--
	}
	r.ring[(r.first+r.count)%len(r.ring)] = mark{end, now}
	r.count++
}

// appended returns a time at which the record at off was there for sure: the
// first such mark. There is none if off was appended after the last mark, or
// never.
func (r *marks) appended(off record.Offset) (time.Duration, bool) {
	for i := range r.count {
		if m := &r.ring[(r.first+i)%len(r.ring)]; m.end > off {
			return m.at, true
		}
	}
	return 0, false
}
