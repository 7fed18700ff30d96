package millstream_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/clients/go/internal/faketest"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

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
