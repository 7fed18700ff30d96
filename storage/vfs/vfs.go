// Package vfs is the file system as storage sees it: the few calls that a log
// needs, with their durability said aloud.
//
// It owns the interfaces FS and File and their implementation over the
// operating system. It refuses to own policy: it never retries a failed sync,
// never creates a directory unasked, never caches. memfs implements the same
// interfaces in memory with unsynced state that a simulated power loss takes
// away; faultfs makes any of them fail on purpose.
//
// INVARIANT: all implementations answer one script of operations alike, with
// errors of the same class (package test "matrix").
//
// It starts no goroutine. Who opens a File closes it.
package vfs

import (
	"io"
	"os"
)

// MaxPieces is how many pieces one vectored write takes: the IOV_MAX of Linux
// and macOS. Writev accepts more and splits them.
const MaxPieces = 1024

// FS is a file system. Names are paths of the operating system, absolute or
// relative. All methods may be called by several goroutines at once.
//
// Errors are those of package os: errors.Is finds fs.ErrNotExist,
// fs.ErrExist, syscall.ENOSPC and so on.
type FS interface {
	// OpenFile opens a file, with the flags of package os. O_APPEND is refused
	// with EINVAL: all writes say where they go. A directory is EISDIR.
	OpenFile(name string, flag int, perm os.FileMode) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes a tree; a tree that is not there is no error.
	RemoveAll(name string) error
	// Rename moves a file or a directory and replaces a file of the new name.
	// It is atomic, and durable after SyncDir of both directories.
	Rename(oldName, newName string) error
	// MkdirAll makes a directory and its parents. DURABLE: each only after
	// SyncDir of the directory that holds it.
	MkdirAll(name string, perm os.FileMode) error
	// ReadDir lists a directory in order of names.
	ReadDir(name string) ([]os.DirEntry, error)
	// Stat describes a file or directory.
	Stat(name string) (os.FileInfo, error)
	// SyncDir makes the entries of a directory durable: files created in it,
	// removed from it, renamed into and out of it.
	SyncDir(name string) error
	// Lock takes the exclusive lock that a file stands for, creating the file
	// if needed, and holds it until Close or until the process is gone. If
	// another holds it, the error is a *LockedError.
	Lock(name string) (io.Closer, error)
	// FreeBytes says how many bytes an unprivileged process may still write to
	// the file system of dir, and how many it has in all.
	FreeBytes(dir string) (free, total uint64, err error)
}

// File is an open file. Its methods may be called by several goroutines at
// once; Close waits for calls that are under way, and those after it get
// os.ErrClosed.
type File interface {
	io.Closer
	io.ReaderAt
	io.WriterAt

	// Writev writes the pieces one after the other at off, with one system
	// call per MaxPieces pieces, and continues short writes. It returns the
	// number of bytes written; less than their sum comes with an error. The
	// pieces are neither kept nor changed.
	Writev(pieces [][]byte, off int64) (int, error)
	// Sync makes the file's bytes and length durable, not its name (see
	// FS.SyncDir). After an error the state of what was written since the last
	// good Sync is unknown for ever: a second Sync that succeeds proves
	// nothing.
	Sync() error
	// Truncate sets the file's length; new bytes are zero.
	Truncate(size int64) error
	// Size is the file's length in bytes.
	Size() (int64, error)
	// Name is the name that the file was opened with.
	Name() string
}

// FDer is a File with a descriptor of the operating system. Only storage/mmap
// needs it. The descriptor is valid until Close.
type FDer interface {
	FD() uintptr
}

// Reserver is a File that can have blocks of the disk set aside behind its end,
// so that writes there need not look for some. Not all systems can; it is a
// matter of speed, and whoever uses it goes on without.
type Reserver interface {
	// Reserve sets blocks aside for the n bytes at off. The file's length and
	// what is read of it stay as they are.
	Reserve(off, n int64) error
	// Trim gives back what is set aside behind size, the length of the file; if
	// that is not its length, it does nothing.
	//
	// REQUIRES: nobody writes to the file meanwhile.
	Trim(size int64) error
}
