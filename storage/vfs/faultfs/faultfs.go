// Package faultfs makes calls to a file system fail on purpose.
//
// It owns rules: which call, of which file, the how-manyth, fails how. It
// passes all other calls to the file system that it wraps, memfs or the
// operating system's. It refuses to own what a power loss leaves: that is
// memfs, but a rule can make a sync lie to it.
//
// INVARIANT: without a rule that matches, a wrapped file system answers as it
// would unwrapped. Files have no descriptor (vfs.FDer), so that no read passes
// by the rules through a mapping.
//
// It starts no goroutine and needs no closing. It is made for tests and
// imported by nothing else.
package faultfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/millstream-io/millstream/storage/vfs"
)

// Op is a set of kinds of calls.
type Op uint32

// The kinds of calls.
const (
	Open     Op = 1 << iota // OpenFile that need not create
	Create                  // OpenFile with O_CREATE
	Read                    // ReadAt
	Write                   // WriteAt and Writev
	Sync                    // File.Sync
	Truncate                // File.Truncate
	Size                    // File.Size
	Close                   // File.Close; the file is closed all the same
	Remove                  // Remove and RemoveAll
	Rename
	Mkdir
	ReadDir
	Stat
	SyncDir
	Lock
	FreeBytes
	Reserve // vfs.Reserver
	Trim

	// Mutating are the calls that a read-only file system refuses.
	Mutating = Create | Write | Truncate | Remove | Rename | Mkdir | Lock | Reserve | Trim
	// Any is every call.
	Any = Trim<<1 - 1
)

// Rule makes calls fail. The zero value of a field matches most.
type Rule struct {
	// Op is the calls meant; 0 is Any.
	Op Op
	// Path is a pattern of path/filepath.Match for the last element of the
	// name, and for a rename of either name; empty is all.
	Path string
	// Skip is how many matching calls pass before the first that fails.
	Skip int
	// Times is how many calls fail then; 0 is one, negative all.
	Times int

	// Err is what the call returns; nil is EIO. It is wrapped with the name.
	Err error
	// Bytes is how many bytes of a read or write are done before that.
	Bytes int
	// Silent makes the call return success, although only Bytes of a write
	// were done, or nothing of another call: a torn write, a lost write, a
	// sync that was not one.
	Silent bool
	// Change is called with what a read found, which then succeeds: bit rot.
	Change func(b []byte, off int64)
	// Hold is called before the call, which then goes on as if there were no
	// rule: a slow disk, a hand-shake with a test.
	Hold func(op Op, name string)

	seen, failed int // guarded by FS.mu
}

// FS is a file system with faults. It implements vfs.FS.
type FS struct {
	inner vfs.FS

	mu       sync.Mutex // guards the rest; not held during a call
	rules    []*Rule
	calls    map[Op]int
	readOnly bool
	bounded  bool
	room     int64 // bytes that may be written yet, if bounded
}

var _ vfs.FS = (*FS)(nil)

// Wrap returns a file system that is inner but for the rules. Rules are asked
// in order; the first that matches and is neither skipping nor used up
// decides.
func Wrap(inner vfs.FS, rules ...*Rule) *FS {
	return &FS{inner: inner, rules: rules, calls: map[Op]int{}}
}

// Add adds a rule.
func (f *FS) Add(r *Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, r)
}

// Clear removes all rules, and makes the disk writable and without bound.
func (f *FS) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules, f.readOnly, f.bounded = nil, false, false
}

// SetReadOnly makes mutating calls fail with EROFS, also on files that are
// open, as a remount after an error does.
func (f *FS) SetReadOnly(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readOnly = on
}

// SetRoom lets that many more bytes be written; what goes beyond ends short
// with ENOSPC. Negative is without bound.
func (f *FS) SetRoom(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bounded, f.room = bytes >= 0, bytes
}

// Calls is how many calls of the kinds were made, failed ones too.
func (f *FS) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for kind, calls := range f.calls {
		if kind&op != 0 {
			n += calls
		}
	}
	return n
}

// fault is what a rule does to one call.
type fault struct {
	err    error
	bytes  int
	silent bool
	change func([]byte, int64)
}

// ask counts a call and returns the fault that it gets, or nil.
func (f *FS) ask(op Op, names ...string) *fault {
	r, readOnly := f.match(op, names)
	switch {
	case r == nil && readOnly:
		return &fault{err: syscall.EROFS}
	case r == nil:
		return nil
	case r.Hold != nil:
		r.Hold(op, names[0])
		return nil
	}
	err := r.Err
	if err == nil {
		err = syscall.EIO
	}
	return &fault{err: err, bytes: r.Bytes, silent: r.Silent, change: r.Change}
}

func (f *FS) match(op Op, names []string) (_ *Rule, readOnly bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	for _, r := range f.rules {
		if !r.matches(op, names) {
			continue
		}
		if r.seen++; r.seen <= r.Skip {
			continue
		}
		if r.Times >= 0 && r.failed >= max(r.Times, 1) {
			continue
		}
		r.failed++
		return r, false
	}
	return nil, f.readOnly && op&Mutating != 0
}

