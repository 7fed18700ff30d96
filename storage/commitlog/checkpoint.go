package commitlog

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// checkpointFile holds the facts from which recovery begins.
const checkpointFile = "checkpoint"

// facts are what a checkpoint says, little endian:
//
//	+---------+---------+-----------+-------------------------+---------------------+
//	| version | boot id | log start | synced: base, position, | written: base,      |
//	| 4       | 16      | 8         | offset, epoch, epoch    | position, offset    |
//	|         |         |           | start, append time, max | 8 + 8 + 8           |
//	|         |         |           | timestamp, first append,|                     |
//	|         |         |           | last batch              |                     |
//	|         |         |           | 8+8+8+4+8+8+8+8+8       |                     |
//	+---------+---------+-----------+-------------------------+---------------------+
type facts struct {
	bootID  [16]byte
	start   record.Offset
	synced  mark
	written mark // base, position and offset only
	// unsettled says that what takes records out of the log was under way:
	// nobody knew then that the files are as short on the disk as they are
	// read, that names that were removed are gone, and that no older checkpoint
	// is left.
	unsettled bool
	// cutting says that recovery was cutting a torn tail, or had done so, and the
	// log was not opened yet.
	cutting bool
}

// Bits of the written position, which is below 2 GiB.
const (
	unsettledBit = 1 << 62
	cuttingBit   = 1 << 61
)

const (
	factsVersion = 1
	factsBytes   = 4 + 16 + 8 + 68 + 24
)

func (f *facts) append(dst []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, factsVersion)
	dst = append(dst, f.bootID[:]...)
	dst = le.AppendUint64(dst, uint64(f.start))
	dst = f.synced.appendPlace(dst)
	at := &f.synced.at
	dst = le.AppendUint32(dst, uint32(at.Epoch))
	dst = le.AppendUint64(dst, uint64(f.synced.epochStart))
	dst = le.AppendUint64(dst, uint64(at.AppendTimeMs))
	dst = le.AppendUint64(dst, uint64(at.MaxTimestampMs))
	dst = le.AppendUint64(dst, uint64(at.FirstAppendMs))
	dst = le.AppendUint32(dst, at.Last.Position)
	dst = le.AppendUint32(dst, at.Last.CRC)
	written := f.written
	if f.unsettled {
		written.at.Position |= unsettledBit
	}
	if f.cutting {
		written.at.Position |= cuttingBit
	}
	return written.appendPlace(dst)
}

func (m *mark) appendPlace(dst []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, uint64(m.base))
	dst = le.AppendUint64(dst, uint64(m.at.Position))
	return le.AppendUint64(dst, uint64(m.at.Offset))
}

func (m *mark) readPlace(b []byte) {
	le := binary.LittleEndian
	m.base = record.Offset(le.Uint64(b))
	m.at.Position = int64(le.Uint64(b[8:]))
	m.at.Offset = record.Offset(le.Uint64(b[16:]))
}

// parseFacts reads a checkpoint; false if it is none that this program wrote.
func parseFacts(b []byte) (facts, bool) {
	le := binary.LittleEndian
	if len(b) != factsBytes || le.Uint32(b) != factsVersion {
		return facts{}, false
	}
	f := facts{bootID: [16]byte(b[4:20]), start: record.Offset(le.Uint64(b[20:]))}
	f.synced.readPlace(b[28:])
	f.synced.at.Epoch = record.LeaderEpoch(le.Uint32(b[52:]))
	f.synced.epochStart = record.Offset(le.Uint64(b[56:]))
	f.synced.at.AppendTimeMs = int64(le.Uint64(b[64:]))
	f.synced.at.MaxTimestampMs = int64(le.Uint64(b[72:]))
	f.synced.at.FirstAppendMs = int64(le.Uint64(b[80:]))
	f.synced.at.Last = segment.LastBatch{Position: le.Uint32(b[88:]), CRC: le.Uint32(b[92:])}
	f.written.readPlace(b[96:])
	f.unsettled = f.written.at.Position&unsettledBit != 0
	f.cutting = f.written.at.Position&cuttingBit != 0
	f.written.at.Position &^= unsettledBit | cuttingBit
	ok := f.start >= 0 && f.synced.at.Epoch >= NoEpoch && f.synced.isPlace() && f.written.isPlace()
	return f, ok
}

