// Package watchfs watches how a file system does: it passes every call on, and
// measures those by which records become durable.
//
// It owns the Meter. It refuses to own the verdict: what is slow, and what
// follows from that, is for who reads it (server/broker).
//
// What is measured are writes and syncs, of directories too. Removing files and
// shortening them may take long on a disk that is well, and reads say more of
// the page cache. Errors are noted of whatever changes something.
//
// INVARIANT: a watched file system answers as the one below it does; a file has
// a descriptor (vfs.FDer), and can have room set aside (vfs.Reserver), if it has
// below.
//
// It starts no goroutine and needs no closing.
package watchfs

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/millstream-io/millstream/storage/vfs"
)

// FS is a file system that is watched. It implements vfs.FS.
type FS struct {
	vfs.FS

	m *Meter
}

var _ vfs.FS = (*FS)(nil)

// Wrap returns a file system that is inner, watched by a meter.
func Wrap(inner vfs.FS, m *Meter) *FS { return &FS{inner, m} }

// OpenFile opens a file.
func (f *FS) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	inner, err := f.FS.OpenFile(name, flag, perm)
	if flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return inner, err // nothing of it is measured
	}
	if err != nil {
		f.m.fail(err, kinds)
		return nil, err
	}
	w := &file{File: inner, m: f.m}
	reserve, reserves := inner.(vfs.Reserver)
	fd, has := inner.(vfs.FDer)
	switch {
	case reserves && has:
		return &struct {
			*file
			vfs.Reserver
			vfs.FDer
		}{w, reserve, fd}, nil
	case reserves:
		return &struct {
			*file
			vfs.Reserver
		}{w, reserve}, nil
	case has:
		return &struct {
			*file
			vfs.FDer
		}{w, fd}, nil
	}
	return w, nil
}

// SyncDir makes the entries of a directory durable.
func (f *FS) SyncDir(name string) error {
	c := f.m.begin(0)
	err := f.FS.SyncDir(name)
	f.m.end(c, err)
	return err
}

// Rename moves a file or a directory.
func (f *FS) Rename(oldName, newName string) error {
	return f.noting(f.FS.Rename(oldName, newName))
}

// MkdirAll makes a directory and its parents.
func (f *FS) MkdirAll(name string, perm os.FileMode) error {
	return f.noting(f.FS.MkdirAll(name, perm))
}

func (f *FS) noting(err error) error {
	if err != nil {
		f.m.fail(err, kinds)
	}
	return err
}

// file is a file that is watched.
type file struct {
	vfs.File

	m *Meter
	// unsynced is how many bytes were written since the last sync began.
	unsynced atomic.Int64
}

// WriteAt writes at an offset.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	c := f.m.begin(0)
	n, err := f.File.WriteAt(p, off)
	f.m.end(c, err)
	f.unsynced.Add(int64(n))
	return n, err
}

// Writev writes the pieces one after the other.
func (f *file) Writev(pieces [][]byte, off int64) (int, error) {
	c := f.m.begin(0)
	n, err := f.File.Writev(pieces, off)
	f.m.end(c, err)
	f.unsynced.Add(int64(n))
	return n, err
}

// Sync makes what was written durable.
func (f *file) Sync() error {
	bytes := f.unsynced.Swap(0)
	c := f.m.begin(time.Duration(float64(bytes) / syncRate * float64(time.Second)))
	err := f.File.Sync()
	f.m.end(c, err)
	return err
}
