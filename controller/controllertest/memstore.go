package controllertest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/millstream-io/millstream/controller/backup"
	"github.com/millstream-io/millstream/controller/store"
)

// ErrInjected is the error of a fault that a test asked for.
var ErrInjected = errors.New("injected fault")

// Fault says what happens to a transaction.
type Fault uint8

// The faults.
const (
	// None lets it pass.
	None Fault = iota
	// Lost fails it without carrying it out.
	Lost
	// Unheard carries it out and fails it.
	Unheard
	// Full refuses it, as a store without space does.
	Full
)

// MemStore is a store.KV in memory, without a quorum to lose. Several
// controllers may share one. Its methods may be called from any goroutine.
type MemStore struct {
	mu       sync.Mutex // guards what follows
	revision int64
	oldest   int64 // revisions before it are compacted
	entries  map[string]store.Entry
	log      []store.Event
	changed  chan struct{} // closed and replaced at each change
	fault    func(txn int) Fault
	txns     int
}

// NewMemStore returns an empty store.
func NewMemStore() *MemStore {
	return &MemStore{revision: 1, entries: map[string]store.Entry{}, changed: make(chan struct{})}
}

// Inject has every transaction from now on, counted from 0, meet the fault
// that f returns for it; nil: none.
func (m *MemStore) Inject(f func(txn int) Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault, m.txns = f, 0
}

// Compact forgets all changes so far, and ends the watches that have not seen
// them.
func (m *MemStore) Compact() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log, m.oldest = nil, m.revision
	m.wake()
}

// Entries returns what the store holds, by key.
func (m *MemStore) Entries() []store.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.entries), func(a, b store.Entry) int { return cmp.Compare(a.Key, b.Key) })
}

func (m *MemStore) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Txn is part of store.KV.
func (m *MemStore) Txn(_ context.Context, t store.Txn) (int64, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fault := None
	if m.fault != nil {
		fault = m.fault(m.txns)
	}
	m.txns++
	switch {
	case len(t.Compares) > store.MaxOps+1 || len(t.Ops) > store.MaxOps+1:
		return 0, false, errors.New("too many operations")
	case fault == Lost:
		return 0, false, ErrInjected
	case fault == Full:
		return 0, false, store.ErrFull
	}
	for _, c := range t.Compares {
		if m.entries[c.Key].Revision != c.Revision {
			return m.revision, false, nil
		}
	}
	before := len(m.log)
	m.revision++
	for _, o := range t.Ops {
		m.carryOut(o)
	}
	if len(m.log) == before {
		m.revision-- // as in etcd: what changes nothing makes no revision
	}
	m.wake()
	if fault == Unheard {
		return 0, false, ErrInjected
	}
	return m.revision, true, nil
}

func (m *MemStore) carryOut(o store.Op) {
	if o.Kind == store.OpPut {
		e := store.Entry{Key: o.Key, Value: slices.Clone(o.Value), Revision: m.revision}
		m.entries[o.Key] = e
		m.log = append(m.log, store.Event{Entry: e})
		return
	}
	for _, k := range slices.Sorted(maps.Keys(m.entries)) {
		if k == o.Key || o.Kind == store.OpDeletePrefix && strings.HasPrefix(k, o.Key) {
			delete(m.entries, k)
			m.log = append(m.log, store.Event{Entry: store.Entry{Key: k, Revision: m.revision}, Deleted: true})
		}
	}
}

// Range is part of store.KV. Of old revisions it knows only that nothing may
// have changed since.
func (m *MemStore) Range(_ context.Context, r store.Range) (store.Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.Revision != 0 && r.Revision != m.revision {
		return store.Page{}, &store.CompactedError{Asked: r.Revision}
	}
	p := store.Page{Revision: m.revision}
	for _, k := range slices.Sorted(maps.Keys(m.entries)) {
		if !strings.HasPrefix(k, r.Prefix) || k <= r.After {
			continue
		}
		if int64(len(p.Entries)) == r.Limit {
			p.More = true
			break
		}
		p.Entries = append(p.Entries, m.entries[k])
	}
	return p, nil
}

// Watch is part of store.KV.
func (m *MemStore) Watch(ctx context.Context, prefix string, from int64, apply func([]store.Event) error) error {
	for {
		events, changed, err := m.since(prefix, from)
		if err != nil {
			return err
		}
		if len(events) > 0 {
			if err := apply(events); err != nil {
				return err
			}
			from = events[len(events)-1].Revision + 1
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (m *MemStore) since(prefix string, from int64) ([]store.Event, <-chan struct{}, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if from <= m.oldest {
		return nil, nil, &store.CompactedError{Asked: from, Oldest: m.oldest}
	}
	var es []store.Event
	for _, e := range m.log {
		if e.Revision >= from && strings.HasPrefix(e.Key, prefix) {
			es = append(es, e)
		}
	}
	return es, m.changed, nil
}

// Leader is a leadership that a test decides.
type Leader struct {
	mu      sync.Mutex // guards what follows
	term    uint64
	leading bool
	changed chan struct{}
}

// NewLeader returns a leadership that leads in that term; 0: that does not.
func NewLeader(term uint64) *Leader {
	return &Leader{term: term, leading: term > 0, changed: make(chan struct{})}
}

// Set changes it, and tells so.
func (l *Leader) Set(term uint64, leading bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.term, l.leading = term, leading
	close(l.changed)
	l.changed = make(chan struct{})
}

// Leadership is part of reconcile.Leadership.
func (l *Leader) Leadership() (uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.term, l.leading
}

// LeaderKnown is part of reconcile.Leadership.
func (l *Leader) LeaderKnown() bool {
	term, _ := l.Leadership()
	return term > 0
}

// LeadershipChanged is part of reconcile.Leadership.
func (l *Leader) LeadershipChanged() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// NewRestoredStore returns a store that begins with what was restored.
func NewRestoredStore(r *backup.Restored) *MemStore {
	m := NewMemStore()
	m.revision, m.oldest = r.Revision, r.Revision
	for _, e := range r.Entries {
		m.entries[e.Key] = e
	}
	return m
}
