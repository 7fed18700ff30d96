package millstream_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/clients/go/internal/faketest"
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

// startClient returns a client that is told of one broker and connects by dial.
func startClient(t *testing.T, asked *servertest.Member, onlyAddr bool, dial func(context.Context, string) (net.Conn, error)) *millstream.Client {
	t.Helper()
	client, err := millstream.New(millstream.Options{
		Addr: "passthrough:///" + asked.Address(), OnlyAddr: onlyAddr, DialOptions: []grpc.DialOption{grpc.WithContextDialer(dial)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// startProducer returns a producer of such a client.
func startProducer(t *testing.T, asked *servertest.Member, onlyAddr bool, dial func(context.Context, string) (net.Conn, error)) *millstream.Producer {
	t.Helper()
	p, err := startClient(t, asked, onlyAddr, dial).NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t"})
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

// A broker may know who leads and not get through to it. Who is told goes there
// itself, though nothing was acknowledged yet, and once for each time it is told.
func TestAProducerGoesWhereItIsRerouted(t *testing.T) {
	const there = "leader:1"
	for name, c := range map[string]struct {
		reroute *pb.Reroute
		goes    bool
	}{
		"to the leader":               {&pb.Reroute{Topic: "t", Partition: 1, Leader: &pb.LeaderHint{BrokerId: 2, Address: there}}, true},
		"of another topic":            {&pb.Reroute{Topic: "u", Partition: 1, Leader: &pb.LeaderHint{BrokerId: 2, Address: there}}, false},
		"of a partition that is none": {&pb.Reroute{Topic: "t", Partition: 9, Leader: &pb.LeaderHint{BrokerId: 2, Address: there}}, false},
		"to nobody":                   {&pb.Reroute{Topic: "t", Partition: 1, Leader: &pb.LeaderHint{BrokerId: -1}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			asked, leads := faketest.New(t, "t", 2, nil), faketest.New(t, "t", 2, nil)
			refusals := make(chan struct{}, 1000)
			asked.OnProduce = func(*pb.ProduceRequest) faketest.Verdict {
				refusals <- struct{}{}
				return faketest.Verdict{Reroute: c.reroute, Error: &pb.RequestError{
					Code: uint32(codes.Unavailable), Reason: pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE, Retryable: true,
				}}
			}
			client, err := millstream.New(millstream.Options{
				Addr: faketest.Addr, DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
					if addr == there {
						return leads.Dial(ctx)
					}
					return asked.Dial(ctx)
				})},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(client.Close)
			p, err := client.NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t", RetryFor: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			pending, err := p.AppendTo(inTime(t), 1, millstream.Record{Value: value(0)})
			if err != nil {
				t.Fatal(err)
			}
			if !c.goes {
				for range 3 {
					<-refusals // it is asked again, here
				}
				if n := len(leads.Log("t", 1).Records()); n != 0 {
					t.Errorf("the other broker has %d records", n)
				}
				return
			}
			if _, err := pending.Wait(inTime(t)); err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				if _, err := p.AppendTo(inTime(t), 1, millstream.Record{Value: value(i + 1)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.Close(inTime(t)); err != nil {
				t.Error(err)
			}
			wantValues(t, leads.Log("t", 1), 101)
		})
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

// readTo reads up to an offset: every record once, in order.
func readTo(t *testing.T, r *millstream.Reader, next *int64, to int64) {
	t.Helper()
	for ctx := inTime(t); *next < to; *next++ {
		record, err := r.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if record.Offset != *next || string(record.Value) != string(value(int(*next))) {
			t.Fatalf("offset %d is %s, and %d is the next", record.Offset, record.Value, *next)
		}
	}
}

// As a producer does; and one that cannot reach the leader goes on reading
// through the broker that was asked.
func TestAReaderGoesToTheLeader(t *testing.T) {
	c, leads, asked := ledElsewhere(t)
	var direct, refused atomic.Bool
	far := func(ctx context.Context, addr string) (net.Conn, error) {
		if addr == leads.Address() {
			refused.Store(true)
			return nil, errors.New("not from here")
		}
		return c.DialPublic(ctx, addr)
	}
	near := func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := c.DialPublic(ctx, addr)
		if err == nil && addr == leads.Address() {
			direct.Store(true)
		}
		return conn, err
	}
	p := startProducer(t, leads, true, c.DialPublic)
	written := int64(0)
	write := func(n int64) {
		upTo := written + n
		appendUntil(t, p, &written, func() bool { return written >= upTo })
	}
	start := func(dial func(context.Context, string) (net.Conn, error)) *millstream.Reader {
		r, err := startClient(t, asked, false, dial).NewReader(inTime(t), millstream.ReaderOptions{Topic: "t"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		return r
	}
	one, two := start(near), start(far)
	var readOne, readTwo int64
	for !direct.Load() || !refused.Load() {
		write(10)
		readTo(t, one, &readOne, written)
		readTo(t, two, &readTwo, written)
	}
	write(200)
	readTo(t, one, &readOne, written)
	readTo(t, two, &readTwo, written)
	asked.Kill()
	write(200)
	readTo(t, one, &readOne, written)
	if err := p.Close(inTime(t)); err != nil {
		t.Error(err)
	}
}

// With many partitions a reader has a stream to each broker, and ends when it
// has the end of each partition.
func TestAReaderOfAllPartitionsEnds(t *testing.T) {
	c := servertest.StartCluster(t, servertest.ClusterOptions{})
	const partitions, each = 12, 300
	if _, err := c.Members[0].Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "t", PartitionCount: partitions, ReplicationFactor: 3}); err != nil {
		t.Fatal(err)
	}
	var dialed sync.Map
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := c.DialPublic(ctx, addr)
		if err == nil {
			dialed.Store(addr, true)
		}
		return conn, err
	}
	client := startClient(t, c.Members[0], false, dial)
	p, err := client.NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	for n := range each {
		for i := range uint32(partitions) {
			if _, err := p.AppendTo(inTime(t), i, millstream.Record{Value: value(n)}); err != nil {
				t.Fatal(err)
			}
		}
		if n%10 == 0 { // batches of a size that makes many frames
			if err := p.Flush(inTime(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := p.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
	r, err := client.NewReader(inTime(t), millstream.ReaderOptions{Topic: "t", UntilEnd: true, FrameBytes: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next := make([]int64, partitions)
	for record, err := range r.Records(inTime(t)) {
		if err != nil {
			t.Fatal(err)
		}
		if record.Offset != next[record.Partition] || string(record.Value) != string(value(int(record.Offset))) {
			t.Fatalf("offset %d of partition %d is %s, and %d is the next", record.Offset, record.Partition, record.Value, next[record.Partition])
		}
		next[record.Partition]++
	}
	for i, n := range next {
		if n != each {
			t.Errorf("partition %d ends after %d records", i, n)
		}
	}
	for _, m := range c.Members {
		if _, ok := dialed.Load(m.Address()); !ok {
			t.Errorf("nobody went to %s", m.Address())
		}
	}
}

// A leader that does not answer at its address holds up nobody who has read all.
func TestAReaderEndsWhileALeaderIsBeingReached(t *testing.T) {
	c, leads, asked := ledElsewhere(t)
	p := startProducer(t, asked, true, c.DialPublic)
	next := int64(0)
	appendUntil(t, p, &next, func() bool { return next >= 20 })
	if err := p.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
	client := startClient(t, asked, false, func(ctx context.Context, addr string) (net.Conn, error) {
		if addr == leads.Address() {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return c.DialPublic(ctx, addr)
	})
	r, err := client.NewReader(inTime(t), millstream.ReaderOptions{Topic: "t", UntilEnd: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	began, read := time.Now(), int64(0)
	for _, err := range r.Records(inTime(t)) {
		if err != nil {
			t.Fatal(err)
		}
		read++
	}
	if took := time.Since(began); read != next || took > 4*time.Second {
		t.Errorf("read %d records of %d in %v", read, next, took)
	}
}

// A leader that is cut off from all others cannot be sure that it leads, and is
// the broker that the reader asks. Others know who leads by now.
func TestAReaderLeavesALeaderThatCannotBeSure(t *testing.T) {
	c := servertest.StartCluster(t, servertest.ClusterOptions{})
	if _, err := c.Members[0].Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "t", PartitionCount: 1, ReplicationFactor: 3}); err != nil {
		t.Fatal(err)
	}
	old := leader(t, c)
	addrs, next := old.Address(), (*servertest.Member)(nil)
	for _, m := range c.Members {
		if m != old {
			addrs, next = addrs+","+m.Address(), m
		}
	}
	if _, err := old.Metadata.WaitFor(inTime(t), func(s *metadata.Snapshot) bool { return len(s.TopicByName("t").Partitions[0].ISR) == 3 }); err != nil {
		t.Fatal(err)
	}
	client, err := millstream.New(millstream.Options{Addr: addrs, DialOptions: []grpc.DialOption{grpc.WithContextDialer(c.DialPublic)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	written, read := int64(0), int64(0)
	append10 := func(m *servertest.Member) {
		p := startProducer(t, m, true, c.DialPublic)
		upTo := written + 10
		appendUntil(t, p, &written, func() bool { return written >= upTo })
		if err := p.Close(inTime(t)); err != nil {
			t.Fatal(err)
		}
	}
	append10(old)
	r, err := client.NewReader(inTime(t), millstream.ReaderOptions{Topic: "t", RetryFor: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	readTo(t, r, &read, written)
	old.Isolate()
	if _, err := next.Metadata.WaitFor(inTime(t), func(s *metadata.Snapshot) bool {
		leads := s.TopicByName("t").Partitions[0].Leader
		return leads >= 0 && leads != old.ID
	}); err != nil {
		t.Fatal(err)
	}
	append10(next)
	readTo(t, r, &read, written)
}
