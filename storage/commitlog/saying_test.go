package commitlog

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/memfs"
)

// heldFS is a file system in which one sync of a directory takes its time.
type heldFS struct {
	vfs.FS
	hold atomic.Bool
	goOn chan struct{}
}

func (h *heldFS) SyncDir(name string) error {
	if h.hold.CompareAndSwap(true, false) {
		<-h.goOn
	}
	return h.FS.SyncDir(name)
}

// A log is closed, and its directory moved to the trash, while somebody else is
// about to sync that: it would be found gone, and the disk taken for failed.
func TestCloseWaitsForWhoSyncsTheCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &heldFS{FS: memfs.New(), goOn: make(chan struct{})}
		l, _, err := Open(Options{FS: disk, Dir: "/p"})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.StoreCheckpoint(); err != nil {
			t.Fatal(err)
		}
		l.unsaid.Store(true)
		if err := l.SyncCheckpoint(); err != nil {
			t.Fatal(err)
		}
		l.storeEpochs(nil)
		disk.hold.Store(true)
		synced, closed := make(chan error, 1), make(chan error, 1)
		go func() { synced <- l.SyncCheckpoint() }()
		synctest.Wait()
		go func() { closed <- l.Close() }()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Errorf("it is closed, %v, and somebody is in its directory", err)
			closed <- err
		default:
		}
		close(disk.goOn)
		for _, ended := range []chan error{synced, closed} {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}
