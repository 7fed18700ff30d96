package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Recovery is what Open found, and what it did about it.
type Recovery struct {
	// Start, End and SyncedEnd are those of the log now.
	Start, End, SyncedEnd record.Offset
	// DurableEnd is the durable point (rule S2): nothing below it was cut.
	DurableEnd record.Offset
	// SameBoot says that the operating system ran on since the checkpoint: all
	// that was written is there, and nothing acknowledged was beyond the
	// checkpoint. What is cut then was never acknowledged.
	SameBoot bool
	// NoCheckpoint says that there was none, or none that is good, although
	// there are segments.
	NoCheckpoint bool
	// Scanned is how many bytes of the log were read to find its end.
	Scanned int64
	// Rewritten is how many bytes were written again, because it was not known
	// that they are on the disk.
	Rewritten int64
	// TailCut says that a torn tail was cut: CutBytes from byte CutPosition of
	// the last segment on, because of CutCause; or, if that is nil, a recovery
	// before this one may have cut it, which did not come to its end. After a
	// power loss such a replica must not lead alone, and once it was opened
	// nobody finds out any more: see Options.BeforeCut.
	TailCut               bool
	CutBytes, CutPosition int64
	CutCause              *segment.CorruptError
	// Withheld says what recovery had to do and could not, the file system being
	// read-only: cut a torn tail, write its end again, remove what does not fit;
	// nil: nothing. The log then shows what it would have shown after that, and
	// refuses with this all that writes; the next Open does it. SyncedEnd is where
	// recovery began: what lies behind it was not made durable.
	Withheld *WriteError
	// Damaged says what is damaged below the durable point; nil: nothing that
	// was looked at. The log can then be read where it is good, and not be
	// written to; End is then the durable point, and reading where the damage
	// is returns Damaged.
	Damaged *segment.CorruptError
}

// Open opens the log in a directory and recovers it. A directory that is not
// there is made, and is an empty log.
//
// The error is a *segment.MismatchError if a file belongs to another log,
// wraps a *record.UnsupportedVersionError if it is of a later format, or says
// that the disk cannot be read, or not be written to where it must be.
func Open(o Options) (*Log, Recovery, error) {
	o = o.withDefaults()
	o.FS = &dirSyncs{FS: o.FS}
	l := &Log{o: o, slotSync: make(chan struct{}, 1), saying: make(chan struct{}, 1)}
	l.config.Store(&o.Config)
	l.shared = segment.Options{
		FS: o.FS, Dir: o.Dir, Files: o.Files,
		Identity:       segment.Identity{ClusterID: o.ClusterID, TopicID: o.TopicID, Partition: o.Partition},
		MaxBytes:       func() int64 { return l.config.Load().rollBytes() },
		BeforeRollback: l.unsettle,
	}
	l.logger = o.Logger.With("topic_id", o.TopicID.String(), "partition", uint32(o.Partition))
	r := recovery{l: l}
	if err := r.run(); err != nil {
		r.abandon()
		return nil, Recovery{}, fmt.Errorf("open log %s: %w", o.Dir, err)
	}
	r.report()
	l.rest()
	return l, r.out, nil
}

// recovery is the opening of a log.
type recovery struct {
	l   *Log
	out Recovery

	found         []found
	orphans       []record.Offset // indexes without a log
	hasCheckpoint bool            // there is such a file
	facts         facts
	hasFacts      bool // and it holds facts
	marked        bool // this recovery has marked it as cutting
	grown         bool // the last segment is longer than its index says
	// frozen says that the checkpoint could not be made durable, the file system
	// being read-only, so that nothing may be removed because of it. WHY the word
	// of the system is not enough: it may be writable again a moment later.
	frozen bool

	least  record.Offset // all below it was durable, whatever the checkpoint says
	sealed []*segment.Segment
	epochs []segment.EpochStart
	torn   *segment.Tail // to be cut; nil: nothing is
	tornIn found         // the segment that ends with it
	// at is the end of the log, with all that is known there; durable is the
	// place in its last segment below which all is on the disk.
	at, durable mark
}

// abandon closes what was opened on the way to a failure.
//
// WHY: whoever opens logs on a disk that fails tries again, and again.
func (r *recovery) abandon() {
	_ = r.l.closeSlots() // Nothing depends on it.
	for _, s := range r.sealed {
		s.Retire()
	}
	if r.l.active != nil {
		r.l.active.Retire()
	}
}

// found is a segment in the directory.
type found struct {
	base  record.Offset
	size  int64
	index bool
}

