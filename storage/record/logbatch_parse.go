package record

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// ParseLogBatch reads the LogBatch that b begins with: b[0] is the tag of a
// `batches` field. batch is BORROWED from b; size is the number of bytes of the
// whole field. It does not check the checksum: see VerifyCRC.
//
// The error is ErrShort if b ends inside the field (size is then the size of
// the whole, or 0 if not even that can be told), else a *CorruptBatchError.
func ParseLogBatch(b []byte) (h Header, batch []byte, size int, err error) {
	content, size, err := fieldFrame(b)
	if err != nil {
		return Header{}, nil, 0, err
	}
	if len(b) < size {
		return Header{}, nil, size, ErrShort
	}
	m := b[content:size]
	if start, ok := fixedLayout(m, len(m)); ok {
		readFixed(&h, m)
		return h, m[start:], size, checkHeader(&h)
	}
	h, w, err := walkAnyLayout(m, len(m))
	if err != nil {
		return Header{}, nil, 0, err
	}
	return h, m[w.start:w.end], size, checkHeader(&h)
}

// PeekLogBatch reads the header of the LogBatch that b begins with, for which
// its first MaxHeaderSize bytes are enough if this package wrote it: the
// producer's bytes may be missing. size and errors are as in ParseLogBatch;
// after ErrShort with a size, b with so many bytes is enough.
func PeekLogBatch(b []byte) (h Header, size int, err error) {
	content, size, err := fieldFrame(b)
	if err != nil {
		return Header{}, 0, err
	}
	m := b[content:min(size, len(b))]
	if _, ok := fixedLayout(m, size-content); ok {
		readFixed(&h, m)
		return h, size, checkHeader(&h)
	}
	if h, _, err = walkAnyLayout(m, size-content); err != nil {
		if errors.Is(err, ErrShort) {
			return Header{}, size, err
		}
		return Header{}, 0, err
	}
	return h, size, checkHeader(&h)
}

// VerifyCRC checks the checksum of the LogBatch that b begins with. The error
// is as in ParseLogBatch.
func VerifyCRC(b []byte) error {
	content, size, err := fieldFrame(b)
	if err != nil {
		return err
	}
	if len(b) < size {
		return ErrShort
	}
	m := b[content:size]
	var (
		h       Header
		inBatch batchFrame
	)
	if start, ok := fixedLayout(m, len(m)); ok {
		readFixed(&h, m)
		inBatch = batchFrame{start: start, end: len(m), crcTag: posCRC}
	} else if h, inBatch, err = walkAnyLayout(m, len(m)); err != nil {
		return err
	}
	crc := crc32.Update(0, castagnoli, m[inBatch.start:inBatch.end])
	// All that is not the batch, in its order, but for the checksum's field;
	// which may stand before the batch, as we write it, or after.
	for _, part := range [2][2]int{{0, inBatch.start}, {inBatch.end, len(m)}} {
		from, to := part[0], part[1]
		if from <= inBatch.crcTag && inBatch.crcTag < to {
			crc = crc32.Update(crc, castagnoli, m[from:inBatch.crcTag])
			from = inBatch.crcTag + crcFieldSize
		}
		crc = crc32.Update(crc, castagnoli, m[from:to])
	}
	if crc != h.CRC {
		return &CorruptBatchError{BaseOffset: h.BaseOffset, Stored: h.CRC, Computed: crc}
	}
	return nil
}

// walkAnyLayout is walkLogBatch with a header of its own.
//
// WHY: what is given to walkLogBatch is allocated; so only batches of another
// layout than ours cost that.
func walkAnyLayout(m []byte, length int) (Header, batchFrame, error) {
	var h Header
	w, err := walkLogBatch(&h, m, length)
	return h, w, err
}

// fieldFrame reads tag and length of a `batches` field: where its content
// begins in b, and the size of the whole field.
func fieldFrame(b []byte) (content, size int, err error) {
	if len(b) == 0 {
		return 0, 0, ErrShort
	}
	if b[0] != tagBatches {
		return 0, 0, &CorruptBatchError{Why: "no batch begins here"}
	}
	n := 0
	for i := 1; ; i++ {
		if i >= len(b) {
			return 0, 0, ErrShort
		}
		n |= int(b[i]&0x7f) << (7 * (i - 1))
		if n > MaxLogBatchBytes || i > 4 || (b[i] == 0 && i > 1) {
			return 0, 0, &CorruptBatchError{Why: "impossible length"}
		}
		if b[i] < 0x80 {
			return i + 1, i + 1 + n, nil
		}
	}
}

