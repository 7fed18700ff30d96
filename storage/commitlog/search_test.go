package commitlog_test

import (
	"context"
	"errors"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/storagetest"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
)

var errGone = errors.New("the caller has gone")

// TestSearchEndsWithItsCaller: the caller of a search by time goes while it reads
// the first of many segments, or of the many pieces of one. It reads no more then,
// and gives the reason.
func TestSearchEndsWithItsCaller(t *testing.T) {
	for name, c := range map[string]struct {
		segmentBytes        int64
		batches, valueBytes int
		files               string // that are read first
	}{
		"many segments": {500, 60, 300, "*.index"},
		"one long one":  {64 << 20, 16, 300 << 10, "*.log"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplica(t, c.segmentBytes)
			// The first record is late, and goes: what comes behind it has to be read.
			for i := range c.batches {
				ms := int64(1)
				if i == 0 {
					ms = 1000
				}
				b := storagetest.NewBatch("b", 1, storagetest.Sized(c.valueBytes), storagetest.At(ms))
				if err := r.Append([]*commitlog.Batch{b}, 1, r.End()); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := r.DeleteBefore(1); err != nil {
				t.Fatal(err)
			}
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			search := func(ctx context.Context, read func()) (reads int, err error) {
				disk := faultfs.Wrap(r.fs)
				o := options(disk, &r.clock, 1)
				o.Config.SegmentBytes = c.segmentBytes
				log, _, err := commitlog.Open(o)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = log.Close() }()
				before := disk.Calls(faultfs.Read)
				disk.Add(&faultfs.Rule{Op: faultfs.Read, Path: c.files, Hold: func(faultfs.Op, string) { read() }})
				off, found, err := log.OffsetForTime(ctx, 1000, log.End())
				if found {
					t.Errorf("found %d", off)
				}
				return disk.Calls(faultfs.Read) - before, err
			}
			all, err := search(t.Context(), func() {})
			if err != nil || all < 20 {
				t.Fatalf("%d reads, %v", all, err)
			}
			ctx, leave := context.WithCancelCause(t.Context())
			reads, err := search(ctx, func() { leave(errGone) })
			if !errors.Is(err, errGone) || reads > 5 {
				t.Errorf("%d reads of %d, %v", reads, all, err)
			}
		})
	}
}
