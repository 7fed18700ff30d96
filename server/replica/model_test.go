package replica

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/millstream-io/millstream/storage/record"
)

// model is the slow, obvious version: it keeps every fact ever heard and works
// everything out from scratch, in the words of the rules.
type model struct {
	self      ID
	epoch     record.LeaderEpoch
	pepoch    int32
	leading   bool
	replicas  []ID
	committed []ID
	proposals [][]ID // since the record changed
	min       int
	asked     Durability
	said      map[ID][]Progress // of this epoch and session, since the member joined
	session   map[ID]uint64     // open ones
	last      map[ID]uint64     // numbers heard of
	hw        record.Offset
	onDisk    bool // H3: all committed records were seen on disk everywhere
}

func (m *model) furthest(id ID) Progress {
	var p Progress
	for _, s := range m.said[id] {
		p.End = max(p.End, s.End)
		p.SyncedEnd = max(p.SyncedEnd, s.SyncedEnd)
	}
	p.SyncedEnd = min(p.SyncedEnd, p.End)
	return p
}

func (m *model) maximal() []ID {
	var ids []ID
	for _, id := range m.replicas {
		if slices.Contains(m.committed, id) || slices.Contains(slices.Concat(m.proposals...), id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (m *model) conclude() {
	synced := true
	var ackEnds []record.Offset
	for _, id := range m.maximal() {
		p := m.furthest(id)
		synced = synced && p.SyncedEnd >= m.hw
		if m.asked == Disk {
			ackEnds = append(ackEnds, p.SyncedEnd)
		} else {
			ackEnds = append(ackEnds, p.End)
		}
	}
	if len(m.committed) >= min(m.min, len(m.replicas)) {
		m.hw = max(m.hw, slices.Min(ackEnds))
	}
	m.onDisk = m.asked == Disk && (m.onDisk || synced)
}

func (m *model) take(a Assignment) {
	for _, id := range m.replicas {
		if !slices.Contains(a.Replicas, id) {
			delete(m.said, id)
			delete(m.session, id)
			delete(m.last, id)
		}
	}
	for i, p := range m.proposals { // members that went are no longer proposed
		m.proposals[i] = slices.DeleteFunc(p, func(id ID) bool { return !slices.Contains(a.Replicas, id) })
	}
	m.replicas, m.committed = slices.Clone(a.Replicas), slices.Clone(a.InSync)
	m.min, m.asked, m.pepoch = a.MinInSync, a.Durability, a.PartitionEpoch
}

func drawAssignment(t *rapid.T, epoch record.LeaderEpoch, pepoch int32) Assignment {
	a := Assignment{Epoch: epoch, PartitionEpoch: pepoch, Replicas: []ID{1}, InSync: []ID{1}}
	for id := ID(2); id <= 5; id++ {
		if rapid.Bool().Draw(t, "replica") {
			a.Replicas = append(a.Replicas, id)
			if rapid.Bool().Draw(t, "in sync") {
				a.InSync = append(a.InSync, id)
			}
		}
	}
	if rapid.Bool().Draw(t, "leader last") {
		slices.Reverse(a.Replicas)
	}
	a.MinInSync = rapid.IntRange(1, 4).Draw(t, "min ISR")
	a.Durability = Durability(rapid.IntRange(0, 1).Draw(t, "durability"))
	return a
}

func drawProgress(t *rapid.T) Progress {
	p := Progress{End: record.Offset(rapid.IntRange(0, 60).Draw(t, "end"))}
	p.SyncedEnd = record.Offset(rapid.IntRange(0, int(p.End)).Draw(t, "synced end"))
	return p
}

// TestLeaderIsItsModel drives the leader and the model with the same events
// and compares everything that can be seen.
func TestLeaderIsItsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := New(1)
		m := &model{self: 1, epoch: -1}
		h := log([2]int{0, 60})
		t.Repeat(map[string]func(*rapid.T){
			"lead": func(t *rapid.T) {
				a := drawAssignment(t, m.epoch+record.LeaderEpoch(rapid.IntRange(0, 2).Draw(t, "step")), 0)
				own, known := drawProgress(t), record.Offset(rapid.IntRange(0, 60).Draw(t, "known"))
				e := l.Lead(a, own, known)
				if e.Fenced != (a.Epoch <= m.epoch) {
					t.Fatalf("epoch %d after %d: fenced %v", a.Epoch, m.epoch, e.Fenced)
				}
				if e.Fenced {
					return
				}
				m.epoch, m.leading, m.proposals = a.Epoch, true, nil
				m.replicas, m.said = nil, map[ID][]Progress{1: {own}}
				m.session, m.last = map[ID]uint64{}, map[ID]uint64{}
				m.hw, m.onDisk = min(known, own.End), false
				m.take(a)
				m.conclude()
			},
			"resign": func(t *rapid.T) {
				m.epoch += record.LeaderEpoch(rapid.IntRange(0, 1).Draw(t, "step"))
				l.Resign(m.epoch)
				m.leading, m.proposals, m.session = false, nil, nil
			},
			"confirm": func(t *rapid.T) {
				a := drawAssignment(t, m.epoch, m.pepoch+int32(rapid.IntRange(-1, 2).Draw(t, "step")))
				e := l.Confirm(a)
				if stale := !m.leading || a.PartitionEpoch < m.pepoch; e.Fenced != stale {
					t.Fatalf("fenced %v, want %v", e.Fenced, stale)
				}
				if e.Fenced {
					return
				}
				if a.PartitionEpoch > m.pepoch {
					m.proposals = nil
				}
				m.take(a)
				m.conclude()
			},
			"propose": func(t *rapid.T) {
				if !m.leading {
					t.Skip()
				}
				isr := []ID{1}
				for id := ID(2); id <= 5; id++ {
					if rapid.Bool().Draw(t, "wanted") && slices.Contains(m.replicas, id) {
						isr = append(isr, id)
					}
				}
				l.propose(func(i int) bool { return slices.Contains(isr, l.members[i].id) })
				m.proposals = append(m.proposals, isr)
			},
			"refuse": func(t *rapid.T) {
				taken := m.leading && len(m.proposals) == 1
				if e := l.Refused(m.pepoch); e.Fenced == taken {
					t.Fatalf("fenced %v, %d proposals", e.Fenced, len(m.proposals))
				}
				if taken {
					m.proposals = nil
					m.conclude()
				}
			},
			"append": func(t *rapid.T) {
				p := drawProgress(t)
				if e := l.Advance(1, m.epoch, p); e.Fenced == m.leading {
					t.Fatalf("fenced %v while leading %v", e.Fenced, m.leading)
				}
				if m.leading {
					m.said[1] = append(m.said[1], p)
					m.conclude()
				}
			},
			"open": func(t *rapid.T) {
				id := ID(rapid.IntRange(2, 6).Draw(t, "replica"))
				o := Open{Session: uint64(rapid.IntRange(1, 20).Draw(t, "session")), Epoch: m.epoch, Progress: drawProgress(t)}
				part := rapid.Bool().Draw(t, "diverges")
				if part {
					o.LastEpoch, o.End = 0, o.End+61
				}
				a, e := l.Open(id, 1, o, h)
				taken := m.leading && slices.Contains(m.replicas, id) && o.Session > m.last[id]
				if e.Fenced == taken || (a.Error == NoError) != taken || a.Diverged != (taken && part) {
					t.Fatalf("%+v, %+v", a, e)
				}
				if !taken {
					return
				}
				m.last[id] = o.Session
				m.said[id] = nil
				delete(m.session, id)
				if !part {
					m.session[id] = o.Session
					m.said[id] = []Progress{o.Progress}
					l.members[l.index(id)].session.next = 60 // all of it is sent
				}
				m.conclude()
			},
			"ack": func(t *rapid.T) {
				id := ID(rapid.IntRange(2, 6).Draw(t, "replica"))
				a := Ack{
					Session: uint64(rapid.IntRange(1, 20).Draw(t, "session")), Progress: drawProgress(t),
					Epoch: m.epoch - record.LeaderEpoch(rapid.IntRange(0, 3).Draw(t, "age")/3),
				}
				if rapid.Bool().Draw(t, "current") {
					a.Session = max(1, m.session[id])
				}
				taken := m.leading && a.Epoch == m.epoch && m.session[id] == a.Session
				if e := l.Ack(id, a); e.Fenced == taken {
					t.Fatalf("fenced %v, want %v", e.Fenced, !taken)
				}
				if taken {
					m.said[id] = append(m.said[id], a.Progress)
					m.conclude()
				}
			},
			"close": func(t *rapid.T) {
				id := ID(rapid.IntRange(2, 6).Draw(t, "replica"))
				number := uint64(rapid.IntRange(1, 20).Draw(t, "session"))
				l.Close(id, number)
				if m.session[id] == number {
					delete(m.session, id)
				}
			},
			"": func(t *rapid.T) { equal(t, &l, m) },
		})
	})
}

