package forward

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// BusyError says that as many calls to a broker are open as may be: nothing was
// sent.
type BusyError struct {
	Broker int32
	// Most is how many may be.
	Most int
}

// Error says it for people.
func (e *BusyError) Error() string {
	return fmt.Sprintf("%d calls to broker %d, which leads, are open already", e.Most, e.Broker)
}

// Calls bounds the calls that are open to each of the other brokers. Its
// methods are safe for concurrent use.
//
// WHY: a broker takes so many streams on the one connection that another has to
// it, and what comes beyond would wait in the transport for as long as the
// others last, which nobody is told of.
type Calls struct {
	peers   Peers
	most    int
	refused atomic.Uint64

	mu   sync.Mutex // guards what follows
	open map[int32]int
	all  int
}

// NewCalls returns the calls to peers, so many to each at the most.
func NewCalls(peers Peers, most int) *Calls {
	return &Calls{peers: peers, most: most, open: make(map[int32]int)}
}

// Open returns how many calls are open; of nil none is.
func (c *Calls) Open() int64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(c.all)
}

// Refused returns how many calls were refused.
func (c *Calls) Refused() uint64 {
	if c == nil {
		return 0
	}
	return c.refused.Load()
}

// begin counts a call, or fails with *BusyError.
func (c *Calls) begin(broker int32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[broker] >= c.most {
		c.refused.Add(1)
		return &BusyError{Broker: broker, Most: c.most}
	}
	c.open[broker]++
	c.all++
	return nil
}

// end counts a call no longer.
func (c *Calls) end(broker int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.open[broker]--; c.open[broker] == 0 {
		delete(c.open, broker)
	}
}

// endWith counts a call no longer when its context has ended.
func (c *Calls) endWith(ctx context.Context, broker int32) {
	context.AfterFunc(ctx, func() { c.end(broker) })
}
