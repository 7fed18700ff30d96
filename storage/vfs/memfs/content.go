package memfs

import (
	"io"
	"slices"
)

// pageBytes is the unit of copy on write. It is the page of most kernels, so
// that what a failed sync loses has the grain that it has there.
const pageBytes = 4096

// maxFileBytes bounds a file, so that a wild offset in a test is an error and
// not a table of pages that fills the memory.
const maxFileBytes = 8 << 30

// token is the right to write to a page in place. It is not empty, so that
// each has an address of its own.
type token struct{ _ byte }

// page is a piece of a file. Only the content that has its owner's token may
// write to it; all others copy it first.
type page struct {
	owner *token
	b     [pageBytes]byte
}

// content is the bytes of a file: a table of pages, nil for a hole.
//
// INVARIANT: while shared is true, neither the table nor a page of it is
// written to by anyone; so a clone costs one struct, whatever the file's
// length, and clones may be used by several goroutines at once.
type content struct {
	pages  []*page
	size   int64
	owner  *token
	shared bool
}

// share returns a second content with the same bytes.
func (c *content) share() content {
	c.shared = true
	return *c
}

// own makes the table writable.
func (c *content) own() {
	if c.shared || c.owner == nil {
		c.pages = slices.Clone(c.pages)
		c.owner = new(token)
		c.shared = false
	}
}

// readAt is io.ReaderAt.
func (c *content) readAt(p []byte, off int64) (int, error) {
	if off >= c.size {
		return 0, io.EOF
	}
	want := int64(len(p))
	p = p[:min(want, c.size-off)]
	n := 0
	for n < len(p) {
		i, in := (off+int64(n))/pageBytes, (off+int64(n))%pageBytes
		var pg *page
		if i < int64(len(c.pages)) {
			pg = c.pages[i]
		}
		rest := min(len(p)-n, int(pageBytes-in))
		if pg == nil {
			clear(p[n : n+rest])
		} else {
			copy(p[n:n+rest], pg.b[in:])
		}
		n += rest
	}
	if int64(n) < want {
		return n, io.EOF
	}
	return n, nil
}

// writeAt writes p at off and returns how many bytes found room: take is
// asked for each page that is added.
func (c *content) writeAt(p []byte, off int64, take func() bool) int {
	c.own()
	n := 0
	for n < len(p) {
		i, in := (off+int64(n))/pageBytes, (off+int64(n))%pageBytes
		pg := c.writable(int(i), take)
		if pg == nil {
			break
		}
		n += copy(pg.b[in:], p[n:])
	}
	if n > 0 {
		c.size = max(c.size, off+int64(n))
	}
	return n
}

// writable returns page i for writing, or nil if there is no room for it.
//
// REQUIRES: own was called.
func (c *content) writable(i int, take func() bool) *page {
	c.grow(i + 1)
	switch pg := c.pages[i]; {
	case pg == nil:
		if !take() {
			return nil
		}
		c.pages[i] = &page{owner: c.owner}
	case pg.owner != c.owner:
		c.pages[i] = &page{owner: c.owner, b: pg.b}
	}
	return c.pages[i]
}

func (c *content) grow(n int) {
	if n > len(c.pages) {
		c.pages = append(c.pages, make([]*page, n-len(c.pages))...)
	}
}

// truncate sets the size and returns how many pages that freed.
func (c *content) truncate(size int64) int {
	freed := 0
	if size < c.size {
		c.own()
		keep := min(int((size+pageBytes-1)/pageBytes), len(c.pages))
		freed = c.cut(keep)
		// What comes to lie behind a file's end reads as zero if it grows.
		if in := size % pageBytes; in != 0 && int64(keep) == size/pageBytes+1 && c.pages[keep-1] != nil {
			clear(c.writable(keep-1, nil).b[in:])
		}
	}
	c.size = size
	return freed
}

// cut leaves the first n pages and returns how many it freed.
//
// REQUIRES: own was called.
func (c *content) cut(n int) int {
	freed := 0
	for i := n; i < len(c.pages); i++ {
		if c.pages[i] != nil {
			freed++
		}
		c.pages[i] = nil
	}
	c.pages = c.pages[:min(n, len(c.pages))]
	return freed
}

// adopt makes pages [from, to) of c those of src, without copying them.
//
// REQUIRES: c.own was called.
func (c *content) adopt(src *content, from, to int) {
	to = min(to, len(src.pages))
	if to > from {
		c.grow(to)
	}
	for i := from; i < to; i++ {
		pg := src.pages[i]
		if pg != nil && !src.shared && pg.owner == src.owner {
			pg.owner = nil // src copies it before it writes again.
		}
		c.pages[i] = pg
	}
}

// held is how many pages the content has.
func (c *content) held() int {
	n := 0
	for _, pg := range c.pages {
		if pg != nil {
			n++
		}
	}
	return n
}
