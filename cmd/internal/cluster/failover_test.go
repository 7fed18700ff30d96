package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// leaderOf waits until a partition has all replicas in sync, and returns who
// leads it.
func (s *story) leaderOf(c *millstream.Client, topic string) *Member {
	s.t.Helper()
	ctx := s.within()
	for {
		r, err := c.Topics().GetTopic(ctx, &pb.GetTopicRequest{Topic: topic})
		if err == nil {
			p := r.GetPartitions()[0]
			if m := s.Broker(int(p.GetLeader().GetBrokerId())); m != nil && len(p.GetInSyncReplicas()) == 3 {
				return m
			}
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			s.t.Fatalf("partition 0 of %s is not in sync: %v", topic, err)
		}
	}
}

// The leader is killed five times under load: what was acknowledged is read
// once and in order, and the reader sees no error.
func TestClientsOutliveFiveDeathsOfTheLeader(t *testing.T) {
	if testing.Short() {
		t.Skip("starts six processes")
	}
	s := open(t, t.TempDir(), 0)
	s.check(s.Start(s.within()))
	var addrs []string
	for _, m := range s.Brokers() {
		addrs = append(addrs, m.GRPCAddr)
	}
	client, err := millstream.New(millstream.Options{Addr: strings.Join(addrs, ",")})
	s.check(err)
	defer client.Close()
	_, err = client.Topics().CreateTopic(s.within(), &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 1, ReplicationFactor: 3})
	s.check(err)

	p, err := client.NewProducer(s.within(), millstream.ProducerOptions{Topic: "orders"})
	s.check(err)
	var stop atomic.Bool
	type written struct {
		acked, unknown map[int]bool
		last           int
		err            error
	}
	writing := make(chan written, 1)
	go func() {
		w := written{acked: map[int]bool{}, unknown: map[int]bool{}}
		for w.err == nil {
			// A few at once, so that some are in flight when the leader dies.
			var some []millstream.Pending
			for i := range 50 {
				pending, err := p.AppendTo(t.Context(), 0, millstream.Record{Value: []byte(strconv.Itoa(w.last + i))})
				if err != nil {
					w.err = err
					break
				}
				some = append(some, pending)
			}
			allAcked := true
			for i, pending := range some {
				_, err := pending.Wait(t.Context())
				_, lost := errors.AsType[*millstream.UnknownOutcomeError](err)
				switch {
				case err == nil:
					w.acked[w.last+i] = true
				case lost:
					w.unknown[w.last+i], allAcked = true, false
				default:
					w.err = err
				}
			}
			w.last += len(some)
			if stop.Load() && allAcked {
				break
			}
		}
		writing <- w
	}()
	// It reads ahead, through the deaths.
	r, err := client.NewReader(s.within(), millstream.ReaderOptions{Topic: "orders"})
	s.check(err)
	defer r.Close()
	for range 5 {
		m := s.leaderOf(client, "orders")
		m.Kill()
		s.check(m.Start(s.within()))
	}
	s.leaderOf(client, "orders")
	stop.Store(true)
	w := <-writing
	s.check(w.err)

	before := -1
	for record, err := range r.Records(s.within()) {
		s.check(err)
		n, err := strconv.Atoi(string(record.Value))
		s.check(err)
		if n <= before || !w.acked[n] && !w.unknown[n] {
			t.Fatalf("record %d came after %d", n, before)
		}
		delete(w.acked, n)
		if before = n; n == w.last-1 {
			break
		}
	}
	if len(w.acked) > 0 {
		t.Errorf("%d acknowledged records are not there", len(w.acked))
	}
	t.Logf("%d records, %d of unknown outcome", w.last, len(w.unknown))
	s.check(s.Stop(s.within()))
}

// A line that is given to produce comes out of consume, while each broker in
// turn is stopped and started.
func TestCommandsRideThroughARollingRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("starts six processes")
	}
	s := open(t, t.TempDir(), 0)
	s.check(s.Start(s.within()))
	var addrs []string
	for _, m := range s.Brokers() {
		addrs = append(addrs, m.GRPCAddr)
	}
	command := func(args ...string) *exec.Cmd {
		c := exec.CommandContext(s.within(), s.Broker(1).cluster.o.Binary, append(args, "--addr", strings.Join(addrs, ","))...)
		c.Stderr, c.Env = t.Output(), environment()
		return c
	}
	s.check(command("topic", "create", "orders", "--partitions", "1", "--replication-factor", "3").Run())
	consume, produce := command("consume", "orders", "--from", "earliest"), command("produce", "orders")
	out, err := consume.StdoutPipe()
	s.check(err)
	in, err := produce.StdinPipe()
	s.check(err)
	s.check(consume.Start())
	s.check(produce.Start())
	read := bufio.NewScanner(out)
	n := 0
	pass := func() {
		t.Helper()
		for range 20 {
			n++
			_, err := fmt.Fprintf(in, "line %d\n", n)
			s.check(err)
			if !read.Scan() || read.Text() != fmt.Sprint("line ", n) {
				t.Fatalf("consume said %q, want line %d", read.Text(), n)
			}
		}
	}
	pass()
	for _, m := range s.Brokers() {
		s.check(m.Stop(s.within()))
		pass()
		s.check(m.Start(s.within()))
		pass()
	}
	s.check(in.Close())
	s.check(produce.Wait())
	s.check(consume.Process.Kill())
	_ = consume.Wait() // it was killed
	s.check(s.Stop(s.within()))
}
