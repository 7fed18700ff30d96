package millstream_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	millstream "github.com/millstream-io/millstream/clients/go"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// startOnDisks starts a cluster on disks that can be made to fail, with a topic
// of one partition.
func startOnDisks(t *testing.T, replicas uint32) (*servertest.Cluster, map[int32]*faultfs.FS) {
	t.Helper()
	disks := make(map[int32]*faultfs.FS)
	c := servertest.StartCluster(t, servertest.ClusterOptions{MayFail: true, Broker: func(o *broker.Options) {
		f := faultfs.Wrap(o.FS)
		disks[o.ID], o.FS = f, f
	}})
	t.Cleanup(func() { // before the brokers stop
		for _, f := range disks {
			f.Clear()
		}
	})
	if _, err := c.Members[0].Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{
		Topic: "t", PartitionCount: 1, ReplicationFactor: replicas, Config: map[string]string{"durability": "disk"},
	}); err != nil {
		t.Fatal(err)
	}
	return c, disks
}

// leaderOf returns who leads the partition of the topic, once so many replicas
// are in sync.
func leaderOf(t *testing.T, c *servertest.Cluster, inSync int) *servertest.Member {
	t.Helper()
	s, err := c.Members[0].Metadata.WaitFor(inTime(t), func(s *metadata.Snapshot) bool {
		topic := s.TopicByName("t")
		return topic != nil && topic.Partitions[0].Leader >= 1 && len(topic.Partitions[0].ISR) == inSync
	})
	if err != nil {
		t.Fatal(err)
	}
	return c.Members[s.TopicByName("t").Partitions[0].Leader-1]
}

// ways are how the disk of a broker fails. Each returns when the broker takes no
// writes any more.
var ways = map[string]func(t *testing.T, m *servertest.Member, disk *faultfs.FS){
	"refuses writes": func(_ *testing.T, _ *servertest.Member, disk *faultfs.FS) {
		disk.Add(&faultfs.Rule{Op: faultfs.Write, Path: "*.log", Times: -1})
	},
	"is read-only": func(_ *testing.T, _ *servertest.Member, disk *faultfs.FS) { disk.SetReadOnly(true) },
	// Rule S9: this ends the one log, on a disk that is well again.
	"tears a write": func(t *testing.T, m *servertest.Member, disk *faultfs.FS) {
		disk.Add(&faultfs.Rule{Op: faultfs.Write, Path: "*.log", Bytes: 3})
		disk.Add(&faultfs.Rule{Op: faultfs.Truncate, Path: "*.log"})
		failsWith(t, m, func() bool {
			p, _, err := m.Node.Partition("t", 0)
			return err != nil || p.State().Offline != nil
		})
	},
	// Rule S6: this ends the log directory.
	"fails to sync": func(t *testing.T, m *servertest.Member, disk *faultfs.FS) {
		disk.Add(&faultfs.Rule{Op: faultfs.Sync, Path: "*.log", Err: syscall.EIO})
		failsWith(t, m, func() bool { return m.Node.Failure() != nil })
	},
}

// failsWith has a broker write a record, which is what fails, and of which nobody
// knows whether it was written.
func failsWith(t *testing.T, m *servertest.Member, failed func() bool) {
	t.Helper()
	_, _ = m.Broker.Append(t.Context(), &pb.AppendRequest{
		Topic: "t", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: ofTheTest}}},
	})
	for begun := time.Now(); !failed(); <-time.After(time.Millisecond) {
		if time.Since(begun) > 20*time.Second {
			t.Fatal("it has not failed")
		}
	}
}

// ofTheTest is a record that the producer under test has not written.
const ofTheTest = "with which the disk fails"