func (m *mark) isPlace() bool {
	return m.base >= 0 && m.at.Offset >= m.base && m.at.Position >= segment.FirstPosition
}

// facts returns what the checkpoint is to say now.
func (l *Log) facts() facts {
	f := facts{bootID: l.o.BootID, start: l.nextStart, unsettled: l.unsettled}
	l.marks.Lock()
	f.synced, f.written = l.marks.synced, l.marks.written
	l.marks.Unlock()
	return f
}

// StoreCheckpoint writes down what is written and what is synced, with one
// write and no sync. Its caller does so after each group commit, before it
// acknowledges any of it (rule S2): after the end of the process, the
// checkpoint is then exact.
func (l *Log) StoreCheckpoint() error {
	if err := l.enter(); err != nil {
		return err
	}
	defer l.leave()
	return l.storeCheckpoint()
}

// RecoveredEnd is how far the next start would find the log again though no
// checkpoint were stored since this one: up to what was durable then. Nothing
// below it waits for StoreCheckpoint.
//
// REQUIRES: called by the writer.
func (l *Log) RecoveredEnd() record.Offset { return l.recovered }

func (l *Log) storeCheckpoint() error {
	if err := l.writable(); err != nil {
		return err
	}
	if l.active == nil && len(l.view.Load().segments) == 0 {
		return nil // There is nothing to say yet, and no directory entry to say it in.
	}
	l.unsettled = false
	return l.writeCheckpoint()
}

func (l *Log) writeCheckpoint() error {
	f, err := l.putCheckpoint()
	if err != nil {
		return err
	}
	// WHY no sync for the rest: the end of what is written, and that something is
	// being taken out, count only in the run of the operating system that wrote
	// them, in which they cannot be lost.
	if f.written, f.unsettled = (mark{}), false; !l.hasLasting || f != l.lasting {
		l.lasting, l.hasLasting = f, true
		l.unsaid.Store(true)
	}
	return nil
}

// unsettle marks the stored checkpoint, before something is taken away that is
// not durable at once: whoever opens the log in this run of the system makes it
// so. That the mark itself is not on the disk does no harm: what is read after a
// power loss is there.
func (l *Log) unsettle() {
	if l.unsettled {
		return
	}
	l.unsettled = true
	if _, err := l.putCheckpoint(); err != nil {
		// It matters only if the sync fails too that comes next.
		l.logger.Debug("checkpoint not marked", "err", err)
		l.unsettled = false
	}
}

// settled takes the mark away: what was taken out of the log is gone for good.
// It is not synced for that: a mark too many costs the next start some syncs.
func (l *Log) settled() {
	l.unsettled = false
	if _, err := l.putCheckpoint(); err != nil {
		l.logger.Debug("checkpoint still marked", "err", err)
	}
}

// putCheckpoint stores the checkpoint, and returns what it says.
func (l *Log) putCheckpoint() (facts, error) {
	slots := l.slots.Load()
	if slots == nil {
		var err error
		if slots, err = checkpoint.OpenSlots(l.o.FS, l.path(checkpointFile)); err != nil {
			return facts{}, writeError("open checkpoint", err)
		}
		l.slots.Store(slots)
	}
	f := l.facts()
	l.stored = f.append(l.stored[:0])
	if err := slots.Store(l.stored); err != nil {
		return facts{}, writeError("store checkpoint", err)
	}
	return f, nil
}

// storeEverywhere stores the checkpoint so that no older one is left, not even
// behind a damaged slot. DURABLE.
func (l *Log) storeEverywhere() error {
	for range checkpoint.SlotCount {
		if err := l.writeCheckpoint(); err != nil {
			return err
		}
		if err := l.syncSlots(l.slots.Load()); err != nil {
			return l.checkpointUnsynced(err)
		}
	}
	l.unsaid.Store(false)
	return nil
}

