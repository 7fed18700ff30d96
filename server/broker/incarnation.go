package broker

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Incarnation is what a data directory says of its last user (rule S3). It is
// kept in the file `incarnation` as JSON in a checkpoint.
type Incarnation struct {
	// ClusterID is the cluster that the directory belongs to; zero: none yet.
	ClusterID ID16 `json:"cluster_id"`
	// Generation of the cluster.
	Generation uint32 `json:"cluster_generation"`
	// BrokerID is the broker that used it.
	BrokerID int32 `json:"broker_id"`
	// DirectoryID is the identity of the directory.
	DirectoryID ID16 `json:"directory_id"`
	// BrokerEpoch is that of the last incarnation; 0: none.
	BrokerEpoch int64 `json:"broker_epoch"`
	// BootID is the machine's boot in which it was written; zero: unknown.
	BootID ID16 `json:"boot_id"`
	// Clean is true from the last write of an orderly stop to the next start.
	Clean bool `json:"clean"`
	// Made is when the directory's lock was made, as its file system says (MadeAt);
	// empty: it does not. The lock stays as long as the directory does; that of a
	// copy was made later.
	Made string `json:"made,omitempty"`
}

// copied tells whether the directory, whose lock was made then, is a copy that was
// made while the other was in use, or was left by a process that was killed: the
// copy does not know what that one has acknowledged since.
//
// WHY not after a stop in order: then there is nothing since, but for what another
// incarnation has done, which has another epoch.
func (inc *Incarnation) copied(made string) bool {
	return inc.BrokerEpoch != 0 && !inc.Clean && inc.Made != "" && made != "" && inc.Made != made
}

// ID16 is an identity of 16 bytes; hexadecimal as text.
type ID16 [16]byte

// MarshalText gives 32 hexadecimal digits.
func (id ID16) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(id[:])), nil }

// UnmarshalText reads what MarshalText gave.
func (id *ID16) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return fmt.Errorf("identity of %d digits, want %d", len(b), 2*len(id))
	}
	_, err := hex.Decode(id[:], b)
	return err
}

// String returns the hexadecimal digits.
func (id ID16) String() string { return hex.EncodeToString(id[:]) }

func newID16() (id ID16) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// parseBootID reads a UUID; zero if it is none.
func parseBootID(s string) (id ID16) {
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), "-", ""))
	if err != nil || len(b) != len(id) {
		return ID16{}
	}
	return ID16(b)
}

// WrongBrokerError says that the data directory is another broker's.
type WrongBrokerError struct {
	// Directory is the path.
	Directory string
	// Owner is the broker whose directory it is, Self the one that was started.
	Owner, Self int32
}

// Error says it for people.
func (e *WrongBrokerError) Error() string {
	return fmt.Sprintf("the data directory %s belongs to broker %d, not to broker %d: each has its own (--data-dir)", e.Directory, e.Owner, e.Self)
}

// WrongClusterError says that the data directory is of another cluster.
type WrongClusterError struct {
	// Directory is the path.
	Directory string
	// Have is the directory's cluster, Want the controller's.
	Have, Want ID16
}

// Error says it for people.
func (e *WrongClusterError) Error() string {
	return fmt.Sprintf("the data directory %s belongs to cluster %s, the controller to cluster %s", e.Directory, e.Have, e.Want)
}

func incarnationPath(dir string) string { return filepath.Join(dir, "incarnation") }

// loadIncarnation reads the record, or makes a new one for an empty directory.
func loadIncarnation(fsys vfs.FS, dir string, self int32) (Incarnation, error) {
	b, err := checkpoint.Read(fsys, incarnationPath(dir))
	if errors.Is(err, checkpoint.ErrNotExist) {
		return Incarnation{BrokerID: self, DirectoryID: newID16()}, nil
	}
	if err != nil {
		return Incarnation{}, fmt.Errorf("incarnation record: %w", err)
	}
	var inc Incarnation
	if err := json.Unmarshal(b, &inc); err != nil {
		return Incarnation{}, fmt.Errorf("incarnation record: %w", err)
	}
	if inc.BrokerID != self {
		return Incarnation{}, &WrongBrokerError{Directory: dir, Owner: inc.BrokerID, Self: self}
	}
	return inc, nil
}

// store writes the record. DURABLE when it returns.
func (inc *Incarnation) store(fsys vfs.FS, dir string) error {
	b, err := json.Marshal(inc)
	if err != nil {
		return fmt.Errorf("incarnation record: %w", err)
	}
	if err := checkpoint.Write(fsys, incarnationPath(dir), b, true); err != nil {
		return fmt.Errorf("incarnation record: %w", err)
	}
	return nil
}
