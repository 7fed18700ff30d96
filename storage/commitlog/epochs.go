package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/segment"
	"github.com/millstream-io/millstream/storage/vfs"
)

// epochsFile is the history of leader epochs: a cache of what the log says,
// replaced when an epoch begins, and synced with the checkpoint. After a crash
// it is believed only if it agrees with the checkpoint (see recoverEpochs).
const epochsFile = "epochs"

func (v *view) lastEpoch() record.LeaderEpoch {
	if n := len(v.epochs); n > 0 {
		return v.epochs[n-1].Epoch
	}
	return NoEpoch
}

// lastEpochStart is where the last epoch begins.
func (v *view) lastEpochStart() record.Offset {
	if n := len(v.epochs); n > 0 {
		return v.epochs[n-1].Offset
	}
	return 0
}

// epochAt returns the epoch of the record at off; NoEpoch if the log never
// held one.
func (v *view) epochAt(off record.Offset) record.LeaderEpoch {
	i := sort.Search(len(v.epochs), func(i int) bool { return v.epochs[i].Offset > off })
	if i == 0 {
		return NoEpoch
	}
	return v.epochs[i-1].Epoch
}

// EpochEnd returns the greatest leader epoch of the log that is not greater
// than e, and the offset after its last record: where the log of one whose
// last epoch is e can at most agree with this one. It is NoEpoch and the log
// start if all epochs are greater.
func (l *Log) EpochEnd(e record.LeaderEpoch) (record.LeaderEpoch, record.Offset) {
	end := l.End()
	v := l.view.Load()
	i := sort.Search(len(v.epochs), func(i int) bool { return v.epochs[i].Epoch > e })
	if i == 0 {
		return NoEpoch, l.Start()
	}
	if i < len(v.epochs) {
		end = v.epochs[i].Offset
	}
	return v.epochs[i-1].Epoch, end
}

// EpochAt returns the leader epoch of the record at off. At and beyond the end
// of the log it is that of the last record; before all that is known, NoEpoch.
func (l *Log) EpochAt(off record.Offset) record.LeaderEpoch { return l.view.Load().epochAt(off) }

// withEpoch returns a view that also has an epoch which begins at off.
func (v *view) withEpoch(e record.LeaderEpoch, off record.Offset) *view {
	epochs := make([]segment.EpochStart, len(v.epochs), len(v.epochs)+1)
	copy(epochs, v.epochs)
	return &view{segments: v.segments, epochs: append(epochs, segment.EpochStart{Epoch: e, Offset: off})}
}

// epochsBelow returns the epochs that begin below off.
func epochsBelow(epochs []segment.EpochStart, off record.Offset) []segment.EpochStart {
	n := sort.Search(len(epochs), func(i int) bool { return epochs[i].Offset >= off })
	return epochs[:n:n]
}

// epochsFrom returns the epochs that matter at off and above: the one of the
// record at off, and those that begin later.
func epochsFrom(epochs []segment.EpochStart, off record.Offset) []segment.EpochStart {
	n := sort.Search(len(epochs), func(i int) bool { return epochs[i].Offset > off })
	if n > 0 {
		n--
	}
	return epochs[n:]
}

// epochsIn returns the epochs of the records [from, to), and where each is
// first seen there.
func epochsIn(epochs []segment.EpochStart, from, to record.Offset) []segment.EpochStart {
	if from >= to {
		return nil
	}
	out := append([]segment.EpochStart(nil), epochsBelow(epochsFrom(epochs, from), to)...)
	if len(out) > 0 {
		out[0].Offset = max(out[0].Offset, from)
	}
	return out
}

const (
	epochsVersion = 1
	epochsHeader  = 8
	epochsEntry   = 12
)

// storeEpochs writes the history. It is a cache: a failure costs time after
// the next crash, no more.
func (l *Log) storeEpochs(epochs []segment.EpochStart) {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, epochsVersion)
	b = le.AppendUint32(b, uint32(len(epochs)))
	for _, e := range epochs {
		b = le.AppendUint32(b, uint32(e.Epoch))
		b = le.AppendUint64(b, uint64(e.Offset))
	}
	if err := checkpoint.Write(l.o.FS, filepath.Join(l.o.Dir, epochsFile), b, false); err != nil {
		l.logger.Debug("leader epochs not stored", "err", err)
		return
	}
	l.epochsUnsynced.Store(true)
}

// syncEpochs makes the stored history durable, with its name. It may be called
// beside storeEpochs.
func (l *Log) syncEpochs() error {
	if !l.epochsUnsynced.Swap(false) {
		return nil
	}
	f, err := l.o.FS.OpenFile(l.path(epochsFile), os.O_RDWR, 0)
	if err != nil {
		l.epochsUnsynced.Store(true)
		return writeError("sync leader epochs", err)
	}
	if err = errors.Join(f.Sync(), f.Close()); err == nil {
		err = l.o.FS.SyncDir(l.o.Dir)
		if vfs.IsTooManyFiles(err) && !vfs.IsSync(err) {
			l.epochsUnsynced.Store(true) // it was not opened, so not tried
			return writeError("sync leader epochs", err)
		}
	}
	if err != nil {
		return l.fail(&segment.SyncError{File: l.path(epochsFile), Err: err})
	}
	return nil
}

// parseEpochs reads what storeEpochs wrote. ENSURES: epochs and offsets rise.
func parseEpochs(b []byte) ([]segment.EpochStart, error) {
	le := binary.LittleEndian
	if len(b) < epochsHeader || le.Uint32(b) != epochsVersion ||
		uint64(le.Uint32(b[4:]))*epochsEntry != uint64(len(b)-epochsHeader) {
		return nil, fmt.Errorf("%s: %d bytes, or another version", epochsFile, len(b))
	}
	var out []segment.EpochStart
	last := segment.EpochStart{Epoch: NoEpoch, Offset: -1}
	for b = b[epochsHeader:]; len(b) > 0; b = b[epochsEntry:] {
		e := segment.EpochStart{Epoch: record.LeaderEpoch(le.Uint32(b)), Offset: record.Offset(le.Uint64(b[4:]))}
		if e.Epoch <= last.Epoch || e.Offset <= last.Offset {
			return nil, fmt.Errorf("%s: not in order", epochsFile)
		}
		out = append(out, e)
		last = e
	}
	return out, nil
}
