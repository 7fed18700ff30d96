package commitlog

import "errors"

// Idle closes what the log has open, if nobody uses it and all of it is
// synced, and reports whether nothing is open. It opens again by itself.
// Called when nothing was appended for a while, it lets an idle partition hold
// neither descriptor nor mapping; what readers open later is closed by
// Files.Expire. While something is not synced, the file with it stays open (see
// Files), and the checkpoint's, for what comes until then; not where too many
// are open.
//
// REQUIRES: one writer.
func (l *Log) Idle() bool {
	if l.enter() != nil {
		return true
	}
	defer l.leave()
	return l.rest()
}

// Crowded tells whether more files are open than are meant to be, so that a
// log at rest whose records are not synced, and whose file stays open for that,
// had better be synced now. It may be called beside everything.
func (l *Log) Crowded() bool { return l.o.Files.Crowded() }

func (l *Log) rest() bool {
	synced := l.SyncedEnd() == l.End()
	if synced || l.Crowded() {
		_ = l.closeSlots() // Nothing depends on it.
	}
	if synced && l.active != nil && l.withheld == nil {
		l.active.Rewind() // What was set aside ahead may be used until then.
	}
	rested := true
	for _, s := range l.view.Load().segments {
		rested = s.Rest() && rested
	}
	return rested
}

// keepAtClose is how many bytes of a segment must be without a kept index for
// Close to write one: so much is read at most, by who needs it.
const keepAtClose = 1 << 20

// Close syncs the log, stores and syncs its checkpoint, and closes its files,
// so that the next Open need not read any of it. Readers get ErrClosed, and those
// that are reading finish first, unless the log has failed for another reason than
// that it is damaged. The log is closed even if that fails. A log that has failed,
// or is not written to, is closed without touching the disk. Calling Close again is
// harmless.
func (l *Log) Close() error {
	if l.closed.Load() {
		return nil
	}
	if err := l.enter(); err != nil {
		return nil // Closed meanwhile.
	}
	defer l.leave()
	var err error
	if l.writable() == nil {
		if l.active != nil {
			l.active.GiveBack()
		}
		_, err = l.Sync()
		if err == nil {
			err = l.storeCheckpoint()
		}
		if l.active != nil {
			_ = l.active.Keep(keepAtClose) // A cache.
		}
	}
	if l.writable() == nil {
		err = errors.Join(err, l.SyncCheckpoint())
		// Who waits to sync the checkpoint too comes before this, and is done with the
		// directory then, or after it, and finds the log closed.
		l.saying <- struct{}{}
		l.closed.Store(true)
		<-l.saying
	} else {
		l.closed.Store(true)
	}
	err = errors.Join(err, l.closeSlots())
	segments := l.view.Load().segments
	for _, s := range segments {
		s.Retire()
	}
	if l.failed.Load() != nil && l.damaged == nil {
		return err // A reader may wait for a disk that does not answer.
	}
	// Who opens the directory next, or begins anew where this one was damaged, must
	// not find an index come into it that a reader of this log makes.
	for _, s := range segments {
		<-s.Gone()
	}
	l.removing.Lock()
	defer l.removing.Unlock()
	l.removeWaste(true)
	return err
}
