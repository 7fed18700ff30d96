package servertest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// fill creates the topic orders and appends records to it.
func fill(t *testing.T, c *servertest.Cluster, records int) {
	t.Helper()
	if _, err := c.Members[0].Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 1}); err != nil {
		t.Fatal(err)
	}
	leader := leaderOf(t, c)
	for i := range records {
		if _, err := leader.Broker.Append(t.Context(), &pb.AppendRequest{
			Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: fmt.Sprint(i)}}},
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// logFile returns the segment file of the only log of a member.
func logFile(t *testing.T, m *servertest.Member) string {
	t.Helper()
	logs, err := m.FS.ReadDir("/data/topics")
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs of broker %d: %v, %v", m.ID, logs, err)
	}
	dir := "/data/topics/" + logs[0].Name()
	files, err := m.FS.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".log") {
			return dir + "/" + f.Name()
		}
	}
	t.Fatalf("no segment in %s: %v", dir, files)
	return ""
}

func notLeading(c *servertest.Cluster, leader *servertest.Member) *servertest.Member {
	for _, m := range c.Members {
		if m != leader {
			return m
		}
	}
	return nil
}

func TestADamagedReplicaIsRepairedFromTheOthers(t *testing.T) {
	for name, ofLeader := range map[string]bool{"a follower's": false, "the leader's": true} {
		t.Run(name, func(t *testing.T) {
			gone := make(chan string, 8)
			c := servertest.StartCluster(t, servertest.ClusterOptions{Broker: func(o *broker.Options) {
				o.ScrubBytes, o.ScrubRound, o.AuditGone = 1<<20, time.Millisecond, audited(gone)
			}})
			fill(t, c, 50)
			damaged := leaderOf(t, c)
			if !ofLeader {
				damaged = notLeading(c, damaged)
			}
			file := logFile(t, damaged)
			if err := storagetest.Flip(damaged.FS, file, 1500, 3); err != nil {
				t.Fatal(err)
			}
			awaitTrash(t, damaged, "damaged")
			awaitGone(t, gone)
			leader := leaderOf(t, c)
			if leader == damaged {
				t.Fatalf("broker %d leads with a damaged log", leader.ID)
			}
			awaitInSync(t, leader)
			readAll(t, leader, 50)
			// It leads again, with everything, when the others are gone.
			for _, m := range c.Members {
				if m != damaged {
					m.Stop()
				}
			}
			readAll(t, leaderOf(t, c), 50)
		})
	}
}

// audited tells of logs that were put away.
func audited(gone chan<- string) func(string, uint32) {
	return func(topic string, partition uint32) { gone <- fmt.Sprintf("%s/%d", topic, partition) }
}

func awaitGone(t *testing.T, gone <-chan string) {
	t.Helper()
	select {
	case got := <-gone:
		if got != "orders/0" {
			t.Errorf("%s is gone", got)
		}
	case <-time.After(30 * time.Second):
		t.Error("the history has no word of it")
	}
}

func awaitTrash(t *testing.T, m *servertest.Member, suffix string) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < 30*time.Second; {
		<-time.After(time.Millisecond)
		list, _ := m.FS.ReadDir("/data/trash")
		for _, e := range list {
			if strings.HasSuffix(e.Name(), suffix) {
				return
			}
		}
	}
	t.Fatalf("nothing in the trash of broker %d ends with %s", m.ID, suffix)
}

func TestABrokerThatLostItsDiskIsFilledAgain(t *testing.T) {
	c := servertest.StartCluster(t, servertest.ClusterOptions{})
	fill(t, c, 50)
	leader := leaderOf(t, c)
	lost := notLeading(c, leader)
	lost.Stop()
	lost.FS = memfs.New()
	lost.Start()
	awaitInSync(t, leader)
	if _, err := lost.Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool {
		return len(s.TopicByName("orders").Partitions[0].ISR) == 3
	}); err != nil {
		t.Fatal(err)
	}
	logFile(t, lost)
	for _, m := range c.Members {
		if m != lost {
			m.Stop()
		}
	}
	readAll(t, leaderOf(t, c), 50)
}

func TestALogThatWasMovedAwayGoesToTheTrash(t *testing.T) {
	gone := make(chan string, 8)
	c := servertest.StartCluster(t, servertest.ClusterOptions{Broker: func(o *broker.Options) { o.AuditGone = audited(gone) }})
	fill(t, c, 50)
	fourth := c.Add(4)
	leader := leaderOf(t, c)
	if _, err := leader.Cluster.ReassignPartitions(t.Context(), &pb.ReassignPartitionsRequest{
		Reassignments: []*pb.Reassignment{{Topic: "orders", Partition: 0, Replicas: []int32{4, 2, 3}}},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := fourth.Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool {
		p := s.TopicByName("orders").Partitions[0]
		return len(p.Target) == 0 && len(p.ISR) == 3 && !slices.Contains(p.Replicas, 1)
	}); err != nil {
		t.Fatal(err)
	}
	awaitTrash(t, c.Members[0], "") // of whatever name
	awaitGone(t, gone)
	readAll(t, fourth, 50)
	// It comes back, from nothing.
	if _, err := leader.Cluster.ReassignPartitions(t.Context(), &pb.ReassignPartitionsRequest{
		Reassignments: []*pb.Reassignment{{Topic: "orders", Partition: 0, Replicas: []int32{1, 2, 4}}},
	}); err != nil {
		t.Fatal(err)
	}
	awaitReplicas(t, fourth, 1)
	readAll(t, fourth, 50)
}

func awaitReplicas(t *testing.T, m *servertest.Member, id int32) {
	t.Helper()
	if _, err := m.Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool {
		p := s.TopicByName("orders").Partitions[0]
		return len(p.Target) == 0 && len(p.ISR) == 3 && slices.Contains(p.ISR, id)
	}); err != nil {
		t.Fatal(err)
	}
}
