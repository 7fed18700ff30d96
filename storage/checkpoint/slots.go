package checkpoint

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"

	"github.com/millstream-io/millstream/storage/vfs"
)

// MaxSlotPayload is the greatest payload of Slots in bytes.
const MaxSlotPayload = 488

const (
	slotStride = 4096
	slotHeader = 24
	slotCount  = 3
)

// Slots is a fact that is rewritten in place, often, with one write and no
// sync. Not for concurrent use.
type Slots struct {
	file   vfs.File
	seq    uint64
	newest int
	latest []byte
	buf    []byte
}

// OpenSlots opens or creates the file at path.
func OpenSlots(fsys vfs.FS, path string) (*Slots, error) {
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	s := &Slots{file: f, newest: -1, buf: make([]byte, slotHeader+MaxSlotPayload)}
	for i := range slotCount {
		n, _ := f.ReadAt(s.buf, int64(i)*slotStride)
		if n < slotHeader {
			continue
		}
		l := int(binary.LittleEndian.Uint32(s.buf[16:]))
		if l > n-slotHeader || crc32.Checksum(s.buf[4:slotHeader+l], castagnoli) != binary.LittleEndian.Uint32(s.buf) {
			continue
		}
		if q := binary.LittleEndian.Uint64(s.buf[8:]); q > s.seq {
			s.seq, s.newest, s.latest = q, i, append([]byte(nil), s.buf[slotHeader:slotHeader+l]...)
		}
	}
	return s, nil
}

// Load returns what was stored last, or ErrNotExist.
func (s *Slots) Load() ([]byte, error) {
	if s.newest < 0 {
		return nil, fmt.Errorf("slots %s: %w", s.file.Name(), ErrNotExist)
	}
	return s.latest, nil
}

// Store writes payload. It is durable only after Sync.
func (s *Slots) Store(payload []byte) error {
	if len(payload) > MaxSlotPayload {
		return fmt.Errorf("slots %s: payload of %d bytes exceeds %d", s.file.Name(), len(payload), MaxSlotPayload)
	}
	b := s.buf[:slotHeader+len(payload)]
	clear(b[:slotHeader])
	binary.LittleEndian.PutUint64(b[8:], s.seq+1)
	binary.LittleEndian.PutUint32(b[16:], uint32(len(payload)))
	copy(b[slotHeader:], payload)
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	next := (s.newest + 1) % slotCount
	if _, err := s.file.WriteAt(b, int64(next)*slotStride); err != nil {
		return err
	}
	s.seq, s.newest, s.latest = s.seq+1, next, append(s.latest[:0], payload...)
	return nil
}

// Sync makes what was stored durable.
func (s *Slots) Sync() error { return s.file.Sync() }

// Close closes the file without a sync.
func (s *Slots) Close() error { return s.file.Close() }
