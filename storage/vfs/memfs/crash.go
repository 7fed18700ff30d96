package memfs

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// sectorBytes is what a disk writes whole or not at all.
const sectorBytes = 512

// Policy says what a power loss leaves of what was not synced. Each policy is
// a disk that keeps the promises of sync and no others; correct storage
// recovers from all of them.
type Policy struct {
	name    string
	writes  bool // unsynced bytes and lengths survive
	entries bool // unsynced directory entries survive
	tear    bool // the last write survives by its first bytes only
	bytes   int64
	random  bool
	seed    uint64
}

// String names the policy, so that a failed test says how to repeat it.
func (p Policy) String() string { return p.name }

// LoseUnsynced leaves what was synced and nothing else.
func LoseUnsynced() Policy { return Policy{name: "lose unsynced"} }

// KeepUnsynced leaves all: the disk happened to have written everything.
func KeepUnsynced() Policy {
	return Policy{name: "keep unsynced", writes: true, entries: true}
}

// LoseEntries leaves all bytes, but no directory entry that was not synced:
// files that were created are gone, those that were removed are back.
func LoseEntries() Policy { return Policy{name: "lose entries", writes: true} }

// LoseWrites leaves all directory entries, but no bytes that were not synced:
// a file that was written and renamed is there under its new name and empty.
func LoseWrites() Policy { return Policy{name: "lose writes", entries: true} }

// TearLast leaves all, but of the last write, if it was not synced, only the
// first bytes.
func TearLast(bytes int64) Policy {
	return Policy{
		name: fmt.Sprintf("tear last write at %d", bytes), writes: true, entries: true,
		tear: true, bytes: bytes,
	}
}

// KeepRandom leaves a part that the seed determines: a prefix of all changes
// in order with the last one torn, or any subset of them, writes whole or by
// sectors, directory entries so that none survives without what it rests on.
func KeepRandom(seed uint64) Policy {
	return Policy{name: fmt.Sprintf("keep random %d", seed), random: true, seed: seed}
}

// Clone returns a file system as a process finds it that starts after this one
// was killed: with all that was written, and all that was not synced still not
// synced; without locks, open files, hook, log.
func (f *FS) Clone() *FS {
	f.mu.Lock() // For writing: contents are marked as shared.
	defer f.mu.Unlock()
	c := copier{}
	return &FS{
		root: c.inode(f.root), changes: c.changes(f.changes), adrift: c.changes(f.adrift), seq: f.seq,
		locks: map[string]bool{}, capacity: f.capacity, used: f.used, clock: f.clock,
	}
}

// Crash returns a file system as it is after a power loss now. All in it is
// durable. The original goes on as if nothing had happened.
func (f *FS) Crash(p Policy) *FS {
	c := f.Clone()
	s := c.survival(p)
	// What is adrift first: what happened to the same name since, and is not
	// synced either, writes it anew.
	for _, changes := range [...][]change{c.adrift, c.changes} {
		lost := map[place]bool{}
		for i := range changes {
			ch := &changes[i]
			if ch.touchesAny(lost) || !s.change(ch) {
				ch.mark(lost)
			} else {
				ch.settle()
			}
		}
	}
	c.changes, c.adrift = nil, nil
	c.used = 0
	c.settle(c.root, s)
	return c
}

// settle makes the durable state the only one, for all that is reachable from
// directory n.
func (f *FS) settle(n *inode, s *survival) {
	if !n.isDir() {
		for i := range n.pending {
			s.write(n, &n.pending[i])
		}
		n.pending = nil
		n.now = n.synced.share()
		f.used += pageBytes * int64(n.now.held())
		return
	}
	clear(n.entries)
	for _, name := range names(n.durable) {
		n.entries[name] = n.durable[name]
		f.settle(n.durable[name], s)
	}
}

