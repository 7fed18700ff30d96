package millstream

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millstream-io/millstream/clients/go/internal/wire"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// encoded returns a record as a RecordBatch of one.
func encoded(r *Record) []byte {
	n := recordSize(r)
	b := make([]byte, sizeBytes(n))
	putRecord(b, r, n)
	return b
}

func TestPartitionsAreThoseOfKafkasJavaClient(t *testing.T) {
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
		if got, want := partitionForKey([]byte(key), 7), uint32(want&0x7fffffff)%7; got != want {
			t.Errorf("partition of %q is %d, want %d", key, got, want)
		}
	}
}

// FuzzRecord: what is encoded, the generated code reads as the same record,
// and so does the cursor.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("key"), []byte("value"), "header", []byte("x"), int64(1), true, true, true)
	f.Add([]byte(nil), bytes.Repeat([]byte("v"), 200), "", []byte(nil), int64(0), false, true, false)
	f.Fuzz(func(t *testing.T, key, value []byte, name string, header []byte, ms int64, hasKey, hasValue, hasHeader bool) {
		r := Record{}
		if hasKey {
			r.Key = append([]byte{}, key...)
		}
		if hasValue {
			r.Value = append([]byte{}, value...)
		}
		if hasHeader {
			r.Headers = []Header{{Key: name, Value: append([]byte{}, header...)}, {Key: name}}
		}
		if ms &= 1<<45 - 1; ms != 0 {
			r.Time = time.UnixMilli(ms)
		}
		if checkRest(&r) != nil {
			return
		}
		b := encoded(&r)
		var batch pb.RecordBatch
		if err := proto.Unmarshal(b, &batch); err != nil || len(batch.GetRecords()) != 1 {
			t.Fatalf("the generated code reads %v, %v", &batch, err)
		}
		m := batch.GetRecords()[0]
		if !same(m.Key, r.Key) || !same(m.Value, r.Value) || len(m.GetHeaders()) != len(r.Headers) || m.GetTimestampMs() != ms {
			t.Fatalf("%+v became %v", r, m)
		}
		var got FetchedRecord
		c := cursor{names: new(names)}
		c.start(&wire.LogBatch{Records: 1, BaseOffset: 9, AppendTimeMs: 3}, b)
		if !c.next(&got) || !c.finish() || c.next(&got) {
			t.Fatal("the cursor does not read one record")
		}
		if !same(got.Key, r.Key) || !same(got.Value, r.Value) || len(got.Headers) != len(r.Headers) || got.Offset != 9 {
			t.Fatalf("%+v became %+v", r, got)
		}
		if want := max(ms, 3*boolInt(ms == 0)); got.Time.UnixMilli() != want {
			t.Fatalf("time is %d, want %d", got.Time.UnixMilli(), want)
		}
		for i := range got.Headers {
			if got.Headers[i].Key != r.Headers[i].Key || !same(got.Headers[i].Value, r.Headers[i].Value) {
				t.Fatalf("headers %+v became %+v", r.Headers, got.Headers)
			}
		}
	})
}

func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// same reports whether two byte strings are equal, null being none of them.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// FuzzCursor: whatever the bytes, the cursor does not panic, and it reads
// what the generated code reads.
func FuzzCursor(f *testing.F) {
	f.Add(encoded(&Record{Key: []byte("k"), Value: []byte("v"), Headers: []Header{{Key: "h"}}, Time: time.UnixMilli(1)}), uint32(1), false)
	f.Add([]byte{0xc2, 0x3e, 1, 'x', 1<<3 | 2, 0}, uint32(1), false) // a field of the user's, then a record
	f.Add([]byte{1<<3 | 2, 2, 5 << 3, 4}, uint32(1), true)
	f.Fuzz(func(t *testing.T, b []byte, n uint32, sparse bool) {
		l := wire.LogBatch{Records: n % 1000, BaseOffset: 10}
		if sparse {
			l.Attributes = 1 << 11
		}
		c := cursor{names: new(names)}
		c.start(&l, b)
		var got []FetchedRecord
		for r := (FetchedRecord{}); c.next(&r); {
			got = append(got, r.Clone())
		}
		var m pb.RecordBatch
		if !c.finish() || proto.Unmarshal(b, &m) != nil {
			return
		}
		if len(m.GetRecords()) < len(got) {
			t.Fatalf("%d records, the generated code has %d", len(got), len(m.GetRecords()))
		}
		for i, r := range got {
			want := m.GetRecords()[i]
			if !same(r.Key, want.Key) || !same(r.Value, want.Value) || len(r.Headers) != len(want.GetHeaders()) {
				t.Fatalf("record %d is %+v, the generated code has %v", i, r, want)
			}
			offset := int64(10 + i)
			if sparse {
				offset = 10 + int64(want.GetOffsetDelta())
			}
			if r.Offset != offset {
				t.Fatalf("record %d has offset %d, want %d", i, r.Offset, offset)
			}
		}
	})
}

func TestHeaderNamesAreRememberedWithinBounds(t *testing.T) {
	var n names
	for i := range 3 * maxNames {
		n.intern([]byte{byte(i), byte(i >> 8)})
	}
	n.intern(make([]byte, maxNameSize+1))
	if len(n.known) != maxNames {
		t.Errorf("%d names are remembered", len(n.known))
	}
	same := []byte("\x00\x00")
	if testing.AllocsPerRun(10, func() { n.intern(same) }) != 0 {
		t.Error("a name that is known allocates")
	}
}

func TestFifoKeepsOrder(t *testing.T) {
	var q fifo[int]
	next, added := 0, 0
	for round := range 200 {
		for range round % 7 {
			q.push(added)
			added++
		}
		for range round % 5 {
			v, ok := q.pop()
			if !ok {
				break
			}
			if v != next {
				t.Fatalf("got %d, want %d", v, next)
			}
			next++
		}
	}
	q.pushFront([]int{-2, -1})
	if v, _ := q.pop(); v != -2 || q.peek() != -1 || q.len() != added-next+1 {
		t.Errorf("front is %d, then %d, of %d", v, q.peek(), q.len())
	}
}
