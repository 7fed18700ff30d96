package millstream

import (
	"context"
	"time"

	"google.golang.org/grpc/connectivity"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// maxDrainWait bounds how long a stream is not opened again after the server
// said that it stops.
const maxDrainWait = 3 * time.Second

// watch notes each time that the connection to a server is gone, until the
// client is closed.
func (c *Client) watch() {
	state := c.conn.GetState()
	for c.conn.WaitForStateChange(c.ctx, state) {
		was := state
		if state = c.conn.GetState(); was == connectivity.Ready {
			c.mu.Lock()
			close(c.departed)
			c.departed = make(chan struct{})
			c.mu.Unlock()
		}
	}
}

// departure returns a channel that is closed when the connection of now is
// gone.
func (c *Client) departure() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.departed
}

// awaitDrained waits until the connection is gone that a stream was on whose
// server stops, so that nothing is sent to it any more. gone is the departure as
// it was when the stream was opened. WHY not the state of now: another stream of
// the client may have had it connect to the next server, which does not go away.
func (c *Client) awaitDrained(ctx context.Context, d *pb.Drain, gone <-chan struct{}) {
	t := time.NewTimer(min(time.Duration(d.GetDeadlineMs())*time.Millisecond, maxDrainWait))
	defer t.Stop()
	select {
	case <-gone:
	case <-t.C:
	case <-ctx.Done():
	}
}
