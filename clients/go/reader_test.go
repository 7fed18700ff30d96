package millstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	millstream "github.com/millstream-io/millstream/clients/go"
	"github.com/millstream-io/millstream/clients/go/internal/faketest"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// fill appends batches of 10 records with values [from, to) to a partition.
func fill(l *faketest.Log, from, to int) {
	for i := from; i < to; i += 10 {
		var all []string
		for j := i; j < min(i+10, to); j++ {
			all = append(all, string(value(j)))
		}
		l.Append(batchOf(all...), 0)
	}
}

// wantNext fails unless the reader gives values [from, to) of a partition
// next.
func wantNext(t *testing.T, r *millstream.Reader, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		record, err := r.Next(inTime(t))
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		if string(record.Value) != string(value(i)) {
			t.Fatalf("record at offset %d is %s, want %s", record.Offset, record.Value, value(i))
		}
	}
}

func wantEnd(t *testing.T, r *millstream.Reader) {
	t.Helper()
	if record, err := r.Next(inTime(t)); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, %v; want the end", record, err)
	}
}

func TestReaderGivesEverythingOfARecord(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.Log("t", 0).Append(&pb.RecordBatch{Records: []*pb.Record{
		{},
		{Key: []byte{}, Value: []byte{}},
		{Key: []byte("k"), Value: []byte(strings.Repeat("v", 200)), TimestampMs: proto.Int64(5), Headers: []*pb.Header{{Key: "a", Value: []byte("1")}, {Key: "b"}}},
	}}, 0)
	r := newReader(t, s, millstream.ReaderOptions{UntilEnd: true})
	var got []millstream.FetchedRecord
	for record, err := range r.Records(inTime(t)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, record.Clone())
	}
	if len(got) != 3 {
		t.Fatalf("%d records", len(got))
	}
	if got[0].Key != nil || got[0].Value != nil || got[0].Time.UnixMilli() != 1_700_000_000_000 || got[0].LeaderEpoch != 7 {
		t.Errorf("record 0 is %+v, want nulls and the time of its append", got[0])
	}
	if got[1].Key == nil || got[1].Value == nil {
		t.Errorf("record 1 is %+v, want empty, not null", got[1])
	}
	if g := got[2]; string(g.Key) != "k" || len(g.Value) != 200 || g.Time.UnixMilli() != 5 || g.Offset != 2 ||
		len(g.Headers) != 2 || g.Headers[0].Key != "a" || string(g.Headers[0].Value) != "1" || g.Headers[1].Value != nil {
		t.Errorf("record 2 is %+v", g)
	}
}

func TestAppendTimeOverrulesTheTimesOfRecords(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.Log("t", 0).Append(&pb.RecordBatch{Records: []*pb.Record{{TimestampMs: proto.Int64(5)}}}, 1<<12)
	r := newReader(t, s, millstream.ReaderOptions{})
	record, err := r.Next(inTime(t))
	if err != nil || record.Time.UnixMilli() != 1_700_000_000_000 {
		t.Errorf("%v, %v", record, err)
	}
}

func TestReaderBeginsWhereItIsTold(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	fill(s.Log("t", 0), 0, 100)
	for name, c := range map[string]struct {
		from  millstream.Position
		first int
	}{
		"earliest":     {millstream.Earliest(), 0},
		"an offset":    {millstream.AtOffset(37, millstream.NoEpoch), 37}, // inside a batch
		"before end":   {millstream.BeforeEnd(12), 88},
		"latest":       {millstream.Latest(), 100},
		"the very end": {millstream.AtOffset(100, 7), 100},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReader(t, s, millstream.ReaderOptions{From: c.from, UntilEnd: true})
			wantNext(t, r, c.first, 100)
			wantEnd(t, r)
			if p, hw := r.Position(0); p != millstream.AtOffset(100, 7) && p != millstream.AtOffset(100, millstream.NoEpoch) || hw != 100 {
				t.Errorf("position is %v of %d", p, hw)
			}
		})
	}
}

func TestPartitionsAreReadInTheirOrder(t *testing.T) {
	s := faketest.New(t, "t", 3, nil)
	for p := range uint32(3) {
		fill(s.Log("t", p), 0, 500)
	}
	r := newReader(t, s, millstream.ReaderOptions{UntilEnd: true, Partitions: []uint32{0, 2}, Positions: map[uint32]millstream.Position{2: millstream.AtOffset(100, 7)}})
	next := map[uint32]int64{0: 0, 2: 100}
	for record, err := range r.Records(inTime(t)) {
		if err != nil {
			t.Fatal(err)
		}
		want, ok := next[record.Partition]
		if !ok || record.Offset != want || string(record.Value) != string(value(int(want))) {
			t.Fatalf("partition %d: offset %d value %s, want %d", record.Partition, record.Offset, record.Value, want)
		}
		next[record.Partition]++
	}
	if next[0] != 500 || next[2] != 500 {
		t.Errorf("read until %v", next)
	}
}

