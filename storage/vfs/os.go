package vfs

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS returns the file system of the operating system.
func OS() FS { return osFS{} }

// DescriptorLimit is how many files, connections and the like this process may
// have open at a time, as far as the system tells.
func DescriptorLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // the least that is usual
	}
	return int(min(limit.Cur, math.MaxInt32)) // none at all is as many
}

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	if flag&os.O_APPEND != 0 {
		// WHY: pwritev on such a descriptor ignores the offset on Linux.
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EINVAL}
	}
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	// A directory opens for reading; it would fail at the first read.
	if st, err := f.Stat(); err != nil || st.IsDir() {
		_ = f.Close()
		if err == nil {
			err = &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
		}
		return nil, err
	}
	return &osFile{file: f, fd: f.Fd()}, nil
}

func (osFS) Remove(name string) error    { return os.Remove(name) }
func (osFS) RemoveAll(name string) error { return os.RemoveAll(name) }

func (osFS) Rename(oldName, newName string) error { return os.Rename(oldName, newName) }

func (osFS) MkdirAll(name string, perm os.FileMode) error { return os.MkdirAll(name, perm) }

func (osFS) ReadDir(name string) ([]os.DirEntry, error) { return os.ReadDir(name) }

func (osFS) Stat(name string) (os.FileInfo, error) { return os.Stat(name) }

func (osFS) SyncDir(name string) error {
	d, err := os.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = ignoringEINTR(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) })
	if err != nil {
		pid := readPID(f)
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &LockedError{Path: name, PID: pid}
		}
		return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
	}
	// The number is for the message of whoever comes second. The lock holds
	// without it, so a full disk is no reason to refuse.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func readPID(r io.ReaderAt) int {
	var b [20]byte
	n, _ := r.ReadAt(b[:], 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

func (osFS) FreeBytes(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := ignoringEINTR(func() error { return unix.Statfs(filepath.Clean(dir), &st) }); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	size := uint64(st.Bsize)
	return st.Bavail * size, st.Blocks * size, nil
}

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// osFile is a file of the operating system.
//
// INVARIANT: a raw system call on fd happens only while mu is held for
// reading and closed is false. Otherwise a write could land in whatever file
// got the number next.
type osFile struct {
	file *os.File
	fd   uintptr // fixed; taken once because os.File.Fd is not free

	mu     sync.RWMutex // guards closed; Close takes it for writing
	closed bool
}

func (f *osFile) Name() string { return f.file.Name() }

// FD makes osFile an FDer.
func (f *osFile) FD() uintptr { return f.fd }

func (f *osFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return f.file.Close()
}

func (f *osFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, f.fault("read", syscall.EINVAL)
	}
	return f.file.ReadAt(p, off)
}

func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, f.fault("write", syscall.EINVAL)
	}
	return f.file.WriteAt(p, off)
}

func (f *osFile) Truncate(size int64) error { return f.file.Truncate(size) }

func (f *osFile) fault(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.Name(), Err: err}
}

func (f *osFile) Size() (int64, error) {
	st, err := f.file.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f *osFile) Sync() error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return f.fault("sync", os.ErrClosed)
	}
	if err := syncFile(f.file, f.fd); err != nil {
		return f.fault("sync", err)
	}
	return nil
}

func (f *osFile) Writev(pieces [][]byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return 0, f.fault("write", os.ErrClosed)
	}
	if off < 0 {
		return 0, f.fault("write", syscall.EINVAL)
	}
	n, err := writev(f, pieces, off)
	if err != nil {
		return n, f.fault("write", err)
	}
	return n, nil
}
