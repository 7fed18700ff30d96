package record

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Cursor walks protobuf wire format that lies in pieces, by the strict rules
// of docs/format/validation.md: tags, lengths and varints are minimal, field
// numbers in [1, 2^29), wire types are varint, fixed64, bytes and fixed32,
// lengths below 2^31 and inside their parent. What it walks, every protobuf
// parser walks alike.
//
// The first broken rule sticks: every later call says false, and Why says
// which it was. `end` is the position, from the start of the pieces, at which
// the enclosing message ends. The zero value is at the end of nothing.
type Cursor struct {
	b    []byte // rest of the current piece
	rest Pieces // pieces after it
	pos  int    // bytes passed
	size int    // bytes in all
	why  string // the rule that was broken, or ""
}

// Reset puts the cursor at the start of p. BORROWED: p until the next Reset.
func (c *Cursor) Reset(p Pieces) {
	*c = Cursor{rest: p, size: p.Len()}
	c.fill()
}

// Pos returns the number of bytes passed.
func (c *Cursor) Pos() int { return c.pos }

// Size returns the number of bytes in all pieces: the end of the outermost
// message.
func (c *Cursor) Size() int { return c.size }

// Why names the rule that was broken, for people; "" if none was.
func (c *Cursor) Why() string { return c.why }

// Tag reads a tag.
func (c *Cursor) Tag(end int) (num protowire.Number, typ protowire.Type, ok bool) {
	x, ok := c.varint(end, 5, "tag")
	if !ok {
		return 0, 0, false
	}
	if x >= 1<<32 {
		return 0, 0, c.fail("tag of 2^32 or more")
	}
	num, typ = protowire.Number(x>>3), protowire.Type(x&7)
	if num == 0 {
		return 0, 0, c.fail("field number 0")
	}
	switch typ {
	case protowire.VarintType, protowire.Fixed64Type, protowire.BytesType, protowire.Fixed32Type:
		return num, typ, true
	case protowire.StartGroupType, protowire.EndGroupType:
		return 0, 0, c.fail("a group")
	}
	return 0, 0, c.fail("wire type 6 or 7")
}

// Varint reads a varint.
func (c *Cursor) Varint(end int) (uint64, bool) { return c.varint(end, 10, "varint") }

// Length reads the length of a field of wire type bytes. ENSURES: so many
// bytes follow before end.
func (c *Cursor) Length(end int) (int, bool) {
	x, ok := c.varint(end, 5, "length")
	if !ok {
		return 0, false
	}
	if x >= 1<<31 {
		return 0, c.fail("length of 2^31 or more")
	}
	if int(x) > end-c.pos {
		return 0, c.fail("length beyond the end of its parent")
	}
	return int(x), true
}

// Fixed32 reads four bytes.
func (c *Cursor) Fixed32(end int) (uint32, bool) {
	if end-c.pos < 4 {
		return 0, c.fail("fixed32 beyond the end of its parent")
	}
	var x uint32
	for s := 0; s < 32; s += 8 {
		x |= uint32(c.next()) << s
	}
	return x, true
}

// SkipValue passes the value of a field of this wire type.
func (c *Cursor) SkipValue(typ protowire.Type, end int) bool {
	switch typ {
	case protowire.VarintType:
		_, ok := c.Varint(end)
		return ok
	case protowire.Fixed64Type:
		return c.skipFixed(8, end)
	case protowire.Fixed32Type:
		return c.skipFixed(4, end)
	case protowire.BytesType:
		n, ok := c.Length(end)
		if ok {
			c.Skip(n)
		}
		return ok
	case protowire.StartGroupType, protowire.EndGroupType:
	}
	return c.fail("a group")
}

// Skip passes n bytes. REQUIRES: n bytes are left.
func (c *Cursor) Skip(n int) {
	for n > len(c.b) {
		n -= len(c.b)
		c.advance(len(c.b))
	}
	c.advance(n)
}

// Bytes passes n bytes and returns them: in place if they lie in one piece,
// else copied to the end of scratch, which is returned too. b is never nil.
// REQUIRES: n bytes are left.
func (c *Cursor) Bytes(n int, scratch []byte) (b, newScratch []byte) {
	if n == 0 {
		return []byte{}, scratch
	}
	if n <= len(c.b) {
		b = c.b[:n:n]
		c.advance(n)
		return b, scratch
	}
	start := len(scratch)
	for n > 0 {
		k := min(n, len(c.b))
		scratch = append(scratch, c.b[:k]...)
		c.advance(k)
		n -= k
	}
	return scratch[start:len(scratch):len(scratch)], scratch
}