func TestReaderFollows(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	r := newReader(t, s, millstream.ReaderOptions{})
	for i := range 20 {
		fill(s.Log("t", 0), 10*i, 10*i+10)
		wantNext(t, r, 10*i, 10*i+10)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next: %v", err)
	}
	fill(s.Log("t", 0), 200, 210)
	wantNext(t, r, 200, 210)
	r.Close()
	if _, err := r.Next(inTime(t)); !errors.Is(err, millstream.ErrClosed) {
		t.Errorf("Next after Close: %v", err)
	}
}

func TestReaderGoesOnAfterCutsDrainsAndRestarts(t *testing.T) {
	for name, end := range map[string]error{"cut": status.Error(codes.Unavailable, "gone"), "ended well": faketest.ErrEnd} {
		t.Run(name, func(t *testing.T) {
			s := faketest.New(t, "t", 2, nil)
			fill(s.Log("t", 0), 0, 500)
			fill(s.Log("t", 1), 0, 500)
			var frames atomic.Int32
			s.OnFrame = func(*faketest.Frame) error {
				if frames.Add(1)%13 == 0 {
					return end
				}
				return nil
			}
			r := newReader(t, s, millstream.ReaderOptions{UntilEnd: true})
			next := make(map[uint32]int64)
			for record, err := range r.Records(inTime(t)) {
				if err != nil {
					t.Fatal(err)
				}
				if record.Offset != next[record.Partition] || string(record.Value) != string(value(int(record.Offset))) {
					t.Fatalf("partition %d: offset %d, want %d", record.Partition, record.Offset, next[record.Partition])
				}
				next[record.Partition]++
			}
			if next[0] != 500 || next[1] != 500 {
				t.Errorf("read until %v", next)
			}
		})
	}
}

func TestResumingNamesTheEpochOfTheLastRecord(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	fill(s.Log("t", 0), 0, 30)
	positions := make(chan *pb.FetchPosition, 2)
	s.OnFetch = func(sub *pb.FetchSubscription) *pb.RequestError {
		if string(sub.GetTopicId()) != "0123456789abcdef" || sub.GetMinRevision() != 42 {
			t.Errorf("subscribed with %v", sub)
		}
		positions <- sub.GetPosition()
		return nil
	}
	r := newReader(t, s, millstream.ReaderOptions{})
	wantNext(t, r, 0, 30)
	<-positions
	s.Stop()
	s.Start()
	if p := <-positions; p.GetOffset() != 30 || p.LeaderEpoch == nil || p.GetLeaderEpoch() != 7 {
		t.Errorf("resumed at %v", p)
	}
	fill(s.Log("t", 0), 30, 40)
	wantNext(t, r, 30, 40)
}

func TestUntilEndMeansTheEndAtTheStartAlsoAfterACut(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	fill(s.Log("t", 0), 0, 100)
	frames := 0
	s.OnFrame = func(*faketest.Frame) error {
		if frames++; frames == 5 {
			fill(s.Log("t", 0), 100, 150)
			return status.Error(codes.Unavailable, "gone")
		}
		return nil
	}
	asked := make(chan *pb.FetchSubscription, 2)
	s.OnFetch = func(sub *pb.FetchSubscription) *pb.RequestError {
		asked <- sub
		return nil
	}
	r := newReader(t, s, millstream.ReaderOptions{UntilEnd: true})
	wantNext(t, r, 0, 100)
	wantEnd(t, r)
	if first := <-asked; first.End != nil {
		t.Errorf("asked first for %v", first)
	}
	// Who is asked then may know of less.
	if second := <-asked; second.GetEnd() != 100 || !second.GetUntilEnd() {
		t.Errorf("asked after the cut for %v", second)
	}
}

