package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// command runs millstream, and returns what it printed and whether it
// succeeded.
func (s *story) command(args ...string) (stdout string, ok bool) {
	s.t.Helper()
	c := exec.CommandContext(s.within(), s.Broker(1).cluster.o.Binary, args...)
	c.Stderr, c.Env = s.t.Output(), environment()
	out, err := c.Output()
	return string(out), err == nil
}

// add appends texts to every partition of a topic, and returns when they are
// acknowledged by all in sync.
func (s *story) add(c *millstream.Client, written map[uint32][]string, topic, text string) {
	s.t.Helper()
	p, err := c.NewProducer(s.within(), millstream.ProducerOptions{Topic: topic})
	s.check(err)
	for id := range uint32(3) {
		for n := range 20 {
			value := fmt.Sprintf("%s-%d-%d", text, id, n)
			pending, err := p.AppendTo(s.within(), id, millstream.Record{Value: []byte(value)})
			s.check(err)
			_, err = pending.Wait(s.within())
			s.check(err)
			written[id] = append(written[id], value)
		}
	}
	s.check(p.Close(s.within()))
}

// offline waits until the partitions that nobody leads are those, and returns
// them.
func (s *story) offline(through *Member, n int) []*pb.OfflinePartition {
	s.t.Helper()
	ctx := s.within()
	for {
		r, err := pb.NewClusterServiceClient(s.conn(through)).ListOfflinePartitions(ctx, &pb.ListOfflinePartitionsRequest{})
		if err == nil && len(r.GetPartitions()) == n {
			return r.GetPartitions()
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			s.t.Fatalf("offline are %v, %v; there should be %d", r, err, n)
		}
	}
}

