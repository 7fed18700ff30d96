package api

import (
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/broker"
	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/server/rpc"
	"github.com/millstream-io/millstream/storage/record"
)

// reader is the transport of a Fetch or Read whose client sends requests and
// stays. What it is sent the transport keeps, as gRPC does, until the test lets
// the client read.
type reader struct {
	grpc.ServerStream
	ctx      context.Context
	requests [][]byte
	room     chan struct{} // nil: the transport takes everything

	mu      sync.Mutex
	kept    []mem.BufferSlice
	answers []*pb.FetchResponse
	bytes   int
}

func (r *reader) Context() context.Context { return r.ctx }

func (r *reader) RecvMsg(m any) error {
	if len(r.requests) == 0 {
		<-r.ctx.Done()
		return r.ctx.Err()
	}
	b := r.requests[0]
	r.requests = r.requests[1:]
	return proto.Unmarshal(b, m.(proto.Message))
}

func (r *reader) Recv() (*pb.FetchRequest, error) {
	m := &pb.FetchRequest{}
	return m, r.RecvMsg(m)
}

func (r *reader) Send(*pb.FetchResponse) error { panic("frames are sent encoded") }

func (r *reader) SendMsg(m any) error {
	out, err := m.(rpc.RawMarshaler).MarshalRaw()
	if err != nil {
		return err
	}
	a := &pb.FetchResponse{}
	if err := proto.Unmarshal(out.Materialize(), a); err != nil {
		return err
	}
	r.mu.Lock()
	r.kept = append(r.kept, out)
	r.answers = append(r.answers, a)
	r.bytes += out.Len()
	r.mu.Unlock()
	if r.room == nil {
		return nil
	}
	select {
	case <-r.room:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

// read lets the client read what the transport has.
func (r *reader) read() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.kept {
		m.Free()
	}
	r.kept = nil
}

func (r *reader) offsets() (next int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.answers {
		next = max(next, a.GetNextOffset())
	}
	return next
}

func subscribing(t *testing.T, subs ...*pb.FetchSubscription) [][]byte {
	t.Helper()
	b, err := proto.Marshal(&pb.FetchRequest{Subscribe: subs})
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{b}
}

// filled is a service over one partition with so many batches of one record.
func filled(t *testing.T, batches, bytes int) *BrokerService {
	t.Helper()
	return filledWith(t, batches, newPipeline(t, 0, bytes).request)
}

// filledWith is filled with the batches of other requests.
func filledWith(t *testing.T, batches int, request []byte) *BrokerService {
	t.Helper()
	s, disk := slowDisk(t, 1<<30)
	s.reading = broker.NewBudget(leastReadBytes)
	disk.release()
	client := &pipeline{ctx: t.Context(), request: request, requests: batches}
	if err := s.produce(client); err != nil {
		t.Fatal(err)
	}
	for _, a := range client.answers {
		if a.GetError() != nil {
			t.Fatal(a.GetError())
		}
	}
	return s
}

// zstdRequest is a request whose batch is compressed: records of 1 KiB, so many
// bytes in all.
func zstdRequest(t *testing.T, bytes int) []byte {
	t.Helper()
	plain := &pb.RecordBatch{}
	for range bytes >> 10 {
		plain.Records = append(plain.Records, &pb.Record{Value: []byte(strings.Repeat("v", 1<<10))})
	}
	raw, err := proto.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }() // it writes nowhere
	packed := w.EncodeAll(raw, nil)
	// The decoders are made on first use, and not within a bubble.
	if _, err := record.Decompress(nil, packed, record.Zstd, len(raw)); err != nil {
		t.Fatal(err)
	}
	enc, err := proto.Marshal(&pb.ProduceRequest{
		CorrelationId: 1, Topic: "t", Partition: new(uint32(0)),
		Batch: &pb.RecordBatch{Compression: pb.Compression_COMPRESSION_ZSTD, RecordCount: uint32(len(plain.Records)), Compressed: packed},
	})
	if err != nil {
		t.Fatal(err)
	}
	return enc
}

