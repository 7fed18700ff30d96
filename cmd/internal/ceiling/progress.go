package ceiling

import (
	"slices"
	"sync"
)

// progress is how many bytes each of the servers has.
type progress struct {
	need int           // so many followers must have what is committed
	wake chan struct{} // capacity 1; never closed: something has come

	mu        sync.Mutex // guards what follows; nothing is done under it
	leader    int64
	followers []int64
	sorted    []int64 // used by committed
}

func newProgress(followers, need int) *progress {
	return &progress{need: need, wake: make(chan struct{}, 1), followers: make([]int64, followers), sorted: make([]int64, followers)}
}

// own notes how much the leader has.
func (p *progress) own(end int64) {
	p.mu.Lock()
	p.leader = end
	p.mu.Unlock()
	p.changed()
}

// follower notes how much a follower has, counted from 0.
func (p *progress) follower(i int, end int64) {
	p.mu.Lock()
	p.followers[i] = end
	p.mu.Unlock()
	p.changed()
}

func (p *progress) changed() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// committed returns how much may be answered, and everywhere how much all have.
func (p *progress) committed() (committed, everywhere int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.followers) == 0 {
		return p.leader, p.leader
	}
	copy(p.sorted, p.followers)
	slices.Sort(p.sorted)
	committed, everywhere = p.leader, min(p.leader, p.sorted[0])
	if p.need > 0 {
		committed = min(committed, p.sorted[len(p.sorted)-p.need])
	}
	return committed, everywhere
}
