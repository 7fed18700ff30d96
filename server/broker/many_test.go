package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// Five thousand idle partitions have no goroutine and no file open, whether
// they were written to or not.
func TestIdlePartitionsCostNoGoroutineAndNoFile(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		before, files := runtime.NumGoroutine(), e.mem.OpenFiles() // the lock
		const n = 5000
		e.cluster.create(1, "many", n, nil)
		synctest.Wait()
		for i := range uint32(n / 10) {
			e.mustProduce("many", 10*i, "x")
		}
		pass(5 * time.Second)
		synctest.Wait()
		if after := runtime.NumGoroutine(); after > before {
			t.Fatalf("%d goroutines, %d before", after, before)
		}
		if open := e.mem.OpenFiles(); open != files {
			t.Fatalf("%d files are open", open)
		}
		if err := e.halt(); err != nil {
			t.Fatal(err)
		}
		e.start()
		synctest.Wait()
		if after := runtime.NumGoroutine(); after > before {
			t.Fatalf("after a start: %d goroutines, %d before", after, before)
		}
		if open := e.mem.OpenFiles(); open != files {
			t.Fatalf("after a start: %d files are open", open)
		}
		if end := e.end("many", 10); end != 1 {
			t.Fatalf("readable end %d", end)
		}
	})
}

// Whoever comes first opens a log, the others wait for the same one.
func TestALogIsOpenedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		release := make(chan struct{})
		e.fs.Add(&faultfs.Rule{Op: faultfs.ReadDir, Path: "*-0", Times: -1, Hold: func(faultfs.Op, string) { <-release }})
		e.cluster.create(1, "flights", 1, nil)
		got := make(chan *partition.Partition, 50)
		for range 50 {
			go func() {
				p, _, err := e.b.Partition("flights", 0)
				if err != nil {
					t.Error(err)
				}
				got <- p
			}()
		}
		synctest.Wait()
		close(release)
		first := <-got
		for range 49 {
			if p := <-got; p != first {
				t.Fatal("two partitions over one log")
			}
		}
	})
}

// A log that could not be opened for the moment can be later.
func TestOpeningIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.fs.Add(&faultfs.Rule{Op: faultfs.ReadDir, Path: "*-0"})
		e.cluster.create(1, "flights", 1, nil)
		synctest.Wait() // the background is the first to fail
		if _, err := e.produce("flights", 0, "x"); err == nil {
			t.Fatal("opened though it cannot be read")
		}
		pass(reopenPause)
		if r := e.mustProduce("flights", 0, "x"); r.Base != 0 {
			t.Fatalf("%+v", r)
		}
	})
}

// Look-ups, appends, creations and deletions at the same time.
func TestLookupsRaceWithMetadata(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		var users sync.WaitGroup
		stop := make(chan struct{})
		for u := range 3 {
			users.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					_, err := e.produce("flights", uint32(i%4), fmt.Sprint(u, i))
					_, unknown := errors.AsType[*UnknownTopicError](err)
					_, gone := errors.AsType[*NotLeaderError](err)
					if err != nil && !unknown && !gone && !errors.Is(err, partition.ErrClosed) && !errors.Is(err, partition.ErrUnknownOutcome) {
						t.Errorf("unexpected: %v", err)
						return
					}
					pass(time.Millisecond)
				}
			})
		}
		for n := range byte(40) {
			e.cluster.create(n, "flights", 4, nil)
			pass(7 * time.Millisecond)
			e.cluster.remove(n, n%2 == 0)
			pass(3 * time.Millisecond)
		}
		close(stop)
		users.Wait()
		synctest.Wait()
		if logs := e.names("topics"); len(logs) != 0 {
			t.Fatalf("deleted logs are there: %q", logs)
		}
	})
}

