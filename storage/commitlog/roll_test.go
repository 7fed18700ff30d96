package commitlog_test

import (
	"strings"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// A full segment is written to until a sync beside the writer has left little
// of it to sync: the writer, and all who append, would wait for the rest.
func TestARollWaitsForTheDiskButNotForEver(t *testing.T) {
	const mib = 1 << 20
	o := options(memfs.New(), &clock{ms: 1}, 1)
	o.Config.SegmentBytes = 8 * mib
	l, _, err := commitlog.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // Nothing is left to look at.
	value := strings.Repeat("v", mib-256)
	add := func(n int) {
		t.Helper()
		for range n {
			if err := l.Append([]*commitlog.Batch{batch(1, value)}, 1, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	sync := func() {
		t.Helper()
		if _, err := l.Sync(); err != nil || l.UnsyncedBytes() != 0 {
			t.Fatalf("sync: %v, %d bytes left", err, l.UnsyncedBytes())
		}
	}

	add(8)
	if l.SyncDue() {
		t.Fatal("a sync is due of a segment that is not full")
	}
	add(6)
	if l.Segments() != 1 || !l.SyncDue() {
		t.Fatalf("full and not synced: %d segments, sync due %v", l.Segments(), l.SyncDue())
	}
	sync()
	add(1)
	if l.Segments() != 2 || l.SyncDue() {
		t.Fatalf("full and synced: %d segments, sync due %v", l.Segments(), l.SyncDue())
	}

	// The second segment holds one batch of the limit of four times 8 MiB.
	add(31)
	if l.Segments() != 2 {
		t.Fatalf("below the limit: %d segments", l.Segments())
	}
	add(2)
	if l.Segments() != 3 || l.UnsyncedBytes() > 2*mib {
		t.Fatalf("beyond the limit: %d segments, %d bytes unsynced", l.Segments(), l.UnsyncedBytes())
	}
}

// Far more than a roll may leave is synced though no segment is full.
func TestMuchUnsyncedIsDueForASync(t *testing.T) {
	const mib = 1 << 20
	l, _, err := commitlog.Open(options(memfs.New(), &clock{ms: 1}, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // Nothing is left to look at.
	l.SetConfig(commitlog.Config{SegmentBytes: 64 * mib})
	value := strings.Repeat("v", mib)
	for n := 1; n <= 33; n++ {
		if err := l.Append([]*commitlog.Batch{batch(1, value)}, 1, 0); err != nil {
			t.Fatal(err)
		}
		if l.SyncDue() != (n >= 32) {
			t.Fatalf("after %d MiB: due %v", n, l.SyncDue())
		}
	}
}
