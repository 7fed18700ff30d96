package api_test

import (
	"fmt"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
	"github.com/millstream-io/millstream/server/api"
	"github.com/millstream-io/millstream/server/servertest"
	"github.com/millstream-io/millstream/storage/record"
)

func TestProduceAnswersEveryRequestInOrderOfItsPartition(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("disk", 2)
	s.CreateTopic("memory", 1, "durability", "memory")
	p := openProducer(t, s.Broker)
	type place struct {
		topic     string
		partition uint32
	}
	places := []place{{"disk", 0}, {"memory", 0}, {"disk", 1}}
	asked := make(map[uint64]place)
	const requests = 600
	go func() {
		for i := range uint64(requests) {
			at := places[i%3]
			r := &pb.ProduceRequest{CorrelationId: i + 1, Topic: at.topic, Partition: new(at.partition), Batch: batch("a", "b")}
			if err := p.st.Send(r); err != nil {
				t.Error(err)
				return
			}
		}
		_ = p.st.CloseSend()
	}()
	for i := range uint64(requests) {
		asked[i+1] = places[i%3]
	}
	last, next := make(map[place]uint64), make(map[place]int64)
	for range requests {
		r := p.next()
		at := asked[r.GetCorrelationId()]
		if r.GetError() != nil || r.GetCorrelationId() <= last[at] || r.GetBaseOffset() != next[at] || r.GetPartition() != at.partition {
			t.Fatalf("%v: got %v after %d, next offset %d", at, r, last[at], next[at])
		}
		last[at], next[at] = r.GetCorrelationId(), next[at]+2
		medium := pb.AckMedium_ACK_MEDIUM_DISK
		if at.topic == "memory" {
			medium = pb.AckMedium_ACK_MEDIUM_MEMORY
		}
		if a := r.GetAck(); a.GetMedium() != medium || a.GetScope() != pb.AckScope_ACK_SCOPE_ISR || a.GetInSyncReplicas() != 1 {
			t.Fatalf("%v: got %v", at, a)
		}
	}
	p.end(0)
}

func TestAfterAFailureAPartitionRefusesUntilRestart(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 2)
	p := openProducer(t, s.Broker)
	good := func(partition uint32) *pb.ProduceRequest {
		return &pb.ProduceRequest{Topic: "t", Partition: new(partition), Batch: batch("v")}
	}
	ok := func(r *pb.ProduceResponse, offset int64) {
		t.Helper()
		if r.GetError() != nil || r.GetBaseOffset() != offset {
			t.Fatalf("got %v, want offset %d", r, offset)
		}
	}
	ok(p.ask(good(0)), 0)
	bad := good(0)
	bad.BatchCrc32C = new(uint32(1))
	wantError(t, p.ask(bad).GetError(), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_CRC_MISMATCH)
	wantError(t, p.ask(good(0)).GetError(), codes.Aborted, pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED)
	ok(p.ask(good(1)), 0) // another partition
	wantError(t, p.ask(good(0)).GetError(), codes.Aborted, pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED)
	again := good(0)
	again.Restart = true
	ok(p.ask(again), 1)
	ok(p.ask(good(0)), 2)

	// The same on a topic that comes into being later, and in one flight.
	unknown := func(restart bool) *pb.ProduceRequest {
		return &pb.ProduceRequest{Topic: "later", Partition: new(uint32(0)), Batch: batch("v"), Restart: restart}
	}
	wantError(t, p.ask(unknown(false)).GetError(), codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)
	s.CreateTopic("later", 1)
	p.send(unknown(false))
	p.send(unknown(true))
	p.send(unknown(false))
	wantError(t, p.next().GetError(), codes.Aborted, pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED)
	ok(p.next(), 0)
	ok(p.next(), 1)
	p.end(0)
}

