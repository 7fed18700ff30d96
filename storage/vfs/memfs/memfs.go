// Package memfs is a file system in memory that loses what was not synced.
//
// It owns a tree of files with two states each: what a process sees, and what
// a power loss would leave. Bytes become durable by File.Sync, names by
// FS.SyncDir, each without the other, as POSIX has it: a file can be synced
// and have no name, or have a name and no bytes. Clone is a kill of the
// process (all stays, nothing becomes durable); Crash is a power loss under a
// Policy. Both leave the original as it is and cost about as much as there are
// files, not bytes, so a test can fork the disk after every write.
//
// It refuses to own faults: those of calls are faultfs.
//
// A sync that fails (FailSync, FailSyncDir) loses what it was to write: no later
// one that succeeds brings that to the disk.
//
// INVARIANT: nothing that was synced is missing after Crash, whatever the
// policy.
//
// It starts no goroutine and needs no closing. It is made for tests and
// imported by nothing else.
package memfs

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/millstream-io/millstream/storage/vfs"
)

// unlimited is the capacity of a file system that was given none, in bytes.
const unlimited = 1 << 40

// FS is a file system in memory. It implements vfs.FS.
type FS struct {
	mu sync.RWMutex // guards all below and the inodes

	root     *inode
	changes  []change // of directories, not synced, in order
	adrift   []change // those that a failed sync was to make durable, in order
	seq      uint64   // of the last change of a file or directory
	locks    map[string]bool
	open     int   // handles
	capacity int64 // in bytes
	used     int64 // in bytes, by whole pages
	clock    func() time.Time
	hook     func(Op)
	log      []Op
	logging  bool
}

var _ vfs.FS = (*FS)(nil)

// New returns an empty file system: the root directory alone.
func New() *FS {
	f := &FS{locks: map[string]bool{}, capacity: unlimited, clock: time.Now}
	f.root = newDirectory(0o755, f.clock())
	return f
}

// SetCapacity bounds the bytes of all files, counted in pages of 4 KiB. Writes
// beyond it end short with ENOSPC.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = bytes
}

// SetClock sets where modification times come from.
func (f *FS) SetClock(now func() time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock = now
}

// OpenFiles is how many files are open now.
func (f *FS) OpenFiles() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.open
}

// lookup finds the inode of a name.
//
// REQUIRES: f.mu is held.
func (f *FS) lookup(name string) (*inode, error) {
	n := f.root
	for _, part := range split(name) {
		if !n.isDir() {
			return nil, syscall.ENOTDIR
		}
		next, ok := n.entries[part]
		if !ok {
			return nil, syscall.ENOENT
		}
		n = next
	}
	return n, nil
}

// parent finds the directory that holds a name.
//
// REQUIRES: f.mu is held.
func (f *FS) parent(name string) (place, error) {
	parts := split(name)
	if len(parts) == 0 {
		return place{}, syscall.EBUSY // The root.
	}
	dir, err := f.lookup(strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		return place{}, err
	}
	if !dir.isDir() {
		return place{}, syscall.ENOTDIR
	}
	return place{dir: dir, name: parts[len(parts)-1]}, nil
}

func clean(name string) string { return filepath.Join("/", name) }

func split(name string) []string {
	return strings.FieldsFunc(clean(name), func(r rune) bool { return r == '/' })
}

// apply changes directories and remembers that it is not synced.
//
// REQUIRES: f.mu is held for writing.
func (f *FS) apply(sets ...set) {
	for _, s := range sets {
		if s.to == nil {
			delete(s.dir.entries, s.name)
		} else {
			s.dir.entries[s.name] = s.to
		}
		s.dir.modified = f.clock()
	}
	f.seq++
	f.changes = append(f.changes, change{seq: f.seq, sets: sets})
}

// OpenFile opens or creates a file.
func (f *FS) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	h, ops, err := f.openFile(name, flag, perm)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f.done(ops...)
	return h, nil
}

