package pusher

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	replicationv1 "github.com/millstream-io/millstream/gen/go/millstream/replication/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/record"
)

// call is a stream that nothing comes on until it ends.
type call struct {
	grpc.ServerStream

	ctx   context.Context //nolint:containedctx // as grpc.ServerStream has one
	hello *replicationv1.FollowerHello
}

func (c *call) Context() context.Context { return c.ctx }

func (c *call) Send(*replicationv1.ReplicateResponse) error { return nil }

func (c *call) Recv() (*replicationv1.ReplicateRequest, error) {
	if h := c.hello; h != nil {
		c.hello = nil
		return &replicationv1.ReplicateRequest{Hello: h}, nil
	}
	<-c.ctx.Done()
	return nil, c.ctx.Err()
}

// follow opens a stream of broker 2, and returns what ends it.
func follow(s *Service, lane replicationv1.Lane) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = s.Replicate(&call{ctx: ctx, hello: &replicationv1.FollowerHello{ClusterId: make([]byte, 16), BrokerId: 2, BrokerEpoch: 7, Lane: lane}})
	}()
	return func() {
		cancel()
		<-over
	}
}

func TestABrokerIsAwayWhenItHasHadNoStreamForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{
			Self: 1, Identity: func() Identity { return Identity{} }, Epoch: func(int32) int64 { return 0 },
			Partition: func(record.TopicID, record.PartitionID) *partition.Partition { return nil },
		})
		want := func(when string, away bool) {
			t.Helper()
			synctest.Wait()
			if s.Away(2) != away {
				t.Errorf("%s: away is %v", when, !away)
			}
		}
		want("this broker has just begun", false)
		<-time.After(awayAfter)
		want("it never came", true)
		s.o.Epoch = func(int32) int64 { return 7 }
		tail, other := follow(s, replicationv1.Lane_LANE_TAIL), follow(s, replicationv1.Lane_LANE_CATCH_UP)
		want("it has two streams", false)
		tail()
		<-time.After(2 * awayAfter)
		want("it has one", false)
		other()
		want("it has just gone", false)
		<-time.After(awayAfter)
		want("it has been gone", true)
		tail = follow(s, replicationv1.Lane_LANE_TAIL)
		want("it is back", false)
		tail()
	})
}
