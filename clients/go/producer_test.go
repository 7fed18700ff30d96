package millstream_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/clients/go/internal/faketest"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

var again = &pb.RequestError{
	Code: uint32(codes.Unavailable), Reason: pb.ErrorReason_ERROR_REASON_LEADER_UNAVAILABLE, Message: "nobody leads", Retryable: true,
}

func TestRecordsArriveAsTheyWereHandedOver(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	p := newProducer(t, s, millstream.ProducerOptions{})
	ctx := inTime(t)
	at := time.UnixMilli(1_700_000_000_123)
	given := []millstream.Record{
		{Value: []byte("plain")},
		{},
		{Key: []byte{}, Value: []byte{}},
		{Key: []byte("k"), Value: []byte(strings.Repeat("x", 300)), Time: at, Headers: []millstream.Header{{Key: "h", Value: []byte("1")}, {Key: "null"}, {}}},
	}
	for i, r := range given {
		place, err := p.AppendSync(ctx, r)
		if err != nil || place.Offset != int64(i) || place.LeaderEpoch != 7 || place.Scope != pb.AckScope_ACK_SCOPE_ISR {
			t.Fatalf("record %d is at %+v, %v", i, place, err)
		}
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	got := s.Log("t", 0).Records()
	if len(got) != 4 {
		t.Fatalf("%d records", len(got))
	}
	if got[0].Key != nil || string(got[0].Value) != "plain" || got[0].TimestampMs != nil {
		t.Errorf("record 0 is %v", got[0])
	}
	if got[1].Key != nil || got[1].Value != nil {
		t.Errorf("record 1 is %v, want nulls", got[1])
	}
	if got[2].Key == nil || got[2].Value == nil {
		t.Errorf("record 2 is %v, want empty, not null", got[2])
	}
	if h := got[3].GetHeaders(); got[3].GetTimestampMs() != at.UnixMilli() || len(h) != 3 || h[0].GetKey() != "h" || h[1].Value != nil || h[2].GetKey() != "" {
		t.Errorf("record 3 is %v", got[3])
	}
}

func TestBatchesCarryTheirChecksumAndTheTopicsIdentity(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	seen := make(chan *pb.ProduceRequest, 1)
	s.OnProduce = func(q *pb.ProduceRequest) faketest.Verdict { seen <- q; return faketest.Verdict{} }
	p := newProducer(t, s, millstream.ProducerOptions{Acks: millstream.AcksNone})
	place, err := p.AppendSync(inTime(t), millstream.Record{Value: []byte("v")})
	if err != nil || place.Offset != -1 {
		t.Errorf("with AcksNone the record is at %+v, %v", place, err)
	}
	q := <-seen
	batch := []byte{1<<3 | 2, 3, 2<<3 | 2, 1, 'v'}
	if q.GetBatchCrc32C() != crc32.Checksum(batch, crc32.MakeTable(crc32.Castagnoli)) {
		t.Error("the CRC is not that of the batch")
	}
	if string(q.GetTopicId()) != "0123456789abcdef" || q.GetMinRevision() != 42 || q.GetAcks() != pb.Acks_ACKS_NONE || q.GetRestart() || q.GetTransactionalId() != "" {
		t.Errorf("request is %v", q)
	}
	if err := p.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
}

func TestWhatComesWhileABatchIsInFlightSharesTheNext(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	first, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict {
		once.Do(func() { close(first) })
		return faketest.Verdict{Wait: release}
	}
	p := newProducer(t, s, millstream.ProducerOptions{})
	ctx := inTime(t)
	appendAll(t, p, 0, 1)
	<-first
	appendAll(t, p, 1, 100)
	close(release)
	if err := p.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Log("t", 0).Batches()); n != 2 {
		t.Errorf("%d batches, want 2", n)
	}
	wantValues(t, s.Log("t", 0), 100)
}

