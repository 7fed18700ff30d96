package commitlog

import (
	"sync"

	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// dirSyncs is the file system of a log whose directories are synced one at a
// time, and not at all any more once that has failed.
//
// WHY: the writer syncs the directory, and so does who syncs the checkpoint. The
// system tells an error once; whoever syncs after that is told that all is well
// although the names that he made are not on the disk (see segment.handle).
type dirSyncs struct {
	vfs.FS

	mu     sync.Mutex // held for a sync
	failed error      // a *segment.SyncError; guarded by mu
}

// SyncDir makes the entries of a directory durable. If a sync has failed, all
// that come later fail with its error; that there was no descriptor to sync with
// is no failed sync.
func (d *dirSyncs) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil {
		return d.failed
	}
	err := d.FS.SyncDir(name)
	if vfs.IsSync(err) {
		d.failed = &segment.SyncError{File: name, Err: err}
		return d.failed
	}
	return err
}
