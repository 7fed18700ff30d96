package millstream_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
)

const (
	movedPartitions = 12
	// movedEvery is how often a record is appended to one of them after the other.
	movedEvery = time.Millisecond
)

// steady is a producer that appends all the time, and a reader of all of it.
type steady struct {
	t    *testing.T
	done sync.WaitGroup
	stop chan struct{}

	mu    sync.Mutex // guards what follows
	errs  []error
	took  []time.Duration
	acked map[uint32][]string
	got   map[uint32][]string
}

// produce appends until stop is closed, and settles everything.
func (s *steady) produce(client *millstream.Client) {
	p, err := client.NewProducer(s.t.Context(), millstream.ProducerOptions{Topic: "t"})
	if err != nil {
		s.fail(err)
		return
	}
	tick := time.NewTicker(movedEvery)
	defer tick.Stop()
	var settling sync.WaitGroup
	type sent struct {
		pending millstream.Pending
		text    string
		begun   time.Time
	}
	waiting := make(chan sent, 100_000)
	settling.Go(func() {
		for w := range waiting {
			place, err := w.pending.Wait(inTime(s.t))
			s.mu.Lock()
			if err != nil {
				s.errs = append(s.errs, fmt.Errorf("record %s: %w", w.text, err))
			} else {
				s.acked[place.Partition] = append(s.acked[place.Partition], w.text)
				s.took = append(s.took, time.Since(w.begun))
			}
			s.mu.Unlock()
		}
	})
	for n := 0; ; n++ {
		select {
		case <-tick.C:
			text := fmt.Sprintf("%08d", n)
			pending, err := p.AppendTo(s.t.Context(), uint32(n%movedPartitions), millstream.Record{Value: []byte(text)})
			if err != nil {
				s.fail(err)
				continue
			}
			waiting <- sent{pending, text, time.Now()}
			continue
		case <-s.stop:
		}
		break
	}
	close(waiting)
	settling.Wait()
	if err := p.Close(inTime(s.t)); err != nil {
		s.fail(err)
	}
}

func (s *steady) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, err)
}

// read reads everything until the context of the reader ends.
func (s *steady) read(r *millstream.Reader) {
	for rec, err := range r.Records(s.t.Context()) {
		if err != nil {
			return // it was closed
		}
		s.mu.Lock()
		s.got[rec.Partition] = append(s.got[rec.Partition], string(rec.Value))
		s.mu.Unlock()
	}
}

// count returns how many records were acknowledged, and read.
func (s *steady) count() (acked, got int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range uint32(movedPartitions) {
		acked, got = acked+len(s.acked[p]), got+len(s.got[p])
	}
	return acked, got
}

// phase runs something and says how long appends took meanwhile.
func (s *steady) phase(name string, do func()) {
	s.t.Helper()
	s.mu.Lock()
	s.took = s.took[:0]
	s.mu.Unlock()
	begun := time.Now()
	do()
	<-time.After(50 * time.Millisecond) // what it left is settled
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.took)
	if n := len(s.took); n > 0 {
		s.t.Logf("%-28s %7v: %5d appends, half within %v, 99%% within %v, all within %v", name, time.Since(begun).Round(time.Millisecond),
			n, s.took[n/2].Round(time.Microsecond), s.took[n*99/100].Round(time.Microsecond), s.took[n-1].Round(time.Microsecond))
	}
}

