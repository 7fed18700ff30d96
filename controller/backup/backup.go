// Package backup is the file that a backup of the metadata is: how it is
// written from the store, how it is read and found to be whole, and what the
// metadata of a cluster restored from it is.
//
// It refuses to own how the bytes travel (controller/api, server/api) and how
// they become the store of a controller (controller/etcd).
//
// INVARIANT: a file that lacks its last bytes, or in which any bit differs, is
// refused whole; and Restore depends on nothing but the file and the
// generation, so that each controller restored from them is the same.
//
// It starts no goroutine and holds nothing that must be closed.
package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/store"
)

const (
	format        = "millstream backup"
	formatVersion = 1

	// pieceBytes is the most that is passed on at once, which is what
	// BackupMetadataResponse promises.
	pieceBytes = 256 << 10
	// pageEntries bounds one read of the store.
	pageEntries = 1_000
)

// The fields of controllerv1.Backup.
const (
	fieldHeader  protowire.Number = 1
	fieldEntries protowire.Number = 2
	fieldTrailer protowire.Number = 3
)

// ErrNoCluster says that there is no cluster yet to make a backup of.
var ErrNoCluster = errors.New("there is no cluster yet")

// ReadError says that the store could not be read to the end: there was no
// quorum, or it took so long that the revision was compacted. A backup may be
// begun anew.
type ReadError struct{ Cause error }

// Error says it for people.
func (e *ReadError) Error() string {
	return "the metadata cannot be read for a backup now: " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *ReadError) Unwrap() error { return e.Cause }

// Write makes a backup of what the store holds now and passes it on in pieces,
// which the callee may keep no longer than its call. It fails with
// ErrNoCluster or *ReadError.
func Write(ctx context.Context, kv store.KV, now time.Time, version string, pass func(piece []byte) error) error {
	page, err := kv.Range(ctx, store.Range{Prefix: store.ClusterKey.String(), Limit: 1})
	if err != nil {
		return &ReadError{err}
	}
	if len(page.Entries) == 0 {
		return ErrNoCluster
	}
	c, err := store.Decode(store.Event{Entry: page.Entries[0]})
	if err != nil {
		return err
	}
	cluster, _ := c.Value.(*controllerv1.ClusterRecord)
	w := writer{pass: pass, hash: sha256.New()}
	w.add(fieldHeader, &controllerv1.BackupHeader{
		Format: format, FormatVersion: formatVersion, ClusterId: cluster.GetClusterId(), ClusterGeneration: cluster.GetGeneration(),
		Revision: page.Revision, TimeMs: now.UnixMilli(), Version: version,
	})
	count := uint64(0)
	at := store.Range{Prefix: store.Prefix, Limit: pageEntries, Revision: page.Revision}
	for more := true; more; {
		page, err := kv.Range(ctx, at)
		if err != nil {
			return &ReadError{err}
		}
		for _, e := range page.Entries {
			at.After = e.Key
			if e.Key == store.ElectionKey.String() {
				continue // of this cluster's quorum, and of no use to another
			}
			w.add(fieldEntries, &controllerv1.BackupEntry{Key: e.Key, Value: e.Value, Revision: e.Revision})
			count++
		}
		more = page.More
	}
	w.sum()
	w.add(fieldTrailer, &controllerv1.BackupTrailer{EntryCount: count, Sha256: w.hash.Sum(nil)})
	w.flush()
	return w.err
}

// writer collects pieces. Its first error is kept.
type writer struct {
	pass   func([]byte) error
	hash   hash.Hash
	buf    []byte
	summed int // bytes of buf that are in hash
	err    error
}

func (w *writer) add(field protowire.Number, m proto.Message) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("encode a backup: %w", err)
	}
	w.buf = protowire.AppendBytes(protowire.AppendTag(w.buf, field, protowire.BytesType), b)
	if len(w.buf) >= pieceBytes {
		w.sum()
		w.flush()
	}
}

// sum takes all that was added into the hash.
func (w *writer) sum() {
	w.hash.Write(w.buf[w.summed:])
	w.summed = len(w.buf)
}

func (w *writer) flush() {
	for b := w.buf; len(b) > 0 && w.err == nil; {
		n := min(len(b), pieceBytes)
		w.err = w.pass(b[:n])
		b = b[n:]
	}
	w.buf, w.summed = w.buf[:0], 0
}
