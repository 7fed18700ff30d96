package millstream

import (
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/millstream-io/millstream/clients/go/internal/wire"
)

// cursor walks the records of one batch. The zero cursor is at its end.
type cursor struct {
	rest []byte // records not read yet
	left uint32 // how many there are
	// offset of the next record; of the batch's first if sparse.
	offset     int64
	epoch      int32
	appendTime time.Time
	// overrule: the time of every record is appendTime.
	overrule bool
	sparse   bool
	names    *names
}

// start puts the cursor before the first record of a batch whose records
// (decompressed) are b. BORROWED: the records point into b.
func (c *cursor) start(l *wire.LogBatch, b []byte) {
	*c = cursor{
		rest: b, left: l.Records, offset: l.BaseOffset, epoch: l.LeaderEpoch, names: c.names,
		appendTime: time.UnixMilli(l.AppendTimeMs), overrule: l.HasAppendTime(), sparse: l.IsSparse(),
	}
}

// next reads a record into r. It returns false at the end, and when the bytes
// are not the records that the header promised: see finish.
func (c *cursor) next(r *FetchedRecord) bool {
	for c.left > 0 {
		b := c.rest
		if len(b) < 2 || b[0] != tagRecords {
			if !c.skip() {
				return false
			}
			continue
		}
		n, at := int(b[1]), 2
		if n >= 0x80 {
			v, m := protowire.ConsumeVarint(b[1:])
			if m < 0 || v > uint64(len(b)) {
				return false
			}
			n, at = int(v), 1+m
		}
		if n > len(b)-at {
			return false
		}
		if !c.parse(b[at:at+n], r) {
			return false
		}
		c.rest = b[at+n:]
		c.left--
		return true
	}
	return false
}

// skip steps over a field that is not a record: the user's, from 1000 on.
func (c *cursor) skip() bool {
	num, _, n := protowire.ConsumeField(c.rest)
	if n < 0 || num == 1 {
		return false
	}
	c.rest = c.rest[n:]
	return true
}

// finish reports whether the batch held the records that it promised.
func (c *cursor) finish() bool { return c.left == 0 }

// parse reads the message of a record.
func (c *cursor) parse(b []byte, r *FetchedRecord) bool {
	r.Key, r.Value, r.Headers = nil, nil, r.Headers[:0]
	r.Offset, r.LeaderEpoch, r.Time = c.offset, c.epoch, c.appendTime
	for len(b) > 0 {
		tag := b[0]
		if len(b) < 2 || tag != tagKey && tag != tagValue {
			rest, ok := c.parseRest(b, r)
			if !ok {
				return false
			}
			b = rest
			continue
		}
		n, at := int(b[1]), 2
		if n >= 0x80 {
			v, m := protowire.ConsumeVarint(b[1:])
			if m < 0 || v > uint64(len(b)) {
				return false
			}
			n, at = int(v), 1+m
		}
		if n > len(b)-at {
			return false
		}
		if tag == tagKey {
			r.Key = b[at : at+n : at+n]
		} else {
			r.Value = b[at : at+n : at+n]
		}
		b = b[at+n:]
	}
	if !c.sparse {
		c.offset++
	}
	return true
}

// parseRest reads one field that few records have and returns what follows.
func (c *cursor) parseRest(b []byte, r *FetchedRecord) ([]byte, bool) {
	num, kind, n := protowire.ConsumeTag(b)
	if n < 0 {
		return nil, false
	}
	m := protowire.ConsumeFieldValue(num, kind, b[n:])
	if m < 0 {
		return nil, false
	}
	v := b[n : n+m]
	switch {
	case num == 3 && kind == protowire.BytesType:
		h, _ := protowire.ConsumeBytes(v)
		if !c.parseHeader(h, r) {
			return nil, false
		}
	case num == 4 && kind == protowire.VarintType:
		if ms, _ := protowire.ConsumeVarint(v); !c.overrule {
			r.Time = time.UnixMilli(int64(ms))
		}
	case num == 5 && kind == protowire.VarintType && c.sparse:
		delta, _ := protowire.ConsumeVarint(v)
		r.Offset = c.offset + int64(uint32(delta))
	case num == 1 || num == 2:
		if kind != protowire.BytesType {
			return nil, false
		}
		// The tag is not in its shortest form.
		if p, _ := protowire.ConsumeBytes(v); num == 1 {
			r.Key = p
		} else {
			r.Value = p
		}
	}
	return b[n+m:], true
}

func (c *cursor) parseHeader(b []byte, r *FetchedRecord) bool {
	var h Header
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		m := protowire.ConsumeFieldValue(num, kind, b[n:])
		if m < 0 {
			return false
		}
		if kind == protowire.BytesType {
			switch v, _ := protowire.ConsumeBytes(b[n : n+m]); int32(num) {
			case 1:
				h.Key = c.names.intern(v)
			case 2:
				h.Value = v
			}
		}
		b = b[n+m:]
	}
	r.Headers = append(r.Headers, h)
	return true
}

// Bounds of the header keys that are remembered, and of their bytes.
const (
	maxNames    = 1024
	maxNameSize = 128
)

// names remembers header keys, so that reading the same ones again does not
// allocate.
type names struct{ known map[string]string }

func (n *names) intern(b []byte) string {
	if s, ok := n.known[string(b)]; ok {
		return s
	}
	s := string(b)
	if n.known == nil {
		n.known = make(map[string]string)
	}
	if len(n.known) < maxNames && len(s) <= maxNameSize {
		n.known[s] = s
	}
	return s
}
