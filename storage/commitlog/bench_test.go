package commitlog_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs"
)

// cpuSeconds is what this process has used, in user and system mode.
func cpuSeconds(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// perGB reports CPU seconds per 10^9 bytes since begin.
func perGB(b *testing.B, begin float64, bytes int) {
	b.Helper()
	b.ReportMetric((cpuSeconds(b)-begin)/(float64(bytes)/1e9), "cpu-s/GB")
}

func benchLog(b *testing.B, c commitlog.Config) *commitlog.Log {
	b.Helper()
	return benchLogIn(b, vfs.OS(), b.TempDir()+"/p", c)
}

func benchLogIn(b *testing.B, fsys vfs.FS, dir string, c commitlog.Config) *commitlog.Log {
	b.Helper()
	l, _, err := commitlog.Open(commitlog.Options{
		FS: fsys, Dir: dir, ClusterID: cluster, TopicID: topic, Config: c,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l
}

// sizes are those of batches in bytes, and of the pieces that they come in.
var sizes = []struct{ batch, piece int }{{1 << 10, 1 << 10}, {16 << 10, 16 << 10}, {256 << 10, 16 << 10}}

func sizedBatch(bytes, piece int) *commitlog.Batch {
	n := max(1, bytes/1030)
	return storagetest.InPieces(storagetest.NewBatch("b", n, storagetest.Sized(bytes/n-8)), piece)
}

// BenchmarkAppend appends one batch at a time, into the page cache.
func BenchmarkAppend(b *testing.B) {
	for _, s := range sizes {
		for _, checkpoint := range []bool{false, true} {
			b.Run(fmt.Sprintf("batch=%d,checkpoint=%v", s.batch, checkpoint), func(b *testing.B) {
				l := benchLog(b, commitlog.Config{SegmentBytes: 256 << 20, RetentionBytes: 1 << 30})
				batch := sizedBatch(s.batch, s.piece)
				group := []*commitlog.Batch{batch}
				b.SetBytes(int64(batch.Summary.Bytes))
				b.ReportAllocs()
				begin := cpuSeconds(b)
				for i := 0; b.Loop(); i++ {
					if err := l.Append(group, 1, l.End()); err != nil {
						b.Fatal(err)
					}
					if checkpoint {
						if err := l.StoreCheckpoint(); err != nil {
							b.Fatal(err)
						}
					}
					if i%1024 == 0 {
						_, err := l.Retain(time.Now(), l.End())
						l.RemoveWaste()
						if err != nil {
							b.Fatal(err)
						}
					}
				}
				perGB(b, begin, b.N*batch.Summary.Bytes)
			})
		}
	}
}

// BenchmarkRead reads a log in the page cache from its start to its end.
func BenchmarkRead(b *testing.B) {
	for _, s := range sizes {
		b.Run(fmt.Sprintf("batch=%d", s.batch), func(b *testing.B) {
			l := benchLog(b, commitlog.Config{SegmentBytes: 64 << 20})
			batch := sizedBatch(s.batch, s.piece)
			group := []*commitlog.Batch{batch}
			for l.Size() < 256<<20 {
				if err := l.Append(group, 1, l.End()); err != nil {
					b.Fatal(err)
				}
			}
			buf := make([]byte, 1<<20)
			alloc := func(n int) []byte { return buf[:n] }
			r := l.NewReader()
			bytes := 0
			off := record.Offset(0)
			b.SetBytes(int64(256 << 10))
			b.ReportAllocs()
			b.ResetTimer()
			begin := cpuSeconds(b)
			for b.Loop() {
				if off == l.End() {
					off = 0
				}
				g, err := r.Read(off, l.End(), 257<<10, alloc)
				if err != nil {
					b.Fatal(err)
				}
				off, bytes = g.Next, bytes+len(g.Bytes)
			}
			perGB(b, begin, bytes)
		})
	}
}

// BenchmarkAppendFollowed appends ranges of 256 KiB as a leader sends them,
// into the page cache.
func BenchmarkAppendFollowed(b *testing.B) {
	for _, s := range sizes {
		b.Run(fmt.Sprintf("batch=%d", s.batch), func(b *testing.B) {
			l := benchLog(b, commitlog.Config{SegmentBytes: 256 << 20, RetentionBytes: 1 << 30})
			batch := sizedBatch(s.batch, s.batch)
			data := batch.Pieces[0]
			var bytes []byte
			// stamp makes the range begin at next.
			stamp := func(next record.Offset) {
				bytes = bytes[:0]
				for range max(1, (256<<10)/s.batch) {
					h := record.Header{
						BaseOffset: next, Records: batch.Summary.Records, LastOffsetDelta: batch.Summary.Records - 1, LeaderEpoch: 1,
					}
					bytes = record.AppendLogBatchHeader(bytes, &h, len(data), batch.Summary.CRC)
					next = h.End()
					if len(bytes)+len(data) <= cap(bytes) {
						bytes = bytes[:len(bytes)+len(data)] // They are there.
					} else {
						bytes = append(bytes, data...)
					}
				}
			}
			stamp(0)
			stamp(0)
			for at := 0; at < len(bytes); {
				h, in, size, err := record.ParseLogBatch(bytes[at:])
				if err != nil {
					b.Fatal(h, err)
				}
				copy(in, data)
				at += size
			}
			var pieces record.Pieces
			for rest := bytes; len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
				pieces = append(pieces, rest[:min(len(rest), 16<<10)])
			}
			b.SetBytes(int64(len(bytes)))
			b.ReportAllocs()
			begin := cpuSeconds(b)
			for i := 0; b.Loop(); i++ {
				stamp(l.End())
				if err := l.AppendFollowed(pieces); err != nil {
					b.Fatal(err)
				}
				if i%256 == 0 {
					_, err := l.Retain(time.Now(), l.End())
					l.RemoveWaste()
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			perGB(b, begin, b.N*len(bytes))
		})
	}
}

// unreserved is a file system whose files cannot have room set aside.
type unreserved struct{ vfs.FS }

func (u unreserved) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := u.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return struct {
		vfs.File
		vfs.FDer
	}{f, f.(vfs.FDer)}, nil
}

// burstBytes is what BenchmarkBurst appends at once: some more than the log
// lets lie in memory before a sync is due.
const burstBytes = 768 << 20

// BenchmarkBurst appends a burst in batches of 64 KiB to a new log as fast as
// it can, while another syncs when a sync is due, as a broker does at
// durability memory: with room set aside ahead of the end and without. Beside
// the rate, it says how long the longest append took, and one in a thousand.
func BenchmarkBurst(b *testing.B) {
	for _, reserve := range []bool{false, true} {
		b.Run(fmt.Sprintf("reserve=%v", reserve), func(b *testing.B) {
			fsys := vfs.OS()
			if !reserve {
				fsys = unreserved{fsys}
			}
			batch := sizedBatch(64<<10, 16<<10)
			var took []time.Duration
			cpu := 0.0
			b.SetBytes(burstBytes)
			for b.Loop() {
				b.StopTimer()
				dir := b.TempDir() + "/p"
				l := benchLogIn(b, fsys, dir, commitlog.Config{SegmentBytes: 256 << 20})
				begin := cpuSeconds(b)
				b.StartTimer()
				took = append(took, burst(b, l, batch)...)
				b.StopTimer()
				cpu += cpuSeconds(b) - begin
				// The next one finds the disk at rest.
				if err := errors.Join(l.Close(), os.RemoveAll(dir)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			slices.Sort(took)
			b.ReportMetric(cpu/(float64(b.N)*burstBytes/1e9), "cpu-s/GB")
			b.ReportMetric(float64(took[len(took)-1].Microseconds())/1e3, "max-ms")
			b.ReportMetric(float64(took[len(took)*999/1000].Microseconds())/1e3, "p99.9-ms")
		})
	}
}

// burst appends burstBytes, and returns how long each append took.
func burst(b *testing.B, l *commitlog.Log, batch *commitlog.Batch) []time.Duration {
	b.Helper()
	appended, synced := make(chan struct{}, 1), make(chan error)
	go func() {
		var err error
		for range appended {
			if l.SyncDue() && err == nil {
				_, err = l.Sync()
			}
		}
		synced <- err
	}()
	var took []time.Duration
	group := []*commitlog.Batch{batch}
	for range burstBytes / batch.Summary.Bytes {
		from := time.Now()
		if err := l.Append(group, 1, l.End()); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(from))
		select {
		case appended <- struct{}{}:
		default:
		}
	}
	b.StopTimer()
	close(appended)
	if err := <-synced; err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
	return took
}
