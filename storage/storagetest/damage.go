package storagetest

import (
	"os"
	"path/filepath"

	"github.com/millstream-io/millstream/storage/vfs"
)

// ReadFile returns what a file holds.
func ReadFile(fsys vfs.FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // Nothing was written.
	size, err := f.Size()
	if err != nil || size == 0 {
		return nil, err
	}
	b := make([]byte, size)
	_, err = f.ReadAt(b, 0)
	return b, err
}

// WriteFile makes a file hold b.
func WriteFile(fsys vfs.FS, name string, b []byte) error {
	f, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // The write says it.
	_, err = f.WriteAt(b, 0)
	return err
}

// Overwrite changes the bytes of a file at a position.
func Overwrite(fsys vfs.FS, name string, b []byte, at int64) error {
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // The write says it.
	_, err = f.WriteAt(b, at)
	return err
}

// Flip flips one bit of a file.
func Flip(fsys vfs.FS, name string, at int64, bit int) error {
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // The write says it.
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 1 << bit
	_, err = f.WriteAt(b[:], at)
	return err
}

// Shorten cuts a file.
func Shorten(fsys vfs.FS, name string, size int64) error {
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // The cut says it.
	return f.Truncate(size)
}

// File is a file of a directory.
type File struct {
	Path string
	Size int64
}

// Files lists the files of a directory.
func Files(fsys vfs.FS, dir string) ([]File, error) {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []File
	for _, e := range entries {
		st, err := e.Info()
		if err != nil {
			return nil, err
		}
		out = append(out, File{Path: filepath.Join(dir, e.Name()), Size: st.Size()})
	}
	return out, nil
}