// What a failing disk refuses is in no log: while others can lead, a producer
// has it written by them, and its user hears of nothing.
func TestAProducerOutlivesTheDiskOfALeader(t *testing.T) {
	for name, fails := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			c, disks := startOnDisks(t, 3)
			p, err := clientOf(t, c).NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t"})
			if err != nil {
				t.Fatal(err)
			}
			sick := leaderOf(t, c, 3)
			sent := 0
			write := func(n int) {
				t.Helper()
				for range n {
					if _, err := p.Append(inTime(t), millstream.Record{Value: value(sent)}); err != nil {
						t.Fatal(err)
					}
					sent++
				}
			}
			flush := func() {
				t.Helper()
				if err := p.Flush(inTime(t)); err != nil {
					t.Fatalf("after %d records: %v", sent, err)
				}
			}
			write(100)
			flush() // what is under way when a disk fails may have an unknown outcome
			fails(t, sick, disks[sick.ID])
			for begun := time.Now(); c.Members[sick.ID%3].Metadata.Current().TopicByName("t").Partitions[0].Leader == sick.ID; {
				if time.Since(begun) > 20*time.Second {
					t.Fatal("it leads on")
				}
				write(10)
				<-time.After(time.Millisecond)
			}
			write(100)
			flush()
			if err := p.Close(inTime(t)); err != nil {
				t.Fatal(err)
			}
			readsBack(t, c, sent)
		})
	}
}

// readsBack fails the test unless the records of a test are there, each once
// and in order.
func readsBack(t *testing.T, c *servertest.Cluster, sent int) {
	t.Helper()
	r, err := clientOf(t, c).NewReader(inTime(t), millstream.ReaderOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for n := 0; n < sent; {
		got, err := r.Next(inTime(t))
		if err != nil {
			t.Fatalf("%d of %d records: %v", n, sent, err)
		}
		if string(got.Value) == ofTheTest {
			continue
		}
		if want := string(value(n)); string(got.Value) != want {
			t.Fatalf("record %d is %q, want %q", n, got.Value, want)
		}
		n++
	}
}

// Where nobody can take over, the user hears of it at once.
func TestAFailedDiskWithoutAnotherIsSaid(t *testing.T) {
	for name, fails := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, disks := startOnDisks(t, 1)
			p, err := clientOf(t, c).NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t"})
			if err != nil {
				t.Fatal(err)
			}
			only := leaderOf(t, c, 1)
			if _, err := p.AppendSync(inTime(t), millstream.Record{Value: value(0)}); err != nil {
				t.Fatal(err)
			}
			fails(t, only, disks[only.ID])
			if only.Node.Failure() != nil { // the controller takes the partition from it
				if _, err := only.Metadata.WaitFor(inTime(t), func(s *metadata.Snapshot) bool {
					return s.TopicByName("t").Partitions[0].Leader == metadata.NoLeader
				}); err != nil {
					t.Fatal(err)
				}
			}
			soon, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for range 3 {
				_, err = p.AppendSync(soon, millstream.Record{Value: value(1)})
				said, ok := errors.AsType[*millstream.Error](err)
				if gaveUp, _ := errors.AsType[*millstream.GaveUpError](err); !ok || gaveUp != nil ||
					said.Reason != pb.ErrorReason_ERROR_REASON_STORAGE_FAILED || said.Retryable {
					t.Fatalf("got %v", err)
				}
			}
			_ = p.Close(inTime(t)) // says the same
		})
	}
}

// So it is when the disks of all who could are in trouble, which they notice one
// after the other.
func TestDisksThatAllFailAreSaid(t *testing.T) {
	c, disks := startOnDisks(t, 3)
	p, err := clientOf(t, c).NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	leaderOf(t, c, 3)
	for _, disk := range disks {
		disk.SetReadOnly(true)
	}
	_, err = p.AppendSync(inTime(t), millstream.Record{Value: value(0)})
	said, ok := errors.AsType[*millstream.Error](err)
	if gaveUp, _ := errors.AsType[*millstream.GaveUpError](err); !ok || gaveUp != nil || said.Reason != pb.ErrorReason_ERROR_REASON_STORAGE_FAILED {
		t.Errorf("got %v", err)
	}
	_ = p.Close(inTime(t)) // says the same
}