// movedAway waits until a broker has put the log of a partition that was moved
// into its trash.
func (s *story) movedAway(m *Member) {
	s.t.Helper()
	ctx := s.within()
	for {
		r, err := pb.NewClusterServiceClient(s.conn(m)).ListOrphans(ctx, &pb.ListOrphansRequest{})
		s.check(err)
		if slices.ContainsFunc(r.GetOrphans(), func(o *pb.Orphan) bool { return o.GetTrash() }) {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
}

// orphans waits until a broker has so many logs that nobody knows of, and returns
// them. What is in the trash does not count: it was moved away, or is given up
// because another replica has all of it, and comes there a moment later.
func (s *story) orphans(m *Member, n int) []*pb.Orphan {
	s.t.Helper()
	ctx := s.within()
	for {
		r, err := pb.NewClusterServiceClient(s.conn(m)).ListOrphans(ctx, &pb.ListOrphansRequest{})
		all := slices.DeleteFunc(r.GetOrphans(), func(o *pb.Orphan) bool { return o.GetTrash() })
		if err == nil && len(all) == n {
			return all
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			s.t.Fatalf("orphans of %s are %v, %v; there should be %d", m.Name(), all, err, n)
		}
	}
}

// A cluster whose controllers lost everything is made again from a backup: what
// was acknowledged before and after the backup, and while there was no
// controller, is there; what the backup does not know is kept and told.
func TestAClusterIsRestoredFromABackup(t *testing.T) {
	if testing.Short() {
		t.Skip("starts six processes")
	}
	// On a slow machine the fourth broker would be filled while it is looked at.
	t.Setenv("MILLSTREAM_AUTO_BALANCE", "false")
	s := open(t, t.TempDir(), 0)
	s.check(s.Start(s.within()))
	var addrs []string
	for _, m := range s.Brokers() {
		addrs = append(addrs, m.GRPCAddr)
	}
	all := strings.Join(addrs, ",")
	client, err := millstream.New(millstream.Options{Addr: all})
	s.check(err)
	defer client.Close()
	create := func(topic string) {
		t.Helper()
		_, err := client.Topics().CreateTopic(s.within(), &pb.CreateTopicRequest{Topic: topic, PartitionCount: 3, ReplicationFactor: 3})
		s.check(err)
	}
	written := map[uint32][]string{}
	create("orders")
	create("empty")
	s.add(client, written, "orders", "before")
	file := filepath.Join(t.TempDir(), "cluster.backup")
	said, ok := s.command("cluster", "backup", "--out", file, "--addr", all, "-o", "json")
	var made struct {
		Topics     int    `json:"topic_count"`
		Partitions int    `json:"partition_count"`
		Brokers    int    `json:"broker_count"`
		Generation uint32 `json:"cluster_generation"`
	}
	if !ok || json.Unmarshal([]byte(said), &made) != nil || made.Topics != 2 || made.Partitions != 6 || made.Brokers != 3 || made.Generation != 1 {
		t.Fatalf("backup said %s", said)
	}

	// The cluster goes on, in later epochs, with a topic that the backup has not.
	first := s.Broker(1)
	first.Kill()
	s.check(first.Start(s.within()))
	create("later")
	fourth, err := s.AddBroker()
	s.check(err)
	s.check(fourth.Start(s.within()))
	if said, ok := s.command("cluster", "move", "orders/0=4,1,2", "--yes", "--wait", "--addr", all); !ok {
		t.Fatalf("move said %s", said)
	}
	third := s.Broker(3)
	s.movedAway(third)
	s.add(client, written, "orders", "after")
	s.add(client, map[uint32][]string{}, "later", "orphan")
	for _, c := range s.Controllers() {
		c.Kill()
	}
	s.add(client, written, "orders", "alone")
	third.Kill()
	fourth.Kill()

	var identities []string
	for _, c := range s.Controllers() {
		restore := append([]string{"cluster", "restore", "--in", file, "-o", "json"}, c.args[1:]...)
		if said, ok := s.command(restore...); ok {
			t.Fatalf("a directory in use was restored to: %s", said)
		}
		s.check(os.RemoveAll(c.DataDir()))
		said, ok := s.command(restore...)
		var v struct {
			Identity string `json:"identity"`
		}
		if !ok || json.Unmarshal([]byte(said), &v) != nil {
			t.Fatalf("restore said %s", said)
		}
		identities = append(identities, v.Identity)
		if _, ok := s.command(restore...); ok {
			t.Error("it was restored twice")
		}
	}
	if slices.Sort(identities); identities[0] == "" || identities[0] != identities[2] {
		t.Errorf("the controllers are %q", identities)
	}
	for _, c := range s.Controllers() {
		s.check(c.Launch())
	}
	for _, c := range s.Controllers() {
		s.check(c.AwaitReady(s.within()))
	}

	// Two of three have everything that was acknowledged, and nobody can know.
	for _, p := range s.offline(first, 6) {
		if len(p.GetAwaitedBrokerIds()) > 0 && !slices.Contains(p.GetAwaitedBrokerIds(), 3) {
			t.Errorf("it does not wait for broker 3: %v", p)
		}
	}
	s.check(third.Start(s.within()))
	// One was moved to a broker of which the backup knows nothing.
	if p := s.offline(first, 1)[0]; p.GetTopic() != "orders" || p.GetPartition() != 0 || len(p.GetAwaitedBrokerIds()) != 0 {
		t.Errorf("without broker 4 offline is %v", p)
	}
	s.check(fourth.Start(s.within()))
	s.offline(first, 0)
	if d := s.describe(first); d.GetClusterGeneration() != 2 || d.GetTopicCount() != 2 || d.GetRevision() < 1<<32 {
		t.Errorf("the cluster is %v", d)
	}
	read := func() {
		t.Helper()
		topic, err := client.Topics().GetTopic(s.within(), &pb.GetTopicRequest{Topic: "orders"})
		s.check(err)
		got := strings.Split(s.consume(topic), " ")
		for _, p := range topic.GetPartitions() {
			if p.GetLeader().GetLeaderEpoch() <= 1<<16 {
				t.Errorf("partition %d is led in epoch %d", p.GetPartition(), p.GetLeader().GetLeaderEpoch())
			}
			if want := strings.Join(written[p.GetPartition()], ","); got[p.GetPartition()] != want {
				t.Errorf("in partition %d are %s, acknowledged were %s", p.GetPartition(), got[p.GetPartition()], want)
			}
		}
	}
	read()
	for _, m := range s.Brokers() {
		n := 3
		if m == fourth {
			n = 0
		}
		if all := s.orphans(m, n); slices.ContainsFunc(all, func(o *pb.Orphan) bool { return o.GetBytes() == 0 }) {
			t.Errorf("orphans of %s are %v", m.Name(), all)
		}
	}
	s.add(client, written, "orders", "restored")
	create("later")
	if m := s.leaderOf(client, "orders"); m == third {
		t.Errorf("%s leads a partition that it had given up", m.Name())
	}
	for _, m := range s.Brokers() {
		s.check(m.Restart(s.within()))
	}
	read()
	s.check(s.Stop(s.within()))
}
