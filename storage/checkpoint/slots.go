package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"

	"github.com/millstream-io/millstream/storage/vfs"
)

// A file of slots is, little endian, SlotCount times
//
//	+---------+--------+----------+--------+---------+------+
//	| CRC-32C | "MSSL" | sequence | length | payload | hole |
//	| 4       | 4      | 8        | 4      | length  |      |
//	+---------+--------+----------+--------+---------+------+
//
// every slotStride bytes. The CRC is that of what follows it up to the end of
// the payload. Sequences begin with 1; the greatest of the good slots is the
// newest.
const (
	slotMagic  = "MSSL"
	slotHeader = 20
	// slotStride keeps slots on different pages and different sectors, so
	// that one that is torn does not take another with it.
	slotStride = 4096
)

// SlotCount is how many payloads a file of slots can hold: after so many of
// Store and Sync in turn none that is older is left.
const SlotCount = 3

// MaxSlotPayload is the greatest payload of Slots in bytes. A slot fits a
// sector of 512 bytes, which a disk writes whole or not at all.
const MaxSlotPayload = 512 - slotHeader

// none is no slot.
const none = -1

// Slots is a fact that is rewritten in place, often, with one write and no
// sync.
//
// One slot, the kept one, holds what was newest at the last Sync and is not
// written to before the next. Store alternates between the other two. So at
// any moment the end of the process leaves the last Store, or the one before
// if it ended in the middle of one; and a power loss leaves the last Store
// before the last Sync or a later one, whatever it tears.
//
// Store is called by one goroutine at a time, Sync by one at a time, both
// possibly at once. Load goes with Store.
type Slots struct {
	file   vfs.File
	buf    []byte // of Store
	newest []byte // what Load returns; nil if nothing
	opened error  // why there is nothing

	// mu guards what follows. It is held during the write of Store, which goes
	// to the page cache, so that no Sync begins in the middle of it; and not
	// during the sync.
	mu        sync.Mutex
	sequence  uint64            // the greatest that was given out
	sequences [SlotCount]uint64 // of what is in the slots; 0 if that is not good
	last      int               // the slot of the newest payload
	kept      int               // the slot that was newest at the last Sync
	syncing   int               // the slot that was newest when the Sync under way began
}

// OpenSlots opens or creates the file at path. What it finds newest counts as
// synced; call Sync to be sure. DURABLE: the name of a new file only after
// SyncDir of its directory.
func OpenSlots(fsys vfs.FS, path string) (*Slots, error) {
	f, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open slots: %w", err)
	}
	s := &Slots{file: f, buf: make([]byte, 0, slotHeader+MaxSlotPayload), last: none, syncing: none}
	if err := s.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("open slots: %w", err), f.Close())
	}
	s.kept = s.last
	return s, nil
}

func (s *Slots) read() error {
	b := s.buf[:cap(s.buf)]
	found := 0
	for i := range s.sequences {
		n, err := s.file.ReadAt(b, int64(i)*slotStride)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		found += n
		sequence, payload, ok := parseSlot(b[:n])
		if !ok {
			continue
		}
		s.sequences[i] = sequence
		if sequence > s.sequence {
			s.sequence, s.last, s.newest = sequence, i, append(s.newest[:0], payload...)
		}
	}
	switch {
	case s.last != none:
	case found == 0:
		s.opened = fmt.Errorf("slots %s: %w", s.file.Name(), ErrNotExist)
	default:
		s.opened = &CorruptError{Path: s.file.Name(), Reason: "no slot is good"}
	}
	return nil
}

// parseSlot reads a slot, of which b may hold more than is written. BORROWED:
// the payload, from b.
func parseSlot(b []byte) (sequence uint64, payload []byte, ok bool) {
	if len(b) < slotHeader || string(b[4:8]) != slotMagic {
		return 0, nil, false
	}
	n := binary.LittleEndian.Uint32(b[16:])
	if uint64(n) > uint64(len(b)-slotHeader) {
		return 0, nil, false
	}
	end := slotHeader + int(n)
	if binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:end], castagnoli) {
		return 0, nil, false
	}
	sequence = binary.LittleEndian.Uint64(b[8:])
	// No program counts further; and there must be a next one.
	return sequence, b[slotHeader:end:end], sequence > 0 && sequence < 1<<63
}

// Load returns what was stored last: ErrNotExist if nothing was ever stored,
// *CorruptError if something was there and nothing of it is good.
func (s *Slots) Load() ([]byte, error) {
	if s.newest == nil && s.opened != nil {
		return nil, s.opened
	}
	return append([]byte{}, s.newest...), nil
}

// Store writes payload, with one write. DURABLE: after Sync. After an error
// Load returns the payload before, and who opens the file next may find
// either. It does not allocate.
func (s *Slots) Store(payload []byte) error {
	if len(payload) > MaxSlotPayload {
		return &TooLargeError{Path: s.file.Name(), Actual: len(payload), Limit: MaxSlotPayload}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.free()
	s.sequence++
	b := s.buf[:0]
	b = append(b, "\x00\x00\x00\x00"+slotMagic...)
	b = binary.LittleEndian.AppendUint64(b, s.sequence)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, payload...)
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	if _, err := s.file.WriteAt(b, int64(slot)*slotStride); err != nil {
		s.sequences[slot] = 0 // Nothing good may be there now.
		if slot == s.last {
			s.last = s.syncing
		}
		return fmt.Errorf("store in slots: %w", err)
	}
	s.sequences[slot], s.last = s.sequence, slot
	s.newest, s.opened = append(s.newest[:0], payload...), nil
	return nil
}

// free chooses the slot to write to: the oldest of those that are neither the
// newest, nor kept, nor being synced. During a Sync there can be none; then it
// is the newest, whose loss in the middle of the write would still leave the
// one that is being synced.
//
// REQUIRES: mu is held.
func (s *Slots) free() int {
	slot := none
	for i, q := range s.sequences {
		if i == s.last || i == s.kept || i == s.syncing {
			continue
		}
		if slot == none || q < s.sequences[slot] {
			slot = i
		}
	}
	if slot == none {
		return s.last
	}
	return slot
}

// Sync makes what was stored before it durable. An error is final (see
// vfs.File.Sync).
func (s *Slots) Sync() error {
	s.mu.Lock()
	slot := s.last
	s.syncing = slot
	s.mu.Unlock()
	err := s.file.Sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.syncing = none
	if err != nil {
		return fmt.Errorf("sync slots: %w", err)
	}
	s.kept = slot
	return nil
}

// Close closes the file, without a sync.
func (s *Slots) Close() error { return s.file.Close() }
