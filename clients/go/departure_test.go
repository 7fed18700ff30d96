package millstream

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/millstream-io/millstream/clients/go/internal/faketest"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// A stream whose server stops waits until its connection is gone. When another
// stream of the client has found the next server meanwhile, nothing is left to
// wait for.
func TestADrainedStreamDoesNotWaitForTheNextConnection(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	c, err := New(Options{Addr: faketest.Addr, DialOptions: []grpc.DialOption{s.Dialer()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	connect := func() {
		t.Helper()
		for {
			if _, err := c.Topics().GetTopic(ctx, &pb.GetTopicRequest{Topic: "t"}, grpc.WaitForReady(true)); err == nil {
				return
			} else if ctx.Err() != nil {
				t.Fatal(err)
			}
		}
	}
	await := func(ms uint32, gone <-chan struct{}) time.Duration {
		begun := time.Now()
		c.awaitDrained(ctx, &pb.Drain{DeadlineMs: ms}, gone)
		return time.Since(begun)
	}
	connect()
	gone := c.departure()
	s.Stop()
	s.Start()
	connect()
	if took := await(3000, gone); took > 2*time.Second {
		t.Errorf("it waited %v for a connection that is gone", took)
	}
	if took := await(50, c.departure()); took < 50*time.Millisecond {
		t.Errorf("it waited only %v for a connection that is there", took)
	}
}
