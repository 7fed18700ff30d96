package chaos

import (
	"errors"
	"fmt"
	"sync"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
)

// guard knows which processes are meant to end, and notes those that end by
// themselves: a broker that crashes is a failure, whatever the history says.
type guard struct {
	mu       sync.Mutex // guards what follows
	expected map[*cluster.Member]bool
	all      bool // every end is expected
	failures []error
}

// watch watches the processes of a cluster that has started.
func (g *guard) watch(c *cluster.Cluster) {
	for _, m := range append(c.Controllers(), c.Brokers()...) {
		g.started(m)
	}
}

// started watches a process that was started.
func (g *guard) started(m *cluster.Member) {
	g.mu.Lock()
	if g.expected == nil {
		g.expected = make(map[*cluster.Member]bool)
	}
	delete(g.expected, m)
	g.mu.Unlock()
	exited := m.Exited()
	go func() { // it ends with the process
		<-exited
		g.mu.Lock()
		defer g.mu.Unlock()
		if !g.expected[m] && !g.all {
			g.failures = append(g.failures, fmt.Errorf("%s ended by itself: see %s", m.Name(), m.LogFile()))
		}
	}()
}

// expect says that a process is about to be ended.
func (g *guard) expect(m *cluster.Member) {
	g.mu.Lock()
	g.expected[m] = true
	g.mu.Unlock()
}

// expectAll says that all are about to be ended.
func (g *guard) expectAll() {
	g.mu.Lock()
	g.all = true
	g.mu.Unlock()
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
	return errors.Join(g.failures...)
}