func (f *FS) openFile(name string, flag int, perm os.FileMode) (*handle, []Op, error) {
	if flag&os.O_APPEND != 0 {
		return nil, nil, syscall.EINVAL
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var ops []Op
	n, err := f.lookup(name)
	switch {
	case err == nil && flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, nil, syscall.EEXIST
	case err == nil && n.isDir():
		return nil, nil, syscall.EISDIR
	case err == nil:
	case errors.Is(err, syscall.ENOENT) && flag&os.O_CREATE != 0:
		at, err := f.parent(name)
		if err != nil {
			return nil, nil, err
		}
		n = &inode{perm: perm.Perm(), modified: f.clock()}
		f.apply(set{place: at, to: n})
		ops = append(ops, Op{Kind: Create, Name: clean(name)})
	default:
		return nil, nil, err
	}
	h := &handle{fs: f, node: n, name: name, access: flag & (os.O_WRONLY | os.O_RDWR)}
	if flag&os.O_TRUNC != 0 && n.now.size > 0 {
		h.truncateLocked(0)
		ops = append(ops, Op{Kind: Truncate, Name: clean(name)})
	}
	f.open++
	return h, ops, nil
}

// Remove removes a file or an empty directory.
func (f *FS) Remove(name string) error {
	err := f.locked(func() error {
		at, err := f.parent(name)
		if err != nil {
			return err
		}
		n, ok := at.dir.entries[at.name]
		if !ok {
			return syscall.ENOENT
		}
		if len(n.entries) > 0 {
			return syscall.ENOTEMPTY
		}
		f.unlink(at)
		return nil
	})
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	f.done(Op{Kind: Remove, Name: clean(name)})
	return nil
}

// unlink removes an entry and gives back its room.
//
// REQUIRES: f.mu is held for writing.
func (f *FS) unlink(at place) {
	f.used -= pageBytes * int64(at.dir.entries[at.name].now.held())
	f.apply(set{place: at})
}

// RemoveAll removes a tree.
func (f *FS) RemoveAll(name string) error {
	found := false
	err := f.locked(func() error {
		at, err := f.parent(name)
		if errors.Is(err, syscall.ENOENT) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, found = at.dir.entries[at.name]; found {
			f.removeTree(at)
		}
		return nil
	})
	if err != nil {
		return &fs.PathError{Op: "removeall", Path: name, Err: err}
	}
	if found {
		f.done(Op{Kind: RemoveAll, Name: clean(name)})
	}
	return nil
}

// removeTree removes entry after entry, from the bottom, as an operating
// system must; so a power loss can leave a part.
func (f *FS) removeTree(at place) {
	n := at.dir.entries[at.name]
	for _, name := range names(n.entries) {
		f.removeTree(place{dir: n, name: name})
	}
	f.unlink(at)
}

// Rename moves a file or directory.
func (f *FS) Rename(oldName, newName string) error {
	err := f.locked(func() error { return f.rename(oldName, newName) })
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldName, New: newName, Err: err}
	}
	f.done(Op{Kind: Rename, Name: clean(oldName), To: clean(newName)})
	return nil
}

func (f *FS) rename(oldName, newName string) error {
	from, err := f.parent(oldName)
	if err != nil {
		return err
	}
	to, err := f.parent(newName)
	if err != nil {
		return err
	}
	n, ok := from.dir.entries[from.name]
	if !ok {
		return syscall.ENOENT
	}
	old, ok := to.dir.entries[to.name]
	switch {
	case ok && old.isDir():
		return syscall.EEXIST
	case n.isDir() && strings.HasPrefix(clean(newName), clean(oldName)+"/"):
		return syscall.EINVAL // Into itself.
	case ok && n.isDir():
		return syscall.ENOTDIR
	case ok && old == n:
		return nil
	case ok:
		f.used -= pageBytes * int64(old.now.held())
	}
	f.apply(set{place: from}, set{place: to, to: n})
	return nil
}

// MkdirAll makes a directory and its parents.
func (f *FS) MkdirAll(name string, perm os.FileMode) error {
	var ops []Op
	err := f.locked(func() error {
		n, path := f.root, ""
		for _, part := range split(name) {
			path += "/" + part
			next, ok := n.entries[part]
			if !ok {
				next = newDirectory(perm.Perm(), f.clock())
				f.apply(set{place: place{dir: n, name: part}, to: next})
				ops = append(ops, Op{Kind: Mkdir, Name: path})
			}
			if !next.isDir() {
				return syscall.ENOTDIR
			}
			n = next
		}
		return nil
	})
	f.done(ops...)
	if err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return nil
}

