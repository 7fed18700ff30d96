package commitlog

import (
	"errors"
	"syscall"
	"testing"

	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs/faultfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// TestADirectoryWhoseSyncFailedIsNotSyncedAgain: the system would say that all is
// well.
func TestADirectoryWhoseSyncFailedIsNotSyncedAgain(t *testing.T) {
	disk := memfs.New()
	if err := disk.MkdirAll("/d", 0o755); err != nil {
		t.Fatal(err)
	}
	fault := faultfs.Wrap(disk, &faultfs.Rule{Op: faultfs.SyncDir, Err: syscall.EMFILE}, &faultfs.Rule{Op: faultfs.SyncDir, Skip: 1})
	d := &dirSyncs{FS: fault}
	if err := d.SyncDir("/d"); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("without a descriptor: %v", err)
	}
	if err := d.SyncDir("/d"); err != nil {
		t.Errorf("with one: %v", err)
	}
	for range 3 {
		var unsynced *segment.SyncError
		if err := d.SyncDir("/d"); !errors.As(err, &unsynced) || !errors.Is(err, syscall.EIO) {
			t.Errorf("failed: %v", err)
		}
	}
	if n := fault.Calls(faultfs.SyncDir); n != 3 {
		t.Errorf("synced %d times", n)
	}
}
