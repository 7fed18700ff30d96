package millstream_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
)

// ledElsewhere returns a cluster with a topic, who leads its partition, and a
// broker that does not.
func ledElsewhere(t *testing.T) (c *servertest.Cluster, leads, asked *servertest.Member) {
	t.Helper()
	c = servertest.StartCluster(t, servertest.ClusterOptions{})
	if _, err := c.Members[0].Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "t", PartitionCount: 1, ReplicationFactor: 3}); err != nil {
		t.Fatal(err)
	}
	leads, asked = leader(t, c), c.Members[0]
	if leads == asked {
		asked = c.Members[1]
	}
	if _, err := asked.Metadata.WaitFor(inTime(t), func(s *metadata.Snapshot) bool { return s.TopicByName("t") != nil }); err != nil {
		t.Fatal(err)
	}
	return c, leads, asked
}

// startProducer returns a producer that is told of one broker and connects by
// dial.
func startProducer(t *testing.T, asked *servertest.Member, onlyAddr bool, dial func(context.Context, string) (net.Conn, error)) *millstream.Producer {
	t.Helper()
	client, err := millstream.New(millstream.Options{
		Addr: "passthrough:///" + asked.Address(), OnlyAddr: onlyAddr, DialOptions: []grpc.DialOption{grpc.WithContextDialer(dial)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	p, err := client.NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// appendUntil appends one record after the other, each at the offset after the
// one before, until enough is true.
func appendUntil(t *testing.T, p *millstream.Producer, next *int64, enough func() bool) {
	t.Helper()
	for ctx := inTime(t); !enough(); *next++ {
		place, err := p.AppendSync(ctx, millstream.Record{Value: value(int(*next))})
		if err != nil {
			t.Fatal(err)
		}
		if place.Offset != *next {
			t.Fatalf("record %d is at %d", *next, place.Offset)
		}
	}
}

// Once an answer has named the leader, the broker that was asked is not needed
// any more.
func TestAProducerGoesToTheLeader(t *testing.T) {
	c, leads, asked := ledElsewhere(t)
	var direct atomic.Bool
	p := startProducer(t, asked, false, func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := c.DialPublic(ctx, addr)
		if err == nil && addr == leads.Address() {
			direct.Store(true)
		}
		return conn, err
	})
	next := int64(0)
	appendUntil(t, p, &next, direct.Load)
	upTo := next + 200 // the connection is used a little after it is there
	appendUntil(t, p, &next, func() bool { return next >= upTo })
	asked.Kill()
	upTo += 200
	appendUntil(t, p, &next, func() bool { return next >= upTo })
	if err := p.Close(inTime(t)); err != nil {
		t.Error(err)
	}
}

func TestALeaderThatCannotBeReachedIsReachedThroughAnother(t *testing.T) {
	c, leads, asked := ledElsewhere(t)
	var tried atomic.Int32
	p := startProducer(t, asked, false, func(ctx context.Context, addr string) (net.Conn, error) {
		if addr == leads.Address() {
			tried.Add(1)
			return nil, errors.New("not from here")
		}
		return c.DialPublic(ctx, addr)
	})
	next := int64(0)
	appendUntil(t, p, &next, func() bool { return tried.Load() > 0 })
	upTo := next + 200
	appendUntil(t, p, &next, func() bool { return next >= upTo })
	if n := tried.Load(); n > 2 {
		t.Errorf("a leader that cannot be reached was tried %d times at once", n)
	}
	if err := p.Close(inTime(t)); err != nil {
		t.Error(err)
	}
}

func TestOnlyTheAddressThatIsGivenIsUsed(t *testing.T) {
	c, _, asked := ledElsewhere(t)
	var others atomic.Int32
	p := startProducer(t, asked, true, func(ctx context.Context, addr string) (net.Conn, error) {
		if addr != asked.Address() {
			others.Add(1)
		}
		return c.DialPublic(ctx, addr)
	})
	next := int64(0)
	appendUntil(t, p, &next, func() bool { return next >= 200 })
	if n := others.Load(); n > 0 {
		t.Errorf("%d connections elsewhere", n)
	}
	if err := p.Close(inTime(t)); err != nil {
		t.Error(err)
	}
}
