package memfs

import (
	"io/fs"
	"maps"
	"os"
	"slices"
	"sort"
	"time"
)

// inode is a file or a directory.
type inode struct {
	perm     fs.FileMode
	modified time.Time

	// A directory's entries, and those that a power loss leaves. Both nil in
	// a file.
	entries map[string]*inode
	durable map[string]*inode

	// A file's bytes, those that a power loss leaves, and how the latter
	// become the former.
	now     content
	synced  content
	pending []write
	// reserved is where the room ends that is set aside for the file's bytes.
	reserved int64
}

func newDirectory(perm fs.FileMode, now time.Time) *inode {
	return &inode{
		perm: perm | fs.ModeDir, modified: now,
		entries: map[string]*inode{}, durable: map[string]*inode{},
	}
}

func (n *inode) isDir() bool { return n.entries != nil }

// write is a change of a file's bytes or length that is not synced.
type write struct {
	seq      uint64 // its place among all changes of the file system
	off      int64
	b        []byte // never changed; shared by clones
	truncate bool   // off is the new length
	sized    bool   // it changed the file's length
}

// sync makes the file's bytes durable.
func (n *inode) sync() {
	if len(n.pending) == 0 {
		return
	}
	n.synced.own()
	sized := false
	for _, w := range n.pending {
		sized = sized || w.sized
		from, to := int(w.off/pageBytes), int((w.off+int64(len(w.b))+pageBytes-1)/pageBytes)
		if w.truncate {
			to = len(n.now.pages)
			n.synced.cut(to) // What lies behind is a hole, whatever it was.
		}
		n.synced.adopt(&n.now, from, to)
	}
	n.pending = nil
	if !sized && n.now.size < n.synced.size {
		// A sync that failed has lost that the file was shortened, and nothing
		// has changed its length since: there is none to write down.
		return
	}
	n.synced.cut(int((n.now.size + pageBytes - 1) / pageBytes))
	n.synced.size = n.now.size
}

// change is a change of directories that is not synced: one entry made or
// removed, or two that only go together (a rename).
type change struct {
	seq  uint64
	sets []set
}

// set says what a name in a directory stands for from then on; to is nil if
// for nothing.
type set struct {
	place
	to *inode
}

type place struct {
	dir  *inode
	name string
}

// touches reports whether the change sets an entry of dir.
func (c *change) touches(dir *inode) bool {
	return slices.ContainsFunc(c.sets, func(s set) bool { return s.dir == dir })
}

// touchesAny reports whether the change sets one of the entries at.
func (c *change) touchesAny(at map[place]bool) bool {
	return slices.ContainsFunc(c.sets, func(s set) bool { return at[s.place] })
}

// mark adds the entries that the change sets.
func (c *change) mark(at map[place]bool) {
	for _, s := range c.sets {
		at[s.place] = true
	}
}

// settle makes the change durable.
func (c *change) settle() {
	for _, s := range c.sets {
		if s.to == nil {
			delete(s.dir.durable, s.name)
		} else {
			s.dir.durable[s.name] = s.to
		}
	}
}

// copier clones inodes, each once.
type copier map[*inode]*inode

func (c copier) inode(n *inode) *inode {
	if n == nil {
		return nil
	}
	if m, ok := c[n]; ok {
		return m
	}
	m := &inode{perm: n.perm, modified: n.modified, reserved: n.reserved}
	c[n] = m
	if n.isDir() {
		m.entries, m.durable = c.entries(n.entries), c.entries(n.durable)
		return m
	}
	m.now, m.synced = n.now.share(), n.synced.share()
	// The capacity is cut so that appending to either leaves the other alone.
	m.pending = n.pending[:len(n.pending):len(n.pending)]
	return m
}

func (c copier) entries(of map[string]*inode) map[string]*inode {
	m := make(map[string]*inode, len(of))
	for name, n := range of {
		m[name] = c.inode(n)
	}
	return m
}

func (c copier) changes(of []change) []change {
	out := make([]change, len(of))
	for i, ch := range of {
		sets := make([]set, len(ch.sets))
		for j, s := range ch.sets {
			sets[j] = set{place: place{dir: c.inode(s.dir), name: s.name}, to: c.inode(s.to)}
		}
		out[i] = change{seq: ch.seq, sets: sets}
	}
	return out
}

// names are the entries of a directory in order.
func names(entries map[string]*inode) []string {
	return slices.Sorted(maps.Keys(entries))
}

// description is an inode as package os describes it.
type description struct {
	name     string
	size     int64
	mode     fs.FileMode
	modified time.Time
}

func (n *inode) describe(name string) description {
	return description{name: name, size: n.now.size, mode: n.perm, modified: n.modified}
}

func (d description) Name() string               { return d.name }
func (d description) Size() int64                { return d.size }
func (d description) Mode() fs.FileMode          { return d.mode }
func (d description) ModTime() time.Time         { return d.modified }
func (d description) IsDir() bool                { return d.mode.IsDir() }
func (d description) Sys() any                   { return nil }
func (d description) Type() fs.FileMode          { return d.mode.Type() }
func (d description) Info() (fs.FileInfo, error) { return d, nil }

func list(entries map[string]*inode) []os.DirEntry {
	out := make([]os.DirEntry, 0, len(entries))
	for name, n := range entries {
		out = append(out, n.describe(name))
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name() < out[j].Name() })
	return out
}
