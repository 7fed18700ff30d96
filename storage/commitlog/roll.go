package commitlog

import (
	"errors"
	"path/filepath"

	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// writeFailed says what a failed write means for the log.
func (l *Log) writeFailed(doing string, err error) error {
	var (
		rollback *segment.RollbackError
		unsynced *segment.SyncError
		corrupt  *segment.CorruptError
		misplace *segment.MismatchError
	)
	if errors.As(err, &rollback) || errors.As(err, &unsynced) || errors.As(err, &corrupt) || errors.As(err, &misplace) {
		return l.fail(err)
	}
	return writeError(doing, err)
}

// The bounds of a roll that waits for the disk.
const (
	// rollUnsyncedBytes is how much a roll may have to sync: some 10 ms of a
	// usual disk.
	rollUnsyncedBytes = 4 << 20
	// deferredSegments is how many times the segment size a segment may reach
	// while its roll waits.
	deferredSegments = 4
)

// rollBytes is the size at which a segment is rolled whatever that costs.
func (c *Config) rollBytes() int64 { return min(deferredSegments*c.SegmentBytes, MaxSegmentBytes) }

// burstBytes is how much may be only in memory before SyncDue says so: half of
// what rollBytes allows, so that the sync has as much time again.
func (c *Config) burstBytes() int64 { return c.rollBytes() / 2 }

// defersRoll reports whether a segment that is full, and would have so many
// bytes after the next batch, is written to all the same.
//
// WHY: the next segment must not exist before this one is synced (rule S2), so
// the writer waits for that sync, and with it all who append: 256 MiB that are
// only in memory cost half a second. So a roll waits until a sync beside the
// writer has left little to do, but not for ever: behind a disk that never
// catches up the writer has to wait.
func (l *Log) defersRoll(c *Config, g *group, after int64) bool {
	return after <= c.rollBytes() && l.UnsyncedBytes()+g.bytes > rollUnsyncedBytes
}

// UnsyncedBytes is how many bytes of the log are only in memory, as far as
// this process knows. All of them are in the last segment.
func (l *Log) UnsyncedBytes() int64 {
	n, _ := l.unsynced()
	return n
}

// unsynced returns how many bytes are only in memory, and the position in the
// last segment up to which it is synced.
func (l *Log) unsynced() (n, synced int64) {
	l.marks.Lock()
	defer l.marks.Unlock()
	w, s := &l.marks.written, &l.marks.synced
	switch {
	case s.at.Offset >= w.at.Offset:
		return 0, w.at.Position
	case s.base != w.base: // nothing of this segment is known to be synced
		return w.at.Position - segment.FirstPosition, segment.FirstPosition
	}
	return w.at.Position - s.at.Position, s.at.Position
}

// SyncDue tells whether the log should be synced though nobody waits for it: a
// burst has filled memory enough, or the sync after one has made a roll
// possible but for what came meanwhile, which the next sync makes less.
func (l *Log) SyncDue() bool {
	c := l.config.Load()
	n, synced := l.unsynced()
	return n > rollUnsyncedBytes && (n >= c.burstBytes() || synced >= c.SegmentBytes)
}

// roll seals the active segment, if there is one, and makes the next. If it
// fails, it can be tried again, or the log has failed.
//
// The order is what recovery rests on (rule S2): sync the batches, write and
// sync the index, sync the directory, and only then create the next segment,
// whatever the durability of the topic.
func (l *Log) roll() error {
	if l.active != nil {
		if err := l.seal(); err != nil {
			return err
		}
	}
	v := l.view.Load()
	if len(v.segments) == 0 {
		// The directory may be as new as its first file.
		if err := l.o.FS.SyncDir(filepath.Dir(l.o.Dir)); err != nil {
			return l.metadataFailed("create segment", err)
		}
	}
	from := segment.Start(l.before.Offset, l.before)
	s, err := segment.Create(&l.shared, from)
	if err != nil {
		return l.metadataFailed("create segment", err)
	}
	segments := make([]*segment.Segment, len(v.segments), len(v.segments)+1)
	copy(segments, v.segments)
	l.view.Store(&view{segments: append(segments, s), epochs: v.epochs})
	l.active = s
	l.size.Add(s.Size())
	m := mark{base: s.Base(), at: from, epochStart: v.lastEpochStart()}
	l.marks.Lock()
	l.marks.written = m
	l.marks.Unlock()
	l.synced(m, l.marks.cut)
	return nil
}

// seal ends the active segment.
func (l *Log) seal() error {
	s, v := l.active, l.view.Load()
	at := s.At()
	if err := s.Seal(epochsIn(v.epochs, s.Base(), at.Offset)); err != nil {
		var unsynced *segment.SyncError
		var corrupt *segment.CorruptError
		if errors.As(err, &unsynced) || errors.As(err, &corrupt) {
			return l.fail(err)
		}
		return l.metadataFailed("seal segment", err)
	}
	l.active, l.before = nil, at
	l.synced(mark{base: s.Base(), at: at, epochStart: v.lastEpochStart()}, l.marks.cut)
	l.o.Observer.Sealed(s.Size())
	return nil
}

// metadataFailed says what it means that a small file could not be written or
// a directory not synced. Where the disk is full or cannot be written to,
// nothing happened, if it is no sync of a directory that failed so; else nobody
// knows what did, and a sync is not repeated.
func (l *Log) metadataFailed(doing string, err error) error {
	if unsynced := (*segment.SyncError)(nil); errors.As(err, &unsynced) {
		return l.fail(writeError(doing, err))
	}
	if vfs.IsFull(err) || vfs.IsReadOnly(err) || vfs.IsTooManyFiles(err) {
		return writeError(doing, err)
	}
	return l.fail(writeError(doing, err))
}