// Settings take effect without a restart.
func TestSettingsChange(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 1, map[string]string{"durability": "memory"})
		if r := e.mustProduce("flights", 0, "a"); r.Medium != partition.MediumMemory {
			t.Fatalf("medium %d", r.Medium)
		}
		e.cluster.mu.Lock()
		topic := e.cluster.topics[1]
		next := &controllerv1.TopicRecord{
			TopicId: topic.GetTopicId(), Topic: "flights", PartitionCount: 1, ReplicationFactor: 1,
			Config: map[string]string{"retention.ms": "1000", "segment.ms": "1000", "timestamp.max.ahead.ms": "0"},
		}
		e.cluster.topics[1] = next
		changes := e.cluster.partitions(1, next)
		changes[0].GetPartition().PartitionEpoch = 1
		e.cluster.publishLocked(false, append(changes, &controllerv1.MetadataChange{Change: &controllerv1.MetadataChange_Topic{Topic: next}})...)
		e.cluster.mu.Unlock()
		synctest.Wait()
		if r := e.mustProduce("flights", 0, "b"); r.Medium != partition.MediumDisk {
			t.Fatalf("medium %d", r.Medium)
		}
		p, _, err := e.b.Partition("flights", 0)
		if err != nil {
			t.Fatal(err)
		}
		r := request("ahead")
		r.Summary.HasTimestamp, r.Summary.MaxTimestampMs = true, time.Now().Add(time.Minute).UnixMilli()
		if err := p.Append(context.Background(), r); wantError[*partition.TimestampError](t, err).MaxAheadMs != 0 {
			t.Fatal(err)
		}
		pass(2 * e.b.opts.RetentionInterval)
		if s := p.State(); s.LogStart != 2 {
			t.Fatalf("%+v", s)
		}
	})
}

// A partition that is given to others is resigned, and goes to the trash when
// enough of them are in sync.
func TestAReplicaThatMovesAwayIsGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 1, nil)
		e.mustProduce("flights", 0, "a")
		p, _, err := e.b.Partition("flights", 0)
		if err != nil {
			t.Fatal(err)
		}
		change := e.cluster.partitions(1, e.cluster.topics[1])[0]
		moved := change.GetPartition()
		moved.Leader, moved.LeaderEpoch, moved.PartitionEpoch, moved.Replicas, moved.InSyncReplicas = 2, 5, 5, []int32{2}, []int32{2}
		e.cluster.publish(false, change)
		synctest.Wait()
		if s := p.State(); s.Leading || s.Leader != 2 || s.LeaderEpoch != 5 {
			t.Fatalf("%+v", s)
		}
		orphans, err := e.b.Orphans()
		if err != nil || len(orphans) != 1 || !orphans[0].Trash || len(e.names("topics")) != 0 || len(e.names("trash")) != 1 {
			t.Fatalf("%+v, %v", orphans, err)
		}
	})
}

// A MEMORY topic that is never idle is synced in the background.
func TestMemoryIsSyncedInTheBackground(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "cache", 1, map[string]string{"durability": "memory"})
		p, _, err := e.b.Partition("cache", 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			e.mustProduce("cache", 0, "x")
			pass(500 * time.Millisecond)
		}
		if s := p.State(); s.SyncedEnd < 30 || s.HighWatermark != 60 {
			t.Fatalf("%+v", s)
		}
	})
}

// The metrics are there, and say what happened.
func TestMetrics(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 3, nil)
		for range 5 {
			e.mustProduce("flights", 1, "x")
		}
		synctest.Wait() // the flusher counts a sync after it has told of it
		families, err := e.b.opts.Registerer.(*prometheus.Registry).Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			m := f.GetMetric()[0]
			got[f.GetName()] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
		for name, want := range map[string]float64{
			"millstream_broker_partitions": 3, "millstream_broker_open_partitions": 3, "millstream_broker_mailbox_requests": 0,
			"millstream_broker_waiting_readers": 0, "millstream_broker_failed_directories": 0, "millstream_broker_inflight_bytes": 0,
			"millstream_log_appended_batches_total": 5, "millstream_log_appended_records_total": 5, "millstream_log_appended_groups_total": 5,
			"millstream_flusher_sync_seconds": 5, "millstream_flusher_waiting_syncs": 0, "millstream_log_open_seconds": 3,
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s is %v, want %v", name, v, want)
			}
		}
	})
}

// A replica that the metadata has on another disk is not begun anew on this
// one.
func TestAnExchangedDiskDoesNotServe(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		e.start()
		e.cluster.create(1, "flights", 1, nil)
		e.mustProduce("flights", 0, "a")
		e.cluster.pinned = e.cluster.directory
		if err := e.halt(); err != nil {
			t.Fatal(err)
		}
		e.mem = memfs.New()
		e.fs = faultfs.Wrap(e.mem)
		e.start()
		_, err := e.produce("flights", 0, "b")
		if lost := wantError[*MisplacedError](t, err); lost.Want != ID16(e.cluster.pinned) || lost.Have == lost.Want {
			t.Fatalf("%v", err)
		}
		mustBe[*partition.FailedError](t, err)
	})
}

