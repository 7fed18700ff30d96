package commitlog

import (
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

// TruncateTo removes all records from off on, durably, and returns the new
// end: off, or the begin of the batch that off is in the middle of. Readers
// see the new end at once; those that are reading what is removed finish
// first (rule S4).
//
// The error is an *OffsetOutOfRangeError if the new end is not in [Start, End]; a
// *segment.CorruptError if the log is damaged before off; else as Append's.
//
// REQUIRES: one writer. Nothing below the high watermark is removed.
func (l *Log) TruncateTo(off record.Offset) (record.Offset, error) {
	if err := l.enter(); err != nil {
		return 0, err
	}
	defer l.leave()
	if err := l.writable(); err != nil {
		return l.End(), err
	}
	if off < l.Start() || off > l.End() {
		return l.End(), &OffsetOutOfRangeError{Requested: off, Start: l.Start(), End: l.End()}
	}
	if off == l.End() {
		return off, nil
	}
	v := l.view.Load()
	n := len(v.segments) - 1
	for v.segments[n].Base() > off {
		n--
	}
	cut := v.segments[n]
	at, err := l.pointAt(v, n, off)
	if err != nil {
		return l.End(), l.truncationFailed(err)
	}
	if at.Offset < l.Start() {
		// The log start is inside the batch that would have to go.
		return l.End(), &OffsetOutOfRangeError{Requested: off, Start: l.Start(), End: l.End()}
	}
	if err := l.retreat(cut.Base(), at, v); err != nil {
		return l.End(), l.fail(err)
	}
	removed := l.publishCut(v, n, at)
	// Rule S4: nobody who holds the old view looks at what is cut.
	for _, s := range removed {
		s.Retire()
	}
	for _, s := range removed {
		<-s.Gone()
	}
	if err := l.shorten(removed[1:]); err != nil {
		return l.End(), l.fail(writeError("truncate", err))
	}
	l.settled()
	l.recovered = min(l.recovered, at.Offset)
	l.storeEpochs(l.view.Load().epochs)
	return at.Offset, nil
}

// pointAt finds the end of the last batch that stays, in segment n of v.
func (l *Log) pointAt(v *view, n int, off record.Offset) (segment.Point, error) {
	before := segment.Point{Epoch: NoEpoch}
	if n > 0 {
		var err error
		if before, err = v.segments[n-1].Summary(); err != nil {
			return segment.Point{}, err
		}
	}
	return v.segments[n].PointAt(off, before)
}

func (l *Log) truncationFailed(err error) error { return l.writeFailed("truncate", err) }

// retreat stores the ends that will hold before anything is cut, so that a
// checkpoint never says more than is there, and says that there may be more
// than is read.
func (l *Log) retreat(base record.Offset, at segment.Point, v *view) error {
	epochs := epochsBelow(v.epochs, at.Offset)
	m := mark{base: base, at: at}
	if n := len(epochs); n > 0 {
		m.epochStart = epochs[n-1].Offset
	}
	l.marks.Lock()
	l.marks.cut++
	l.marks.written = m
	if later(&l.marks.synced, &m) {
		l.marks.synced = m
	}
	l.syncedEnd.Store(int64(l.marks.synced.at.Offset))
	l.marks.Unlock()
	l.unsettled = true
	return l.storeEverywhere()
}

// publishCut publishes the log without what is cut, and returns the segments
// that it does not have any more: first the one that is cut in the middle.
func (l *Log) publishCut(v *view, n int, at segment.Point) []*segment.Segment {
	removed := v.segments[n:]
	l.begin = beginning{}
	l.active = segment.Reopen(removed[0], at)
	next := &view{epochs: epochsBelow(v.epochs, at.Offset)}
	next.segments = append(next.segments, v.segments[:n]...)
	next.segments = append(next.segments, l.active)
	for _, s := range removed {
		l.size.Add(-s.Size())
	}
	l.size.Add(l.active.Size())
	// The end first: who finds an offset nowhere in the new view sees that the
	// end is another too, and begins again.
	l.end.Store(int64(at.Offset))
	l.view.Store(next)
	return removed
}

// shorten takes away what is cut, from the end on, each step durable before
// the next: what a crash leaves is a log, with or without some of it.
func (l *Log) shorten(later []*segment.Segment) error {
	for i := len(later) - 1; i >= 0; i-- {
		if err := segment.Erase(&l.shared, later[i].Base()); err != nil {
			return err
		}
	}
	if err := l.active.Shorten(); err != nil {
		return err
	}
	m := l.marks.written
	l.synced(m, l.marks.cut)
	return nil
}