// Whatever is planned happens to a cluster under load, and the clients meet no
// error: what they appended is there once, in order, and nothing has an unknown
// outcome.
func TestClientsMeetNoErrorWhatIsPlanned(t *testing.T) {
	// Nobody is to be fenced for being slow: that would not be planned.
	c := servertest.StartCluster(t, servertest.ClusterOptions{Session: time.Minute})
	first := c.Members[0]
	if _, err := first.Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "t", PartitionCount: movedPartitions, ReplicationFactor: 3}); err != nil {
		t.Fatal(err)
	}
	all := first.Address()
	for _, m := range c.Members[1:] {
		all += "," + m.Address()
	}
	client, err := millstream.New(millstream.Options{Addr: all, DialOptions: []grpc.DialOption{grpc.WithContextDialer(c.DialPublic)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	r, err := client.NewReader(t.Context(), millstream.ReaderOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	s := &steady{t: t, stop: make(chan struct{}), acked: map[uint32][]string{}, got: map[uint32][]string{}}
	s.done.Go(func() { s.read(r) })
	var producing sync.WaitGroup
	producing.Go(func() { s.produce(client) })

	s.phase("nothing", func() { <-time.After(500 * time.Millisecond) })
	fourth := c.Add(4)
	s.phase("replicas to a fourth", func() {
		for {
			moved, err := first.Cluster.RebalanceReplicas(t.Context(), &pb.RebalanceReplicasRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if len(moved.GetResults()) == 0 {
				return
			}
			awaitPlaced(t, first)
		}
	})
	s.phase("preferred leaders", func() { elect(t, first) })
	s.phase("one partition back and forth", func() {
		for range 4 {
			p := first.Metadata.Current().TopicByName("t").Partitions[0]
			to := append(slices.Clone(p.Replicas[1:]), 10-p.Replicas[0]-p.Replicas[1]-p.Replicas[2])
			res, err := first.Cluster.ReassignPartitions(t.Context(), &pb.ReassignPartitionsRequest{
				Reassignments: []*pb.Reassignment{{Topic: "t", Partition: 0, Replicas: to}},
			})
			if err != nil || res.GetResults()[0].GetError() != nil {
				t.Fatal(res, err)
			}
			awaitPlaced(t, first)
		}
	})
	s.phase("the fourth drained", func() {
		if _, err := first.Cluster.DrainBroker(t.Context(), &pb.DrainBrokerRequest{BrokerId: 4}); err != nil {
			t.Fatal(err)
		}
		if _, err := first.Metadata.WaitFor(inTime(t), func(s *metadata.Snapshot) bool {
			return !slices.ContainsFunc(s.TopicByName("t").Partitions, func(p *metadata.Partition) bool { return slices.Contains(p.Replicas, 4) })
		}); err != nil {
			t.Fatal(err)
		}
	})
	s.phase("the fourth stopped", fourth.Stop)
	s.phase("all restarted in turn", func() {
		for _, m := range c.Members[:3] {
			m.Stop()
			m.Start()
			awaitPlaced(t, m)
		}
	})
	s.phase("preferred leaders again", func() { elect(t, first) })

	close(s.stop)
	producing.Wait()
	for begun := time.Now(); time.Since(begun) < 20*time.Second; {
		if acked, got := s.count(); got >= acked {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	r.Close()
	s.done.Wait()
	for _, err := range s.errs {
		t.Error(err)
	}
	for p := range uint32(movedPartitions) {
		if !slices.Equal(s.acked[p], s.got[p]) {
			t.Errorf("partition %d: %d records were acknowledged, and %d read", p, len(s.acked[p]), len(s.got[p]))
		}
	}
}

// awaitPlaced waits until nothing is being moved or handed over, and all
// replicas are in sync.
func awaitPlaced(t *testing.T, m *servertest.Member) {
	t.Helper()
	if _, err := m.Metadata.WaitFor(inTime(t), func(s *metadata.Snapshot) bool {
		return !slices.ContainsFunc(s.TopicByName("t").Partitions, func(p *metadata.Partition) bool {
			return len(p.Target) > 0 || len(p.ISR) < len(p.Replicas) || p.Successor != metadata.NoLeader || p.Leader == metadata.NoLeader
		})
	}); err != nil {
		t.Fatal(err)
	}
}

func elect(t *testing.T, m *servertest.Member) {
	t.Helper()
	done, err := m.Cluster.ElectPreferredLeaders(t.Context(), &pb.ElectPreferredLeadersRequest{})
	if err != nil || done.GetNotPossibleCount() > 0 {
		t.Error(done, err)
	}
	t.Log(done)
}