func TestAPartitionThatIsRefusedForNowIsTriedAgain(t *testing.T) {
	s := faketest.New(t, "t", 2, nil)
	fill(s.Log("t", 0), 0, 10)
	fill(s.Log("t", 1), 0, 10)
	var refused atomic.Int32
	s.OnFetch = func(sub *pb.FetchSubscription) *pb.RequestError {
		if sub.GetPartition() == 1 && refused.Add(1) <= 3 {
			return again
		}
		return nil
	}
	r := newReader(t, s, millstream.ReaderOptions{UntilEnd: true})
	n := 0
	for _, err := range r.Records(inTime(t)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 20 {
		t.Errorf("%d records", n)
	}
}

func TestAPartitionThatFailsIsToldAndTheOthersGoOn(t *testing.T) {
	s := faketest.New(t, "t", 2, nil)
	fill(s.Log("t", 1), 0, 10)
	r := newReader(t, s, millstream.ReaderOptions{UntilEnd: true, Positions: map[uint32]millstream.Position{0: millstream.AtOffset(99, 1)}})
	n := 0
	var failed *millstream.Error
	for {
		_, err := r.Next(inTime(t))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && (failed != nil || !errors.As(err, &failed)) {
			t.Fatal(err)
		}
		if err == nil {
			n++
		}
	}
	if failed == nil || failed.Partition != 0 || failed.Reason != pb.ErrorReason_ERROR_REASON_OFFSET_OUT_OF_RANGE || failed.OffsetRange == nil || failed.Retryable {
		t.Errorf("partition 0: %v", failed)
	}
	if n != 10 {
		t.Errorf("%d records of partition 1", n)
	}
	if p, _ := r.Position(0); p != millstream.AtOffset(99, 1) {
		t.Errorf("position of the failed partition is %v", p)
	}
}

func TestDivergenceIsNotRetried(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.OnFetch = func(*pb.FetchSubscription) *pb.RequestError {
		return &pb.RequestError{Code: uint32(codes.Aborted), Reason: pb.ErrorReason_ERROR_REASON_DIVERGED, Detail: &pb.RequestError_Divergence{Divergence: &pb.Divergence{SafeOffset: 4}}}
	}
	r := newReader(t, s, millstream.ReaderOptions{From: millstream.AtOffset(9, 3)})
	var said *millstream.Error
	if _, err := r.Next(inTime(t)); !errors.As(err, &said) || said.Divergence.GetSafeOffset() != 4 {
		t.Errorf("%v", err)
	}
}

func TestDamageIsAnErrorOfItsPartitionNeverARecord(t *testing.T) {
	damage := map[string]func(*faketest.Frame){
		"a flipped bit": func(f *faketest.Frame) {
			f.Raw[0] = slices.Clone(f.Raw[0])
			f.Raw[0][len(f.Raw[0])-1] ^= 1
		},
		"fewer records than the header says": func(f *faketest.Frame) {
			b, err := proto.Marshal(batchOf("a"))
			if err != nil {
				panic(err)
			}
			f.Raw[0] = faketest.Seal(&pb.LogBatch{BaseOffset: f.FirstOffset, RecordCount: 3, LastOffsetDelta: 2}, b)
		},
		"bytes that are no records": func(f *faketest.Frame) {
			f.Raw[0] = faketest.Seal(&pb.LogBatch{BaseOffset: f.FirstOffset, RecordCount: 1}, []byte{1<<3 | 2, 200})
		},
		"a bomb": func(f *faketest.Frame) {
			b, err := proto.Marshal(&pb.RecordBatch{Compression: pb.Compression_COMPRESSION_SNAPPY, RecordCount: 1, Compressed: []byte{0xff, 0xff, 0xff, 0x7f}})
			if err != nil {
				panic(err)
			}
			f.Raw[0] = faketest.Seal(&pb.LogBatch{BaseOffset: f.FirstOffset, RecordCount: 1, Attributes: 3}, b)
		},
		"another format": func(f *faketest.Frame) {
			f.Raw[0] = faketest.Seal(&pb.LogBatch{BaseOffset: f.FirstOffset, RecordCount: 1, Attributes: 1 << 3}, nil)
		},
	}
	for name, hurt := range damage {
		t.Run(name, func(t *testing.T) {
			s := faketest.New(t, "t", 2, nil)
			fill(s.Log("t", 0), 0, 100)
			fill(s.Log("t", 1), 0, 100)
			s.OnFrame = func(f *faketest.Frame) error {
				if f.GetPartition() == 0 && f.GetFirstOffset() == 50 && len(f.Raw) > 0 {
					hurt(f)
				}
				return nil
			}
			r := newReader(t, s, millstream.ReaderOptions{UntilEnd: true})
			next := make(map[uint32]int64)
			var damaged *millstream.DamagedError
			for {
				record, err := r.Next(inTime(t))
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					if damaged != nil || !errors.As(err, &damaged) {
						t.Fatal(err)
					}
					continue
				}
				if damaged != nil && record.Partition == 0 {
					t.Fatalf("offset %d after the damage", record.Offset)
				}
				if string(record.Value) == string(value(int(next[record.Partition]))) {
					next[record.Partition]++
				}
			}
			if damaged == nil || damaged.Partition != 0 || damaged.Offset < 50 || damaged.Offset > 51 {
				t.Errorf("damage is %v", damaged)
			}
			if next[0] != 50 || next[1] != 100 {
				t.Errorf("read until %v", next)
			}
		})
	}
}