func TestProduceWithoutWaitingIsAnsweredToo(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	p := openProducer(t, s.Broker)
	for range 10 {
		r := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: batch("v"), Acks: pb.Acks_ACKS_NONE})
		if r.GetError() != nil || r.BaseOffset != nil || r.GetAck() != nil {
			t.Fatalf("got %v", r)
		}
	}
	r := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: batch("v"), Acks: pb.Acks_ACKS_LEADER})
	if r.GetBaseOffset() != 10 || r.GetAck().GetScope() != pb.AckScope_ACK_SCOPE_LEADER {
		t.Errorf("got %v", r)
	}
	wantError(t, p.ask(&pb.ProduceRequest{Topic: "no", Partition: new(uint32(0)), Batch: batch("v"), Acks: pb.Acks_ACKS_NONE}).GetError(),
		codes.NotFound, pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION)
	p.end(0)
}

func TestHalfCloseAnswersWhatIsInFlight(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	p := openProducer(t, s.Broker)
	for range 100 {
		p.send(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: batch("v")})
	}
	p.end(100)
	openProducer(t, s.Broker).end(0) // without any request
}

func TestBrokerPartitionsByKeyAndSplits(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 4)
	p := openProducer(t, s.Broker)
	keys := []string{"21", "foobar", "a-little-bit-long-string", "", "21", "abc", "foobar"}
	r := p.ask(&pb.ProduceRequest{Topic: "t", Batch: keyed(keys...)})
	if r.GetError() != nil {
		t.Fatal(r.GetError())
	}
	seen := make([]bool, len(keys))
	for _, part := range r.GetParts() {
		if part.GetError() != nil || part.BaseOffset == nil || !slices.IsSorted(part.GetRecords()) {
			t.Errorf("got %v", part)
		}
		for _, i := range part.GetRecords() {
			seen[i] = true
			if want := record.PartitionForKey([]byte(keys[i]), 4); part.GetPartition() != uint32(want) {
				t.Errorf("key %q went to %d, not %d", keys[i], part.GetPartition(), want)
			}
		}
	}
	if slices.Contains(seen, false) || len(r.GetParts()) < 2 {
		t.Fatalf("not every record has a part: %v", r)
	}
	first := r.GetParts()[0]
	if r.GetPartition() != first.GetPartition() || r.GetBaseOffset() != first.GetBaseOffset() || first.GetRecords()[0] != 0 {
		t.Errorf("got %v", r)
	}
	// One partition: the answer is flat.
	r = p.ask(&pb.ProduceRequest{Topic: "t", Batch: keyed("21", "21")})
	if len(r.GetParts()) != 0 || r.GetPartition() != uint32(record.PartitionForKey([]byte("21"), 4)) || r.GetError() != nil {
		t.Errorf("got %v", r)
	}
	// Without keys records are spread, request by request.
	spread := make(map[uint32]bool)
	for range 4 {
		r := p.ask(&pb.ProduceRequest{Topic: "t", Batch: batch("x", "y")})
		if r.GetError() != nil || len(r.GetParts()) != 0 {
			t.Fatalf("got %v", r)
		}
		spread[r.GetPartition()] = true
	}
	if len(spread) != 4 {
		t.Errorf("keyless batches went to %v", spread)
	}
	p.end(0)
}

func TestSplitRequestsKeepTheOrderOfAnswers(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 3)
	p := openProducer(t, s.Broker)
	const requests = 300
	go func() {
		for i := range uint64(requests) {
			r := &pb.ProduceRequest{CorrelationId: i + 1, Topic: "t"}
			switch i % 3 {
			case 0:
				r.Batch = keyed("a", "b", "c", "d", "e")
			case 1:
				r.Batch, r.Partition = batch("v"), new(uint32(i/3%3))
			default:
				r.Batch = keyed("a", "e")
			}
			if p.st.Send(r) != nil {
				return
			}
		}
		_ = p.st.CloseSend()
	}()
	last := make(map[uint32]uint64) // by partition
	next := make(map[uint32]int64)
	for range requests {
		r := p.next()
		if r.GetError() != nil {
			t.Fatal(r.GetError())
		}
		at := map[uint32]int64{r.GetPartition(): r.GetBaseOffset()}
		for _, part := range r.GetParts() {
			at[part.GetPartition()] = part.GetBaseOffset()
		}
		for partition, offset := range at {
			if r.GetCorrelationId() <= last[partition] || offset < next[partition] {
				t.Fatalf("partition %d: %v after %d at %d", partition, r, last[partition], next[partition])
			}
			last[partition], next[partition] = r.GetCorrelationId(), offset
		}
	}
	p.end(0)
}

