package segment

import (
	"sync/atomic"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/record"
)

// liveIndex is the index of a segment that is being written.
//
// Its second part, from `from` on, is kept by the writer as it appends. Its
// first part is what was written before this process came, or before the log
// last rested; it is read again by the first reader who needs it. So neither
// starting nor resting costs more if the log is longer.
//
// Who writes: the writer stores an element of entries, then count. Who reads:
// anyone loads count, then entries, and looks at no more than count elements:
// the array that entries points to holds at least as many, for a longer one is
// published before a greater count.
type liveIndex struct {
	from    Point
	prefix  atomic.Pointer[Index] // of [FirstPosition, from.Position), once read
	entries atomic.Pointer[[]entry]
	count   atomic.Int64

	next int64 // the writer's: the position from which on another entry is due
}

func newLiveIndex(from Point) *liveIndex {
	x := &liveIndex{from: from, next: from.Position}
	x.entries.Store(&[]entry{})
	return x
}

// add tells the index of a batch that begins at p.
func (x *liveIndex) add(base record.Offset, p *Point) {
	if p.Position < x.next {
		return
	}
	x.next = p.Position + indexInterval
	n := x.count.Load()
	entries := *x.entries.Load()
	if int(n) == len(entries) {
		entries = append(entries, entry{})
		entries = entries[:cap(entries)]
		grown := entries
		x.entries.Store(&grown)
	}
	entries[n] = entry{
		relative: uint32(p.Offset - base), position: uint32(p.Position), maxBefore: p.MaxTimestampMs,
	}
	x.count.Store(n + 1)
}

// known returns the entries of the second part.
func (x *liveIndex) known() []entry {
	n := x.count.Load()
	return (*x.entries.Load())[:n]
}

// prefix returns the index of the first part of s, reading it if nobody did.
// Several readers may read it at once; the first one's stays.
//
// REQUIRES: the caller holds a pin, or is the writer.
func (s *Segment) prefix(x *liveIndex) (*Index, error) {
	if p := x.prefix.Load(); p != nil {
		return p, nil
	}
	first := Start(s.base, Point{Epoch: NoEpoch})
	p := &Index{End: first}
	if x.from.Position > FirstPosition {
		var err error
		if p, err = s.readPrefix(first, x.from); err != nil {
			return nil, err
		}
	}
	x.prefix.CompareAndSwap(nil, p)
	return x.prefix.Load(), nil
}

// readPrefix makes the index of [first, to) from the index that was kept of a
// part of it, if any, and the log.
func (s *Segment) readPrefix(first, to Point) (*Index, error) {
	kept, err := s.readPartial(to)
	if err != nil {
		return nil, err
	}
	if kept == nil {
		kept = &Index{End: first}
	}
	return s.extend(kept, to.Position)
}

// readPartial returns the partial index, if there is one and it belongs to the
// log before to.
//
// WHY: it is written without a sync, and may outlive batches that it knows of.
// The last of those would have to be there again, at the same place and with
// the same checksum, for it to be believed.
func (s *Segment) readPartial(to Point) (*Index, error) {
	x, err := readIndex(s.o, s.base, PartialSuffix, s.path(PartialSuffix))
	if isStale(err) {
		return nil, nil //nolint:nilnil // None is an answer.
	}
	if err != nil || x.End.Position > to.Position || x.End.Offset > to.Offset {
		return nil, err
	}
	h, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer h.release()
	if fits, err := x.End.fits(h.file); !fits || err != nil {
		return nil, err // It is of another log: none is an answer.
	}
	return x, nil
}

// extend returns x with what the log holds from the end of x to a position.
func (s *Segment) extend(x *Index, to int64) (*Index, error) {
	h, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer h.release()
	live := newLiveIndex(x.End)
	epochs := append([]EpochStart(nil), x.Epochs...)
	scan := NewScanner(h.file, s.path(LogSuffix), x.End, to)
	for before := x.End; scan.Next(); before = scan.Point() {
		live.add(s.base, &before)
		if e := scan.Header().LeaderEpoch; len(epochs) == 0 || epochs[len(epochs)-1].Epoch < e {
			epochs = append(epochs, EpochStart{Epoch: e, Offset: before.Offset})
		}
	}
	whole := &Index{End: scan.Point(), Epochs: epochs, damage: scan.Bad()}
	whole.entries = append(append(whole.entries, x.entries...), live.known()...)
	return whole, nil
}

// Keep writes the index as far as it is known to the writer, so that it need
// not be read again, if at least so many bytes were appended since it did. It
// is only a cache, so it is not synced, and a failure costs only time.
//
// REQUIRES: called by the writer.
func (s *Segment) Keep(bytes int64) error {
	x := s.live.Load()
	if x == nil || s.at.Position-s.kept < max(1, bytes) {
		return nil
	}
	whole := &Index{End: s.at}
	if x.from.Position > FirstPosition {
		prefix := x.prefix.Load()
		if prefix == nil {
			// Nobody needed it yet. A hole between what was kept before and
			// what is known now does no harm: headers are read there.
			kept, err := s.readPartial(x.from)
			if err != nil || kept == nil {
				return err
			}
			prefix = kept
		}
		if prefix.damage != nil {
			return prefix.damage
		}
		whole.entries = append(whole.entries, prefix.entries...)
	}
	whole.entries = append(whole.entries, x.known()...)
	info := s.o.Identity.Info(s.base)
	err := checkpoint.Overwrite(s.o.FS, s.path(PartialSuffix), appendIndex(nil, &info, whole))
	if err == nil {
		s.kept = s.at.Position
	}
	return err
}

// ScanEpochs reads s and returns the leader epochs of its batches, and where
// each is first seen in it. It ends where the log is damaged.
//
// REQUIRES: called by the writer.
func (s *Segment) ScanEpochs() ([]EpochStart, error) {
	x, err := s.extend(&Index{End: Start(s.base, Point{Epoch: NoEpoch})}, s.Size())
	if err != nil {
		return nil, err
	}
	return x.Epochs, nil
}