func TestControlBatchesMoveThePositionOnly(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.Log("t", 0).Append(batchOf("a"), 0)
	s.Log("t", 0).Append(batchOf("marker"), 1<<10)
	s.Log("t", 0).Append(batchOf("b"), 0)
	r := newReader(t, s, millstream.ReaderOptions{UntilEnd: true})
	var got []string
	for record, err := range r.Records(inTime(t)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d=%s", record.Offset, record.Value))
	}
	if want := []string{"0=a", "2=b"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCreditIsAnAbsoluteTotalThatGrowsAsRecordsAreRead(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	big := strings.Repeat("x", 1<<20)
	for range 40 {
		s.Log("t", 0).Append(batchOf(big), 0)
	}
	var granted, sent atomic.Int64
	s.OnCredit = func(total uint64) {
		if int64(total) < granted.Load() {
			t.Errorf("credit went back from %d to %d", granted.Load(), total)
		}
		granted.Store(int64(total))
	}
	s.OnFrame = func(f *faketest.Frame) error {
		sent.Add(int64(f.GetCreditUsed()))
		return nil
	}
	r := newReader(t, s, millstream.ReaderOptions{BufferBytes: 8 << 20})
	for i := range 40 {
		if _, err := r.Next(inTime(t)); err != nil {
			t.Fatal(err)
		}
		if ahead := sent.Load() - int64(i)<<20; ahead > 8<<20+3<<20 {
			t.Fatalf("%d bytes are on their way with a credit of 8 MiB", ahead)
		}
	}
	if g := granted.Load(); g < 40<<20 || g > 50<<20 {
		t.Errorf("granted %d in all", g)
	}
}

func TestReaderGivesUpAfterRetryFor(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	r := newReader(t, s, millstream.ReaderOptions{RetryFor: 100 * time.Millisecond})
	s.Stop()
	var gaveUp *millstream.GaveUpError
	if _, err := r.Next(inTime(t)); !errors.As(err, &gaveUp) || !gaveUp.Reading {
		t.Errorf("%v", err)
	}
}

func TestAReaderThatIsRefusedForGoodEnds(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	s.OnFrame = func(*faketest.Frame) error { return status.Error(codes.PermissionDenied, "no") }
	r := newReader(t, s, millstream.ReaderOptions{})
	var said *millstream.Error
	if _, err := r.Next(inTime(t)); !errors.As(err, &said) || said.Code != codes.PermissionDenied {
		t.Errorf("%v", err)
	}
}

func TestOptionsOfAReaderAreChecked(t *testing.T) {
	s := faketest.New(t, "t", 2, nil)
	c := newClient(t, s)
	for name, o := range map[string]millstream.ReaderOptions{
		"Topic":       {},
		"BufferBytes": {Topic: "t", BufferBytes: 1},
		"FrameBytes":  {Topic: "t", FrameBytes: 1},
		"Partitions":  {Topic: "t", Partitions: []uint32{2}},
	} {
		var option *millstream.InvalidOptionError
		if _, err := c.NewReader(inTime(t), o); !errors.As(err, &option) || option.Option != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := c.NewReader(inTime(t), millstream.ReaderOptions{Topic: "t", Partitions: []uint32{2}})
	wantUnknownPartition(t, err, "t-2")
	if _, err := c.NewReader(inTime(t), millstream.ReaderOptions{Topic: "t", Partitions: []uint32{1, 1}}); err == nil {
		t.Error("a partition named twice was taken")
	}
}

func TestAReaderGoesOnPastADivergenceWhereItIsToldTo(t *testing.T) {
	s := faketest.New(t, "t", 1, nil)
	for i := range 8 {
		s.Log("t", 0).Append(batchOf(string(value(i))), 0)
	}
	s.OnFetch = func(sub *pb.FetchSubscription) *pb.RequestError {
		if sub.GetPosition().GetLeaderEpoch() == 7 {
			return nil
		}
		return &pb.RequestError{
			Code: uint32(codes.Aborted), Reason: pb.ErrorReason_ERROR_REASON_DIVERGED,
			Detail: &pb.RequestError_Divergence{Divergence: &pb.Divergence{LeaderEpoch: 7, SafeOffset: 4}},
		}
	}
	r := newReader(t, s, millstream.ReaderOptions{From: millstream.AtOffset(6, 9), UntilEnd: true, PastDivergence: true})
	next := int64(4)
	for record, err := range r.Records(inTime(t)) {
		if err != nil || record.Offset != next {
			t.Fatalf("got %v, %v; want offset %d", record, err, next)
		}
		next++
	}
	if next != 8 {
		t.Errorf("read up to %d", next)
	}
}