// TestPowerLossOfTheBroker crashes a broker with several topics at random
// moments, starts it on what is left, and looks for what was acknowledged.
func TestPowerLossOfTheBroker(t *testing.T) {
	inBubble(t, func(t *testing.T, e *env) {
		type place struct {
			topic string
			id    uint32
			at    record.Offset
		}
		rng := rand.New(rand.NewPCG(5, 6))
		acked := map[place]string{}
		for round := range 25 {
			e.opts.BootID = func() ID16 { return ID16{byte(round + 1)} }
			e.start()
			if round == 0 {
				e.cluster.create(1, "a", 3, map[string]string{"segment.bytes": "1048576"})
				e.cluster.create(2, "b", 2, nil)
			}
			for p, text := range acked {
				if got := e.read(p.topic, p.id, p.at); got != text {
					t.Fatalf("round %d: %s-%d at %d is %q, want %q", round, p.topic, p.id, p.at, got, text)
				}
			}
			var mu sync.Mutex
			var crashed *memfs.FS
			var promised map[place]string
			at := 1 + rng.IntN(120)
			e.mem.SetHook(func(memfs.Op) {
				mu.Lock()
				defer mu.Unlock()
				if at--; at == 0 {
					promised = make(map[place]string, len(acked))
					for k, v := range acked {
						promised[k] = v
					}
					crashed = e.mem.Crash(memfs.KeepRandom(uint64(round)))
				}
			})
			for i := range 12 {
				p := place{topic: []string{"a", "b"}[rng.IntN(2)], id: uint32(rng.IntN(2))}
				text := fmt.Sprintf("round %d record %d", round, i)
				r := e.mustProduce(p.topic, p.id, text)
				p.at = r.Base
				mu.Lock()
				acked[p] = text
				mu.Unlock()
				if rng.IntN(5) == 0 {
					pass(2 * time.Second)
				}
			}
			e.mem.SetHook(nil)
			_ = e.halt()
			if crashed != nil {
				e.mem, e.fs, acked = crashed, faultfs.Wrap(crashed), promised
			}
		}
	})
}

// read returns the value of the record at an offset.
func (e *env) read(topic string, id uint32, at record.Offset) string {
	e.t.Helper()
	p, _, err := e.b.Partition(topic, id)
	if err != nil {
		e.t.Fatal(err)
	}
	synctest.Wait() // what recovery found is synced before it can be read
	r := p.NewReader()
	defer r.Close()
	got, err := r.Read(at, 1, func(n int) []byte { return make([]byte, n) })
	if err != nil {
		e.t.Fatal(err)
	}
	h, b, _, err := record.ParseLogBatch(got.Bytes)
	if err != nil {
		e.t.Fatal(err)
	}
	var it record.Iterator
	it.ResetLogBatch(&h, b)
	for it.Next() {
		if it.Offset() == at {
			return string(it.Record().Value)
		}
	}
	return ""
}

func TestADeepDataDirectoryIsMadeDurably(t *testing.T) {
	mem := memfs.New()
	d := directory{fs: mem, path: "/a/b/c"}
	if err := errors.Join(d.create(), d.prepare()); err != nil {
		t.Fatal(err)
	}
	after := mem.Crash(memfs.LoseUnsynced())
	for _, dir := range []string{"topics", "trash"} {
		if _, err := after.Stat(filepath.Join("/a/b/c", dir)); errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s is gone", dir)
		}
	}
	if err := errors.Join(d.create(), d.prepare()); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkPartitionOf(b *testing.B) {
	c := newCluster()
	br, err := New(Options{ID: 1, DataDir: dataDir, FS: memfs.New(), Controller: c, Metadata: c.mirror})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- br.Run(ctx) }()
	for !br.Ready() {
		runtime.Gosched()
	}
	c.create(1, "flights", 100, nil)
	topic := c.mirror.Current().TopicByName("flights")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := br.PartitionOf(topic, 7); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err != nil && !strings.Contains(err.Error(), "closed") {
		b.Fatal(err)
	}
}
