package api

import "math"

// credit is what a client has allowed a Fetch stream to send (rule G5). It is
// an absolute total since the start of the stream, so a grant that is lost or
// comes twice does no harm. The zero value is unlimited.
type credit struct {
	limited bool
	total   uint64 // the greatest that was granted
	used    uint64
	// reserved is what of used was not sent: other brokers may send it.
	reserved uint64
	// window is the first grant: what the client holds at most unread. So it has
	// read, and given back, total-window.
	window uint64
}

// grant takes a grant. It never shrinks.
func (c *credit) grant(total uint64) {
	c.limited = true
	if c.window == 0 {
		c.window = total
	}
	c.total = max(c.total, total)
}

// room returns how many bytes may be sent.
func (c *credit) room() uint64 {
	switch {
	case !c.limited:
		return math.MaxUint64
	case c.used >= c.total:
		return 0
	}
	return c.total - c.used
}

// fits tells whether n bytes may be sent now. They may also if they exceed the
// credit, while the client has given everything back: what is larger than the
// window would never pass otherwise.
func (c *credit) fits(n uint64) bool {
	room := c.room()
	return n <= room || (room > 0 && c.used-c.reserved <= c.total-c.window)
}

// take uses n bytes.
func (c *credit) take(n uint64) { c.used += n }

// reserve takes up to n bytes for another broker to send. It returns how many.
func (c *credit) reserve(n uint64) uint64 {
	n = min(n, c.room())
	c.used += n
	c.reserved += n
	return n
}

// use turns n reserved bytes into sent ones.
func (c *credit) use(n uint64) { c.reserved -= n }

// giveUp gives n reserved bytes back.
func (c *credit) giveUp(n uint64) {
	c.used -= n
	c.reserved -= n
}
