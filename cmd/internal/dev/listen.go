package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/millstream-io/millstream/controller/etcd"
	"github.com/millstream-io/millstream/storage/vfs"
)

// InUseError says that something another process has is needed, and what to
// do about it.
type InUseError struct {
	// What is in use: an address or a directory.
	What string
	// Advice says what to do.
	Advice string
	// Cause is what the system said.
	Cause error
}

// Error says it for people.
func (e *InUseError) Error() string { return e.What + " is in use: " + e.Advice }

// Unwrap returns the cause.
func (e *InUseError) Unwrap() error { return e.Cause }

// listen opens a listener; flag is what names its address.
func listen(flag, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &InUseError{
			What: addr, Cause: err,
			Advice: fmt.Sprintf("stop the process that listens there, or choose another address with --%s 127.0.0.1:PORT (0: any that is free)", flag),
		}
	case err != nil:
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return l, nil
}

// directoryError makes of an error about the data directory one that says what
// to do.
func directoryError(dir string, err error) error {
	advice := "stop the process that has it, or choose another directory with --data-dir"
	if locked, ok := errors.AsType[*vfs.LockedError](err); ok {
		if locked.PID > 0 {
			advice = fmt.Sprintf("stop process %d, or choose another directory with --data-dir", locked.PID)
		}
		return &InUseError{What: "data directory " + dir, Advice: advice, Cause: err}
	}
	if _, ok := errors.AsType[*etcd.InUseError](err); ok {
		return &InUseError{What: "data directory " + dir, Advice: advice, Cause: err}
	}
	if broken, ok := errors.AsType[*etcd.BrokenError](err); ok {
		return fmt.Errorf("the disk of data directory %s %s (%w)", dir, whatToDo(broken), err)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("data directory %s cannot be written to: make it writable, or choose another with --data-dir (%w)", dir, err)
	}
	return err
}

// whatToDo says what is wrong with a disk that the metadata store could not write
// to, and what to do about it.
func whatToDo(err error) string {
	switch {
	case vfs.IsFull(err):
		return "is full: make room on it, and start again"
	case vfs.IsReadOnly(err):
		return "has become read-only, as the kernel makes one in which it finds an error: look at the kernel's log, repair the file system, and start again"
	default:
		return "fails, or what is on it is damaged: look at the kernel's log, repair it, or restore a backup, and start again"
	}
}
