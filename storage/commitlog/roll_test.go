package commitlog_test

import (
	"strings"
	"testing"

	"github.com/millstream-io/millstream/storage/commitlog"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// A full segment is written to until a sync beside the writer has left little
// of it to sync: the writer, and all who append, would wait for the rest.
func TestARollWaitsForTheDiskButNotForEver(t *testing.T) {
	const mib = 1 << 20
	disk := faultfs.Wrap(memfs.New())
	o := options(disk, &clock{ms: 1}, 1)
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
	// sync syncs what is there, and appends while that goes on.
	sync := func(meanwhile func()) {
		t.Helper()
		begun, release := make(chan struct{}), make(chan struct{})
		disk.Add(&faultfs.Rule{Op: faultfs.Sync, Path: "*.log", Hold: func(faultfs.Op, string) {
			close(begun)
			<-release
		}})
		ended := make(chan error)
		go func() {
			_, err := l.Sync()
			ended <- err
		}()
		<-begun
		meanwhile()
		close(release)
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}

	add(15)
	if l.Segments() != 1 || l.SyncDue() {
		t.Fatalf("full, and a burst may be as long: %d segments, sync due %v", l.Segments(), l.SyncDue())
	}
	add(2)
	if l.Segments() != 1 || !l.SyncDue() {
		t.Fatalf("half of the limit: %d segments, sync due %v", l.Segments(), l.SyncDue())
	}
	sync(func() { add(6) })
	if l.Segments() != 1 || !l.SyncDue() {
		t.Fatalf("synced but for what came meanwhile: %d segments, sync due %v", l.Segments(), l.SyncDue())
	}
	sync(func() { add(1) })
	if l.SyncDue() {
		t.Fatal("what a roll may sync itself is due")
	}
	add(1)
	if l.Segments() != 2 {
		t.Fatalf("full and as good as synced: %d segments", l.Segments())
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
