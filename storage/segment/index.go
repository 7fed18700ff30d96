package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"sort"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
)

// indexInterval is how many bytes of log one entry of an index stands for, at
// least. WHY: finding an offset then reads 640 headers of 100-byte batches at
// most, and the index of a 256 MiB segment has 4,096 entries, 64 KiB.
const indexInterval = 64 << 10

// entry says where a batch begins. 16 bytes.
type entry struct {
	relative uint32 // its base offset, less that of the segment
	position uint32 // in bytes from the start of the file
	// maxBefore is the greatest timestamp of all batches of the segment before
	// it. It never falls from one entry to the next, so one index answers for
	// offsets and for times.
	maxBefore int64
}

// Index is the index of a segment, or of its first part. It does not change.
type Index struct {
	// End is the end of what is indexed: of the segment, if it is sealed.
	End Point
	// Epochs are the leader epochs of its batches and where each is first seen
	// in this segment.
	Epochs  []EpochStart
	entries []entry
	// damage is what ended the reading of the log from which this was made.
	damage *CorruptError
}

// Entries is the number of places that the index knows.
func (x *Index) Entries() int { return len(x.entries) }

// An index file is a checkpoint (storage/checkpoint) with this payload, little
// endian:
//
//	+---------+--------------+-------------+-----------+----------+------------+
//	| version | segment uuid | base offset | end point | 2 counts | last batch |
//	| 4       | 16           | 8           | 44        | 4 + 4    | 4 + 4      |
//	+---------+--------------+-------------+-----------+----------+------------+
//	| epochs: 4 epoch, 4 relative offset, each | entries: 16 bytes each         |
//	+-------------------------------------------+-------------------------------+
//
// end point: position, offset, append time, max timestamp, first append time
// (8 each), epoch (4). last batch: position, checksum.
const (
	indexVersion     = 1
	indexHeaderBytes = 4 + 16 + 8 + 44 + 4 + 4 + 4 + 4
	epochBytes       = 8
	entryBytes       = 16
)

// appendIndex appends the payload of the index file of the segment with the
// given info.
func appendIndex(dst []byte, info *record.SegmentInfo, x *Index) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, indexVersion)
	uuid := info.UUID()
	dst = append(dst, uuid[:]...)
	dst = le.AppendUint64(dst, uint64(info.BaseOffset))
	for _, v := range [...]int64{
		x.End.Position, int64(x.End.Offset), x.End.AppendTimeMs, x.End.MaxTimestampMs, x.End.FirstAppendMs,
	} {
		dst = le.AppendUint64(dst, uint64(v))
	}
	dst = le.AppendUint32(dst, uint32(x.End.Epoch))
	dst = le.AppendUint32(dst, uint32(len(x.Epochs)))
	dst = le.AppendUint32(dst, uint32(len(x.entries)))
	dst = le.AppendUint32(dst, x.End.Last.Position)
	dst = le.AppendUint32(dst, x.End.Last.CRC)
	for _, e := range x.Epochs {
		dst = le.AppendUint32(dst, uint32(e.Epoch))
		dst = le.AppendUint32(dst, uint32(e.Offset-info.BaseOffset))
	}
	for _, e := range x.entries {
		dst = le.AppendUint32(dst, e.relative)
		dst = le.AppendUint32(dst, e.position)
		dst = le.AppendUint64(dst, uint64(e.maxBefore))
	}
	return dst
}

// parseIndex reads the payload of an index file. ENSURES: entries and epochs
// rise, and lie within the segment that the end point describes.
func parseIndex(b []byte, info *record.SegmentInfo) (*Index, error) {
	le := binary.LittleEndian
	if len(b) < indexHeaderBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrIndex, len(b))
	}
	if v := le.Uint32(b); v != indexVersion {
		return nil, fmt.Errorf("%w: version %d", ErrIndex, v)
	}
	if info.UUID() != [16]byte(b[4:20]) || record.Offset(le.Uint64(b[20:])) != info.BaseOffset {
		return nil, fmt.Errorf("%w: it is of another segment", ErrIndex)
	}
	at := func(i int) int64 { return int64(le.Uint64(b[28+8*i:])) }
	x := &Index{End: Point{
		Position: at(0), Offset: record.Offset(at(1)), AppendTimeMs: at(2), MaxTimestampMs: at(3),
		FirstAppendMs: at(4), Epoch: record.LeaderEpoch(le.Uint32(b[68:])),
		Last: LastBatch{Position: le.Uint32(b[80:]), CRC: le.Uint32(b[84:])},
	}}
	epochs, entries := int64(le.Uint32(b[72:])), int64(le.Uint32(b[76:]))
	rest := b[indexHeaderBytes:]
	if epochs*epochBytes+entries*entryBytes != int64(len(rest)) {
		return nil, fmt.Errorf("%w: counts", ErrIndex)
	}
	if x.End.Position < FirstPosition || x.End.Offset < info.BaseOffset {
		return nil, fmt.Errorf("%w: end", ErrIndex)
	}
	if err := x.parseEpochs(rest[:epochs*epochBytes], info.BaseOffset); err != nil {
		return nil, err
	}
	return x, x.parseEntries(rest[epochs*epochBytes:], info.BaseOffset)
}