func (r *recovery) run() error {
	l := r.l
	if err := r.list(); err != nil {
		return err
	}
	var err error
	if r.hasCheckpoint {
		if r.facts, r.hasFacts, err = l.loadCheckpoint(); err != nil {
			return err
		}
	}
	r.out.SameBoot = r.hasFacts && r.facts.bootID == l.o.BootID && l.o.BootID != [16]byte{}
	if err := r.dropErased(); err != nil {
		return err
	}
	r.out.NoCheckpoint = !r.hasFacts && len(r.found) > 0
	if err := r.insist(); err != nil {
		return err
	}
	if err := r.dropBelowStart(); err != nil {
		return err
	}
	if err := r.recoverSegments(); err != nil {
		return err
	}
	if err := r.recoverEpochs(); err != nil {
		return err
	}
	if err := r.cutTail(); err != nil {
		return err
	}
	return r.publish()
}

// list reads the directory.
func (r *recovery) list() error {
	o := &r.l.o
	entries, err := o.FS.ReadDir(o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return o.FS.MkdirAll(o.Dir, 0o755)
	}
	if err != nil {
		return err
	}
	indexes := map[record.Offset]bool{}
	for _, e := range entries {
		base, suffix, ok := segment.ParseName(e.Name())
		switch {
		case strings.HasSuffix(e.Name(), ".tmp"):
			// A small file that was being replaced when the process died.
			_ = o.FS.Remove(filepath.Join(o.Dir, e.Name()))
		case e.Name() == checkpointFile:
			r.hasCheckpoint = true
		case !ok || suffix == segment.PartialSuffix:
		case suffix == segment.IndexSuffix:
			indexes[base] = true
		default:
			st, err := e.Info()
			if err != nil {
				return err
			}
			r.found = append(r.found, found{base: base, size: st.Size()})
		}
	}
	for i := range r.found {
		f := &r.found[i]
		f.index = indexes[f.base]
		delete(indexes, f.base)
	}
	for base := range indexes {
		r.orphans = append(r.orphans, base)
	}
	slices.Sort(r.orphans)
	slices.SortFunc(r.found, func(a, b found) int { return int(min(1, max(-1, a.base-b.base))) })
	return nil
}

// dropErased takes no account of segments without bytes: one that was erased, and
// whose name came back (see segment.Erase), or that was being made when the
// process died. It removes those that may lie behind the end of the log: a process
// that met a failed sync may have left them longer on the disk. Where batches are
// known to have been in one, they are missing.
func (r *recovery) dropErased() error {
	if !r.hasFacts && len(r.found) == 1 {
		return nil // It is all that says where the log begins.
	}
	all, durable := r.found, r.facts.synced.at.Offset
	if r.out.SameBoot {
		durable = max(durable, r.facts.written.at.Offset)
	}
	r.found = nil
	for _, f := range all {
		if f.size > 0 {
			r.found = append(r.found, f)
			durable = max(durable, f.base)
		}
	}
	for _, f := range all {
		if f.size > 0 || f.base < durable {
			continue
		}
		if err := segment.Erase(&r.l.shared, f.base); err != nil && !vfs.IsReadOnly(err) {
			return err
		}
	}
	return nil
}

// insist makes the checkpoint durable, and the names in the directory, where
// the log start that it says will not be found out otherwise: there are no
// segments, or there are some below it, which are removed now; and where it says
// itself that something was being taken away.
//
// WHY: a process that met a failed sync of it, and died, has left it in the
// memory of the system but not on the disk (see segment.Rewrite).
func (r *recovery) insist() error {
	below := len(r.found) > 1 && r.found[1].base <= r.facts.start
	if !r.hasFacts || !below && !r.isUnsettled() && (len(r.found) > 0 || r.facts.start == 0) {
		return nil
	}
	slots, err := checkpoint.OpenSlots(r.l.o.FS, r.l.path(checkpointFile))
	if err == nil {
		payload := r.facts.append(nil)
		for i := 0; i < checkpoint.SlotCount && err == nil; i++ {
			if err = slots.Store(payload); err == nil {
				err = slots.Sync() // which is not tried again if it fails
			}
		}
		err = errors.Join(err, slots.Close())
	}
	if vfs.IsFull(err) && !below && len(r.found) > 0 {
		// A failed write was being taken back, no more: who moves the log start
		// has stored it in all slots before, or has given up.
		err = nil
	}
	if err == nil {
		err = r.l.o.FS.SyncDir(r.l.o.Dir)
	}
	if vfs.IsReadOnly(err) {
		r.frozen = true // Nothing is removed, and nothing written, there.
		return nil
	}
	return err
}

// isUnsettled tells whether the log may be read as shorter than it is on the
// disk. After a power loss it is not: all that is read comes from there, but for
// what a recovery since then has cut.
func (r *recovery) isUnsettled() bool {
	f, now := &r.facts, r.l.o.BootID
	otherBoot := f.bootID != now && f.bootID != [16]byte{} && now != [16]byte{}
	return r.hasFacts && (f.cutting || f.unsettled && !otherBoot)
}