// ReadDir lists a directory in order of names.
func (f *FS) ReadDir(name string) ([]os.DirEntry, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.lookup(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	if !n.isDir() {
		return nil, &fs.PathError{Op: "readdirent", Path: name, Err: syscall.ENOTDIR}
	}
	return list(n.entries), nil
}

// Stat describes a file or directory.
func (f *FS) Stat(name string) (os.FileInfo, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, err := f.lookup(name)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return n.describe(filepath.Base(clean(name))), nil
}

// SyncDir makes the entries of a directory durable, and those changes of other
// directories without which they could not be: both halves of a rename, and
// what happened to the same names before.
func (f *FS) SyncDir(name string) error {
	err := f.locked(func() error {
		due, err := f.takeDue(name)
		for i := range due {
			f.supersede(&due[i])
			due[i].settle()
		}
		return err
	})
	if err != nil {
		return &fs.PathError{Op: "open", Path: name, Err: err} // Not of a sync: see vfs.IsSync.
	}
	f.done(Op{Kind: SyncDir, Name: clean(name)})
	return nil
}

// FailSyncDir is a sync of a directory that fails, and with it all that it was
// to make durable: the names stay as they are seen, but no later sync brings
// them to the disk. A power loss leaves each as it is, or as it was, until the
// same name is made or removed anew, and that is synced.
//
// WHY: so it goes on a file system without a journal (ext2, FAT, ext4 without
// one): the block of the directory counts as clean after a write of it that
// failed, as the page of a file does. There one block has many names, and a
// change of any of them writes all of it; here each name is by itself, which no
// log can rely on less. ext4 with its journal, XFS and btrfs are kinder: they
// refuse everything from then on until they are mounted again, and all that is
// seen then is on the disk.
func (f *FS) FailSyncDir(name string) {
	_ = f.locked(func() error { // A directory that is not there has nothing to lose.
		due, err := f.takeDue(name)
		f.adrift = append(f.adrift, due...)
		slices.SortFunc(f.adrift, func(a, b change) int { return cmp.Compare(a.seq, b.seq) })
		return err
	})
}

// takeDue takes out the changes that a sync of a directory makes durable.
//
// REQUIRES: f.mu is held for writing.
func (f *FS) takeDue(name string) ([]change, error) {
	dir, err := f.lookup(name)
	if err != nil {
		return nil, err
	}
	if !dir.isDir() {
		return nil, syscall.ENOTDIR
	}
	needed := map[place]bool{}
	take := make([]bool, len(f.changes))
	for i, c := range slices.Backward(f.changes) {
		if take[i] = c.touches(dir) || c.touchesAny(needed); take[i] {
			c.mark(needed)
		}
	}
	var due, left []change
	for i, c := range f.changes {
		if take[i] {
			due = append(due, c)
		} else {
			left = append(left, c)
		}
	}
	f.changes = left
	return due, nil
}

// supersede forgets what is adrift of the names that a change sets, before it is
// made durable.
//
// REQUIRES: f.mu is held for writing.
func (f *FS) supersede(by *change) {
	now := map[place]bool{}
	by.mark(now)
	var left []change
	for _, c := range f.adrift {
		c.sets = slices.DeleteFunc(slices.Clone(c.sets), func(s set) bool { return now[s.place] })
		if len(c.sets) > 0 {
			left = append(left, c)
		}
	}
	f.adrift = left
}

// FreeBytes says how much of the capacity is left.
func (f *FS) FreeBytes(dir string) (free, total uint64, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if _, err := f.lookup(dir); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return uint64(max(f.capacity-f.used, 0)), uint64(f.capacity), nil
}

// Lock takes a lock. Clone and Crash release all, as the end of a process
// does.
func (f *FS) Lock(name string) (io.Closer, error) {
	file, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	l := &lock{file: file, fs: f, path: clean(name)}
	f.mu.Lock()
	held := f.locks[l.path]
	f.locks[l.path] = true
	f.mu.Unlock()
	if held {
		_ = file.Close()
		return nil, &vfs.LockedError{Path: name, PID: os.Getpid()}
	}
	if file.Truncate(0) == nil {
		_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return l, nil
}

// lock is a held lock.
type lock struct {
	file vfs.File
	fs   *FS
	path string
	once sync.Once
}

func (l *lock) Close() error {
	l.once.Do(func() {
		l.fs.mu.Lock()
		defer l.fs.mu.Unlock()
		delete(l.fs.locks, l.path)
	})
	return l.file.Close()
}

func (f *FS) locked(fn func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fn()
}
