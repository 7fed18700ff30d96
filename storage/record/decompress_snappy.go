package record

import (
	"encoding/binary"

	"github.com/klauspost/compress/snappy"
	"google.golang.org/protobuf/encoding/protowire"
)

// unsnappy decompresses a block of the Snappy format.
func unsnappy(dst, src []byte, limit int) ([]byte, *InvalidBatchError) {
	n, w := protowire.ConsumeVarint(src)
	if w <= 0 || w > 5 || n >= 1<<32 || protowire.SizeVarint(n) != w {
		return nil, badBytes("snappy length", nil)
	}
	if n > uint64(limit) {
		return nil, tooLong(int(n), limit)
	}
	// WHY: the decoder also takes S2, a superset that no other reader of
	// Snappy knows; so the elements are checked before.
	if !snappyElements(src[w:], int(n)) {
		return nil, badBytes("snappy", nil)
	}
	out, err := snappy.Decode(room(dst, int(n))[:n], src)
	if err != nil {
		return nil, badBytes("snappy", err)
	}
	return out, nil
}

// snappyElements reports whether b is a sequence of Snappy elements that give
// exactly n bytes.
func snappyElements(b []byte, n int) bool {
	made := 0
	for len(b) > 0 {
		var (
			tag    = b[0]
			size   int // bytes that the element gives
			offset int // where a copy begins, counted back; 0: a literal
			width  int // bytes of the element's head
		)
		switch tag & 3 {
		case 0: // literal
			size, width = int(tag>>2)+1, 1
			if size > 60 {
				extra := size - 60
				if len(b) < 1+extra {
					return false
				}
				var le [4]byte
				copy(le[:], b[1:1+extra])
				size, width = int(binary.LittleEndian.Uint32(le[:]))+1, 1+extra
			}
			if size > len(b)-width {
				return false
			}
			made, b = made+size, b[width+size:]
			continue
		case 1:
			if len(b) < 2 {
				return false
			}
			size, offset, width = 4+int(tag>>2&7), int(tag>>5)<<8|int(b[1]), 2
		case 2:
			if len(b) < 3 {
				return false
			}
			size, offset, width = 1+int(tag>>2), int(binary.LittleEndian.Uint16(b[1:])), 3
		case 3:
			if len(b) < 5 {
				return false
			}
			size, offset, width = 1+int(tag>>2), int(binary.LittleEndian.Uint32(b[1:])), 5
		}
		if offset == 0 || offset > made || size > n-made {
			return false
		}
		made, b = made+size, b[width:]
	}
	return made == n
}
