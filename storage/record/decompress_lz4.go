package record

import (
	"encoding/binary"

	"github.com/pierrec/lz4/v4"
)

// The LZ4 frame format, as far as it is taken: one frame and nothing else, for
// some decoders stop silently after the first.
//
//	magic, flags, block size, [content size], header checksum,
//	{ block: size, bytes, [checksum] }, end mark, [content checksum]
const (
	lz4Magic        = 0x184d2204
	lz4MinHeader    = 4 + 2 + 1
	lz4Stored       = 1 << 31  // bit of a block's size: not compressed
	lz4History      = 64 << 10 // most bytes back that a match begins
	lz4LastLiterals = 5        // a block with matches ends in so many literals,
	lz4MatchLimit   = 12       // and its last match begins so far from its end

	lz4Version         = 1 << 6
	lz4VersionMask     = 3 << 6
	lz4Independent     = 1 << 5
	lz4BlockChecksum   = 1 << 4
	lz4HasContentSize  = 1 << 3
	lz4ContentChecksum = 1 << 2
	lz4Reserved        = 1 << 1
	lz4HasDictionary   = 1 << 0
)

// lz4Frame is the header of a frame.
type lz4Frame struct {
	flags     byte
	blockMost int    // most bytes of a block
	content   uint64 // decompressed bytes, if flags say that it is known
}

// unlz4 decompresses an LZ4 frame. It walks the frame twice: the first time it
// checks everything and counts, so that no more is allocated than will be
// filled; the second time it decompresses.
//
// WHY not lz4.Reader: it keeps the history of the frame before, so that a
// hostile frame could read another client's bytes; and it takes matches at the
// end of a block that the reference decoder refuses.
func unlz4(dst, src []byte, limit int) ([]byte, *InvalidBatchError) {
	f, blocks, ok := parseLZ4Header(src)
	if !ok {
		return nil, badBytes("lz4 frame header", nil)
	}
	if f.flags&lz4HasContentSize != 0 && f.content > uint64(limit) {
		return nil, tooLong(int(min(f.content, 1<<62)), limit)
	}
	size, ok := f.measure(blocks, limit)
	switch {
	case !ok:
		return nil, badBytes("not exactly one lz4 frame", nil)
	case size > limit:
		return nil, tooLong(size, limit)
	case f.flags&lz4HasContentSize != 0 && f.content != uint64(size):
		return nil, badBytes("lz4 content size", nil)
	}
	out := room(dst, size)
	for {
		head := binary.LittleEndian.Uint32(blocks)
		blocks = blocks[4:]
		if head == 0 {
			break
		}
		block := blocks[:head&^lz4Stored]
		blocks = blocks[len(block):]
		if out, ok = f.decode(out, block, head&lz4Stored != 0); !ok {
			return nil, badBytes("lz4 block", nil)
		}
		if f.flags&lz4BlockChecksum != 0 {
			if binary.LittleEndian.Uint32(blocks) != xxh32(block) {
				return nil, badBytes("lz4 block checksum", nil)
			}
			blocks = blocks[4:]
		}
	}
	if f.flags&lz4ContentChecksum != 0 && binary.LittleEndian.Uint32(blocks) != xxh32(out) {
		return nil, badBytes("lz4 content checksum", nil)
	}
	return out, nil
}

// decode appends what one block holds to out, which has room for it.
func (f *lz4Frame) decode(out, block []byte, stored bool) ([]byte, bool) {
	if stored {
		return append(out, block...), true
	}
	var history []byte
	if f.flags&lz4Independent == 0 {
		history = out[max(0, len(out)-lz4History):]
	}
	free := out[len(out):min(cap(out), len(out)+f.blockMost)]
	n, err := lz4.UncompressBlockWithDict(block, free, history)
	if err != nil {
		return nil, false
	}
	return out[:len(out)+n], true
}

func parseLZ4Header(b []byte) (f lz4Frame, rest []byte, ok bool) {
	if len(b) < lz4MinHeader || binary.LittleEndian.Uint32(b) != lz4Magic {
		return f, nil, false
	}
	f.flags = b[4]
	if f.flags&lz4VersionMask != lz4Version || f.flags&(lz4Reserved|lz4HasDictionary) != 0 {
		return f, nil, false
	}
	// Block sizes: 4: 64 KiB, 5: 256 KiB, 6: 1 MiB, 7: 4 MiB.
	size := b[5] >> 4
	if b[5]&0x8f != 0 || size < 4 {
		return f, nil, false
	}
	f.blockMost = 1 << (8 + 2*size)
	n := 6
	if f.flags&lz4HasContentSize != 0 {
		if len(b) < n+8+1 {
			return f, nil, false
		}
		f.content = binary.LittleEndian.Uint64(b[n:])
		n += 8
	}
	return f, b[n+1:], b[n] == byte(xxh32(b[4:n])>>8)
}

