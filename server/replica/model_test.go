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
	proposed  []ID // nil: no proposal is open
	min       int
	asked     Durability
	said      map[ID][]Progress // of this epoch, since the member joined
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
		if slices.Contains(m.committed, id) || slices.Contains(m.proposed, id) {
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
		}
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
				m.epoch, m.leading, m.proposed = a.Epoch, true, nil
				m.replicas, m.said = nil, map[ID][]Progress{1: {own}}
				m.hw, m.onDisk = min(known, own.End), false
				m.take(a)
				m.conclude()
			},
			"resign": func(t *rapid.T) {
				m.epoch += record.LeaderEpoch(rapid.IntRange(0, 1).Draw(t, "step"))
				l.Resign(m.epoch)
				m.leading, m.proposed = false, nil
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
					m.proposed = nil
				}
				if m.proposed != nil { // members that went are no longer proposed
					m.proposed = slices.DeleteFunc(m.proposed, func(id ID) bool { return !slices.Contains(a.Replicas, id) })
				}
				m.take(a)
				m.conclude()
			},
			"propose": func(t *rapid.T) {
				isr := []ID{1}
				for id := ID(2); id <= 5; id++ {
					if rapid.Bool().Draw(t, "wanted") {
						isr = append(isr, id)
					}
				}
				if e := l.Propose(isr); e.Fenced == m.leading {
					t.Fatalf("fenced %v while leading %v", e.Fenced, m.leading)
				}
				if m.leading {
					m.proposed = slices.DeleteFunc(isr, func(id ID) bool { return !slices.Contains(m.replicas, id) })
					m.conclude()
				}
			},
			"advance": func(t *rapid.T) {
				id := ID(rapid.IntRange(1, 6).Draw(t, "replica"))
				epoch := m.epoch - record.LeaderEpoch(rapid.IntRange(0, 3).Draw(t, "age")/3)
				p := drawProgress(t)
				taken := m.leading && epoch == m.epoch && slices.Contains(m.replicas, id)
				if e := l.Advance(id, epoch, p); e.Fenced == taken {
					t.Fatalf("fenced %v, want %v", e.Fenced, !taken)
				}
				if taken {
					m.said[id] = append(m.said[id], p)
					m.conclude()
				}
			},
			"": func(t *rapid.T) { compare(t, &l, m) },
		})
	})
}

func compare(t *rapid.T, l *Leader, m *model) {
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
