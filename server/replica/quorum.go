package replica

import "time"

// Quorum is whom a leader has to have heard to be sure of itself (rule H5): the
// other replicas, as they were when it was taken. It is immutable, so that
// readers can look at it beside the owner of the Leader.
//
// When a replica was heard is the own time of the last ping that its broker has
// answered on the stream of its session: it answered after that, and once it
// knows a newer epoch it ends its session on the stream before it answers again.
// When the answer came says nothing: this process may have been asleep. Who
// has no session was never heard.
type Quorum struct {
	// Others are all replicas but the leader.
	Others []Other
	// Enough says that the committed ISR has at least the effective min ISR.
	Enough bool
	// MinInSync is the effective min ISR.
	MinInSync int
}

// Other is a replica that is followed by, as its leader sees it.
type Other struct {
	ID ID
	// InSync says that it is in the maximal ISR: a proposal may have been taken,
	// and who was in it elected.
	InSync bool
	// Session is that of the replica; 0: it has none.
	Session uint64
}

// Quorum returns whom this leader has to hear by now. A proposal is counted
// before it is on its way to the controller only by those who look again.
func (l *Leader) Quorum() Quorum {
	q := Quorum{Enough: l.InSync() >= l.EffectiveMinInSync(), MinInSync: l.EffectiveMinInSync()}
	for i := range l.members {
		if i == l.own {
			continue
		}
		m := &l.members[i]
		o := Other{ID: m.id, InSync: m.committed || m.proposed}
		if m.session.open {
			o.Session = m.session.number
		}
		q.Others = append(q.Others, o)
	}
	return q
}

// Fresh says whether the leader led for sure at some time since then, and may
// answer what needs freshness: the committed ISR is large enough, and every
// other member of the maximal ISR was heard. heard says when the i-th of Others
// was.
func (q *Quorum) Fresh(since time.Duration, heard func(i int) time.Duration) bool {
	return q.Enough && q.allHeard(since, heard)
}

// Current says whether nothing can have been committed under a newer leader
// before that time, so that this one may serve what it has. That is so if
// every other member of the maximal ISR was heard, of whom a newer leader would
// have come; or if so few replicas were not heard that they cannot make up the
// min ISR that a newer leader commits with. So one follower of three that has
// died does not stop readers at a min ISR of two.
//
// While the committed ISR is smaller than the min ISR a newer leader may come
// of those that have left it. Then the controller has to have said, when asked
// at that time or later, that there is none: vouched is when it was asked last.
func (q *Quorum) Current(since, vouched time.Duration, heard func(i int) time.Duration) bool {
	silent := 0
	for i := range q.Others {
		if heard(i) < since {
			silent++
		}
	}
	return silent < q.MinInSync || (q.Enough || vouched >= since) && q.allHeard(since, heard)
}

func (q *Quorum) allHeard(since time.Duration, heard func(i int) time.Duration) bool {
	for i := range q.Others {
		if q.Others[i].InSync && (q.Others[i].Session == 0 || heard(i) < since) {
			return false
		}
	}
	return true
}

// Fresh is Quorum.Fresh for the last lease.
func (l *Leader) Fresh(now, lease time.Duration, heard func(ID) time.Duration) bool {
	if !l.leading {
		return false
	}
	q := l.Quorum()
	return q.Fresh(now-lease, q.by(heard))
}

// Current is Quorum.Current for the last lease, without the controller's word.
func (l *Leader) Current(now, lease time.Duration, heard func(ID) time.Duration) bool {
	if !l.leading {
		return false
	}
	q := l.Quorum()
	return q.Current(now-lease, Never, q.by(heard))
}

// by returns when those were heard who have a session.
func (q *Quorum) by(heard func(ID) time.Duration) func(int) time.Duration {
	return func(i int) time.Duration {
		if q.Others[i].Session == 0 {
			return Never
		}
		return heard(q.Others[i].ID)
	}
}

// Never is when somebody was heard who was not.
const Never = time.Duration(-1 << 63)
