package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
)

// onePartition is a broker with one partition, of the topic "t".
type onePartition struct {
	noBroker
	p *partition.Partition
}

func (b onePartition) ReplicaOf(t *metadata.Topic, id uint32) (*partition.Partition, error) {
	return b.PartitionOf(t, id)
}

func (b onePartition) PartitionOf(*metadata.Topic, uint32) (*partition.Partition, error) {
	return b.p, nil
}

// oneTopic returns metadata that has the topic "t" with one partition.
func oneTopic(t testing.TB) *metadata.Mirror {
	t.Helper()
	m := metadata.New(metadata.Options{})
	id := make([]byte, 16)
	err := m.Apply(&controllerv1.WatchMetadataResponse{
		SnapshotBegin: true, SnapshotEnd: true, Revision: 1, ClusterGeneration: 1,
		Changes: []*controllerv1.MetadataChange{
			{Change: &controllerv1.MetadataChange_Topic{Topic: &controllerv1.TopicRecord{TopicId: id, Topic: "t", PartitionCount: 1, ReplicationFactor: 1}}},
			{Change: &controllerv1.MetadataChange_Partition{Partition: &controllerv1.PartitionRecord{TopicId: id, Leader: 1, LeaderEpoch: 1, Replicas: []int32{1}, DirectoryIds: [][]byte{id}}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// newBenchService returns a service over one partition on a real disk, at
// MEMORY.
func newBenchService(b *testing.B) *BrokerService {
	b.Helper()
	log, _, err := commitlog.Open(commitlog.Options{FS: vfs.OS(), Dir: b.TempDir() + "/p"})
	if err != nil {
		b.Fatal(err)
	}
	log.SetConfig(commitlog.Config{SegmentBytes: 64 << 20, RetentionBytes: 1 << 30})
	p := partition.New(partition.Options{Log: log, Self: 1, Flusher: eager{}, Settings: partition.Settings{MaxAheadMs: 1000}, Logger: slog.New(slog.DiscardHandler)})
	p.Lead(replica.Assignment{Epoch: 1, Replicas: []replica.ID{1}, InSync: []replica.ID{1}, MinInSync: 1, Durability: replica.Memory})
	s, err := newBrokerService(Options{
		Broker:   onePartition{noBroker: noBroker{broker.NewBudget(256 << 20)}, p: p},
		Metadata: oneTopic(b), Limits: Limits{}.withDefaults(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		s.Wait()
		if err := p.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// eager syncs at once.
type eager struct{}

func (eager) Submit(s partition.Syncer) { go func() { _ = s.Sync() }() }

// benchStream feeds a handler without a transport: what it allocates is the
// handler's own.
type benchStream struct {
	grpc.ServerStream
	ctx     context.Context
	pieces  mem.BufferSlice // of each request
	left    int
	flight  chan struct{} // bounds requests without answer
	fetches []*pb.FetchRequest
	got     func(n int)
}

func (s *benchStream) Context() context.Context { return s.ctx }

func (s *benchStream) RecvMsg(m any) error {
	if s.left == 0 {
		return io.EOF
	}
	s.left--
	s.flight <- struct{}{}
	return m.(rpc.RawUnmarshaler).UnmarshalRaw(s.pieces)
}

func (s *benchStream) SendMsg(m any) error {
	out, err := m.(rpc.RawMarshaler).MarshalRaw()
	if err != nil {
		return err
	}
	n := out.Len()
	out.Free()
	if s.got != nil {
		s.got(n)
	} else {
		<-s.flight
	}
	return nil
}

func (s *benchStream) Recv() (*pb.FetchRequest, error) {
	if len(s.fetches) == 0 {
		<-s.ctx.Done()
		return nil, s.ctx.Err()
	}
	r := s.fetches[0]
	s.fetches = s.fetches[1:]
	return r, nil
}

func (s *benchStream) Send(*pb.FetchResponse) error { panic("frames are sent encoded") }

// benchRequest returns a request with so many bytes of records, in the pieces
// in which gRPC hands a message over.
func benchRequest(b *testing.B, total, each int) mem.BufferSlice {
	b.Helper()
	batch := &pb.RecordBatch{}
	for range total / each {
		batch.Records = append(batch.Records, &pb.Record{Value: make([]byte, each)})
	}
	enc, err := proto.Marshal(&pb.ProduceRequest{CorrelationId: 1, Topic: "t", Partition: new(uint32(0)), Batch: batch})
	if err != nil {
		b.Fatal(err)
	}
	var out mem.BufferSlice
	for len(enc) > 0 {
		n := min(len(enc), 16<<10)
		out = append(out, mem.SliceBuffer(enc[:n]))
		enc = enc[n:]
	}
	return out
}

// BenchmarkProduce is a Produce stream from the transport to the page cache
// and back, one operation a request.
func BenchmarkProduce(b *testing.B) {
	for _, c := range []struct{ total, each int }{{256 << 10, 1 << 10}, {256 << 10, 100}, {1 << 10, 1 << 10}} {
		b.Run(fmt.Sprintf("batch=%d/record=%d", c.total, c.each), func(b *testing.B) {
			s := newBenchService(b)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			st := &benchStream{ctx: ctx, pieces: benchRequest(b, c.total, c.each), left: b.N, flight: make(chan struct{}, 32)}
			b.SetBytes(int64(c.total))
			b.ReportAllocs()
			b.ResetTimer()
			if err := s.produce(st); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
		})
	}
}

// BenchmarkFetch is a Fetch stream over what is in the page cache, one
// operation a frame.
func BenchmarkFetch(b *testing.B) {
	for _, form := range []pb.FetchForm{pb.FetchForm_FETCH_FORM_BATCHES, pb.FetchForm_FETCH_FORM_RECORDS} {
		for _, frame := range []uint32{256 << 10, 512 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%v/frame=%d", form, frame), func(b *testing.B) { benchFetch(b, form, frame) })
		}
	}
}

func benchFetch(b *testing.B, form pb.FetchForm, frame uint32) {
	s := newBenchService(b)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	st := &benchStream{ctx: ctx, pieces: benchRequest(b, 64<<10, 1<<10), left: 1024, flight: make(chan struct{}, 8)}
	if err := s.produce(st); err != nil {
		b.Fatal(err)
	}
	frames, bytes := 0, 0
	subscribe := &pb.FetchRequest{Subscribe: []*pb.FetchSubscription{{Topic: "t", Form: form, MaxFrameBytes: frame}}}
	b.ReportAllocs()
	b.ResetTimer()
	for frames < b.N { // the log once for each stream
		ctx, cancel := context.WithCancel(context.Background())
		st := &benchStream{ctx: ctx, fetches: []*pb.FetchRequest{subscribe}}
		left := int(s.broker.(onePartition).p.State().Bytes)
		st.got = func(n int) {
			frames++
			bytes += n
			if left -= n; left < 128<<10 || frames >= b.N { // the last of the log
				cancel()
			}
		}
		if err := s.fetch(st); ctx.Err() == nil {
			b.Fatal(err)
		}
		cancel()
		s.Wait()
	}
	b.StopTimer()
	b.SetBytes(int64(bytes / max(frames, 1)))
}

// BenchmarkWake is a subscription at the tail: one record is appended and
// delivered.
func BenchmarkWake(b *testing.B) {
	s := newBenchService(b)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	delivered := make(chan struct{}, 1)
	fetch := &benchStream{ctx: ctx, fetches: []*pb.FetchRequest{{Subscribe: []*pb.FetchSubscription{{Topic: "t"}}}}}
	fetch.got = func(int) { delivered <- struct{}{} }
	ended := make(chan error, 1)
	go func() { ended <- s.fetch(fetch) }()
	<-delivered // caught up
	batch := record.AppendRecord(nil, &record.Record{Value: make([]byte, 100)})
	var v record.Validator
	sum, err := v.Validate(record.Pieces{batch}, record.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	r := &partition.Request{Batch: record.Pieces{batch}, Summary: sum, Acks: partition.AcksAll}
	done := make(completions, 1)
	r.Done = done
	p := s.broker.(onePartition).p
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Append(ctx, r); err != nil {
			b.Fatal(err)
		}
		<-done
		<-delivered
	}
	b.StopTimer()
	cancel()
	if err := <-ended; err == nil {
		b.Error("a cancelled stream ended well")
	}
}

type completions chan *partition.Request

func (c completions) Complete(r *partition.Request) { c <- r }
