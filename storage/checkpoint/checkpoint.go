// Package checkpoint keeps small facts in small checksummed files.
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

// ErrNotExist says that there is no checkpoint (yet).
var ErrNotExist = fs.ErrNotExist

// CorruptError says that a file is there but does not hold what was written.
type CorruptError struct {
	Path   string
	Reason string
}

// Error says which file and what is wrong with it.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("checkpoint %s is damaged: %s", e.Path, e.Reason)
}

const (
	headerBytes = 12
	magic       = "MSc1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Write replaces the file at path with payload.
func Write(fsys vfs.FS, path string, payload []byte, durable bool) (err error) {
	b := make([]byte, headerBytes, headerBytes+len(payload))
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(payload, castagnoli))
	b = append(b, payload...)
	tmp := path + ".tmp"
	f, err := fsys.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(b, 0); err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return err
	}
	if durable {
		return fsys.SyncDir(filepath.Dir(path))
	}
	return nil
}

// Read returns the payload of the file at path: ErrNotExist, *CorruptError.
func Read(fsys vfs.FS, path string) ([]byte, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size < headerBytes || size > 64<<20 {
		return nil, &CorruptError{Path: path, Reason: "its length"}
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	payload := b[headerBytes:]
	if string(b[:4]) != magic || binary.LittleEndian.Uint32(b[4:]) != uint32(len(payload)) ||
		binary.LittleEndian.Uint32(b[8:]) != crc32.Checksum(payload, castagnoli) {
		return nil, &CorruptError{Path: path, Reason: "its checksum"}
	}
	return payload, nil
}
