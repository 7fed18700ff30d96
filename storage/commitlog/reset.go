package commitlog

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

// ResetTo removes all records, durably, and begins the log again at `at`, as a
// follower does that has nothing in common with its leader any more. Readers
// see the empty log at once; those that are reading what is removed, or was
// removed before, finish first (rule S4).
//
// The error is an *OffsetOutOfRangeError if `at` is negative; else as Append's.
// After a *FailedError the log is what a crash would leave: with all records,
// or the first segments of them, or none; then it begins where it did, or at
// `at`.
//
// REQUIRES: one writer. No record of the log is needed: the leader has them.
func (l *Log) ResetTo(at record.Offset) error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.leave()
	if err := l.writable(); err != nil {
		return err
	}
	if at < 0 {
		return &OffsetOutOfRangeError{Requested: at, Start: 0, End: math.MaxInt64}
	}
	// What lies below the log start goes first: recovery knows it by the
	// segments that are still behind it. And at may be below that, so that a
	// name comes to be used again.
	l.removing.Lock()
	defer l.removing.Unlock()
	if err := l.removeBelowStart(); err != nil {
		return l.metadataFailed("reset", err)
	}
	l.recovered = 0
	begin := segment.Start(l.firstBase(), segment.Point{Epoch: NoEpoch})
	if err := l.retreat(begin.Offset, begin, l.view.Load()); err != nil {
		return l.fail(err)
	}
	for _, s := range l.publishEmpty(at) {
		<-s.Gone()
	}
	if err := l.removeAll(); err != nil {
		return l.fail(writeError("reset", err))
	}
	// Only now: while there are segments, the log must not seem to begin
	// elsewhere.
	if err := l.beginAt(at); err != nil {
		return l.fail(err)
	}
	l.settled()
	l.storeEpochs(nil)
	return nil
}

// firstBase is where the first segment begins, or would.
func (l *Log) firstBase() record.Offset {
	if v := l.view.Load(); len(v.segments) > 0 {
		return v.segments[0].Base()
	}
	return l.before.Offset
}

// publishEmpty publishes an empty log at `at`, and returns the segments that
// it does not have any more.
//
// WHY in this order: who loads the end, the view and the start while they are
// stored must not take an offset for one of the log that it finds nowhere. So
// the log is first empty where it begins, and then begins behind its end until
// both are stored.
func (l *Log) publishEmpty(at record.Offset) []*segment.Segment {
	removed := l.view.Load().segments
	l.begin = beginning{}
	l.end.Store(l.start.Load())
	l.view.Store(&view{})
	if at > l.Start() {
		l.start.Store(int64(at))
		l.end.Store(int64(at))
	} else {
		l.end.Store(int64(at))
		l.start.Store(int64(at))
	}
	l.active, l.before = nil, segment.Start(at, segment.Point{Epoch: NoEpoch})
	l.size.Store(0)
	for _, s := range removed {
		s.Retire()
	}
	return removed
}

// beginAt makes the checkpoint say that the log is empty and begins at `at`.
func (l *Log) beginAt(at record.Offset) error {
	l.nextStart = at
	// There is no segment yet: recovery must not take one for durable that is
	// being made when the process dies.
	m := mark{base: max(0, at-1), at: l.before}
	l.marks.Lock()
	l.marks.cut++
	l.marks.written, l.marks.synced = m, m
	l.syncedEnd.Store(int64(at))
	l.marks.Unlock()
	// The directory may be as new as its checkpoint.
	if err := l.o.FS.SyncDir(filepath.Dir(l.o.Dir)); err != nil {
		return writeError("reset", err)
	}
	return l.storeEverywhere()
}

// removeBelowStart removes the segments that are not part of the log any more.
//
// REQUIRES: l.removing is held.
func (l *Log) removeBelowStart() error {
	l.waste.take(true) // They are among what is listed.
	bases, err := l.listed()
	if err != nil {
		return err
	}
	for _, base := range bases {
		if base >= l.firstBase() {
			break
		}
		if err := segment.Erase(&l.shared, base); err != nil {
			return fmt.Errorf("segment %d: %w", base, err)
		}
	}
	return nil
}

// removeAll removes all segments, from the last to the first, each durably
// before the next: what a crash leaves is a log, without its last ones.
func (l *Log) removeAll() error {
	bases, err := l.listed()
	if err != nil {
		return err
	}
	for _, base := range slices.Backward(bases) {
		if err := segment.Erase(&l.shared, base); err != nil {
			return fmt.Errorf("segment %d: %w", base, err)
		}
	}
	return nil
}

// listed returns the base offsets of all files of segments in the directory,
// in order.
func (l *Log) listed() ([]record.Offset, error) {
	entries, err := l.o.FS.ReadDir(l.o.Dir)
	if err != nil {
		return nil, err
	}
	var bases []record.Offset
	for _, e := range entries {
		if base, _, ok := segment.ParseName(e.Name()); ok {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return slices.Compact(bases), nil
}