// AppendPieces passes n bytes and appends the pieces that they are to dst.
// REQUIRES: n bytes are left.
func (c *Cursor) AppendPieces(n int, dst Pieces) Pieces {
	for n > 0 {
		k := min(n, len(c.b))
		dst = append(dst, c.b[:k:k])
		c.advance(k)
		n -= k
	}
	return dst
}

// varint reads a varint of at most limit bytes. Its last byte is not zero
// unless it is the only one, so that there is one form of every number.
func (c *Cursor) varint(end, limit int, what string) (uint64, bool) {
	if c.why != "" {
		return 0, false
	}
	var x uint64
	for i := range limit {
		if c.pos >= end {
			return 0, c.fail(what + " beyond the end of its parent")
		}
		b := c.next()
		x |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 {
				return 0, c.fail(what + " is not minimal")
			}
			if i == 9 && b > 1 {
				return 0, c.fail(what + " of more than 64 bits")
			}
			return x, true
		}
	}
	return 0, c.fail(what + " too long")
}

func (c *Cursor) skipFixed(n, end int) bool {
	if end-c.pos < n {
		return c.fail("fixed-width value beyond the end of its parent")
	}
	c.Skip(n)
	return true
}

// next passes one byte and returns it. REQUIRES: one is left.
func (c *Cursor) next() byte {
	b := c.b[0]
	c.advance(1)
	return b
}

// advance passes n bytes of the current piece.
func (c *Cursor) advance(n int) {
	c.b = c.b[n:]
	c.pos += n
	if len(c.b) == 0 {
		c.fill()
	}
}

// fill makes the next piece that is not empty the current one.
func (c *Cursor) fill() {
	for len(c.b) == 0 && len(c.rest) > 0 {
		c.b, c.rest = c.rest[0], c.rest[1:]
	}
}

func (c *Cursor) fail(why string) bool {
	if c.why == "" {
		c.why = why
	}
	return false
}

// Fixed64 reads eight bytes.
func (c *Cursor) Fixed64(end int) (uint64, bool) {
	if end-c.pos < 8 {
		return 0, c.fail("fixed64 beyond the end of its parent")
	}
	var x uint64
	for s := 0; s < 64; s += 8 {
		x |= uint64(c.next()) << s
	}
	return x, true
}

// lengthWithin reads a length that lies before end and speaks of bytes before
// limit, which may be later.
func (c *Cursor) lengthWithin(end, limit int) (int, bool) {
	x, ok := c.varint(end, 5, "length")
	if !ok {
		return 0, false
	}
	if x > uint64(limit-c.pos) {
		return 0, c.fail("length beyond the end of its parent")
	}
	return int(x), true
}

// utf8 passes n bytes and reports whether they are UTF-8. REQUIRES: n bytes
// are left.
func (c *Cursor) utf8(n int) bool {
	var (
		carry [utf8.UTFMax]byte // the beginning of a character cut by a piece's end
		held  int
	)
	for n > 0 {
		k := min(n, len(c.b))
		b := c.b[:k]
		for held > 0 && len(b) > 0 {
			carry[held] = b[0]
			held++
			b = b[1:]
			if !utf8.FullRune(carry[:held]) {
				continue
			}
			if r, size := utf8.DecodeRune(carry[:held]); r == utf8.RuneError && size <= 1 {
				return false
			}
			held = 0
		}
		tail := len(b)
		if k < n {
			tail = wholeRunes(b)
		}
		if !utf8.Valid(b[:tail]) {
			return false
		}
		held += copy(carry[held:], b[tail:])
		c.advance(k)
		n -= k
	}
	return held == 0
}

// wholeRunes returns the length of b without the beginning of a character that
// b's end cuts.
func wholeRunes(b []byte) int {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax+1; i-- {
		if utf8.RuneStart(b[i]) {
			if utf8.FullRune(b[i:]) {
				return len(b)
			}
			return i
		}
	}
	return len(b)
}