// fixedLayout reports whether m, the first bytes of a LogBatch of the given
// length, has the layout that AppendLogBatchHeader writes, and where its batch
// begins. Some bytes of the batch may be missing.
func fixedLayout(m []byte, length int) (start int, ok bool) {
	if len(m) < headerSize+2 || m[headerSize] != tagBatch {
		return 0, false
	}
	if m[posBaseOffset] != fixedHeader[posBaseOffset] || m[posRecordCount] != fixedHeader[posRecordCount] ||
		m[posLastOffsetDelta] != fixedHeader[posLastOffsetDelta] || m[posLeaderEpoch] != fixedHeader[posLeaderEpoch] ||
		m[posAppendTime] != fixedHeader[posAppendTime] || m[posMaxTimestamp] != fixedHeader[posMaxTimestamp] ||
		m[posProducerID] != fixedHeader[posProducerID] || m[posProducerEpoch] != fixedHeader[posProducerEpoch] ||
		m[posBaseSequence] != fixedHeader[posBaseSequence] || m[posAttributes] != fixedHeader[posAttributes] ||
		m[posCRC] != fixedHeader[posCRC] || m[posCommittedEnd] != fixedHeader[posCommittedEnd] ||
		m[posPrevSequence] != fixedHeader[posPrevSequence] ||
		m[posPartitioningEpoch] != fixedHeader[posPartitioningEpoch] ||
		m[posCoordinatorEpoch] != fixedHeader[posCoordinatorEpoch] ||
		m[posCoordinatorEpoch+1] != fixedHeader[posCoordinatorEpoch+1] {
		return 0, false
	}
	n := 0
	for i := range 4 {
		p := headerSize + 1 + i
		if p >= len(m) {
			return 0, false
		}
		n |= int(m[p]&0x7f) << (7 * i)
		if m[p] < 0x80 {
			start = p + 1
			return start, (m[p] != 0 || i == 0) && start+n == length
		}
	}
	return 0, false
}

// readFixed reads the header of the fixed layout. REQUIRES: fixedLayout(m).
func readFixed(h *Header, m []byte) {
	_ = m[headerSize]
	le := binary.LittleEndian
	h.BaseOffset = Offset(le.Uint64(m[posBaseOffset+1:]))
	h.Records = le.Uint32(m[posRecordCount+1:])
	h.LastOffsetDelta = le.Uint32(m[posLastOffsetDelta+1:])
	h.LeaderEpoch = LeaderEpoch(le.Uint32(m[posLeaderEpoch+1:]))
	h.AppendTimeMs = int64(le.Uint64(m[posAppendTime+1:]))
	h.MaxTimestampMs = int64(le.Uint64(m[posMaxTimestamp+1:]))
	h.ProducerID = int64(le.Uint64(m[posProducerID+1:]))
	h.ProducerEpoch = int32(le.Uint32(m[posProducerEpoch+1:]))
	h.BaseSequence = int32(le.Uint32(m[posBaseSequence+1:]))
	h.Attributes = Attributes(le.Uint32(m[posAttributes+1:]))
	h.CRC = le.Uint32(m[posCRC+1:])
	h.CommittedEnd = Offset(le.Uint64(m[posCommittedEnd+1:]))
	h.PrevSequence = int32(le.Uint32(m[posPrevSequence+1:]))
	h.PartitioningEpoch = le.Uint32(m[posPartitioningEpoch+1:])
	h.CoordinatorEpoch = int32(le.Uint32(m[posCoordinatorEpoch+2:]))
}

// checkHeader refuses headers with which the arithmetic of offsets would go
// wrong, so that nobody has to look at it again.
func checkHeader(h *Header) error {
	switch {
	case h.BaseOffset < 0:
		return &CorruptBatchError{Why: "negative base offset"}
	case h.LastOffsetDelta >= 1<<31:
		return &CorruptBatchError{Why: "impossible last offset delta"}
	case h.End() < 0:
		return &CorruptBatchError{Why: "offsets beyond 2^63"}
	case h.LeaderEpoch < 0:
		return &CorruptBatchError{Why: "negative leader epoch"}
	}
	return nil
}