func (x *Index) parseEpochs(b []byte, base record.Offset) error {
	last := EpochStart{Epoch: NoEpoch, Offset: base - 1}
	for ; len(b) > 0; b = b[epochBytes:] {
		e := EpochStart{
			Epoch:  record.LeaderEpoch(binary.LittleEndian.Uint32(b)),
			Offset: base + record.Offset(binary.LittleEndian.Uint32(b[4:])),
		}
		if e.Epoch <= last.Epoch || e.Offset <= last.Offset || e.Offset >= x.End.Offset {
			return fmt.Errorf("%w: epochs", ErrIndex)
		}
		x.Epochs = append(x.Epochs, e)
		last = e
	}
	return nil
}

func (x *Index) parseEntries(b []byte, base record.Offset) error {
	if len(b) == 0 {
		return nil
	}
	x.entries = make([]entry, 0, len(b)/entryBytes)
	for ; len(b) > 0; b = b[entryBytes:] {
		e := entry{
			relative:  binary.LittleEndian.Uint32(b),
			position:  binary.LittleEndian.Uint32(b[4:]),
			maxBefore: int64(binary.LittleEndian.Uint64(b[8:])),
		}
		if n := len(x.entries); n > 0 {
			last := x.entries[n-1]
			if e.relative <= last.relative || e.position <= last.position || e.maxBefore < last.maxBefore {
				return fmt.Errorf("%w: entries", ErrIndex)
			}
		}
		if int64(e.position) < FirstPosition || int64(e.position) >= x.End.Position ||
			base+record.Offset(e.relative) >= x.End.Offset {
			return fmt.Errorf("%w: entries", ErrIndex)
		}
		x.entries = append(x.entries, e)
	}
	return nil
}

// readIndex reads an index file. The errors are ErrIndex,
// *checkpoint.CorruptError, and those of opening and reading the file,
// fs.ErrNotExist among them; isStale says after which it can be made again.
func readIndex(o *Options, base record.Offset, suffix, path string) (*Index, error) {
	payload, err := checkpoint.Read(o.FS, path)
	if err != nil {
		return nil, err
	}
	info := o.Identity.Info(base)
	x, err := parseIndex(payload, &info)
	if err != nil {
		return nil, fmt.Errorf("read %s index: %w", suffix, err)
	}
	return x, nil
}

// isStale reports whether err says that an index must be made again: there is
// none, it does not fit, or the disk does not give it. Want of a descriptor says
// nothing of it.
func isStale(err error) bool {
	var (
		corrupt *checkpoint.CorruptError
		unread  *fs.PathError
	)
	if errors.As(err, &unread) {
		return !vfs.IsTooManyFiles(err)
	}
	return errors.Is(err, ErrIndex) || errors.As(err, &corrupt)
}

// place is where to begin a search.
type place struct {
	position int64
	offset   record.Offset
}

// floorOffset returns the last of entries that is at or before off; false if
// there is none.
func floorOffset(entries []entry, base, off record.Offset) (place, bool) {
	i := sort.Search(len(entries), func(i int) bool { return base+record.Offset(entries[i].relative) > off })
	return placeOf(entries, base, i)
}

// floorTime returns the last of entries before which there is no batch with a
// timestamp at or after ms; false if there is none.
func floorTime(entries []entry, base record.Offset, ms int64) (place, bool) {
	i := sort.Search(len(entries), func(i int) bool { return entries[i].maxBefore >= ms })
	return placeOf(entries, base, i)
}

func placeOf(entries []entry, base record.Offset, after int) (place, bool) {
	if after == 0 {
		return place{}, false
	}
	e := entries[after-1]
	return place{position: int64(e.position), offset: base + record.Offset(e.relative)}, true
}

func removeFile(fsys vfs.FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
