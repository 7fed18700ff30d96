package backup

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"

	"github.com/millstream-io/millstream/controller/store"
)

// maxBytes bounds a file, which is read whole: 200,000 partitions have 60 MB.
const maxBytes = 1 << 30

// ErrTorn says that the end of a backup is missing.
var ErrTorn = errors.New("the backup is torn: its end is missing")

// FormatError says that something is no backup, or a damaged one.
type FormatError struct {
	// Why, to follow "not a whole backup: ".
	Why string
}

// Error says it for people.
func (e *FormatError) Error() string { return "not a whole backup: " + e.Why }

// VersionError says that a backup is in a format of another version.
type VersionError struct{ Version uint32 }

// Error says it for people.
func (e *VersionError) Error() string {
	return fmt.Sprintf("the backup has format version %d; this program reads version %d", e.Version, formatVersion)
}

// Backup is a backup that was found to be whole.
type Backup struct {
	// ClusterID is the cluster's identity, 16 bytes, and Generation its generation.
	ClusterID  []byte
	Generation uint32
	// Revision is that of the metadata, Time when it was read, and Version that
	// of the software which did.
	Revision int64
	Time     time.Time
	Version  string
	// Entries are in the order of their keys.
	Entries []store.Entry
}

// Read reads a backup to its end. It fails with ErrTorn, *FormatError or
// *VersionError.
func Read(r io.Reader) (*Backup, error) {
	all, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	if len(all) > maxBytes {
		return nil, &FormatError{fmt.Sprintf("it has more than %d bytes", maxBytes)}
	}
	b := new(Backup)
	last := protowire.Number(0)
	for rest := all; len(rest) > 0; {
		field, value, n, err := next(rest)
		switch {
		case err != nil && last == 0:
			return nil, &FormatError{"it does not begin as one"}
		case err != nil:
			return nil, err
		case last == 0 && field != fieldHeader, field < last, field == last && field != fieldEntries:
			return nil, &FormatError{fmt.Sprintf("field %d follows field %d", field, last)}
		}
		switch last = field; field {
		case fieldHeader:
			err = b.header(value)
		case fieldEntries:
			err = b.entry(value)
		case fieldTrailer:
			if err = b.trailer(value, all[:len(all)-len(rest)]); err == nil && len(rest) > n {
				err = &FormatError{"bytes follow its end"}
			}
		default:
			err = &FormatError{fmt.Sprintf("it has a field %d", field)}
		}
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	switch last {
	case 0:
		return nil, &FormatError{"it is empty"}
	case fieldTrailer:
		return b, nil
	default:
		return nil, ErrTorn
	}
}

// next returns the field at the beginning of b and its length with the tag.
func next(b []byte) (field protowire.Number, value []byte, n int, err error) {
	field, kind, tag := protowire.ConsumeTag(b)
	if tag >= 0 {
		if kind != protowire.BytesType {
			return 0, nil, 0, &FormatError{fmt.Sprintf("field %d has wire type %d", field, kind)}
		}
		value, n = protowire.ConsumeBytes(b[tag:])
	}
	if tag < 0 || n < 0 {
		if errors.Is(protowire.ParseError(min(tag, n)), io.ErrUnexpectedEOF) {
			return 0, nil, 0, ErrTorn
		}
		return 0, nil, 0, &FormatError{"a tag or length is none"}
	}
	return field, value, tag + n, nil
}

func (b *Backup) header(value []byte) error {
	h := new(controllerv1.BackupHeader)
	if err := proto.Unmarshal(value, h); err != nil || h.GetFormat() != format {
		return &FormatError{"it does not begin as one"}
	}
	if h.GetFormatVersion() != formatVersion {
		return &VersionError{h.GetFormatVersion()}
	}
	if len(h.GetClusterId()) != 16 || h.GetClusterGeneration() == 0 || h.GetRevision() <= 0 {
		return &FormatError{"its header names no cluster, generation or revision"}
	}
	b.ClusterID, b.Generation, b.Revision = h.GetClusterId(), h.GetClusterGeneration(), h.GetRevision()
	b.Time, b.Version = time.UnixMilli(h.GetTimeMs()), h.GetVersion()
	return nil
}

func (b *Backup) entry(value []byte) error {
	e := new(controllerv1.BackupEntry)
	if err := proto.Unmarshal(value, e); err != nil {
		return &FormatError{fmt.Sprintf("entry %d cannot be decoded", len(b.Entries))}
	}
	if n := len(b.Entries); n > 0 && e.GetKey() <= b.Entries[n-1].Key {
		return &FormatError{fmt.Sprintf("entry %d is not in the order of keys", n)}
	}
	b.Entries = append(b.Entries, store.Entry{Key: e.GetKey(), Value: e.GetValue(), Revision: e.GetRevision()})
	return nil
}

// trailer compares the end of a backup with all that comes before it.
func (b *Backup) trailer(value, before []byte) error {
	t := new(controllerv1.BackupTrailer)
	if err := proto.Unmarshal(value, t); err != nil {
		return &FormatError{"its trailer cannot be decoded"}
	}
	if sum := sha256.Sum256(before); !bytes.Equal(sum[:], t.GetSha256()) {
		return &FormatError{"its bytes are not those that were written: the checksum differs"}
	}
	if t.GetEntryCount() != uint64(len(b.Entries)) {
		return &FormatError{fmt.Sprintf("it has %d entries, and should have %d", len(b.Entries), t.GetEntryCount())}
	}
	return nil
}
