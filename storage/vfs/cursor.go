package vfs

// cursor is the place in a list of pieces up to which they are written.
type cursor struct {
	pieces [][]byte
	index  int // the piece that the next byte is in
	skip   int // the bytes of that piece already written
}

// advance moves over n bytes.
func (c *cursor) advance(n int) {
	for n > 0 && c.index < len(c.pieces) {
		left := len(c.pieces[c.index]) - c.skip
		if n < left {
			c.skip += n
			return
		}
		n -= left
		c.index, c.skip = c.index+1, 0
	}
}