func TestFramesThatClientsDoNotReadAreBoundedInTheProcess(t *testing.T) {
	for _, form := range []pb.FetchForm{pb.FetchForm_FETCH_FORM_BATCHES, pb.FetchForm_FETCH_FORM_RECORDS} {
		t.Run(form.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := filled(t, 8, 900<<10)
				ctx, cancel := context.WithCancel(t.Context())
				// More streams than the budget has room for; the transport takes two
				// frames of each, and the clients read none.
				const streams, batches = 40, 8
				var readers []*reader
				ended := make(chan error, streams)
				for range streams {
					r := &reader{ctx: ctx, room: make(chan struct{}, 1000), requests: subscribing(t, &pb.FetchSubscription{Topic: "t", Form: form})}
					r.room <- struct{}{}
					readers = append(readers, r)
					go func() { ended <- s.fetch(r) }()
				}
				synctest.Wait()
				held := 0
				for _, r := range readers {
					held += r.bytes
				}
				if used := s.reading.Used(); used > leastReadBytes || held > int(used) || held == 0 {
					t.Errorf("%d bytes are with the transport, %d taken of %d", held, used, leastReadBytes)
				}
				if s.reading.Waiting() == 0 {
					t.Error("no stream waits for the budget")
				}
				// The clients that read get everything, though others do not.
				for range batches {
					for _, r := range readers {
						r.room <- struct{}{}
						r.read()
					}
					synctest.Wait()
				}
				for range 2 * streams { // those that waited in line
					for _, r := range readers {
						r.read()
					}
					synctest.Wait()
				}
				for i, r := range readers {
					if got := r.offsets(); got != batches {
						t.Errorf("reader %d got %d records", i, got)
					}
				}
				cancel()
				for range readers {
					if err := <-ended; err == nil {
						t.Error("cut, and ended in order")
					}
				}
				s.Wait()
				for _, r := range readers {
					r.read()
				}
				if used := s.reading.Used(); used != 0 {
					t.Errorf("%d bytes are still taken", used)
				}
			})
		})
	}
}

func TestStreamsThatDoNotReadGiveTheirShareBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := filled(t, 8, 900<<10)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 50)
		for range 50 {
			// The transport takes everything, as one does whose client's window is
			// closed, one frame after the other.
			r := &reader{ctx: ctx, room: make(chan struct{}, 1), requests: subscribing(t, &pb.FetchSubscription{Topic: "t"})}
			go func() { ended <- s.fetch(r) }()
		}
		for range 50 {
			wantTooSlow(t, <-ended)
		}
		// The transport still has what it was given. When that is given up, too,
		// nothing is left.
		<-time.After(2 * s.limits.StallTimeout)
		synctest.Wait()
		if used := s.reading.Used(); used != 0 {
			t.Errorf("%d bytes are still taken", used)
		}
		cancel()
		s.Wait()
	})
}

func TestDecompressedBatchIsNotKeptForAClientThatDoesNotRead(t *testing.T) {
	const unpacked = 8 << 20
	request := zstdRequest(t, unpacked)
	synctest.Test(t, func(t *testing.T) {
		s := filledWith(t, 2, request)
		ctx, cancel := context.WithCancel(t.Context())
		r := &reader{ctx: ctx, room: make(chan struct{}, 1000), requests: subscribing(t, &pb.FetchSubscription{Topic: "t", Form: pb.FetchForm_FETCH_FORM_RECORDS})}
		ended := make(chan error, 1)
		go func() { ended <- s.fetch(r) }()
		synctest.Wait()
		if used := s.reading.Used(); used < unpacked {
			t.Errorf("%d bytes are taken, less than the batch that is being delivered", used)
		}
		<-time.After(2 * parkAfter)
		synctest.Wait()
		if used := s.reading.Used(); used > 2<<20 {
			t.Errorf("%d bytes are taken for one frame that waits", used)
		}
		// It goes on where it was, and every record comes once.
		for range 100 {
			r.room <- struct{}{}
			r.read()
			synctest.Wait()
		}
		want := int64(0)
		for _, a := range r.answers {
			for _, rec := range a.GetRecords() {
				if rec.GetOffset() != want {
					t.Fatalf("got offset %d, want %d", rec.GetOffset(), want)
				}
				want++
			}
		}
		if want != 2*unpacked>>10 {
			t.Errorf("%d records", want)
		}
		if used := s.reading.Used(); used != 0 {
			t.Errorf("%d bytes are taken at the end of the partition", used)
		}
		cancel()
		if err := <-ended; err == nil {
			t.Error("cut, and ended in order")
		}
		s.Wait()
	})
}

func TestSubscriptionsOfARequestWaitTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := slowDisk(t, 1<<30)
		// A batch that is not synced when the next leadership begins: its end is
		// not known until it is.
		client := newPipeline(t, 1, 10)
		client.stays = true
		ctx, cancel := context.WithCancel(t.Context())
		client.ctx = ctx
		go func() { _ = s.produce(client) }() // it is cut below
		synctest.Wait()
		p, err := s.broker.PartitionOf(nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		p.Lead(replica.Assignment{Epoch: 2, Replicas: []replica.ID{1}, InSync: []replica.ID{1}, MinInSync: 1, Durability: replica.Disk})
		synctest.Wait()
		var subs []*pb.FetchSubscription
		for id := range uint64(20) {
			subs = append(subs, &pb.FetchSubscription{Topic: "t", SubscriptionId: id + 1})
		}
		r := &reader{ctx: ctx, requests: subscribing(t, subs...)}
		go func() { _ = s.fetch(r) }() // it is cut below
		<-time.After(endWait + time.Millisecond)
		synctest.Wait()
		if len(r.answers) != len(subs) {
			t.Fatalf("%d of %d subscriptions were answered after %v", len(r.answers), len(subs), endWait)
		}
		for i, a := range r.answers {
			if a.GetSubscriptionId() != uint64(i)+1 || a.GetError().GetReason() != pb.ErrorReason_ERROR_REASON_OFFSET_NOT_AVAILABLE {
				t.Errorf("answer %d: %v", i, a)
			}
		}
		cancel()
		s.Wait()
	})
}