// appendAll hands values [from, to) over.
func appendAll(t *testing.T, p *millstream.Producer, from, to int) (all []millstream.Pending) {
	t.Helper()
	for i := from; i < to; i++ {
		pending, err := p.AppendTo(inTime(t), 0, millstream.Record{Value: value(i)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pending)
	}
	return all
}

func TestBatchesAreFullByBytesAndByCount(t *testing.T) {
	for name, c := range map[string]struct {
		o     millstream.ProducerOptions
		limit map[string]string
		each  int
	}{
		"bytes":              {o: millstream.ProducerOptions{BatchBytes: 1 << 10, Linger: time.Hour}, each: 1024 / 10},
		"count":              {o: millstream.ProducerOptions{BatchRecords: 7, Linger: time.Hour}, each: 7},
		"limit of the topic": {o: millstream.ProducerOptions{Linger: time.Hour}, limit: map[string]string{"max.batch.bytes": "2000"}, each: 200},
	} {
		t.Run(name, func(t *testing.T) {
			s := faketest.New(t, "t", 1, c.limit)
			p := newProducer(t, s, c.o)
			appendAll(t, p, 0, 3*c.each)
			if err := p.Close(inTime(t)); err != nil {
				t.Fatal(err)
			}
			for i, b := range s.Log("t", 0).Batches() {
				if len(b.GetRecords()) != c.each {
					t.Errorf("batch %d has %d records, want %d", i, len(b.GetRecords()), c.each)
				}
			}
			wantValues(t, s.Log("t", 0), 3*c.each)
		})
	}
}

func TestLingerSendsWhenTheTimeIsOver(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	p := newProducer(t, s, millstream.ProducerOptions{Linger: 20 * time.Millisecond})
	start := time.Now()
	all := appendAll(t, p, 0, 50)
	for i, pending := range all {
		place, err := pending.Wait(inTime(t))
		if err != nil || place.Offset != int64(i) {
			t.Fatalf("record %d: %+v, %v", i, place, err)
		}
	}
	if d := time.Since(start); d < 20*time.Millisecond {
		t.Errorf("sent after %v", d)
	}
	if n := len(s.Log("t", 0).Batches()); n != 1 {
		t.Errorf("%d batches, want 1", n)
	}
	if err := p.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
}

func TestKeysKeepTheirPartitionAndOthersAreSpread(t *testing.T) {
	s := faketest.New(t, "t", 4, nil)
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 10})
	ctx := inTime(t)
	for i := range 400 {
		key := fmt.Appendf(nil, "key-%d", i%13)
		if _, err := p.Append(ctx, millstream.Record{Key: key, Value: value(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 400 {
		if _, err := p.Append(ctx, millstream.Record{Value: value(1000 + i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	home := make(map[string]uint32)
	for partition := range uint32(4) {
		unkeyed := 0
		last := make(map[string]string)
		for _, r := range s.Log("t", partition).Records() {
			if r.Key == nil {
				unkeyed++
				continue
			}
			if other, ok := home[string(r.GetKey())]; ok && other != partition {
				t.Fatalf("%s is in partitions %d and %d", r.GetKey(), other, partition)
			}
			home[string(r.GetKey())] = partition
			if last[string(r.GetKey())] >= string(r.GetValue()) {
				t.Fatalf("%s: %s came after %s", r.GetKey(), r.GetValue(), last[string(r.GetKey())])
			}
			last[string(r.GetKey())] = string(r.GetValue())
		}
		if unkeyed == 0 {
			t.Errorf("partition %d has no record without a key", partition)
		}
	}
	if len(home) != 13 {
		t.Errorf("%d keys", len(home))
	}
}

func TestCompressedBatchesHoldTheSameRecords(t *testing.T) {
	for _, kind := range []millstream.Compression{millstream.CompressionZstd, millstream.CompressionLZ4, millstream.CompressionSnappy} {
		s := faketest.New(t, "t", 1, nil)
		p := newProducer(t, s, millstream.ProducerOptions{Compression: kind, Linger: time.Hour})
		appendAll(t, p, 0, 1000)
		if err := p.Close(inTime(t)); err != nil {
			t.Fatal(err)
		}
		b := s.Log("t", 0).Batches()[0]
		if b.GetCompression() != kind || b.GetRecordCount() != 1000 || len(b.GetRecords()) != 0 || len(b.GetCompressed()) > 8000 {
			t.Fatalf("%v: batch has %d records, count %d, %d bytes", b.GetCompression(), len(b.GetRecords()), b.GetRecordCount(), len(b.GetCompressed()))
		}
		r := newReader(t, s, millstream.ReaderOptions{UntilEnd: true})
		i := 0
		for record, err := range r.Records(inTime(t)) {
			if err != nil || string(record.Value) != string(value(i)) || record.Offset != int64(i) {
				t.Fatalf("%v: record %d is %v, %v", kind, i, record, err)
			}
			i++
		}
		if i != 1000 {
			t.Fatalf("%v: %d records", kind, i)
		}
	}
}

func TestAFailedRequestIsSentAgainBeforeItsSuccessors(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	failures := 0
	var restarts []string
	s.OnProduce = func(q *pb.ProduceRequest) faketest.Verdict {
		first := string(q.GetBatch().GetRecords()[0].GetValue())
		if q.GetRestart() {
			restarts = append(restarts, first)
		}
		if first == string(value(20)) && failures < 3 {
			failures++
			return faketest.Verdict{Error: again}
		}
		return faketest.Verdict{}
	}
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 10, Linger: time.Hour})
	all := appendAll(t, p, 0, 100)
	if err := p.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
	wantValues(t, s.Log("t", 0), 100)
	for i, pending := range all {
		if place, err := pending.Wait(inTime(t)); err != nil || place.Offset != int64(i) {
			t.Fatalf("record %d: %+v, %v", i, place, err)
		}
	}
	if want := slices.Repeat([]string{string(value(20))}, 3); !slices.Equal(restarts, want) {
		t.Errorf("restarted at %v, want %v", restarts, want)
	}
}

func TestARefusedBatchFailsAloneAndTheRestGoesOn(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.OnProduce = func(q *pb.ProduceRequest) (v faketest.Verdict) {
		if string(q.GetBatch().GetRecords()[0].GetValue()) == string(value(20)) {
			v.Error = &pb.RequestError{Code: uint32(codes.InvalidArgument), Reason: pb.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE, Message: "too large",
				Detail: &pb.RequestError_Limit{Limit: &pb.LimitViolation{Limit: "max.batch.bytes", Maximum: 1, Actual: 2}}}
		}
		return v
	}
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 10, Linger: time.Hour})
	all := appendAll(t, p, 0, 100)
	err := p.Flush(inTime(t))
	var lost *millstream.UnacknowledgedError
	if !errors.As(err, &lost) || lost.Records != 10 {
		t.Fatalf("Flush: %v, want 10 records unacknowledged", err)
	}
	var said *millstream.Error
	if !errors.As(err, &said) || said.Reason != pb.ErrorReason_ERROR_REASON_BATCH_TOO_LARGE || said.Limit.GetLimit() != "max.batch.bytes" || said.Partition != 0 {
		t.Fatalf("Flush: %v", err)
	}
	if _, err := all[25].Wait(inTime(t)); !errors.As(err, &said) {
		t.Errorf("record 25: %v", err)
	}
	if place, err := all[30].Wait(inTime(t)); err != nil || place.Offset != 20 {
		t.Errorf("record 30: %+v, %v", place, err)
	}
	leftOut := []int{20, 21, 22, 23, 24, 25, 26, 27, 28, 29}
	wantValues(t, s.Log("t", 0), 100, leftOut...)
	if err := p.Close(inTime(t)); err != nil {
		t.Errorf("Close after a Flush that told: %v", err)
	}
}

func TestWhatWasInFlightOnACutStreamHasAnUnknownOutcomeAndTheRestIsSentAgain(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	cut := false
	s.OnProduce = func(q *pb.ProduceRequest) (v faketest.Verdict) {
		if string(q.GetBatch().GetRecords()[0].GetValue()) == string(value(0)) && !cut {
			cut = true
			v.Lose = status.Error(codes.Unavailable, "gone")
		}
		return v
	}
	p := newProducer(t, s, millstream.ProducerOptions{})
	first := appendAll(t, p, 0, 1)
	_, err := first[0].Wait(inTime(t))
	var unknown *millstream.UnknownOutcomeError
	if !errors.As(err, &unknown) || unknown.Topic != "t" || unknown.Partition != 0 {
		t.Fatalf("record 0: %v, want an unknown outcome", err)
	}
	var said *millstream.Error
	if !errors.As(err, &said) || said.Code != codes.Unavailable {
		t.Errorf("the cause is %v", unknown.Cause)
	}
	for _, pending := range appendAll(t, p, 1, 50) {
		if _, err := pending.Wait(inTime(t)); err != nil {
			t.Fatal(err)
		}
	}
	// The server wrote record 0 before it was cut off, and nothing twice.
	wantValues(t, s.Log("t", 0), 50)
	var lost *millstream.UnacknowledgedError
	if err := p.Close(inTime(t)); !errors.As(err, &lost) || lost.Records != 1 {
		t.Errorf("Close: %v", err)
	}
}

func TestWithinACutPartitionNothingIsReordered(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	n := 0
	s.OnProduce = func(*pb.ProduceRequest) (v faketest.Verdict) {
		if n++; n%17 == 0 {
			v.Lose = status.Error(codes.Unavailable, "gone")
		} else if n%5 == 0 {
			v.Error = again
		}
		return v
	}
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 3})
	all := appendAll(t, p, 0, 600)
	if err := p.Flush(inTime(t)); err == nil {
		t.Error("nothing was lost")
	}
	got := values(s.Log("t", 0))
	if !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Fatal("records are out of order or twice in the log")
	}
	for i, pending := range all {
		place, err := pending.Wait(inTime(t))
		var unknown *millstream.UnknownOutcomeError
		if err == nil && got[place.Offset] != string(value(i)) {
			t.Fatalf("record %d is not at %d", i, place.Offset)
		} else if err != nil && !errors.As(err, &unknown) {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	wantLost(t, p)
}

// wantLost closes a producer that has lost records.
func wantLost(t *testing.T, p *millstream.Producer) {
	t.Helper()
	var lost *millstream.UnacknowledgedError
	if err := p.Close(inTime(t)); err != nil && !errors.As(err, &lost) {
		t.Errorf("Close: %v", err)
	}
}

func TestADrainIsNoLoss(t *testing.T) {
	s := faketest.New(t, "t", 2, nil)
	drained := 0
	s.OnProduce = func(*pb.ProduceRequest) (v faketest.Verdict) {
		if drained < 3 {
			drained++
			v.Drain = true
		}
		return v
	}
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 5})
	appendAll(t, p, 0, 200)
	if err := p.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
	wantValues(t, s.Log("t", 0), 200)
	if drained != 3 {
		t.Errorf("drained %d times", drained)
	}
}

