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
// nothing happened; else nobody knows what did, and a sync is not repeated.
func (l *Log) metadataFailed(doing string, err error) error {
	if vfs.IsFull(err) || vfs.IsReadOnly(err) || vfs.IsTooManyFiles(err) {
		return writeError(doing, err)
	}
	return l.fail(writeError(doing, err))
}
