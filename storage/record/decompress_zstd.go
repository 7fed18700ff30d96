package record

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// maxZstdBlock is the most bytes that one block decompresses to (RFC 8878).
const maxZstdBlock = 128 << 10

// unzstd decompresses one Zstandard frame. It is one frame and nothing else,
// for some decoders stop silently after the first.
func (d *decoder) unzstd(dst, src []byte, limit int) ([]byte, *InvalidBatchError) {
	var h zstd.Header
	blocks, err := h.DecodeAndStrip(src)
	window := h.WindowSize
	if h.SingleSegment {
		window = h.FrameContentSize
	}
	switch {
	case err != nil:
		return nil, badBytes("zstd frame header", err)
	case h.Skippable:
		return nil, badBytes("zstd skippable frame", nil)
	case h.DictionaryID != 0:
		return nil, badBytes("zstd frame needs a dictionary", nil)
	case h.HasFCS && h.FrameContentSize > uint64(limit):
		return nil, tooLong(int(min(h.FrameContentSize, 1<<62)), limit)
	case window > MaxZstdWindow:
		return nil, badBytes(fmt.Sprintf("zstd window of %d bytes, the limit is %d", window, MaxZstdWindow), nil)
	}
	most, ok := zstdBlocks(blocks, h.HasCheckSum)
	if !ok {
		return nil, badBytes("not exactly one zstd frame", nil)
	}
	if h.HasFCS {
		if h.FrameContentSize > uint64(most) {
			return nil, badBytes("zstd content size", nil)
		}
		most = int(h.FrameContentSize)
	}
	if d.zstd == nil {
		d.zstd, err = zstd.NewReader(nil,
			zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(MaxZstdWindow), zstd.WithDecoderMaxMemory(MaxDecompressedBytes))
		if err != nil {
			return nil, badBytes("zstd decoder", err)
		}
	}
	// DecodeAll grows what it is given; keptBytes spares it the first steps.
	out, err := d.zstd.DecodeAll(src, room(dst, min(most, keptBytes)))
	if cap(out) > keptBytes {
		// WHY: it holds on to what it last wrote to.
		d.zstd.Close()
		d.zstd = nil
	}
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return nil, tooLong(limit+1, limit)
	case err != nil:
		return nil, badBytes("zstd", err)
	case len(out) > limit:
		return nil, tooLong(len(out), limit)
	}
	return out, nil
}

// zstdBlocks walks the headers of the blocks of a frame. ok: they end where b
// does. most is the most bytes that they can decompress to.
func zstdBlocks(b []byte, hasChecksum bool) (most int, ok bool) {
	for len(b) >= 3 {
		h := uint32(binary.LittleEndian.Uint16(b)) | uint32(b[2])<<16
		size, rest := int(h>>3), 0
		switch h >> 1 & 3 {
		case 0: // raw
			rest, most = size, most+size
		case 1: // one byte repeated
			rest, most = 1, most+size
		case 2: // compressed
			rest, most = size, most+maxZstdBlock
		default:
			return 0, false
		}
		if size > maxZstdBlock || rest > len(b)-3 {
			return 0, false
		}
		b = b[3+rest:]
		if h&1 == 0 {
			continue
		}
		if hasChecksum {
			return most, len(b) == 4
		}
		return most, len(b) == 0
	}
	return 0, false
}
