package reconcile_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/controllertest"
	"github.com/millstream-io/millstream/controller/image"
	"github.com/millstream-io/millstream/controller/reconcile"
	"github.com/millstream-io/millstream/controller/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	session = 8 * time.Second
	// patience bounds every call, on the clock of the bubble: calls take none
	// of it unless something is wrong.
	patience = time.Minute
)

// story runs a test in a bubble, where time goes on only when everybody waits.
func story(t *testing.T, f func(t *testing.T, kv *controllertest.MemStore)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, controllertest.NewMemStore()) })
}

// pass lets time go by.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// controller is a loop with its image, reached without gRPC.
type controller struct {
	*reconcile.Loop
	img    *image.Image
	leader *controllertest.Leader
	later  atomic.Int64 // added to the time of day, in nanoseconds
	t      *testing.T
}

// start runs a controller on a store, leading in that term; 0: not leading.
func start(t *testing.T, kv store.KV, id int32, term uint64, change ...func(*reconcile.Options)) *controller {
	t.Helper()
	c := &controller{img: image.New(kv, controllertest.Logger(t)), leader: controllertest.NewLeader(term), t: t}
	o := reconcile.Options{
		ControllerID: id, KV: kv, Leadership: c.leader, Image: c.img, SessionTimeout: session, ReplicationFactor: 1,
		Now: func() time.Time { return time.Now().Add(time.Duration(c.later.Load())) }, Logger: controllertest.Logger(t),
	}
	for _, f := range change {
		f(&o)
	}
	c.Loop = reconcile.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- c.img.Run(ctx) }()
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("controller %d ended with %v", id, err)
			}
		}
	})
	return c
}

// active starts controller 1 in term 1 and waits until it is active.
func active(t *testing.T, kv store.KV, change ...func(*reconcile.Options)) *controller {
	t.Helper()
	c := start(t, kv, 1, 1, change...)
	select {
	case <-c.Ready():
	case <-time.After(patience):
		t.Fatal("no controller is active")
	}
	return c
}

// direct has a test broker call the loop.
type direct struct {
	controllerv1.ControllerServiceClient
	loop *reconcile.Loop
}

func (d direct) RegisterBroker(ctx context.Context, r *controllerv1.RegisterBrokerRequest, _ ...grpc.CallOption) (*controllerv1.RegisterBrokerResponse, error) {
	return d.loop.RegisterBroker(ctx, r)
}

func (d direct) Heartbeat(ctx context.Context, r *controllerv1.HeartbeatRequest, _ ...grpc.CallOption) (*controllerv1.HeartbeatResponse, error) {
	return d.loop.Heartbeat(ctx, r)
}

func (c *controller) client() controllerv1.ControllerServiceClient { return direct{loop: c.Loop} }

// broker returns a broker that is registered and unfenced.
func (c *controller) broker(id int32) *controllertest.Broker {
	c.t.Helper()
	return controllertest.StartBroker(c.t, c.client(), id)
}

// brokers returns so many, from 1.
func (c *controller) brokers(n int32) []*controllertest.Broker {
	c.t.Helper()
	var bs []*controllertest.Broker
	for id := int32(1); id <= n; id++ {
		bs = append(bs, c.broker(id))
	}
	return bs
}

// create creates a topic or fails the test.
func (c *controller) create(r *controllerv1.CreateTopicRequest) *controllerv1.CreateTopicResponse {
	c.t.Helper()
	resp, err := within(c.CreateTopic, r)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// partition returns a partition of a topic, nil if there is none.
func (c *controller) partition(topic string, n int) *controllerv1.PartitionRecord {
	var p *controllerv1.PartitionRecord
	c.img.Read(func(v *image.View) {
		if t := v.TopicByName(topic); t != nil && n < len(t.Partitions) {
			p = t.Partitions[n].Record
		}
	})
	return p
}

// record returns a broker's record, nil if there is none.
func (c *controller) record(id int32) *controllerv1.BrokerRecord {
	var b *controllerv1.BrokerRecord
	c.img.Read(func(v *image.View) { b = v.Brokers[id].Record })
	return b
}

// within makes a call that has to end in time.
func within[Q, A any](call func(context.Context, Q) (A, error), q Q) (A, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return call(ctx, q)
}

func stopping(r *controllerv1.HeartbeatRequest) { r.Stopping, r.Ready = true, false }

func ask(topic string, partitions uint32, requestID string) *controllerv1.CreateTopicRequest {
	return &controllerv1.CreateTopicRequest{Topic: topic, PartitionCount: partitions, RequestId: requestID}
}