func equal(t *rapid.T, l *Leader, m *model) {
	if l.Leading() != m.leading || l.Epoch() != m.epoch {
		t.Fatalf("leading %v in %d, want %v in %d", l.Leading(), l.Epoch(), m.leading, m.epoch)
	}
	if l.HighWatermark() != m.hw {
		t.Fatalf("high watermark %d, want %d", l.HighWatermark(), m.hw)
	}
	if !m.leading {
		return
	}
	own := m.furthest(m.self)
	ackEnd, readable := own.End, min(m.hw, own.End)
	if m.asked == Disk {
		ackEnd = own.SyncedEnd
	}
	if m.onDisk {
		readable = min(m.hw, own.SyncedEnd)
	}
	if l.OwnAckEnd() != ackEnd || l.ReadableEnd() != readable || (l.Durability() == Disk) != m.onDisk {
		t.Fatalf("own ack end %d, readable end %d, %v; want %d, %d, on disk %v",
			l.OwnAckEnd(), l.ReadableEnd(), l.Durability(), ackEnd, readable, m.onDisk)
	}
	if l.InSync() != len(m.committed) || l.EffectiveMinInSync() != min(m.min, len(m.replicas)) {
		t.Fatalf("in sync %d of at least %d", l.InSync(), l.EffectiveMinInSync())
	}
}
