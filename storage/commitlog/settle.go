package commitlog

import (
	"bytes"
	"errors"

	"github.com/millstream-io/millstream/storage/vfs"
)

// withhold has the log opened for reading only, if err says that what recovery
// was doing cannot be done on this file system; else it returns err.
//
// WHY not for this attempt alone, where the file system may be writable again a
// moment later: what is appended behind a tail that was not cut is not found
// again, and a sync of one that was not written again does nothing.
//
// WHY not after a failed sync: something was done, and nobody knows what.
func (r *recovery) withhold(doing string, err error) error {
	if !vfs.IsReadOnly(err) || vfs.IsSync(err) {
		return err
	}
	if r.l.withheld == nil {
		r.l.withheld = writeError(doing, err)
	}
	r.out.Withheld = r.l.withheld
	return nil
}

// settle makes what was recovered durable.
func (r *recovery) settle() error {
	l := r.l
	defer r.fill()
	if l.withheld != nil {
		if l.active != nil {
			r.countDurable()
		}
		return nil
	}
	if l.active != nil {
		l.active.Trim()
	}
	if l.active != nil && (r.isUnsettled() || !r.isKnownDurable()) {
		if done, err := r.writeAgain(); !done {
			return err
		}
	}
	now, segments := l.facts(), l.view.Load().segments
	if len(segments) == 0 {
		return nil
	}
	if r.hasFacts && !r.marked && bytes.Equal(now.append(nil), r.facts.append(nil)) && now.start <= segments[0].Base() {
		// And if the checkpoint was not written again, nothing would go back
		// that anybody has seen.
		return nil
	}
	err := l.storeCheckpoint()
	var write *WriteError
	if errors.As(err, &write) && (write.Kind == ReadOnly || write.Kind == DiskFull) {
		// What cannot be written can still be read.
		return nil
	}
	return err
}

// isKnownDurable tells whether the checkpoint says that all is on the disk, the
// last segment itself included.
func (r *recovery) isKnownDurable() bool {
	s := &r.facts.synced
	// ResetTo stores a checkpoint before there is a segment; at 0 that looks as
	// if there were one.
	return r.at.base == s.base && r.at.at == s.at && (r.at.base > 0 || !r.at.at.IsEmpty())
}

// writeAgain makes durable what another process wrote behind what it knew to be
// synced. It may have met a failed sync before it died: then a sync alone
// would do nothing (see segment.Rewrite).
func (r *recovery) writeAgain() (done bool, err error) {
	l := r.l
	if r.isUnsettled() || !r.hasFacts {
		// It may have cut the file, too.
		err = l.active.RenewLength()
	}
	if err == nil {
		r.out.Rewritten, err = l.active.Rewrite(r.durable.at)
	}
	const doing = "write the end of the log again"
	if err != nil && r.withhold(doing, err) == nil {
		r.countDurable()
		return false, nil
	}
	if vfs.IsFull(err) {
		// What cannot be written can still be read. Nobody is told to wait for room:
		// nothing is tried again when there is some.
		r.countDurable()
		_ = l.fail(writeError(doing, err))
		return false, nil
	}
	if err == nil && r.durable.at.IsEmpty() {
		// It may have died before the name of the segment was durable.
		err = l.o.FS.SyncDir(l.o.Dir)
	}
	return err == nil, err
}

// countDurable has no more count as synced than was when recovery began.
func (r *recovery) countDurable() {
	r.l.marks.synced = r.durable
	r.l.syncedEnd.Store(int64(r.durable.at.Offset))
}