// syncSlots syncs the checkpoint file, and its name if nobody did. It waits
// for another who does, and fails as that one did: the system tells an error
// only once.
func (l *Log) syncSlots(slots interface{ Sync() error }) error {
	l.slotSync <- struct{}{}
	defer func() { <-l.slotSync }()
	if l.slotsUnsynced != nil {
		return l.slotsUnsynced // the log is about to fail
	}
	err := slots.Sync()
	if err != nil && !errors.Is(err, os.ErrClosed) {
		l.slotsUnsynced = err
	}
	if err != nil || l.named.Load() {
		return err
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return err
	}
	l.named.Store(true)
	return nil
}

// checkpointUnsynced says what it means that the checkpoint was not synced. A
// directory is opened to be synced; where that took no descriptor, no sync was
// tried.
func (l *Log) checkpointUnsynced(err error) error {
	if vfs.IsTooManyFiles(err) && !vfs.IsSync(err) {
		l.unsaid.Store(true)
		return writeError("sync checkpoint", err)
	}
	return l.fail(&segment.SyncError{File: l.path(checkpointFile), Err: err})
}

// closeSlots closes the checkpoint file. What was stored is in it;
// SyncCheckpoint makes it durable all the same.
func (l *Log) closeSlots() error {
	if slots := l.slots.Swap(nil); slots != nil {
		return slots.Close()
	}
	return nil
}

// CheckpointDue tells whether SyncCheckpoint would have something to do. It
// may be called beside everything.
func (l *Log) CheckpointDue() bool {
	return !l.closed.Load() && l.failed.Load() == nil && (l.unsaid.Load() || l.epochsUnsynced.Load())
}

// SyncCheckpoint makes the stored checkpoint durable, if it says anything new
// that counts after a power loss, and what belongs to it. Its caller does so
// about every second. It may be called beside everything.
//
// Of several calls the later ones wait, and so does Close: what the first of them
// has begun is done when they return, and the directory may be moved after Close.
func (l *Log) SyncCheckpoint() error {
	l.saying <- struct{}{}
	defer func() { <-l.saying }()
	if l.closed.Load() || l.failed.Load() != nil {
		return nil
	}
	if err := l.syncEpochs(); err != nil || !l.unsaid.Swap(false) {
		return err
	}
	if slots := l.slots.Load(); slots != nil {
		if err := l.syncSlots(slots); err == nil {
			return nil
		} else if !errors.Is(err, os.ErrClosed) {
			return l.checkpointUnsynced(err)
		}
	}
	// The log is idle, so the file is not open. A sync through any descriptor
	// is a sync of the file.
	f, err := l.o.FS.OpenFile(l.path(checkpointFile), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		l.unsaid.Store(true)
		return writeError("sync checkpoint", err)
	}
	if err := errors.Join(l.syncSlots(f), f.Close()); err != nil {
		return l.checkpointUnsynced(err)
	}
	return nil
}

// loadCheckpoint reads the checkpoint; false if there is none that can be
// read.
func (l *Log) loadCheckpoint() (facts, bool, error) {
	slots, err := checkpoint.OpenSlots(l.o.FS, l.path(checkpointFile))
	if vfs.IsReadOnly(err) {
		slots, err = checkpoint.OpenSlots(forReading{l.o.FS}, l.path(checkpointFile))
	}
	if err != nil {
		return facts{}, false, err
	}
	defer slots.Close() //nolint:errcheck // Nothing was written.
	payload, err := slots.Load()
	if err != nil {
		return facts{}, false, nil //nolint:nilerror // None, or none that is good.
	}
	f, ok := parseFacts(payload)
	return f, ok, nil
}

// forReading opens files for reading only, whatever was asked for.
type forReading struct{ vfs.FS }

func (r forReading) OpenFile(name string, _ int, perm os.FileMode) (vfs.File, error) {
	return r.FS.OpenFile(name, os.O_RDONLY, perm)
}

func (l *Log) path(name string) string { return filepath.Join(l.o.Dir, name) }
