package commitlog

import (
	"cmp"
	"errors"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
)

// Sync makes all durable that was appended before the call, and returns the
// end of what is durable now. It may be called beside Append, by several at
// once. The error is a *FailedError, which is final (rule S6): nobody knows
// what is on the disk; or a *WriteError, if there was no descriptor to sync
// with, or nothing is written (Withheld); or ErrClosed.
func (l *Log) Sync() (record.Offset, error) {
	for {
		if f := l.failed.Load(); f != nil {
			return l.SyncedEnd(), f
		}
		if l.closed.Load() {
			return l.SyncedEnd(), ErrClosed
		}
		l.marks.Lock()
		m, synced, cut := l.marks.written, l.marks.synced, l.marks.cut
		l.marks.Unlock()
		if synced.at.Offset >= m.at.Offset {
			return synced.at.Offset, nil
		}
		if l.withheld != nil {
			return synced.at.Offset, l.withheld // No sync would bring it to the disk.
		}
		s := l.view.Load().find(m.base)
		if s == nil || s.Base() != m.base || !s.Pin() {
			// The log was truncated or retained meanwhile: look again.
			continue
		}
		var err error
		if !s.Sealed() { // Else it was rolled meanwhile, and synced for that.
			err = s.Sync()
		}
		s.Unpin()
		var unsynced *segment.SyncError
		if err != nil && s.Retired() && !errors.As(err, &unsynced) {
			continue // Its file is gone.
		}
		if err != nil {
			return l.SyncedEnd(), l.writeFailed("sync", err)
		}
		if l.synced(m, cut) {
			return l.SyncedEnd(), nil
		}
	}
}

// synced notes that all before m is durable; false if the log was truncated
// since cut was read, so that m may be no place in it any more.
func (l *Log) synced(m mark, cut uint64) bool {
	l.marks.Lock()
	defer l.marks.Unlock()
	if l.marks.cut != cut {
		return false
	}
	if later(&m, &l.marks.synced) {
		l.marks.synced = m
		l.syncedEnd.Store(int64(m.at.Offset))
	}
	return true
}

// later reports whether a is behind b: at a greater offset, or at the same one
// but at the begin of the next segment, or of the first one that there is.
func later(a, b *mark) bool {
	return cmp.Or(
		cmp.Compare(a.at.Offset, b.at.Offset), cmp.Compare(a.base, b.base), cmp.Compare(a.at.Position, b.at.Position),
	) > 0
}