func (r *Rule) matches(op Op, names []string) bool {
	if r.Op != 0 && r.Op&op == 0 {
		return false
	}
	if r.Path == "" {
		return true
	}
	for _, name := range names {
		if ok, err := filepath.Match(r.Path, filepath.Base(name)); ok && err == nil {
			return true
		}
	}
	return false
}

// simple is a call without bytes.
func (f *FS) simple(op Op, name string, call func() error) error {
	switch ft := f.ask(op, name); {
	case ft == nil:
		return call()
	case ft.silent:
		return nil
	default:
		return pathError(op, name, ft.err)
	}
}

func pathError(op Op, name string, err error) error {
	return &os.PathError{Op: opNames[op], Path: name, Err: err}
}

var opNames = map[Op]string{
	Open: "open", Create: "open", Read: "read", Write: "write", Sync: "sync", Truncate: "truncate",
	Size: "stat", Close: "close", Remove: "remove", Rename: "rename", Mkdir: "mkdir",
	ReadDir: "readdirent", Stat: "stat", SyncDir: "sync", Lock: "flock", FreeBytes: "statfs",
	Reserve: "fallocate", Trim: "truncate",
}

// OpenFile opens or creates a file.
func (f *FS) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	op := Open
	if flag&os.O_CREATE != 0 {
		op = Create
	}
	if ft := f.ask(op, name); ft != nil {
		if !f.exists(ft, name) {
			return nil, pathError(op, name, ft.err)
		}
		flag &^= os.O_CREATE
	}
	if flag&(os.O_WRONLY|os.O_RDWR) != 0 && f.isReadOnly() {
		return nil, pathError(op, name, syscall.EROFS)
	}
	inner, err := f.inner.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	if r, ok := inner.(vfs.Reserver); ok {
		return &reserver{file: file{inner: inner, fs: f}, inner: r}, nil
	}
	return &file{inner: inner, fs: f}, nil
}

// exists reports whether a file that a read-only file system is asked to
// create is there already; only creating it is refused then.
func (f *FS) exists(ft *fault, name string) bool {
	if !errors.Is(ft.err, syscall.EROFS) {
		return false
	}
	_, err := f.inner.Stat(name)
	return err == nil
}

func (f *FS) isReadOnly() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.readOnly
}

// Remove removes a file or an empty directory.
func (f *FS) Remove(name string) error {
	return f.simple(Remove, name, func() error { return f.inner.Remove(name) })
}

// RemoveAll removes a tree.
func (f *FS) RemoveAll(name string) error {
	return f.simple(Remove, name, func() error { return f.inner.RemoveAll(name) })
}

// Rename moves a file or directory.
func (f *FS) Rename(oldName, newName string) error {
	switch ft := f.ask(Rename, oldName, newName); {
	case ft == nil:
		return f.inner.Rename(oldName, newName)
	case ft.silent:
		return nil
	default:
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: ft.err}
	}
}

// MkdirAll makes a directory and its parents.
func (f *FS) MkdirAll(name string, perm os.FileMode) error {
	return f.simple(Mkdir, name, func() error { return f.inner.MkdirAll(name, perm) })
}

// ReadDir lists a directory.
func (f *FS) ReadDir(name string) (entries []os.DirEntry, err error) {
	err = f.simple(ReadDir, name, func() error {
		entries, err = f.inner.ReadDir(name)
		return err
	})
	return entries, err
}

// Stat describes a file or directory.
func (f *FS) Stat(name string) (os.FileInfo, error) {
	if ft := f.ask(Stat, name); ft != nil {
		return nil, pathError(Stat, name, ft.err)
	}
	return f.inner.Stat(name)
}

// SyncDir makes the entries of a directory durable.
func (f *FS) SyncDir(name string) error {
	ft := f.ask(SyncDir, name)
	switch {
	case ft == nil:
		return f.inner.SyncDir(name)
	case ft.silent:
		return nil
	}
	if vfs.IsTooManyFiles(ft.err) {
		return pathError(Open, name, ft.err) // None was tried.
	}
	// As a sync of a file that fails.
	if l, ok := f.inner.(interface{ FailSyncDir(string) }); ok {
		l.FailSyncDir(name)
	}
	return pathError(SyncDir, name, ft.err)
}

// Lock takes a lock.
func (f *FS) Lock(name string) (io.Closer, error) {
	if ft := f.ask(Lock, name); ft != nil {
		return nil, pathError(Lock, name, ft.err)
	}
	return f.inner.Lock(name)
}

// FreeBytes says how much room there is: what SetRoom left, if less.
func (f *FS) FreeBytes(dir string) (free, total uint64, err error) {
	if ft := f.ask(FreeBytes, dir); ft != nil {
		return 0, 0, pathError(FreeBytes, dir, ft.err)
	}
	free, total, err = f.inner.FreeBytes(dir)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bounded {
		free = min(free, uint64(f.room))
	}
	return free, total, err
}