// survival decides, for one crash, change by change.
type survival struct {
	policy Policy
	last   uint64 // the last write that is not synced
	rng    *rand.Rand
	prefix bool    // random: what came before cut survives, and no more
	cut    uint64  // a sequence number
	keep   float64 // random subset: the chance of a change to survive
}

func (f *FS) survival(p Policy) *survival {
	s := &survival{policy: p}
	first := f.seq
	for _, c := range slices.Concat(f.adrift, f.changes) {
		first = min(first, c.seq)
	}
	f.eachFile(f.root, map[*inode]bool{}, func(n *inode) {
		for _, w := range n.pending {
			first = min(first, w.seq)
			if !w.truncate {
				s.last = max(s.last, w.seq)
			}
		}
	})
	if p.random {
		s.rng = rand.New(rand.NewPCG(p.seed, 0x9e3779b97f4a7c15))
		s.prefix = s.rng.IntN(3) == 0
		s.cut = first + s.rng.Uint64N(f.seq-first+2)
		s.keep = []float64{0.1, 0.5, 0.9}[s.rng.IntN(3)]
	}
	return s
}

// eachFile calls fn for all files that are reachable now or after a crash.
func (f *FS) eachFile(n *inode, seen map[*inode]bool, fn func(*inode)) {
	if seen[n] {
		return
	}
	seen[n] = true
	if !n.isDir() {
		fn(n)
		return
	}
	for _, entries := range []map[string]*inode{n.entries, n.durable} {
		for _, name := range names(entries) {
			f.eachFile(entries[name], seen, fn)
		}
	}
}

// change says whether a change of directories survives.
func (s *survival) change(c *change) bool {
	switch {
	case !s.policy.random:
		return s.policy.entries
	case s.prefix:
		return c.seq < s.cut
	default:
		return s.rng.Float64() < s.keep
	}
}

// write applies to the durable bytes what survives of w.
func (s *survival) write(n *inode, w *write) {
	keep := int64(len(w.b))
	switch {
	case s.policy.random && s.prefix:
		if w.seq > s.cut {
			return
		}
		if w.seq == s.cut {
			keep = s.rng.Int64N(keep + 1)
		}
	case s.policy.random:
		if s.rng.Float64() >= s.keep {
			return
		}
		if s.rng.IntN(2) == 0 {
			s.sectors(n, w)
			return
		}
	case !s.policy.writes:
		return
	case s.policy.tear && w.seq == s.last:
		keep = min(keep, s.policy.bytes)
	}
	if w.truncate {
		n.synced.truncate(w.off)
		return
	}
	n.synced.writeAt(w.b[:keep], w.off, always)
}

// sectors applies a random part of a write.
func (s *survival) sectors(n *inode, w *write) {
	if w.truncate {
		n.synced.truncate(w.off)
		return
	}
	for b, off := w.b, w.off; len(b) > 0; {
		part := b[:min(len(b), int(sectorBytes-off%sectorBytes))]
		if s.rng.Float64() < s.keep {
			n.synced.writeAt(part, off, always)
		}
		b, off = b[len(part):], off+int64(len(part))
	}
}

func always() bool { return true }

// Reserved lists the files that have room set aside behind their end.
func (f *FS) Reserved() (files []string) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var walk func(path string, n *inode)
	walk = func(path string, n *inode) {
		if n.reserved > n.now.size {
			files = append(files, path)
		}
		for _, name := range names(n.entries) {
			walk(path+"/"+name, n.entries[name])
		}
	}
	walk("", f.root)
	slices.Sort(files)
	return files
}

// Unsynced lists the files that have unsynced bytes or lengths, and whether
// any directory entry is unsynced.
func (f *FS) Unsynced() (files []string, entries bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	var walk func(path string, n *inode)
	walk = func(path string, n *inode) {
		if len(n.pending) > 0 {
			files = append(files, path)
		}
		for _, name := range names(n.entries) {
			walk(path+"/"+name, n.entries[name])
		}
	}
	walk("", f.root)
	slices.Sort(files)
	return files, len(f.changes)+len(f.adrift) > 0
}
