package servertest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

// A leader whose disk stands still, is full or refuses writes is led away from
// in time, and producers go on; what was acknowledged is there.
func TestADiskInTroubleIsLedAwayFrom(t *testing.T) {
	for name, s := range map[string]struct {
		trouble func(disk *faultfs.FS, over <-chan struct{})
		is      pb.BrokerImpairment
	}{
		"stands still": {func(disk *faultfs.FS, over <-chan struct{}) {
			disk.Add(&faultfs.Rule{Op: faultfs.Sync, Times: -1, Hold: func(faultfs.Op, string) { <-over }})
		}, pb.BrokerImpairment_BROKER_IMPAIRMENT_SLOW_DISK},
		"is slow": {func(disk *faultfs.FS, over <-chan struct{}) {
			disk.Add(&faultfs.Rule{Op: faultfs.Sync, Times: -1, Hold: func(faultfs.Op, string) {
				select {
				case <-over:
				case <-time.After(200 * time.Millisecond):
				}
			}})
		}, pb.BrokerImpairment_BROKER_IMPAIRMENT_SLOW_DISK},
		"is full":      {func(disk *faultfs.FS, _ <-chan struct{}) { disk.SetRoom(0) }, pb.BrokerImpairment_BROKER_IMPAIRMENT_DISK_FULL},
		"is read-only": {func(disk *faultfs.FS, _ <-chan struct{}) { disk.SetReadOnly(true) }, pb.BrokerImpairment_BROKER_IMPAIRMENT_DISK_READ_ONLY},
		"refuses writes": {func(disk *faultfs.FS, _ <-chan struct{}) {
			disk.Add(&faultfs.Rule{Op: faultfs.Write, Path: "*.log", Times: -1})
		}, pb.BrokerImpairment_BROKER_IMPAIRMENT_DISK_ERROR},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			disks := map[int32]*faultfs.FS{}
			c := servertest.StartCluster(t, servertest.ClusterOptions{Broker: func(o *broker.Options) {
				f := faultfs.Wrap(o.FS)
				disks[o.ID], o.FS, o.SlowDisk = f, f, 100*time.Millisecond
			}})
			fill(t, c, 1)
			sick := leaderOf(t, c)
			other := notLeading(c, sick)
			over := make(chan struct{})
			heal := sync.OnceFunc(func() {
				close(over)
				disks[sick.ID].Clear()
			})
			t.Cleanup(heal) // before the brokers stop
			acked, stop := produce(t, other)
			s.trouble(disks[sick.ID], over)
			begun := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if _, err := other.Metadata.WaitFor(ctx, func(s *metadata.Snapshot) bool {
				p := s.TopicByName("orders").Partitions[0]
				return p.Leader != sick.ID && p.Leader != metadata.NoLeader && !slices.Contains(p.ISR, sick.ID)
			}); err != nil {
				t.Fatalf("it leads on: %v", err)
			}
			t.Logf("led away from after %v", time.Since(begun))
			before := acked()
			for begun = time.Now(); len(acked()) < len(before)+50; <-time.After(time.Millisecond) {
				if time.Since(begun) > 30*time.Second {
					t.Fatalf("%d records were acknowledged while another leads", len(acked())-len(before))
				}
			}
			if got := impairmentOf(t, other, sick.ID); got != s.is {
				t.Errorf("it is %v", got)
			}
			stop()
			heal()
			holds(t, leaderOf(t, c), acked())
		})
	}
}

// produce appends through a broker, one record after the other, until the
// function that it returns is called, and tells what was acknowledged, by
// offset.
func produce(t *testing.T, m *servertest.Member) (acked func() map[int64]string, stop func()) {
	t.Helper()
	var mu sync.Mutex
	got := map[int64]string{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ctx.Err() == nil; n++ {
			text := fmt.Sprint("record ", n)
			where, err := m.Client().Append(ctx, &pb.AppendRequest{
				Topic: "orders", Records: []*pb.AppendRecord{{ValueForm: &pb.AppendRecord_Text{Text: text}}},
			})
			if err != nil {
				<-time.After(10 * time.Millisecond) // the disk is in trouble
				continue
			}
			mu.Lock()
			got[where.GetPlaces()[0].GetOffset()] = text
			mu.Unlock()
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(stop)
	return func() map[int64]string {
		mu.Lock()
		defer mu.Unlock()
		all := make(map[int64]string, len(got))
		for at, text := range got {
			all[at] = text
		}
		return all
	}, stop
}

// holds fails the test unless a broker has what was acknowledged.
func holds(t *testing.T, m *servertest.Member, acked map[int64]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	records, err := m.Broker.Read(ctx, &pb.ReadRequest{Topic: "orders"})
	if err != nil {
		t.Fatal(err)
	}
	for left := len(acked); left > 0; {
		got, err := records.Recv()
		if err != nil {
			t.Fatalf("%d acknowledged records are not there: %v", left, err)
		}
		if want, ok := acked[got.GetOffset()]; ok {
			left--
			if got.GetText() != want {
				t.Fatalf("at %d is %q, and %q was acknowledged", got.GetOffset(), got.GetText(), want)
			}
		}
	}
}

// impairmentOf returns what a broker says is the matter with another's disk.
func impairmentOf(t *testing.T, m *servertest.Member, id int32) pb.BrokerImpairment {
	t.Helper()
	got, err := m.Cluster.ListBrokers(t.Context(), &pb.ListBrokersRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range got.GetBrokers() {
		if b.GetBrokerId() == id {
			return b.GetImpairment()
		}
	}
	t.Fatalf("broker %d is not listed", id)
	return 0
}
