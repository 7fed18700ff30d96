package record

import "hash/crc32"

// LogBatches walks whole LogBatches that follow one another and lie in pieces,
// cut anywhere: a range of a log, as one broker hands it to another. It checks
// the form and the checksum of each, as ParseLogBatch and VerifyCRC do, but not
// their order. Batches of the layout that this package writes are neither
// copied nor allocated for. It belongs to one goroutine. The zero value is at
// the end of nothing.
type LogBatches struct {
	c       Cursor
	header  Header
	start   int
	err     error
	head    [MaxHeaderSize]byte // a header that lies in several pieces
	scratch []byte              // a batch of another layout that does
}

// Reset puts b before the first batch of p. BORROWED: p, until the next Reset.
func (b *LogBatches) Reset(p Pieces) {
	b.c.Reset(p)
	b.start, b.err = 0, nil
	if cap(b.scratch) > 64<<10 {
		b.scratch = nil
	}
}

// Next goes to the next batch. False: there is none, or it is bad, which Err
// tells apart.
func (b *LogBatches) Next() bool {
	if b.err != nil {
		return false
	}
	if b.start = b.c.Pos(); b.start == b.c.Size() {
		return false
	}
	b.err = b.next()
	return b.err == nil
}

// Header is the header of the batch. BORROWED: until the next call of Next.
func (b *LogBatches) Header() *Header { return &b.header }

// Start is the position of the batch, or of the one that is bad, counted over
// all pieces.
func (b *LogBatches) Start() int { return b.start }

// Size is the number of bytes of the batch, its tag in Segment included.
func (b *LogBatches) Size() int { return b.c.Pos() - b.start }

// Err says why Next stopped before the end: ErrShort, or a *CorruptBatchError.
func (b *LogBatches) Err() error { return b.err }

func (b *LogBatches) next() error {
	head := b.peek()
	content, size, err := fieldFrame(head)
	if err != nil {
		return err
	}
	if size > b.c.Size()-b.start {
		return ErrShort
	}
	m := head[content:min(size, len(head))]
	start, ok := fixedLayout(m, size-content)
	if !ok {
		return b.otherLayout(size)
	}
	readFixed(&b.header, m)
	if err := checkHeader(&b.header); err != nil {
		return err
	}
	b.c.Skip(content + start)
	crc := b.c.crc(0, size-content-start)
	crc = crc32.Update(crc, castagnoli, m[:posCRC])
	crc = crc32.Update(crc, castagnoli, m[posCommittedEnd:start])
	if h := &b.header; crc != h.CRC {
		return &CorruptBatchError{BaseOffset: h.BaseOffset, Stored: h.CRC, Computed: crc}
	}
	return nil
}

// peek returns the first bytes of a batch, as many as a header of ours can
// have, or fewer at the end.
func (b *LogBatches) peek() []byte {
	n := min(MaxHeaderSize, b.c.Size()-b.start)
	if n <= len(b.c.b) {
		return b.c.b[:n]
	}
	ahead := b.c
	for k := 0; k < n; {
		k += copy(b.head[k:n], ahead.b)
		ahead.advance(len(ahead.b))
	}
	return b.head[:n]
}

// otherLayout passes a batch that is not laid out as this package does it.
func (b *LogBatches) otherLayout(size int) error {
	var whole []byte
	whole, b.scratch = b.c.Bytes(size, b.scratch[:0])
	h, _, _, err := ParseLogBatch(whole)
	if err != nil {
		return err
	}
	b.header = h
	return VerifyCRC(whole)
}

// crc passes n bytes and returns what crc becomes with them. REQUIRES: n bytes
// are left.
func (c *Cursor) crc(crc uint32, n int) uint32 {
	for n > 0 {
		k := min(n, len(c.b))
		crc = crc32.Update(crc, castagnoli, c.b[:k])
		c.advance(k)
		n -= k
	}
	return crc
}
