package servertest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// ledger is what was acknowledged: by partition and offset.
type ledger struct {
	mu    sync.Mutex
	acked map[uint32]map[int64]string
	count int
}

func (l *ledger) add(partition uint32, offset int64, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked[partition] == nil {
		l.acked[partition] = make(map[int64]string)
	}
	l.acked[partition][offset] = text
	l.count++
}

// produce appends through one broker after the other until ctx ends. What has
// an unknown outcome is not repeated.
func (l *ledger) produce(ctx context.Context, c *servertest.Cluster, name int, rnd *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		call, cancel := context.WithTimeout(ctx, 2*time.Second)
		text, to := fmt.Sprintf("%d-%d", name, i), uint32(rnd.IntN(2))
		m := c.Members[rnd.IntN(len(c.Members))]
		got, err := m.Client().Append(call, &pb.AppendRequest{
			Topic: "orders", Partition: &to, Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: text}}},
		})
		cancel()
		if err == nil {
			l.add(to, got.GetPlaces()[0].GetOffset(), text)
		}
	}
}

// TestNothingAcknowledgedIsLostInAStorm ends brokers in all the ways there
// are, one at a time and all at once, while records are appended through all
// of them.
func TestNothingAcknowledgedIsLostInAStorm(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { storm(t, seed, 8) })
	}
}

func storm(t *testing.T, seed uint64, steps int) {
	rnd := rand.New(rand.NewPCG(seed, 7))
	c := servertest.StartCluster(t, servertest.ClusterOptions{Session: 300 * time.Millisecond})
	made, err := c.Members[0].Topic.CreateTopic(t.Context(), &pb.CreateTopicRequest{Topic: "orders", PartitionCount: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.Members {
		if _, err := m.Metadata.Wait(t.Context(), made.GetTopic().GetRevision()); err != nil {
			t.Fatal(err)
		}
	}
	l := &ledger{acked: make(map[uint32]map[int64]string)}
	ctx, stop := context.WithCancel(t.Context())
	var producing sync.WaitGroup
	for p := range 4 {
		r := rand.New(rand.NewPCG(seed, uint64(p)))
		producing.Go(func() { l.produce(ctx, c, p, r) })
	}
	for step := range steps {
		<-time.After(time.Duration(rnd.IntN(200)) * time.Millisecond) // the storm is about time
		m := c.Members[rnd.IntN(3)]
		switch what := rnd.IntN(8); {
		case what < 3:
			m.Kill()
		case what < 5:
			m.LosePower(memfs.KeepRandom(seed + uint64(step)))
		case what < 6:
			m.Stop()
		default:
			for _, m := range c.Members {
				if what == 6 {
					m.Kill()
				} else {
					m.LosePower(memfs.KeepRandom(seed + uint64(step)))
				}
			}
			var starting sync.WaitGroup
			for _, m := range c.Members {
				starting.Go(m.Start)
			}
			starting.Wait()
			continue
		}
		<-time.After(time.Duration(rnd.IntN(600)) * time.Millisecond)
		m.Start()
	}
	for partition := range 2 {
		if _, err := c.Members[0].Metadata.WaitFor(t.Context(), func(s *metadata.Snapshot) bool {
			return len(s.TopicByName("orders").Partitions[partition].ISR) == 3
		}); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	producing.Wait()
	t.Logf("%d records acknowledged", l.count)
	for partition := range uint32(2) {
		l.verify(t, c, partition)
	}
}

// verify finds what was acknowledged of a partition.
func (l *ledger) verify(t *testing.T, c *servertest.Cluster, partition uint32) {
	t.Helper()
	records, err := c.Members[0].Broker.Read(t.Context(), &pb.ReadRequest{Topic: "orders", Partition: partition})
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[int64]string)
	for {
		r, err := records.Recv()
		if err != nil {
			break // the end; what is missing shows below
		}
		found[r.GetOffset()] = r.GetText()
	}
	for offset, text := range l.acked[partition] {
		if found[offset] != text {
			t.Errorf("partition %d: %q was acknowledged at %d, and there is %q", partition, text, offset, found[offset])
		}
	}
}
