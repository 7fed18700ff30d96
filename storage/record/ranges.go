package record

import "google.golang.org/protobuf/encoding/protowire"

// Ranges walks the records of an uncompressed RecordBatch that lies in pieces,
// and says of each where its bytes are and what its key is: what is needed to
// split a batch without encoding anything again. It allocates nothing per
// record; it belongs to one goroutine. The zero value is at the end of nothing.
//
// REQUIRES: the batch has passed a Validator, and its compression is None.
type Ranges struct {
	cur     Cursor
	scratch []byte // a key that lies in several pieces
	start   int
	key     []byte
	foreign protowire.Number
}

// Reset puts r before the first record. BORROWED: batch, until the next Reset.
func (r *Ranges) Reset(batch Pieces) {
	r.cur.Reset(batch)
	r.start, r.key, r.foreign = 0, nil, 0
	if cap(r.scratch) > 64<<10 {
		r.scratch = nil
	}
}

// Next goes to the next record. False: there is none.
func (r *Ranges) Next() bool {
	c := &r.cur
	for c.Pos() < c.Size() && c.Why() == "" {
		r.start, r.key = c.Pos(), nil
		if r.plain() {
			return true
		}
		num, typ, ok := c.Tag(c.Size())
		switch {
		case ok && num == 1 && typ == protowire.BytesType:
			return r.read()
		case ok && num >= firstUserField:
			r.foreign = num
			fallthrough
		case ok:
			c.SkipValue(typ, c.Size())
		}
	}
	return false
}

// Start and End are the positions in the batch, counted over all pieces, of
// the `records` field of the record, its tag included.
func (r *Ranges) Start() int { return r.start }

// End is the position after the record; see Start.
func (r *Ranges) End() int { return r.cur.Pos() }

// Key returns the key of the record; nil: it has none. BORROWED: until the
// next call of Next or Reset.
func (r *Ranges) Key() []byte { return r.key }

// Foreign returns the number of a field of the batch, not of a record, that is
// the user's; 0 if there was none so far.
func (r *Ranges) Foreign() protowire.Number { return r.foreign }

// plain passes a record that lies in one piece and, if it has a key, begins
// with it. False: it does not, and nothing has been passed.
func (r *Ranges) plain() bool {
	b := r.cur.b
	if b[0] != tagRecords {
		return false
	}
	n, start := shortLength(b, 1)
	if n > len(b)-start {
		return false
	}
	content := b[start : start+n]
	if n > 0 && content[0] == tagKey {
		k, from := shortLength(content, 1)
		if k > n-from {
			return false
		}
		r.key = content[from : from+k : from+k]
	} else if !keyless(content) {
		return false
	}
	r.cur.advance(start + n)
	return true
}

// keyless reports whether b is a record of nothing but a value, the form of
// nearly all records without key.
func keyless(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[0] != tagValue {
		return false
	}
	n, start := shortLength(b, 1)
	return n == len(b)-start
}

// read passes a record of any form, whose tag has been passed.
func (r *Ranges) read() bool {
	c := &r.cur
	n, ok := c.Length(c.Size())
	for end := c.Pos() + n; ok && c.Pos() < end; {
		num, typ, tagged := c.Tag(end)
		switch {
		case !tagged:
			return false
		case num == 1 && typ == protowire.BytesType:
			if n, ok = c.Length(end); ok {
				r.key, r.scratch = c.Bytes(n, r.scratch[:0])
			}
		default:
			ok = c.SkipValue(typ, end)
		}
	}
	return ok
}