// measure walks the blocks and counts the bytes that they decompress to. It
// stops counting soon after limit.
func (f *lz4Frame) measure(b []byte, limit int) (size int, ok bool) {
	trailer := 0
	if f.flags&lz4BlockChecksum != 0 {
		trailer = 4
	}
	for len(b) >= 4 {
		head := binary.LittleEndian.Uint32(b)
		b = b[4:]
		if head == 0 {
			if f.flags&lz4ContentChecksum != 0 {
				return size, len(b) == 4
			}
			return size, len(b) == 0
		}
		n := int(head &^ lz4Stored)
		if n == 0 || n > f.blockMost || n+trailer > len(b) {
			return 0, false
		}
		made := n
		if head&lz4Stored == 0 {
			history := 0
			if f.flags&lz4Independent == 0 {
				history = min(size, lz4History)
			}
			if made, ok = lz4BlockSize(b[:n], history, f.blockMost); !ok {
				return 0, false
			}
		}
		if size += made; size > limit {
			return size, true
		}
		b = b[n+trailer:]
	}
	return 0, false
}

// lz4BlockSize returns the number of bytes that a compressed block
// decompresses to, if it keeps the rules of the format, those for the end of a
// block included.
func lz4BlockSize(b []byte, history, most int) (size int, ok bool) {
	lastMatch := -1 // where the last match begins
	for {
		if len(b) == 0 {
			return 0, false
		}
		token := b[0]
		literals, b2, ok := lz4Length(int(token>>4), b[1:], most)
		if !ok || literals > len(b2) {
			return 0, false
		}
		size += literals
		b = b2[literals:]
		if len(b) == 0 {
			if lastMatch >= 0 && (literals < lz4LastLiterals || size-lastMatch < lz4MatchLimit) {
				return 0, false
			}
			return size, token&15 == 0 && size > 0 && size <= most
		}
		if len(b) < 2 {
			return 0, false
		}
		offset := int(binary.LittleEndian.Uint16(b))
		if offset == 0 || offset > size+history {
			return 0, false
		}
		lastMatch = size
		match, b2, ok := lz4Length(int(token&15), b[2:], most)
		if !ok {
			return 0, false
		}
		b = b2
		if size += match + 4; size > most {
			return 0, false
		}
	}
}

// lz4Length reads the rest of a length whose first four bits are n.
func lz4Length(n int, b []byte, most int) (length int, rest []byte, ok bool) {
	if n < 15 {
		return n, b, true
	}
	for i, c := range b {
		n += int(c)
		if n > most {
			return 0, nil, false
		}
		if c != 255 {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}

// xxh32 is the 32-bit xxHash of b with seed 0, the checksum of LZ4 frames.
func xxh32(b []byte) uint32 {
	const (
		p1 = 2654435761
		p2 = 2246822519
		p3 = 3266489917
		p4 = 668265263
		p5 = 374761393
	)
	rol := func(x uint32, r int) uint32 { return x<<r | x>>(32-r) }
	le := binary.LittleEndian
	length := uint32(len(b))
	h := uint32(p5)
	if len(b) >= 16 {
		v1, v2, v3, v4 := uint32(p1), uint32(p2), uint32(0), uint32(p1)
		v1 += p2
		v4 = -v4
		for len(b) >= 16 {
			v1 = rol(v1+le.Uint32(b)*p2, 13) * p1
			v2 = rol(v2+le.Uint32(b[4:])*p2, 13) * p1
			v3 = rol(v3+le.Uint32(b[8:])*p2, 13) * p1
			v4 = rol(v4+le.Uint32(b[12:])*p2, 13) * p1
			b = b[16:]
		}
		h = rol(v1, 1) + rol(v2, 7) + rol(v3, 12) + rol(v4, 18)
	}
	h += length
	for len(b) >= 4 {
		h = rol(h+le.Uint32(b)*p3, 17) * p4
		b = b[4:]
	}
	for _, c := range b {
		h = rol(h+uint32(c)*p5, 11) * p1
	}
	h ^= h >> 15
	h *= p2
	h ^= h >> 13
	h *= p3
	return h ^ h>>16
}
