package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// pressure is a producer that sends one record after the other, and somebody who
// makes one topic after the other, until they are told to end.
type pressure struct {
	cancel context.CancelFunc
	ended  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	acked    int
	topics   int
	produced error   // why the producer gave up
	refused  []error // of topics that were not made, or may have been
	changed  chan struct{}
}

// topicEvery is the least time between two topics: each has replicas to be made.
const topicEvery = 200 * time.Millisecond

// press begins. The topic exists.
func (s *story) press(c *millstream.Client, topic string) *pressure {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	p := &pressure{cancel: cancel, changed: make(chan struct{})}
	producer, err := c.NewProducer(s.within(), millstream.ProducerOptions{Topic: topic})
	s.check(err)
	p.ended.Go(func() { p.produce(ctx, producer) })
	p.ended.Go(func() {
		tick := time.NewTicker(topicEvery)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			_, err := c.Topics().CreateTopic(ctx, &pb.CreateTopicRequest{Topic: fmt.Sprintf("%s-%d", topic, n), PartitionCount: 1})
			if ctx.Err() != nil {
				return
			}
			p.note(func() {
				if err != nil {
					p.refused = append(p.refused, err)
					return
				}
				p.topics++
			})
		}
	})
	s.t.Cleanup(p.stop)
	return p
}

func (p *pressure) produce(ctx context.Context, producer *millstream.Producer) {
	for n := 0; ; n++ {
		pending, err := producer.Append(ctx, millstream.Record{Value: fmt.Append(nil, n)})
		if err == nil {
			_, err = pending.Wait(ctx)
		}
		if ctx.Err() != nil {
			break
		}
		p.note(func() {
			if err != nil {
				p.produced = errors.Join(p.produced, err)
				return
			}
			p.acked++
		})
		if err != nil {
			return
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_ = producer.Close(last) // what was under way when it was told to end does not matter
}

func (p *pressure) note(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// goesOn waits until so many more records were acknowledged and topics made, and
// fails if a record was refused.
func (p *pressure) goesOn(ctx context.Context, records, topics int) error {
	p.mu.Lock()
	records, topics = p.acked+records, p.topics+topics
	p.mu.Unlock()
	for {
		p.mu.Lock()
		changed, failed, done := p.changed, p.produced, p.acked >= records && p.topics >= topics
		said := fmt.Errorf("%d of %d records, %d of %d topics, of which the last were refused with %v", p.acked, records, p.topics, topics, p.refused)
		p.mu.Unlock()
		if done || failed != nil {
			return failed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return said
		}
	}
}

// failures returns what failed so far.
func (p *pressure) failures() (refused []error, produced error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.refused), p.produced
}

// stop ends it, and waits for that.
func (p *pressure) stop() {
	p.cancel()
	p.ended.Wait()
}

func (s *story) client() *millstream.Client {
	s.t.Helper()
	var addrs []string
	for _, m := range s.Brokers() {
		addrs = append(addrs, m.GRPCAddr)
	}
	c, err := millstream.New(millstream.Options{Addr: strings.Join(addrs, ",")})
	s.check(err)
	s.t.Cleanup(c.Close)
	return c
}

// killTwo kills the active controller and another one.
func (s *story) killTwo() []*Member {
	s.t.Helper()
	active, err := s.ActiveController(s.within())
	s.check(err)
	dead := []*Member{active}
	for _, c := range s.Controllers() {
		if c != active && len(dead) < 2 {
			dead = append(dead, c)
		}
	}
	for _, c := range dead {
		c.Kill()
	}
	return dead
}

// Five controllers bear the loss of two at once, the active one among them:
// producers notice nothing, and what changes the metadata is done by the three
// that are left. Without a third nothing is changed, until one is back.
func TestFiveControllersBearTheLossOfTwo(t *testing.T) {
	long(t, "starts eight processes")
	t.Parallel() // it waits, mostly
	s := open(t, t.TempDir(), 0, func(o *Options) { o.Controllers = 5 })
	s.check(s.Start(s.within()))
	if n := len(s.controllers()); n != 5 {
		t.Fatalf("there are %d controllers", n)
	}
	client := s.client()
	_, err := client.Topics().CreateTopic(s.within(), &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 3})
	s.check(err)
	load := s.press(client, "orders")
	s.check(load.goesOn(s.within(), 50, 5))
	dead := s.killTwo()
	s.check(load.goesOn(s.within(), 50, 5))
	if refused, _ := load.failures(); len(refused) > 2 {
		t.Errorf("%d topics were not made, or may not have been: %v", len(refused), refused)
	}

	var third *Member
	for _, c := range s.Controllers() {
		if !slices.Contains(dead, c) {
			third = c
		}
	}
	third.Kill()
	s.check(load.goesOn(s.within(), 200, 0))
	if said, ok := s.command("topic", "create", "none", "--addr", s.Broker(1).GRPCAddr); ok {
		t.Errorf("a topic was made by two of five controllers: %s", said)
	}
	s.check(third.Start(s.within()))
	s.check(load.goesOn(s.within(), 50, 5))
	for _, c := range dead {
		s.check(c.Start(s.within()))
	}
	s.check(load.goesOn(s.within(), 50, 5))
	load.stop()
	s.check(s.Stop(s.within()))
}

// A cluster of one controller gets others, one by one, until there are five,
// while it works; then two of them may be lost.
func TestControllersGrowFromOneToFive(t *testing.T) {
	long(t, "starts six processes")
	t.Parallel() // it waits, mostly
	s := open(t, t.TempDir(), 0, func(o *Options) { o.Controllers, o.Brokers = 1, 1 })
	s.check(s.Start(s.within()))
	client := s.client()
	_, err := client.Topics().CreateTopic(s.within(), &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 1})
	s.check(err)
	load := s.press(client, "orders")
	for n := 2; n <= 5; n++ {
		next := s.another()
		ended := s.changing(t.Output(), "add", place(next), "--wait")
		s.check(next.Start(s.within()))
		s.check(<-ended)
		list := s.controllers()
		if len(list) != n || slices.ContainsFunc(list, func(c *pb.Controller) bool { return c.GetLearner() || !c.GetReachable() }) {
			t.Fatalf("with controller %d they are %v", n, list)
		}
		s.check(load.goesOn(s.within(), 20, 2))
	}
	if refused, _ := load.failures(); len(refused) > 0 {
		t.Errorf("topics were not made while controllers were added: %v", refused)
	}
	s.killTwo()
	s.check(load.goesOn(s.within(), 20, 3))
	load.stop()
	s.check(s.Broker(1).Stop(s.within()))
}