func TestAServerThatComesBackGetsWhatWasNotSent(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	p := newProducer(t, s, millstream.ProducerOptions{})
	appendAll(t, p, 0, 10)
	if err := p.Flush(inTime(t)); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	// What is sent before the client sees the end of the stream has an unknown
	// outcome; what comes then waits for the server.
	var err error = &millstream.UnknownOutcomeError{}
	for unknown := (*millstream.UnknownOutcomeError)(nil); errors.As(err, &unknown); {
		pending := appendAll(t, p, 10, 11)[0]
		s.Start()
		_, err = pending.Wait(inTime(t))
		if err != nil {
			s.Stop()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	wantValues(t, s.Log("t", 0), 11)
	wantLost(t, p)
}

func TestAppendBlocksWhileTheBufferIsFull(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	release := make(chan struct{})
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict { return faketest.Verdict{Wait: release} }
	p := newProducer(t, s, millstream.ProducerOptions{BufferBytes: 1 << 20, BatchBytes: 64 << 10})
	record := millstream.Record{Value: make([]byte, 10_000)}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var err error
	n := 0
	for err == nil && n < 1000 {
		_, err = p.Append(ctx, record)
		n++
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("after %d records Append: %v, want it to block", n, err)
	}
	if n < 50 || n > 120 {
		t.Errorf("%d records of 10 kB went into 1 MiB", n)
	}
	blocked := make(chan error)
	go func() { _, err := p.Append(inTime(t), record); blocked <- err }()
	close(release)
	if err := <-blocked; err != nil {
		t.Errorf("Append after there was room: %v", err)
	}
	if err := p.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
	if got := len(s.Log("t", 0).Records()); got != n {
		t.Errorf("%d records arrived, %d were accepted", got, n)
	}
}

// wantUnknownPartition fails unless an error says what a server would.
func wantUnknownPartition(t *testing.T, err error, name string) {
	t.Helper()
	var said *millstream.Error
	if !errors.As(err, &said) || said.Reason != pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION || said.Code != codes.NotFound ||
		said.Resource.GetType() != "partition" || said.Resource.GetName() != name || said.Retryable {
		t.Errorf("%v has no reason, or another: %+v", err, said)
	}
}

// Who is told that a record is too large is told which setting it is over.
func TestTooLargeRecordsNameTheSetting(t *testing.T) {
	for setting, config := range map[string]map[string]string{
		"max.record.bytes": {"max.record.bytes": "100", "max.batch.bytes": "10000"},
		"max.batch.bytes":  {"max.record.bytes": "10000", "max.batch.bytes": "10000"},
	} {
		p := newProducer(t, faketest.New(t, "t", 1, config), millstream.ProducerOptions{})
		if _, err := p.Append(inTime(t), millstream.Record{Value: make([]byte, 10000)}); err == nil || !strings.Contains(err.Error(), "("+setting+")") {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

func TestInvalidRecordsAreRefusedAlone(t *testing.T) {
	s := faketest.New(t, "t", 1, map[string]string{"max.record.bytes": "100", "max.batch.bytes": "10000"})
	p := newProducer(t, s, millstream.ProducerOptions{})
	ctx := inTime(t)
	for field, r := range map[string]millstream.Record{
		"size":        {Value: make([]byte, 99)},
		"headers.key": {Headers: []millstream.Header{{Key: "\xff"}}},
		"time":        {Time: time.UnixMilli(-1)},
	} {
		var invalid *millstream.InvalidRecordError
		if _, err := p.Append(ctx, r); !errors.As(err, &invalid) || invalid.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	var invalid *millstream.InvalidRecordError
	_, err := p.AppendTo(ctx, 1, millstream.Record{})
	if !errors.As(err, &invalid) || invalid.Field != "partition" {
		t.Errorf("partition: %v", err)
	}
	wantUnknownPartition(t, err, "t-1")
	if _, err := p.AppendSync(ctx, millstream.Record{Value: make([]byte, 98)}); err != nil {
		t.Errorf("a record of the largest size: %v", err)
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Append(ctx, millstream.Record{}); !errors.Is(err, millstream.ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
	if err := p.Close(ctx); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestAMissingTopicIsSaidWhenTheProducerIsMade(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	c := newClient(t, s)
	_, err := c.NewProducer(inTime(t), millstream.ProducerOptions{Topic: "typo"})
	var said *millstream.Error
	if !errors.As(err, &said) || said.Reason != pb.ErrorReason_ERROR_REASON_UNKNOWN_TOPIC_OR_PARTITION || said.Topic != "typo" {
		t.Errorf("%v", err)
	}
	var option *millstream.InvalidOptionError
	if _, err := c.NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t", BatchBytes: 4 << 20}); !errors.As(err, &option) || option.Option != "BatchBytes" {
		t.Errorf("%v", err)
	}
}

// Whoever waits for records that nobody takes is told of it, once until some
// are taken, and not of a refusal that passes.
func TestTheLoggerIsToldOfRecordsThatWaitLong(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	var answers, after atomic.Int32 // after so many answers it takes records
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict {
		if answers.Add(1) <= after.Load() {
			return faketest.Verdict{Error: again}
		}
		return faketest.Verdict{}
	}
	var log lines
	c, err := millstream.New(millstream.Options{Addr: faketest.Addr, DialOptions: []grpc.DialOption{s.Dialer()}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	send := func(refusals int32, retryFor time.Duration) int {
		t.Helper()
		before := log.count("records are not taken")
		p, err := c.NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t", RetryFor: retryFor})
		if err != nil {
			t.Fatal(err)
		}
		answers.Store(0)
		after.Store(refusals)
		_, err = p.AppendSync(inTime(t), millstream.Record{})
		if err := errors.Join(err, p.Close(inTime(t))); err != nil {
			t.Fatal(err)
		}
		return log.count("records are not taken") - before
	}
	if n := send(2, time.Hour); n != 0 {
		t.Errorf("of two refusals in a moment it was told %d times", n)
	}
	// Between seven of them the producer rests for 630 ms or more.
	if n := send(7, 10*time.Second); n != 1 {
		t.Errorf("of seven refusals in more than a twentieth of the time that there is it was told %d times", n)
	}
}

// lines counts what is logged.
type lines struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

func TestAfterRetryForABatchIsGivenUp(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict { return faketest.Verdict{Error: again} }
	p := newProducer(t, s, millstream.ProducerOptions{RetryFor: 100 * time.Millisecond})
	_, err := p.AppendSync(inTime(t), millstream.Record{})
	var gaveUp *millstream.GaveUpError
	var said *millstream.Error
	if !errors.As(err, &gaveUp) || !errors.As(err, &said) || said.Reason != again.GetReason() {
		t.Errorf("with a server that refuses: %v", err)
	}
	s.Stop()
	if _, err = p.AppendSync(inTime(t), millstream.Record{}); !errors.As(err, &gaveUp) {
		t.Errorf("with no server: %v", err)
	}
	wantLost(t, p)
}

func TestCloseInTimeOrNotAtAll(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	never := make(chan struct{})
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict { return faketest.Verdict{Wait: never} }
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 1})
	all := appendAll(t, p, 0, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v", err)
	}
	for i, pending := range all {
		_, err := pending.Wait(inTime(t))
		if !errors.Is(err, millstream.ErrClosed) {
			t.Errorf("record %d: %v", i, err)
		}
	}
}

// each takes what is written to a log, a line at a time.
type each chan string

func (l each) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// Who closes a producer while its records are refused is told why they were not
// taken.
func TestCloseSaysWhatRecordsWaitFor(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict { return faketest.Verdict{Error: again} }
	log := make(each, 10)
	c, err := millstream.New(millstream.Options{
		Addr: faketest.Addr, DialOptions: []grpc.DialOption{s.Dialer()}, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	p, err := c.NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t", RetryFor: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	pending, err := p.Append(inTime(t), millstream.Record{})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case line := <-log: // it rests now
		if !strings.Contains(line, "records are not taken") || !strings.Contains(line, again.GetMessage()) {
			t.Errorf("the logger is told: %s", line)
		}
	case <-inTime(t).Done():
		t.Fatal("the logger is told nothing")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close: %v", err)
	}
	_, err = pending.Wait(inTime(t))
	var said *millstream.Error
	if !errors.Is(err, millstream.ErrClosed) || !errors.As(err, &said) || said.Reason != again.GetReason() {
		t.Errorf("the record failed with: %v", err)
	}
}

func TestClosingTheClientSettlesEverything(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	never := make(chan struct{})
	s.OnProduce = func(*pb.ProduceRequest) faketest.Verdict { return faketest.Verdict{Wait: never} }
	c := newClient(t, s)
	p, err := c.NewProducer(inTime(t), millstream.ProducerOptions{Topic: "t"})
	if err != nil {
		t.Fatal(err)
	}
	all := appendAll(t, p, 0, 3)
	c.Close()
	for i, pending := range all {
		if _, err := pending.Wait(inTime(t)); !errors.Is(err, millstream.ErrClosed) {
			t.Errorf("record %d: %v", i, err)
		}
	}
	if _, err := p.Append(inTime(t), millstream.Record{}); !errors.Is(err, millstream.ErrClosed) {
		t.Errorf("Append: %v", err)
	}
}

func TestOnBatchIsToldOfEveryBatchInOrder(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.OnProduce = func(q *pb.ProduceRequest) (v faketest.Verdict) {
		if string(q.GetBatch().GetRecords()[0].GetValue()) == string(value(30)) {
			v.Error = &pb.RequestError{Code: uint32(codes.InvalidArgument), Message: "no"}
		}
		return v
	}
	var told []string
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 10, Linger: time.Hour, OnBatch: func(b millstream.BatchResult) {
		told = append(told, fmt.Sprintf("%d+%d %v", b.Offset, b.Records, b.Err == nil))
	}})
	appendAll(t, p, 0, 55)
	if err := p.Close(inTime(t)); err == nil {
		t.Error("Close did not tell")
	}
	want := []string{"0+10 true", "10+10 true", "20+10 true", "-1+10 false", "30+10 true", "40+5 true"}
	if !slices.Equal(told, want) {
		t.Errorf("told %v\nwant %v", told, want)
	}
}

func TestManyGoroutinesMayAppend(t *testing.T) {
	s := faketest.New(t, "t", 3, nil)
	p := newProducer(t, s, millstream.ProducerOptions{BatchRecords: 50})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				key := fmt.Appendf(nil, "g%d", g)
				if _, err := p.Append(inTime(t), millstream.Record{Key: key, Value: value(i)}); err != nil {
					t.Error(err)
					return
				}
				if i%100 == 99 {
					if err := p.Flush(inTime(t)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := p.Close(inTime(t)); err != nil {
		t.Fatal(err)
	}
	next := make(map[string]int)
	for partition := range uint32(3) {
		for _, r := range s.Log("t", partition).Records() {
			if string(r.GetValue()) != string(value(next[string(r.GetKey())])) {
				t.Fatalf("%s: %s, want number %d", r.GetKey(), r.GetValue(), next[string(r.GetKey())])
			}
			next[string(r.GetKey())]++
		}
	}
	for key, n := range next {
		if n != 500 {
			t.Errorf("%s has %d records", key, n)
		}
	}
}
