package commitlog

import (
	"errors"
	"io/fs"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// recoverSegments finds the end of the log. All segments but the last are
// sealed, durable and not looked at.
func (r *recovery) recoverSegments() error {
	l, n := r.l, len(r.found)
	if n == 0 {
		return r.recoverNothing()
	}
	if err := r.checkLastIndex(); err != nil {
		return err
	}
	for i, f := range r.found[:n-1] {
		r.sealed = append(r.sealed, segment.OpenSealed(&l.shared, f.base, r.found[i+1].base, f.size))
	}
	last := r.found[n-1]
	// Somebody else may have cut what this recovery does not find.
	r.out.TailCut = r.facts.cutting
	r.out.DurableEnd = max(last.base, r.least)
	if r.hasFacts {
		r.out.DurableEnd = max(r.out.DurableEnd, r.facts.synced.at.Offset)
		if r.out.SameBoot {
			r.out.DurableEnd = max(r.out.DurableEnd, r.facts.written.at.Offset)
		}
	}
	if last.index {
		done, err := r.recoverSealed(last)
		if done || err != nil {
			return err
		}
	}
	from, err := r.scanFrom(last)
	if err != nil {
		return err
	}
	return r.recoverLast(last, from)
}

// checkLastIndex finds out whether the index of the last segment was erased, and
// its name came back: then it says nothing.
func (r *recovery) checkLastIndex() error {
	last := &r.found[len(r.found)-1]
	if !last.index {
		return nil
	}
	st, err := r.l.o.FS.Stat(r.l.path(segment.Name(last.base, segment.IndexSuffix)))
	if err != nil {
		return err
	}
	last.index = st.Size() > 0
	return nil
}

// isUnnamed tells whether the name of the last segment may not be on the disk,
// and the log can do without it: it holds no batch, and whoever made it may have
// met a failed sync of the directory, after which none brings the name there.
func (r *recovery) isUnnamed(last found, tail *segment.Tail) bool {
	s := &r.facts.synced
	known := s.base == last.base && s.at.Offset == last.base && last.base > 0
	return r.hasFacts && !known && !r.frozen && tail.Size == segment.FirstPosition &&
		r.out.DurableEnd <= last.base && r.out.Damaged == nil &&
		(len(r.found) > 1 || r.facts.start == last.base)
}

// recoverWithout recovers the log without its last segment, s, which holds no
// batch. It is made again when there is something to write; then its name is
// written anew. done is false if the disk cannot be written to.
func (r *recovery) recoverWithout(s *segment.Segment) (done bool, err error) {
	if err = segment.Erase(&r.l.shared, s.Base()); vfs.IsReadOnly(err) {
		return false, nil
	}
	s.Retire()
	if err != nil {
		return true, err
	}
	for _, s := range r.sealed {
		s.Retire()
	}
	// What was before it was durable when it was made.
	r.least, r.sealed, r.found = s.Base(), nil, r.found[:len(r.found)-1]
	return true, r.recoverSegments()
}

// recoverNothing recovers a log without segments.
func (r *recovery) recoverNothing() error {
	at := segment.Point{Epoch: NoEpoch}
	if r.hasFacts {
		at.Offset = r.facts.start
		r.out.DurableEnd = r.facts.synced.at.Offset
		if r.out.DurableEnd > r.facts.start {
			r.damage(&segment.CorruptError{File: r.l.o.Dir, Offset: r.facts.start, Cause: segment.ErrMissing})
		}
	}
	r.at = mark{base: at.Offset, at: at}
	r.l.before = at
	return nil
}

// recoverSealed recovers a log whose last segment is sealed: the process died
// before it made the next. done is false if the index says nothing.
func (r *recovery) recoverSealed(last found) (done bool, err error) {
	l := r.l
	end, err := segment.ReadEnd(&l.shared, last.base)
	var corrupt *checkpoint.CorruptError
	if errors.As(err, &corrupt) || errors.Is(err, segment.ErrIndex) || errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if end.Position != last.size {
		// One of the two was changed, or a roll failed when the index had its
		// name, and the log went on. The log says what is good.
		r.out.DurableEnd = max(r.out.DurableEnd, end.Offset)
		r.grown = end.Position < last.size
		return false, nil
	}
	r.sealed = append(r.sealed, segment.OpenSealed(&l.shared, last.base, end.Offset, last.size))
	r.at = mark{base: last.base, at: end}
	l.before = end
	if end.Offset < r.out.DurableEnd {
		r.damage(&segment.CorruptError{File: l.o.Dir, Offset: end.Offset, Cause: segment.ErrMissing})
	}
	r.out.DurableEnd = max(r.out.DurableEnd, end.Offset)
	return true, nil
}

// scanFrom returns the point of the last segment below which all is durable.
func (r *recovery) scanFrom(last found) (segment.Point, error) {
	f := &r.facts.synced
	if r.hasFacts && f.base == last.base && !last.index {
		r.at.epochStart = f.epochStart
		return f.at, nil
	}
	before := segment.Point{Epoch: NoEpoch}
	if n := len(r.sealed); n > 0 {
		end, err := r.sealed[n-1].Summary()
		var corrupt *segment.CorruptError
		switch {
		case err == nil:
			before = end
		case errors.As(err, &corrupt):
			r.damage(corrupt)
		default:
			return segment.Point{}, err
		}
	}
	return segment.Start(last.base, before), nil
}

// recoverLast reads the last segment from a point on, and decides what is to
// be thought of its tail.
func (r *recovery) recoverLast(last found, from segment.Point) error {
	l := r.l
	s, tail, err := segment.OpenLast(&l.shared, last.base, from)
	if errors.Is(err, segment.ErrNoPlace) {
		// Someone put the two together from different times, or the log is
		// damaged just there. The log wins, but for what the checkpoint says
		// was durable.
		l.logger.Warn("checkpoint does not fit the log", "err", err)
		from = segment.Start(last.base, segment.Point{Epoch: NoEpoch})
		s, tail, err = segment.OpenLast(&l.shared, last.base, from)
	}
	var corrupt *segment.CorruptError
	if errors.As(err, &corrupt) {
		return r.unopened(last, from, corrupt)
	}
	if err != nil {
		return err
	}
	if r.isUnnamed(last, &tail) {
		if done, err := r.recoverWithout(s); done {
			return err
		}
	}
	r.out.Scanned += tail.Scanned
	l.active = s
	r.at.base, r.at.at = last.base, tail.End
	r.durable = mark{base: last.base, at: from}
	r.epochs = tail.Epochs
	sealed := last.index && !r.grown
	if sealed {
		// A segment that was sealed had no torn tail.
		r.out.DurableEnd = max(r.out.DurableEnd, tail.End.Offset)
	}
	r.out.DurableEnd = max(r.out.DurableEnd, tail.CommittedEnd)
	switch {
	case tail.End.Offset < r.out.DurableEnd && tail.Bad == nil:
		r.damage(&segment.CorruptError{
			File: l.path(segment.Name(last.base, segment.LogSuffix)), Position: tail.Size,
			Offset: tail.End.Offset, Cause: segment.ErrMissing,
		})
	case tail.Bad == nil:
		return r.unseal(last)
	case tail.End.Offset < r.out.DurableEnd || tail.Uncuttable || sealed:
		r.damage(tail.Bad)
	case r.out.Damaged == nil:
		r.torn, r.tornIn = &tail, last
	}
	return nil
}

// cutTail cuts a torn tail, if there is one. WHY last: who is asked before is
// told what is left of the log.
func (r *recovery) cutTail() error {
	tail, o := r.torn, &r.l.o
	if tail == nil {
		return nil
	}
	if o.BeforeCut != nil && !r.out.SameBoot {
		if err := o.BeforeCut(TornTail{End: r.at.at.Offset, LastEpoch: r.at.at.Epoch}); err != nil {
			return err
		}
	}
	if err := r.markCut(); err != nil {
		return err
	}
	if err := r.l.active.CutTail(); err != nil {
		return r.withhold("cut a torn tail", err)
	}
	r.out.TailCut, r.out.CutCause = true, tail.Bad
	r.out.CutBytes, r.out.CutPosition = tail.Size-tail.End.Position, tail.End.Position
	return r.unseal(r.tornIn)
}

// unseal removes an index that does not fit the log it stands beside, which
// goes on as the segment that is written to.
func (r *recovery) unseal(last found) error {
	if !last.index || r.out.Damaged != nil {
		return nil
	}
	if err := r.markCut(); err != nil {
		return err
	}
	if err := segment.EraseIndex(&r.l.shared, last.base); err != nil {
		return r.withhold("remove an index that does not fit", err)
	}
	return r.l.o.FS.SyncDir(r.l.o.Dir)
}

// unopened recovers a log whose last segment cannot be opened as it should.
func (r *recovery) unopened(last found, from segment.Point, cause *segment.CorruptError) error {
	l := r.l
	abandoned, err := segment.Abandoned(&l.shared, last.base)
	if err != nil {
		return err
	}
	if abandoned && r.out.DurableEnd <= last.base && r.out.Damaged == nil {
		return r.makeAgain(last, from)
	}
	r.damage(cause)
	if begin := segment.Start(last.base, segment.Point{Epoch: NoEpoch}); from.Position > begin.Position {
		// Shorter than it was. What is left can be read.
		if s, tail, err := segment.OpenLast(&l.shared, last.base, begin); err == nil {
			l.active = s
			r.at, r.epochs = mark{base: last.base, at: tail.End}, tail.Epochs
			return nil
		}
	}
	r.at = mark{base: last.base, at: segment.Point{Epoch: NoEpoch, Offset: last.base}}
	l.before = r.at.at
	// Nobody knows where it ended: whatever is asked for there is damaged.
	r.out.DurableEnd = max(r.out.DurableEnd, last.base+1)
	return nil
}

// makeAgain makes a segment again that was being made when the process died.
func (r *recovery) makeAgain(last found, from segment.Point) error {
	if err := segment.Erase(&r.l.shared, last.base); err != nil {
		r.at.base, r.at.at, r.durable = last.base, from, mark{base: last.base, at: from}
		r.l.before = from
		return r.withhold("make a segment again", err)
	}
	s, err := segment.Create(&r.l.shared, from)
	if err != nil {
		return err
	}
	r.l.active = s
	r.at.base, r.at.at = last.base, from
	r.durable = r.at
	return nil
}

// recoverEpochs finds the history of leader epochs. The epochs of the tail are
// known by now.
//
// What was stored of it is believed up to the checkpoint, if the two agree
// about the epoch there: it is replaced as a whole when an epoch begins, so an
// older one lacks the last epoch. From there on, or else from the beginning,
// it is made again from the indexes and the log.
func (r *recovery) recoverEpochs() error {
	tail := r.epochs
	known, ok := r.storedEpochs()
	since := record.Offset(0)
	if ok {
		since = r.facts.synced.at.Offset
	} else if s := r.l.active; s != nil {
		var err error
		if tail, err = s.ScanEpochs(); err != nil {
			return err
		}
	}
	known, err := r.epochsOfSealed(known, since)
	if err != nil {
		return err
	}
	r.epochs = epochsBelow(addEpochs(known, tail), r.at.at.Offset)
	if n := len(r.epochs); n > 0 {
		r.at.epochStart = r.epochs[n-1].Offset
		r.at.at.Epoch = max(r.at.at.Epoch, r.epochs[n-1].Epoch)
	}
	if !ok && len(r.epochs) > 0 {
		r.l.storeEpochs(r.epochs)
	}
	return nil
}

// addEpochs adds to a history what comes later.
func addEpochs(known, more []segment.EpochStart) []segment.EpochStart {
	for _, e := range more {
		if n := len(known); n == 0 || known[n-1].Epoch < e.Epoch {
			known = append(known, e)
		}
	}
	return known
}

// epochsOfSealed adds the epochs that the indexes of sealed segments know of
// offsets from since on. A damaged segment leaves a gap.
func (r *recovery) epochsOfSealed(known []segment.EpochStart, since record.Offset) ([]segment.EpochStart, error) {
	for _, s := range r.sealed {
		if s.End() <= since {
			continue
		}
		x, err := s.Index()
		var corrupt *segment.CorruptError
		switch {
		case err == nil:
			known = addEpochs(known, x.Epochs)
		case errors.As(err, &corrupt):
			r.l.logger.Warn("leader epochs of a segment are not known", "base_offset", int64(s.Base()), "err", corrupt)
		default:
			return nil, err
		}
	}
	return known, nil
}

// storedEpochs returns the stored history up to the checkpoint.
func (r *recovery) storedEpochs() ([]segment.EpochStart, bool) {
	if !r.hasFacts {
		return nil, false
	}
	m := &r.facts.synced
	if m.at.Epoch == NoEpoch {
		return nil, true
	}
	payload, err := checkpoint.Read(r.l.o.FS, r.l.path(epochsFile))
	if err != nil {
		return nil, false
	}
	epochs, err := parseEpochs(payload)
	if err != nil {
		return nil, false
	}
	epochs = epochsBelow(epochs, m.at.Offset)
	n := len(epochs)
	if n == 0 || epochs[n-1] != (segment.EpochStart{Epoch: m.at.Epoch, Offset: m.epochStart}) {
		return nil, false
	}
	return epochs, true
}