// markCut marks the checkpoint before recovery cuts a torn tail or what goes
// with it: it may meet a failed sync, or the end of the process, and the next
// one finds no torn tail. Without a checkpoint nothing is believed anyway.
func (r *recovery) markCut() error {
	if !r.hasFacts || r.marked {
		return nil
	}
	slots, err := checkpoint.OpenSlots(r.l.o.FS, r.l.path(checkpointFile))
	if err == nil {
		f := r.facts
		f.cutting = true
		err = errors.Join(slots.Store(f.append(nil)), slots.Close())
	}
	r.marked = err == nil
	if vfs.IsReadOnly(err) || vfs.IsFull(err) {
		return nil // It matters only if the sync fails too that comes next.
	}
	return err
}

// dropBelowStart removes the segments that lie below the log start: they were
// being removed when the process died.
func (r *recovery) dropBelowStart() error {
	if !r.hasFacts {
		return nil
	}
	for len(r.found) > 1 && r.found[1].base <= r.facts.start {
		if !r.frozen {
			err := segment.Discard(&r.l.shared, r.found[0].base)
			if err != nil && !vfs.IsReadOnly(err) {
				return err
			}
		}
		r.found = r.found[1:]
	}
	return nil
}

// publish makes the log of what was recovered.
func (r *recovery) publish() error {
	l := r.l
	if err := r.dropOrphans(); err != nil {
		return err
	}
	segments := slices.Clone(r.sealed)
	if l.active != nil {
		segments = append(segments, l.active)
	}
	for _, s := range segments {
		l.size.Add(s.Size())
	}
	start := record.Offset(0)
	if len(segments) > 0 {
		start = segments[0].Base()
	}
	if r.hasFacts {
		start = max(start, r.facts.start)
		if r.facts.start < segmentsBegin(segments, start) {
			r.damage(&segment.CorruptError{
				File: l.o.Dir, Offset: r.facts.start, Cause: segment.ErrMissing,
			})
			start = r.facts.start
		}
	}
	end := r.at.at.Offset
	if r.out.Damaged != nil {
		end = max(end, r.out.DurableEnd)
	}
	l.recovered = min(r.out.DurableEnd, end)
	l.nextStart = min(start, end)
	l.start.Store(int64(l.nextStart))
	l.end.Store(int64(end))
	l.view.Store(&view{segments: segments, epochs: epochsFrom(r.epochs, start)})
	l.marks.written, l.marks.synced = r.at, r.at
	l.syncedEnd.Store(int64(r.at.at.Offset))
	if r.out.Damaged != nil {
		l.damaged = r.out.Damaged
		l.failed.Store(&FailedError{Cause: l.damaged})
		r.fill()
		return nil
	}
	return r.settle()
}

func segmentsBegin(segments []*segment.Segment, otherwise record.Offset) record.Offset {
	if len(segments) == 0 {
		return otherwise
	}
	return segments[0].Base()
}

func (r *recovery) fill() {
	l := r.l
	r.out.Start, r.out.End, r.out.SyncedEnd = l.Start(), l.End(), l.SyncedEnd()
}

// dropOrphans removes indexes without a log which a segment could come to be
// sealed by.
func (r *recovery) dropOrphans() error {
	removed := false
	for _, base := range r.orphans {
		if base >= r.at.at.Offset && r.out.Damaged == nil {
			removed = true
			if err := segment.EraseIndex(&r.l.shared, base); err != nil {
				return r.withhold("remove an index without a log", err)
			}
		}
	}
	if !removed {
		return nil
	}
	return r.l.o.FS.SyncDir(r.l.o.Dir)
}

func (r *recovery) damage(e *segment.CorruptError) {
	if r.out.Damaged == nil {
		r.out.Damaged = e
	}
}

// report tells the operator what matters.
func (r *recovery) report() {
	l, out := r.l, &r.out
	switch {
	case out.Damaged != nil:
		l.logger.Error("log is damaged", "err", out.Damaged, "durable_end", int64(out.DurableEnd))
	case out.Withheld != nil:
		l.logger.Error("log can be read only, until it is opened on a disk that can be written to", "err", out.Withheld, "end", int64(out.End))
	case out.TailCut && out.CutCause == nil:
		l.logger.Warn("torn tail cut, perhaps, by a recovery that did not come to its end", "end", int64(out.End))
	case out.TailCut:
		l.logger.Warn("torn tail cut", "err", out.CutCause, "bytes", out.CutBytes, "end", int64(out.End))
	case out.NoCheckpoint:
		l.logger.Warn("log has no checkpoint", "start", int64(out.Start), "end", int64(out.End))
	}
}