func TestPartOfASplitRequestFails(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 2)
	p := openProducer(t, s.Broker)
	zero, one := keyFor(0), keyFor(1)
	wrong := &pb.ProduceRequest{Topic: "t", Partition: new(uint32(1)), Batch: &pb.RecordBatch{}}
	wantError(t, p.ask(wrong).GetError(), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_INVALID_BATCH)
	r := p.ask(&pb.ProduceRequest{Topic: "t", Batch: keyed(zero, one, zero)})
	wantError(t, r.GetError(), codes.Aborted, pb.ErrorReason_ERROR_REASON_PRECEDING_FAILED)
	if r.BaseOffset != nil || r.GetError().GetRetryable() || len(r.GetParts()) != 2 {
		t.Fatalf("got %v", r)
	}
	if a, b := r.GetParts()[0], r.GetParts()[1]; a.GetError() != nil || a.BaseOffset == nil || b.GetError() == nil || b.BaseOffset != nil {
		t.Errorf("got %v", r)
	}
	r = p.ask(&pb.ProduceRequest{Topic: "t", Batch: keyed(zero, one), Restart: true})
	if r.GetError() != nil {
		t.Errorf("after restart: %v", r)
	}
	p.end(0)
}

// keyFor returns a key of a partition of two.
func keyFor(partition record.PartitionID) string {
	for i := 0; ; i++ {
		if k := fmt.Sprint("key-", i); record.PartitionForKey([]byte(k), 2) == partition {
			return k
		}
	}
}

func TestClientChecksum(t *testing.T) {
	s := servertest.Start(t, servertest.Options{})
	s.CreateTopic("t", 1)
	p := openProducer(t, s.Broker)
	b := batch("v")
	sum := crc32.Checksum(marshal(t, b), crc32.MakeTable(crc32.Castagnoli))
	if r := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: b, BatchCrc32C: &sum}); r.GetError() != nil {
		t.Fatal(r.GetError())
	}
	sum++
	r := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: b, BatchCrc32C: &sum})
	wantError(t, r.GetError(), codes.InvalidArgument, pb.ErrorReason_ERROR_REASON_CRC_MISMATCH)
	if r.GetError().GetField().GetField() != "batch_crc32c" {
		t.Errorf("got %v", r.GetError())
	}
}

func TestRequestWaitsForTheMetadataItsClientHasSeen(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Limits: api.Limits{RevisionWait: time.Millisecond}})
	topic := s.CreateTopic("t", 1)
	p := openProducer(t, s.Broker)
	r := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: batch("v"), MinRevision: topic.GetRevision()})
	if r.GetError() != nil {
		t.Fatal(r.GetError())
	}
	r = p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: batch("v"), MinRevision: 1 << 40})
	wantError(t, r.GetError(), codes.Unavailable, pb.ErrorReason_ERROR_REASON_NOT_FRESH)
	if !r.GetError().GetRetryable() {
		t.Error("not retryable")
	}
}

func TestDrainEndsProduceStreamsInOrder(t *testing.T) {
	s := servertest.Start(t, servertest.Options{Limits: api.Limits{DrainGrace: 50 * time.Millisecond}})
	s.CreateTopic("t", 1)
	p := openProducer(t, s.Broker)
	if r := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: batch("v")}); r.GetError() != nil {
		t.Fatal(r.GetError())
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.Stop()
	}()
	r := p.next()
	if r.GetCorrelationId() != 0 || r.GetDrain().GetDeadlineMs() != 50 {
		t.Fatalf("got %v, want the drain", r)
	}
	// What was on its way is still taken.
	if r := p.ask(&pb.ProduceRequest{Topic: "t", Partition: new(uint32(0)), Batch: batch("v")}); r.GetBaseOffset() != 1 {
		t.Fatalf("got %v", r)
	}
	// This client never half-closes; its stream ends all the same, and OK.
	if _, err := p.st.Recv(); err == nil || err.Error() != "EOF" {
		t.Errorf("got %v", err)
	}
	<-stopped
}
