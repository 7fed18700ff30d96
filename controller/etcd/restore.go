package etcd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/millstream-io/millstream/controller/store"
)

// Contents is what a store begins with.
type Contents struct {
	// Entries are in the order of their keys, and all of one revision.
	Entries []store.Entry
	// Revision is that of the store: the next change has the next.
	Revision int64
	// Identity is the same only where all of the above is: members of stores
	// with another have nothing to do with each other.
	Identity string
}

// NotEmptyError says that a directory is in use, or was.
type NotEmptyError struct{ Dir string }

// Error says it for people.
func (e *NotEmptyError) Error() string {
	return fmt.Sprintf("%s is not empty: a controller is restored to a directory of its own, as one that was replaced starts on", e.Dir)
}

// InterruptedError says that a directory was being restored to, and it did not
// come to its end.
type InterruptedError struct{ Dir string }

// Error says it for people.
func (e *InterruptedError) Error() string {
	return fmt.Sprintf("restoring to %s was interrupted: remove it, and restore again", e.Dir)
}

// restoring is a directory that is there while the others are not whole.
const restoring = "restoring"

// Restore makes the directory of a member of a quorum that begins with those
// contents: Open goes on from there, with the same ID and peers. It is done
// once for each of the peers, each by itself. DURABLE when it returns; what is
// left of one that was interrupted cannot be opened. It fails with
// *NotEmptyError.
//
// INVARIANT: members restored with the same contents and peers are the same
// but for who they are; the quorum's identity is made of that of the contents,
// so that others cannot join.
func Restore(o Options, c Contents) error {
	if err := o.validate(); err != nil {
		return err
	}
	smallWAL()
	if err := os.MkdirAll(o.Dir, dirPerm); err != nil {
		return fmt.Errorf("make the controller's directory: %w", err)
	}
	there, err := os.ReadDir(o.Dir)
	if err != nil {
		return fmt.Errorf("look into the controller's directory: %w", err)
	}
	if len(there) > 0 {
		return &NotEmptyError{Dir: o.Dir}
	}
	cfg, err := o.config()
	if err != nil {
		return err
	}
	temporary := filepath.Join(o.Dir, restoring)
	if err := os.Mkdir(temporary, dirPerm); err != nil {
		return fmt.Errorf("make the controller's directory: %w", err)
	}
	if err := syncDir(o.Dir); err != nil {
		return err
	}
	logger := zap.New(newSlogCore(o.Logger))
	db := filepath.Join(temporary, "contents")
	if err := fill(logger, db, c); err != nil {
		return err
	}
	self := make([]string, len(cfg.AdvertisePeerUrls))
	for i, u := range cfg.AdvertisePeerUrls {
		self[i] = u.String()
	}
	err = snapshot.NewV3(logger).Restore(snapshot.RestoreConfig{
		SnapshotPath: db, SkipHashCheck: true, // it was made just now
		Name: cfg.Name, OutputDataDir: cfg.Dir, PeerURLs: self, InitialCluster: cfg.InitialCluster,
		InitialClusterToken: cfg.InitialClusterToken + "-" + strings.ToLower(c.Identity),
	})
	if err != nil {
		return fmt.Errorf("make the controller's store: %w", err)
	}
	for _, d := range []string{filepath.Join(cfg.Dir, "member", "snap"), filepath.Join(cfg.Dir, "member", "wal"), filepath.Join(cfg.Dir, "member"), cfg.Dir, o.Dir} {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	// Last, so that whatever is there without it is whole.
	if err := os.RemoveAll(temporary); err != nil {
		return fmt.Errorf("remove what is not needed any more: %w", err)
	}
	return syncDir(o.Dir)
}

// fill makes a store's file. Everything before the revision counts as
// compacted, so that who asks for an older one is told so.
func fill(logger *zap.Logger, name string, c Contents) (err error) {
	be := backend.NewDefaultBackend(logger, name)
	defer func() { err = errors.Join(err, be.Close()) }() // which commits
	tx := be.BatchTx()
	tx.LockOutsideApply()
	defer tx.Unlock()
	for _, b := range schema.AllBuckets {
		tx.UnsafeCreateBucket(b)
	}
	for i, e := range c.Entries {
		at := mvcc.Revision{Main: c.Revision, Sub: int64(i)}
		v, err := proto.Marshal(&mvccpb.KeyValue{
			Key: []byte(e.Key), Value: e.Value, CreateRevision: c.Revision, ModRevision: c.Revision, Version: 1,
		})
		if err != nil {
			return fmt.Errorf("encode %s: %w", e.Key, err)
		}
		tx.UnsafePut(schema.Key, mvcc.RevToBytes(at, mvcc.NewRevBytes()), v)
	}
	mvcc.UnsafeSetScheduledCompact(tx, c.Revision)
	return nil
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("sync a directory: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
