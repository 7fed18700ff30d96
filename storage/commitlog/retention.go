package commitlog

import (
	"errors"
	"sync"
	"time"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

// DeleteBefore moves the log start to off, durably, and takes out the segments
// that lie below it; RemoveWaste removes their files. It returns the log start,
// which never goes back.
//
// The error is an *OffsetOutOfRangeError if off is beyond the end, else as
// Append's: after a *FailedError the start is there after a crash, or not.
//
// REQUIRES: one writer. off is not beyond the high watermark.
func (l *Log) DeleteBefore(off record.Offset) (record.Offset, error) {
	if err := l.enter(); err != nil {
		return l.Start(), err
	}
	defer l.leave()
	if err := l.writable(); err != nil {
		return l.Start(), err
	}
	if off > l.End() {
		return l.Start(), &OffsetOutOfRangeError{Requested: off, Start: l.Start(), End: l.End()}
	}
	_, err := l.startAt(off)
	return l.Start(), err
}

// Retain takes out the segments that retention lets go, and returns how many;
// RemoveWaste removes their files. Only whole segments go that are below the high
// watermark, committed, and never the one that is written to: if that has
// had its time, it is sealed first. Removing ends at a segment that cannot be
// judged, with the error.
//
// WHY not beyond the high watermark: another replica may lead without what is
// there. What is kept beside it was then kept for nothing, and followers had let
// go all that they have.
//
// REQUIRES: one writer.
func (l *Log) Retain(now time.Time, committed record.Offset) (removed int, err error) {
	if err := l.enter(); err != nil {
		return 0, err
	}
	defer l.leave()
	if err := l.writable(); err != nil {
		return 0, err
	}
	c := l.config.Load()
	oldest := int64(0)
	if c.RetentionAge > 0 {
		oldest = now.Add(-c.RetentionAge).UnixMilli()
		if l.active != nil && isExpired(l.active.At(), oldest) {
			if err := l.roll(); err != nil {
				return 0, err
			}
		}
	}
	off, judged := l.retainedFrom(c, oldest, committed)
	removed, err = l.startAt(off)
	if err == nil {
		err = judged
	}
	return removed, err
}

func isExpired(p segment.Point, oldest int64) bool { return !p.IsEmpty() && p.AppendTimeMs < oldest }

// retainedFrom returns the base of the first segment that is to stay.
func (l *Log) retainedFrom(c *Config, oldest int64, committed record.Offset) (record.Offset, error) {
	segments := l.view.Load().segments
	if len(segments) == 0 {
		return l.Start(), nil
	}
	size := int64(0) // of what is committed, at least in part
	for _, s := range segments {
		if s.Base() < committed {
			size += s.Size()
		}
	}
	for _, s := range segments[:len(segments)-1] {
		if s.End() > committed {
			return s.Base(), nil
		}
		if c.RetentionBytes > 0 && size-s.Size() >= c.RetentionBytes {
			size -= s.Size()
			continue
		}
		if c.RetentionAge <= 0 {
			return s.Base(), nil
		}
		end, err := s.Summary()
		if err != nil {
			return s.Base(), err
		}
		if !isExpired(end, oldest) {
			return s.Base(), nil
		}
		size -= s.Size()
	}
	return segments[len(segments)-1].Base(), nil
}

// startAt moves the log start, if it is below off, and takes out what is then
// below it. The start is durable before the first file goes: a crash leaves
// segments that recovery knows to be rubbish, and no gap.
func (l *Log) startAt(off record.Offset) (removed int, err error) {
	if off <= l.Start() {
		return 0, nil
	}
	if off > l.SyncedEnd() {
		// Else a power loss could leave a log that ends before it starts, and
		// the start would have to go back.
		if _, err := l.Sync(); err != nil {
			return 0, err
		}
	}
	l.nextStart, l.unsettled = off, true
	if err := l.storeEverywhere(); err != nil {
		return 0, l.keepStart(off, err)
	}
	l.settled()
	l.start.Store(int64(off))
	v := l.view.Load()
	n := 0
	for n < len(v.segments)-1 && v.segments[n].End() <= off {
		n++
	}
	l.view.Store(&view{segments: v.segments[n:], epochs: epochsFrom(v.epochs, off)})
	bytes := int64(0)
	for _, s := range v.segments[:n] {
		bytes += s.Size()
		l.size.Add(-s.Size())
		s.Retire()
	}
	l.waste.Lock()
	l.waste.segments = append(l.waste.segments, v.segments[:n]...)
	l.waste.Unlock()
	if n > 0 {
		l.o.Observer.Removed(n, bytes)
	}
	return n, nil
}

// keepStart leaves the log start where it is, after off could not be stored
// everywhere, and returns why not.
//
// INVARIANT: a log start that was refused is not taken, not by a crash either. What
// was stored of it may be the newest checkpoint on the disk, so the start of before
// is stored and synced on top of it. If that fails too, the log does: nobody knows
// then where it begins.
func (l *Log) keepStart(off record.Offset, cause error) error {
	l.nextStart, l.unsettled = l.Start(), false
	if l.failed.Load() != nil {
		return cause
	}
	var write *WriteError
	stored := l.hasLasting && l.lasting.start == off
	if !stored && errors.As(cause, &write) && write.Kind != WriteFailed {
		return cause // The disk took nothing of it.
	}
	for i := range checkpoint.SlotCount {
		if err := l.writeCheckpoint(); err != nil && i == 0 {
			return l.fail(errors.Join(cause, err))
		} else if err != nil {
			return cause // An older one counts only if the newest is damaged.
		}
		if err := l.syncSlots(l.slots.Load()); err != nil {
			if err = l.checkpointUnsynced(err); l.failed.Load() != nil {
				return err
			}
			// The file was synced, and not its name: of all that has the name on
			// the disk, this is the newest.
		}
	}
	return cause
}

// waste are segments that are not part of the log any more and whose files are
// still there. All of them lie below the log start, so no later segment has
// their names, but for ResetTo, which removes them first.
//
// INVARIANT: the files of a segment are removed when nobody reads it any more. A
// reader that finds no index makes one, and leaves its file, which would then
// stay for good; or come to lie beside another segment of that name, of which the
// next start would think that it was sealed, and had lost what came after.
type waste struct {
	sync.Mutex // guards segments; never held across I/O
	segments   []*segment.Segment
}

// take takes out the segments that nobody reads any more; all, if it is to wait
// for readers.
func (w *waste) take(wait bool) []*segment.Segment {
	w.Lock()
	all := w.segments
	w.segments = nil
	w.Unlock()
	var gone, read []*segment.Segment
	for _, s := range all {
		if wait {
			<-s.Gone()
		}
		select {
		case <-s.Gone():
			gone = append(gone, s)
		default:
			read = append(read, s)
		}
	}
	if len(read) > 0 {
		w.Lock()
		w.segments = append(read, w.segments...)
		w.Unlock()
	}
	return gone
}

// RemoveWaste removes the files of the segments that DeleteBefore and Retain
// took out of the log, but those that are being read: their turn comes when it is
// called again, or the log is closed. It may be called beside everything.
//
// WHY apart: deleting a large file takes a file system up to seconds, in which
// the writer could append nothing.
func (l *Log) RemoveWaste() {
	l.removing.Lock()
	defer l.removing.Unlock()
	l.removeWaste(false)
}

// removeWaste is RemoveWaste; it waits for readers if it is told to.
//
// REQUIRES: l.removing is held.
func (l *Log) removeWaste(wait bool) {
	for _, s := range l.waste.take(wait) {
		// What cannot be removed now is removed at the next start.
		if err := s.Remove(); err != nil {
			l.logger.Warn("segment not removed", "base_offset", int64(s.Base()), "err", err)
		}
	}
}