// sender is the transport of a Produce stream whose client sends requests. It
// counts what is taken of them. After `sends` bytes of a request nothing comes.
type sender struct {
	pipeline
	left  []byte
	sends int
	given int
}

// transport is what gRPC has below a stream.
type transport struct{ *sender }

func (transport) Method() string               { return "" }
func (transport) SetHeader(metadata.MD) error  { return nil }
func (transport) SendHeader(metadata.MD) error { return nil }
func (transport) SetTrailer(metadata.MD) error { return nil }
func (transport) RecvCompress() string         { return "" }

func (s transport) ReadMessageHeader(header []byte) error {
	if s.requests == 0 {
		<-s.ctx.Done()
		return s.ctx.Err()
	}
	s.requests--
	s.left = s.request
	binary.BigEndian.PutUint32(header[1:], uint32(len(s.request)))
	return nil
}

func (s transport) Read(n int) (mem.BufferSlice, error) {
	if s.sends > 0 && len(s.request)-len(s.left) >= s.sends {
		<-s.ctx.Done()
		return nil, s.ctx.Err()
	}
	b := s.left[:n]
	s.left = s.left[n:]
	s.mu.Lock()
	s.given += n
	s.mu.Unlock()
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (s *sender) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given
}

func newSender(t *testing.T, ctx context.Context, requests, bytes int) *sender {
	t.Helper()
	p := newPipeline(t, requests, bytes)
	s := &sender{pipeline: pipeline{request: p.request, requests: requests}}
	s.ctx = grpc.NewContextWithServerTransportStream(ctx, transport{s})
	return s
}

func TestLargeRequestsOfManyStreamsAreBoundedBeforeTheyAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const budget, streams = 8 << 20, 100
		s, disk := slowDisk(t, budget)
		ctx, cancel := context.WithCancel(t.Context())
		var senders []*sender
		for range streams {
			c := newSender(t, ctx, 1, 900<<10)
			senders = append(senders, c)
			go func() { _ = s.produce(c) }() // it is cut below
		}
		synctest.Wait() // everything waits for the disk
		taken := 0
		for _, c := range senders {
			taken += c.taken()
		}
		if taken > 2*budget || taken < budget {
			t.Errorf("%d bytes were taken of the transport, %d may be in flight and as many on their way", taken, budget)
		}
		if s.receiving.Waiting() == 0 {
			t.Error("no stream waits")
		}
		disk.release()
		synctest.Wait()
		for i, c := range senders {
			if _, answered := c.counts(); answered != 1 || c.answers[0].GetError() != nil {
				t.Errorf("stream %d: %v", i, c.answers)
			}
		}
		cancel()
		s.Wait()
		synctest.Wait()
		if s.receiving.Used() != 0 || s.budget.Used() != 0 {
			t.Errorf("%d and %d bytes are still taken", s.receiving.Used(), s.budget.Used())
		}
	})
}

func TestIdleStreamsTakeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := slowDisk(t, 8<<20)
		ctx, cancel := context.WithCancel(t.Context())
		for range 1000 {
			c := newSender(t, ctx, 0, 1)
			go func() { _ = s.produce(c) }() // it is cut below
		}
		synctest.Wait()
		if s.receiving.Used() != 0 || s.budget.Used() != 0 {
			t.Errorf("%d and %d bytes are taken", s.receiving.Used(), s.budget.Used())
		}
		cancel()
		s.Wait()
	})
}

func TestClientThatDoesNotSendTheRestLosesItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := slowDisk(t, 8<<20)
		ctx, cancel := context.WithCancel(t.Context())
		c := newSender(t, ctx, 1, 900<<10)
		c.sends = 600 << 10
		err := s.produce(c)
		f, ok := err.(*rpc.Fault) //nolint:errorlint // the handler returns it as it is
		if !ok || f.Limit.GetLimit() != "stream.stall.timeout" {
			t.Errorf("got %v", err)
		}
		cancel()
		s.Wait()
		if used := s.receiving.Used(); used != 0 {
			t.Errorf("%d bytes are still taken", used)
		}
	})
}
