package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// held is a flusher that syncs when a test says so.
type held struct {
	mu      sync.Mutex
	open    bool
	waiting []partition.Syncer
}

func (h *held) Submit(s partition.Syncer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open {
		go func() { _ = s.Sync() }()
		return
	}
	h.waiting = append(h.waiting, s)
}

func (h *held) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = true
	for _, s := range h.waiting {
		go func() { _ = s.Sync() }()
	}
	h.waiting = nil
}

// slowDisk is a service over one partition at DISK, whose syncs are held.
func slowDisk(t *testing.T, budget int64) (*BrokerService, *held) {
	t.Helper()
	log, _, err := commitlog.Open(commitlog.Options{FS: memfs.New(), Dir: "/p"})
	if err != nil {
		t.Fatal(err)
	}
	h := &held{}
	p := partition.New(partition.Options{Log: log, Self: 1, Flusher: h, Settings: partition.Settings{MaxAheadMs: 1000}, Logger: slog.New(slog.DiscardHandler)})
	p.Lead(replica.Assignment{Epoch: 1, Replicas: []replica.ID{1}, InSync: []replica.ID{1}, MinInSync: 1, Durability: replica.Disk})
	s, err := newBrokerService(Options{
		Broker:   onePartition{noBroker: noBroker{broker.NewBudget(budget)}, p: p},
		Metadata: oneTopic(t), Limits: Limits{StreamInFlightBytes: 8 << 20}.withDefaults(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.release()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, h
}

// pipeline is a client that sends requests as fast as they are taken, then
// half-closes, unless it stays.
type pipeline struct {
	grpc.ServerStream
	ctx      context.Context
	request  []byte
	requests int
	stays    bool

	mu      sync.Mutex
	taken   int
	answers []*pb.ProduceResponse
}

func (p *pipeline) Context() context.Context { return p.ctx }

func (p *pipeline) RecvMsg(m any) error {
	p.mu.Lock()
	p.taken++
	taken := p.taken
	p.mu.Unlock()
	if taken <= p.requests {
		return m.(rpc.RawUnmarshaler).UnmarshalRaw(mem.BufferSlice{mem.SliceBuffer(p.request)})
	}
	if !p.stays {
		return io.EOF
	}
	<-p.ctx.Done()
	return p.ctx.Err()
}

func (p *pipeline) SendMsg(m any) error {
	out, err := m.(rpc.RawMarshaler).MarshalRaw()
	if err != nil {
		return err
	}
	r := &pb.ProduceResponse{}
	if err := proto.Unmarshal(out.Materialize(), r); err != nil {
		return err
	}
	out.Free()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = append(p.answers, r)
	return nil
}

func (p *pipeline) counts() (taken, answered int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken, len(p.answers)
}

// valueOf returns what a metric says.
func valueOf(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var said dto.Metric
	if err := m.Write(&said); err != nil {
		t.Fatal(err)
	}
	return said.GetGauge().GetValue() + said.GetCounter().GetValue()
}

func newPipeline(t *testing.T, requests, bytes int) *pipeline {
	t.Helper()
	enc, err := proto.Marshal(&pb.ProduceRequest{
		CorrelationId: 1, Topic: "t", Partition: new(uint32(0)), Batch: &pb.RecordBatch{Records: []*pb.Record{{Value: make([]byte, bytes)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &pipeline{ctx: t.Context(), request: enc, requests: requests}
}

func TestRequestsInFlightAreBoundedByTheirBytes(t *testing.T) {
	for name, c := range map[string]struct {
		budget, most           int64
		streamWaits, allInWait int64 // who waits is told by metrics
	}{
		"of the stream":  {1 << 30, 8 << 20, 1, 0},
		"of the process": {4 << 20, 4 << 20, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, disk := slowDisk(t, c.budget)
				client := newPipeline(t, 100, 1<<19)
				ended := make(chan error, 1)
				go func() { ended <- s.produce(client) }()
				synctest.Wait() // everything waits for the disk
				used := s.budget.Used()
				taken, answered := client.counts()
				if used > c.most || used < c.most-1<<20 || answered != 0 {
					t.Errorf("%d bytes in flight of %d, %d answers", used, c.most, answered)
				}
				// One more than fits is in hand.
				if most := int(c.most>>19) + 1; taken > most {
					t.Errorf("%d requests were taken", taken)
				}
				if n := int64(valueOf(t, s.metrics.streamWaiters)); n != c.streamWaits || s.budget.Waiting() != c.allInWait {
					t.Errorf("%d streams wait for themselves and %d for all, want %d and %d", n, s.budget.Waiting(), c.streamWaits, c.allInWait)
				}
				disk.release()
				if err := <-ended; err != nil {
					t.Fatal(err)
				}
				s.Wait()
				synctest.Wait() // the partition gives bytes back after the answer
				if n := valueOf(t, s.metrics.streamWaits); (n > 0) != (c.streamWaits > 0) || valueOf(t, s.metrics.streamWaiters) != 0 {
					t.Errorf("%v waits of the stream are counted", n)
				}
				if n := s.budget.Waits(); (n > 0) != (c.allInWait > 0) {
					t.Errorf("%d waits for all are counted", n)
				}
				if _, answered := client.counts(); answered != 100 || s.budget.Used() != 0 {
					t.Errorf("%d answers, %d bytes still in flight", answered, s.budget.Used())
				}
			})
		})
	}
}

func TestStopTakingRequestsWhileAnswersAreDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, disk := slowDisk(t, 1<<30)
		client := newPipeline(t, 5000, 10)
		ended := make(chan error, 1)
		go func() { ended <- s.produce(client) }()
		synctest.Wait()
		if taken, _ := client.counts(); taken != s.limits.UnreadAnswers {
			t.Errorf("%d requests were taken, the limit is %d", taken, s.limits.UnreadAnswers)
		}
		disk.release()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		s.Wait()
		for i, r := range client.answers {
			if r.GetError() != nil || r.GetBaseOffset() != int64(i) {
				t.Fatalf("answer %d: %v", i, r)
			}
		}
	})
}

func TestDrainWaitsForWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, disk := slowDisk(t, 1<<30)
		client := newPipeline(t, 7, 10)
		client.stays = true
		ctx, cancel := context.WithCancel(t.Context())
		client.ctx = ctx
		ended := make(chan error, 1)
		go func() { ended <- s.produce(client) }()
		synctest.Wait()
		s.Drain()
		<-time.After(10 * s.limits.DrainGrace)
		synctest.Wait()
		if _, answered := client.counts(); answered != 1 || client.answers[0].GetDrain() == nil {
			t.Errorf("got %v", client.answers)
		}
		disk.release()
		if err := <-ended; err != nil {
			t.Errorf("got %v", err)
		}
		if _, answered := client.counts(); answered != 8 {
			t.Errorf("%d answers", answered)
		}
		cancel()
		s.Wait()
	})
}

func TestStreamThatIsCutGivesItsMemoryBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, disk := slowDisk(t, 1<<30)
		client := newPipeline(t, 100, 1<<19)
		ctx, cancel := context.WithCancel(t.Context())
		client.ctx = ctx
		ended := make(chan error, 1)
		go func() { ended <- s.produce(client) }()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		s.Wait()
		if s.budget.Used() == 0 {
			t.Error("nothing was in flight")
		}
		disk.release()
		synctest.Wait()
		if s.budget.Used() != 0 {
			t.Errorf("%d bytes are still in flight", s.budget.Used())
		}
	})
}
