package chaos

import (
	"errors"
	"fmt"
	"sync"
)

// guard knows which processes are meant to end, and notes those that end by
// themselves: a broker that crashes is a failure, whatever the history says.
//
// INVARIANT: what is expected is the end of one process of a member, and not of
// the one before or after it. So it has no goroutine that waits for ends, and
// might see one late: it looks whether a process has ended before it is meant
// to, before another takes its place, and at the verdict.
type guard struct {
	mu       sync.Mutex // guards what follows
	running  map[member]watched
	failures []error
}

// member is what the guard knows of a [cluster.Member].
type member interface {
	Name() string
	LogFile() string
	Exited() <-chan struct{}
}

// watched is the process of a member that was last started.
type watched struct {
	exited   <-chan struct{}
	expected bool // it is meant to end
}

func (w watched) hasExited() bool {
	select {
	case <-w.exited:
		return true
	default:
		return false
	}
}

// started watches a process that was started.
// REQUIRES: the one before of its member has ended.
func (g *guard) started(m member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.look(m)
	if g.running == nil {
		g.running = make(map[member]watched)
	}
	g.running[m] = watched{exited: m.Exited()}
}

// look notes it if the process of a member has ended by itself.
// REQUIRES: mu is held.
func (g *guard) look(m member) {
	w, ok := g.running[m]
	if !ok || !w.hasExited() {
		return
	}
	delete(g.running, m)
	if !w.expected {
		g.failures = append(g.failures, fmt.Errorf("%s ended by itself: see %s", m.Name(), m.LogFile()))
	}
}

// expect says that a process is about to be ended.
func (g *guard) expect(m member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.expectOne(m)
}

// expectOne does expect.
// REQUIRES: mu is held.
func (g *guard) expectOne(m member) {
	g.look(m)
	if w, ok := g.running[m]; ok {
		w.expected = true
		g.running[m] = w
	}
}

// expectAll says that all are about to be ended.
func (g *guard) expectAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for m := range g.running {
		g.expectOne(m)
	}
}

// note notes a failure that no rule sees.
func (g *guard) note(err error) {
	g.mu.Lock()
	g.failures = append(g.failures, err)
	g.mu.Unlock()
}

// verdict returns what was noted.
func (g *guard) verdict() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for m := range g.running {
		g.look(m)
	}
	return errors.Join(g.failures...)
}
