package partition

import (
	"context"
	"fmt"
	"testing"

	"github.com/millstream-io/millstream/server/replica"
	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
)

// ring gives requests back to who appends.
type ring chan *Request

func (r ring) Complete(req *Request) { r <- req }

// benchAppend keeps `inflight` requests of `bytes` bytes under way on a real
// disk, and reports what one costs.
func benchAppend(b *testing.B, d replica.Durability, bytes, inflight int) {
	log, _, err := commitlog.Open(commitlog.Options{FS: vfs.OS(), Dir: b.TempDir() + "/p"})
	if err != nil {
		b.Fatal(err)
	}
	flusher := &eager{}
	p := New(Options{Log: log, Self: 1, Flusher: flusher, Settings: Settings{MaxAheadMs: 1000}})
	p.Lead(alone(1, d))
	log.SetConfig(commitlog.Config{RetentionBytes: 1 << 30})
	free := make(ring, inflight)
	value := record.AppendRecord(nil, &record.Record{Value: make([]byte, bytes)})
	var v record.Validator
	s, err := v.Validate(record.Pieces{value}, record.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	for range inflight {
		free <- &Request{Batch: record.Pieces{value}, Summary: s, Acks: AcksAll, Done: free}
	}
	ctx := context.Background()
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	for b.Loop() {
		r := <-free
		if r.Err != nil {
			b.Fatal(r.Err)
		}
		if err := p.Append(ctx, r); err != nil {
			b.Fatal(err)
		}
	}
	for range inflight {
		<-free
	}
	b.StopTimer()
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
	flusher.running.Wait()
}

func BenchmarkAppend(b *testing.B) {
	for _, d := range []replica.Durability{replica.Memory, replica.Disk} {
		for _, c := range []struct{ bytes, inflight int }{{100, 1}, {100, 512}, {64 << 10, 16}, {256 << 10, 8}} {
			b.Run(fmt.Sprintf("%v/bytes=%d/inflight=%d", d, c.bytes, c.inflight), func(b *testing.B) {
				benchAppend(b, d, c.bytes, c.inflight)
			})
		}
	}
}

// BenchmarkNotify is a reader that follows the tail, without the append.
func BenchmarkNotify(b *testing.B) {
	var ws waiters
	w := make(waker, 1)
	out := make([]Waiter, 0, 1)
	b.ReportAllocs()
	for i := range b.N {
		ws.add(w, record.Offset(i))
		out = ws.take(record.Offset(i+1), out[:0])
		out[0].Wake()
		<-w
	}
}

// BenchmarkPublishUnwatched is a publication that nobody waits for.
func BenchmarkPublishUnwatched(b *testing.B) {
	var ws waiters
	b.ReportAllocs()
	for i := range b.N {
		if len(ws.take(record.Offset(i), nil)) > 0 {
			b.Fatal("nobody waits")
		}
	}
}
