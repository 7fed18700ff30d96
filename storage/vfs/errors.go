package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// LockedError says that a lock is held by another process, or by another part
// of this one.
type LockedError struct {
	// Path is the lock's file.
	Path string
	// PID is the holder as it wrote itself down; 0 if that cannot be read.
	PID int
}

// Error says who uses the directory.
func (e *LockedError) Error() string {
	if e.PID > 0 {
		return fmt.Sprintf("the directory is in use by process %d (lock %s)", e.PID, e.Path)
	}
	return fmt.Sprintf("the directory is in use by another process (lock %s)", e.Path)
}

// IsFull reports whether err says that the disk, or the quota on it, is full.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsReadOnly reports whether err says that the file system cannot be written
// to, or not by this user.
func IsReadOnly(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)
}

// IsTooManyFiles reports whether err says that the process or the machine has
// run out of file descriptors.
func IsTooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// IsSync reports whether err is that of a sync of a file or a directory. Such
// an error is final: see File.Sync.
func IsSync(err error) bool {
	var e *fs.PathError
	return errors.As(err, &e) && e.Op == "sync"
}
