package millstream

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/millstream-io/millstream/clients/go/internal/faketest"
	"github.com/millstream-io/millstream/clients/go/internal/transport"
	"github.com/millstream-io/millstream/clients/go/internal/wire"
	pb "github.com/millstream-io/millstream/gen/go/millstream/v1"
)

// unconnected returns a producer whose batches are acknowledged at once, by
// nobody: what is left is what a record costs until its batch is sent.
func unconnected(b *testing.B, partitions uint32) *Producer {
	o := ProducerOptions{Topic: "t"}.withDefaults()
	p := &Producer{opts: o, topic: &pb.Topic{}, count: partitions, maxRecord: maxBatchBytes}
	p.ctx, p.cancel = context.WithCancel(b.Context())
	p.init(new(transport.Pool), &p.opts, partitions, newRoute(""), 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			batch, _, wait := p.take(p.routes.own)
			if batch == nil {
				if !p.sleep(p.routes.own, wait, nil) {
					return
				}
				continue
			}
			if err := p.acknowledge(&wire.ProduceAnswer{CorrelationID: batch.id, BaseOffset: 0}, ""); err != nil {
				b.Error(err)
			}
		}
	}()
	b.Cleanup(func() { p.cancel(); <-done })
	return p
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for _, keyed := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dB/keyed=%v", size, keyed), func(b *testing.B) {
				p := unconnected(b, 4)
				record := Record{Value: make([]byte, size)}
				if keyed {
					record.Key = []byte("customer-4711")
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := p.Append(b.Context(), record); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// frameOf returns a FetchResponse with a batch of records of size bytes, and
// how many they are.
func frameOf(b *testing.B, size int, keyed bool) (message []byte, records int) {
	records = DefaultFrameBytes / (size + 10)
	var batch []byte
	for range records {
		r := Record{Value: make([]byte, size)}
		if keyed {
			r.Key = []byte("customer-4711")
		}
		n := recordSize(&r)
		at := len(batch)
		batch = append(batch, make([]byte, sizeBytes(n))...)
		putRecord(batch[at:], &r, n)
	}
	rest, err := proto.Marshal(&pb.FetchResponse{SubscriptionId: 1, NextOffset: int64(records)})
	if err != nil {
		b.Fatal(err)
	}
	raw := faketest.Seal(&pb.LogBatch{RecordCount: uint32(records), LastOffsetDelta: uint32(records) - 1}, batch)
	return append(appendBatch(nil, raw), rest...), records
}

func BenchmarkNext(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for _, keyed := range []bool{false, true} {
			b.Run(fmt.Sprintf("%dB/keyed=%v", size, keyed), func(b *testing.B) {
				message, records := frameOf(b, size, keyed)
				r := &Reader{client: &Client{pool: new(transport.Pool)}, frames: make(chan *frame, 1), reached: map[uint32]*progress{0: {}}}
				r.cursor.names = &r.names
				r.pooled.New = func() any { return new(frame) }
				b.SetBytes(int64(size))
				b.ReportAllocs()
				left := 0
				for b.Loop() {
					if left == 0 {
						f, _ := r.pooled.Get().(*frame)
						f.buf = r.client.pool.Get(len(message))
						copy(*f.buf, message)
						if err := f.Parse(*f.buf); err != nil || f.Damage != nil {
							b.Fatal(err, f.Damage)
						}
						f.to = 1 << 60
						r.frames <- f
						left = records
					}
					if _, err := r.Next(b.Context()); err != nil {
						b.Fatal(err)
					}
					left--
				}
			})
		}
	}
}

// cpu returns the time that the process has used, and report tells what it
// used for each record: on a machine that is shared it says more than the time
// that went by. It counts both ends of a connection.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func report(b *testing.B, before time.Duration) {
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
}

// BenchmarkProduceOverLoopback is Append against a broker that keeps nothing.
func BenchmarkProduceOverLoopback(b *testing.B) {
	for _, size := range []int{100, 1024} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			c, err := New(Options{Addr: faketest.NewSink(b, nil)})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			p, err := c.NewProducer(b.Context(), ProducerOptions{Topic: "t"})
			if err != nil {
				b.Fatal(err)
			}
			record := Record{Value: make([]byte, size)}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				if _, err := p.Append(b.Context(), record); err != nil {
					b.Fatal(err)
				}
			}
			if err := p.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
			report(b, before)
		})
	}
}

// BenchmarkFetchOverLoopback is Next against a broker that sends one frame
// again and again.
func BenchmarkFetchOverLoopback(b *testing.B) {
	for _, size := range []int{100, 1024} {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			message, _ := frameOf(b, size, false)
			c, err := New(Options{Addr: faketest.NewSink(b, message)})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			r, err := c.NewReader(b.Context(), ReaderOptions{Topic: "t"})
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				if _, err := r.Next(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			report(b, before)
		})
	}
}

// appendBatch appends a LogBatch as a field of a FetchResponse.
func appendBatch(dst, raw []byte) []byte {
	dst = append(dst, 1<<3|2)
	n := len(dst)
	dst = append(dst, make([]byte, 10)...)
	return append(dst[:n+putVarint(dst[n:], uint64(len(raw)))], raw...)
}
