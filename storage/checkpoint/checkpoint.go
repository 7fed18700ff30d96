// Package checkpoint keeps small facts in small checksummed files: an epoch
// history, a snapshot, how far a log is synced.
//
// It owns two kinds of files. Write and Read replace a whole file atomically,
// for facts that change seldom. Slots rewrites one file in place, with one
// write and no sync, for the fact that changes with each group commit. It
// refuses to own what the facts mean, when they are synced, and what becomes
// of a log whose checkpoint is damaged: a checkpoint is a hint or a bound,
// never the only copy of a record.
//
// INVARIANT: what a reader gets is a payload that was written whole, or a
// typed error; never a part, a mixture or zeros.
//
// It starts no goroutine. Who opens Slots closes them.
package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/millstream-io/millstream/storage/vfs"
)

// MaxPayload bounds the payload of a file in bytes, so that a damaged length
// does not cost memory.
const MaxPayload = 64 << 20

// TempSuffix is appended to a path for the file that is written first. After
// a crash such a file can be left; the next Write replaces it, and whoever
// lists a directory ignores it.
const TempSuffix = ".tmp"

// ErrNotExist says that there is no checkpoint (yet). It is fs.ErrNotExist.
var ErrNotExist = fs.ErrNotExist

// CorruptError says that a file is there but does not hold what was written.
// After a power loss that is also what becomes of a file that was written
// without a sync.
type CorruptError struct {
	Path   string
	Reason string
}

// Error says which file and what is wrong with it.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("checkpoint %s is damaged: %s", e.Path, e.Reason)
}

// TooLargeError says that a payload is larger than its kind of file takes.
// Nothing was written.
type TooLargeError struct {
	Path          string
	Actual, Limit int // in bytes
}

// Error says how much there was and how much is allowed.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("checkpoint %s: payload of %d bytes is larger than %d", e.Path, e.Actual, e.Limit)
}

// A file is, little endian:
//
//	+--------+---------+---------+----------+---------+
//	| "MSCK" | version | length  | CRC-32C  | payload |
//	| 4      | 4       | 4       | 4        | length  |
//	+--------+---------+---------+----------+---------+
//
// The CRC is that of version, length and payload. The file ends with the
// payload. These 16 bytes are the same in all versions.
const (
	magic       = "MSCK"
	version     = 1
	headerBytes = 16
	checksumAt  = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func fileChecksum(file []byte) uint32 {
	sum := crc32.Checksum(file[len(magic):checksumAt], castagnoli)
	return crc32.Update(sum, castagnoli, file[headerBytes:])
}

// Write replaces the file at path with payload: a reader finds the old payload
// or the new one, also after an error. REQUIRES: no other Write of the same
// path at the same time.
//
// With durable the new payload is on the disk when Write returns nil. Without,
// a power loss can leave the old payload, the new one, or a file that Read
// calls corrupt, because its name reached the disk before its bytes did.
func Write(fsys vfs.FS, path string, payload []byte, durable bool) error {
	if len(payload) > MaxPayload {
		return &TooLargeError{Path: path, Actual: len(payload), Limit: MaxPayload}
	}
	b := frame(payload)
	temp := path + TempSuffix
	if err := writeFile(fsys, temp, b, durable); err != nil {
		_ = fsys.Remove(temp) // It is of no use; if this fails it does no harm.
		return fmt.Errorf("write checkpoint: %w", err)
	}
	if err := fsys.Rename(temp, path); err != nil {
		_ = fsys.Remove(temp)
		return fmt.Errorf("write checkpoint: %w", err)
	}
	if durable {
		if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
			return fmt.Errorf("write checkpoint: %w", err)
		}
	}
	return nil
}

// Overwrite writes payload over the file at path, or makes it, with one write
// and no sync. It is for what can be made again: a reader finds the old
// payload, the new one, or, while it is written and after a crash, a file that
// Read calls corrupt.
//
// WHY: replacing a file frees the old one's blocks, which on some disks waits
// behind everything that is being written to them.
func Overwrite(fsys vfs.FS, path string, payload []byte) error {
	if len(payload) > MaxPayload {
		return &TooLargeError{Path: path, Actual: len(payload), Limit: MaxPayload}
	}
	if err := writeFile(fsys, path, frame(payload), false); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return nil
}

// frame returns the bytes of the file that holds payload.
func frame(payload []byte) []byte {
	b := make([]byte, headerBytes, headerBytes+len(payload))
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[4:], version)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(payload)))
	b = append(b, payload...)
	binary.LittleEndian.PutUint32(b[checksumAt:], fileChecksum(b))
	return b
}

// writeFile gives a file the content b.
func writeFile(fsys vfs.FS, name string, b []byte, durable bool) error {
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = shorten(f, int64(len(b)))
	}
	if err == nil && durable {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// shorten cuts what a longer content has left behind.
func shorten(f vfs.File, size int64) error {
	had, err := f.Size()
	if err != nil || had <= size {
		return err
	}
	return f.Truncate(size)
}

// Read returns the payload of the file at path. The errors are ErrNotExist,
// *CorruptError, and those of reading.
func Read(fsys vfs.FS, path string) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	if size < headerBytes || size > headerBytes+MaxPayload {
		return nil, &CorruptError{Path: path, Reason: fmt.Sprintf("it has %d bytes", size)}
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read checkpoint %s: %w", path, err)
	}
	payload, err := parse(b)
	if err != nil {
		return nil, &CorruptError{Path: path, Reason: err.Error()}
	}
	return payload, nil
}

var (
	errMagic    = errors.New("it does not begin as a checkpoint does")
	errLength   = errors.New("its length is not the one it was written with")
	errChecksum = errors.New("its checksum is wrong")
)

// parse returns the payload of a file. BORROWED: from b.
func parse(b []byte) ([]byte, error) {
	switch {
	case len(b) < headerBytes:
		return nil, errLength
	case string(b[:len(magic)]) != magic:
		return nil, errMagic
	case uint64(binary.LittleEndian.Uint32(b[8:])) != uint64(len(b)-headerBytes):
		return nil, errLength
	case binary.LittleEndian.Uint32(b[checksumAt:]) != fileChecksum(b):
		return nil, errChecksum
	}
	// After the checksum: a flipped bit is damage, not a version.
	if v := binary.LittleEndian.Uint32(b[4:]); v != version {
		return nil, fmt.Errorf("its version is %d and this program knows %d", v, version)
	}
	return b[headerBytes:], nil
}
