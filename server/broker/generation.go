package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/storage/checkpoint"
	"github.com/millstream-io/millstream/storage/vfs"
)

// found is what was in the data directory when this broker first came to the
// cluster's generation: after a restore the metadata may know less of the
// topics, and of where their partitions are, than this broker does (rule K4).
//
// It is kept in the file `found`, as JSON in a checkpoint: written before
// anything of that generation is carried out, so that a log that is opened
// because the metadata wants it is not taken for one that was there.
//
// INVARIANT: a log that was found is not given up, nor written over, before the
// metadata of this generation has had this broker hold it: what else the
// metadata says of the partition was said without knowing of this log.
type found struct {
	mu         sync.Mutex // guards what follows
	generation uint32
	logs       map[logKey]bool // true: claimed, by metadata of this generation
	unsaved    bool            // something was claimed since it was written
}

// foundFile is the contents of the file.
type foundFile struct {
	Generation uint32   `json:"cluster_generation"`
	Unclaimed  []string `json:"unclaimed"`
	Claimed    []string `json:"claimed"`
}

func foundPath(dir string) string { return filepath.Join(dir, "found") }

// load reads the file, in a directory that is of a generation. Without one of
// that generation nothing was found: the directory was begun in it.
func (f *found) load(fsys vfs.FS, dir string, generation uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.generation, f.logs = generation, map[logKey]bool{}
	b, err := checkpoint.Read(fsys, foundPath(dir))
	if errors.Is(err, checkpoint.ErrNotExist) {
		return nil
	}
	var file foundFile
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err != nil {
		return fmt.Errorf("logs that were found: %w", err)
	}
	if file.Generation < generation {
		return nil
	}
	f.generation = file.Generation // it may be one that was not registered with yet
	for claimed, names := range map[bool][]string{false: file.Unclaimed, true: file.Claimed} {
		for _, name := range names {
			k, ok := parseLogKey(name)
			if !ok {
				return fmt.Errorf("logs that were found: %q is not the name of a log", name)
			}
			f.logs[k] = claimed
		}
	}
	return nil
}

// enter notes what there is, if a generation is later than the one before.
// DURABLE when it returns.
func (f *found) enter(fsys vfs.FS, dir *directory, generation uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if generation <= f.generation {
		return nil
	}
	there, _, err := dir.entries()
	if err != nil {
		return err
	}
	if f.generation == 0 && len(there) == 0 {
		f.generation = generation // the directory is new
		return nil
	}
	logs := make(map[logKey]bool, len(there))
	for _, k := range there {
		logs[k] = false
	}
	if err := writeFound(fsys, dir.path, generation, logs); err != nil {
		return err
	}
	f.generation, f.logs, f.unsaved = generation, logs, false
	return nil
}

func writeFound(fsys vfs.FS, dir string, generation uint32, logs map[logKey]bool) error {
	file := foundFile{Generation: generation}
	for k, claimed := range logs {
		if claimed {
			file.Claimed = append(file.Claimed, k.String())
		} else {
			file.Unclaimed = append(file.Unclaimed, k.String())
		}
	}
	slices.Sort(file.Unclaimed)
	slices.Sort(file.Claimed)
	b, err := json.Marshal(file)
	if err != nil {
		return fmt.Errorf("logs that were found: %w", err)
	}
	if err := checkpoint.Write(fsys, foundPath(dir), b, true); err != nil {
		return fmt.Errorf("logs that were found: %w", err)
	}
	return nil
}

// save writes the file if something was claimed since. One that is not saved
// is not given up after the next start until it is claimed again.
func (f *found) save(fsys vfs.FS, dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.unsaved {
		return nil
	}
	err := writeFound(fsys, dir, f.generation, f.logs)
	f.unsaved = err != nil
	return err
}

// has tells whether a log was found in that generation; ok is false when it is
// not the one that this broker is in.
func (f *found) has(k logKey, generation uint32) (there, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, there = f.logs[k]
	return there, generation == f.generation
}

// unclaimed tells whether a log was found that no metadata of this generation
// has had this broker hold.
func (f *found) unclaimed(k logKey) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	claimed, there := f.logs[k]
	return there && !claimed
}

// claim notes that the metadata has this broker hold a log.
func (f *found) claim(k logKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if claimed, there := f.logs[k]; there && !claimed {
		f.logs[k], f.unsaved = true, true
	}
}

// current tells whether a generation is the one that this broker is registered
// in, and none is known that is later.
func (b *Broker) current(generation uint32) bool {
	b.found.mu.Lock()
	defer b.found.mu.Unlock()
	return generation == b.found.generation && generation == b.identity.Load().Generation
}

// claimFor notes that the metadata has this broker hold a partition.
//
// A log that was found, of a partition that others were made to lead without
// it, is put aside where this broker is to hold the partition anew: as a
// follower it would cut from it what the others do not have. It stays there, as
// a directory that nobody knows, until somebody removes it.
func (b *Broker) claimFor(w *wanted) {
	k := keyOf(w.topic.ID, w.part.ID)
	if !b.found.unclaimed(k) {
		return
	}
	if w.part.Leader != metadata.NoLeader && slices.Contains(w.part.Adding, b.opts.ID) {
		if l := b.log(k); l != nil {
			if err := l.close(); err != nil {
				b.logger.Warn("log of another generation not closed in order", "log", k.String(), "err", err)
			}
		}
		if err := b.dir.putAside(k, w.generation); err != nil {
			b.logger.Error("log of another generation not put aside", "log", k.String(), "err", err)
			b.failDirectory(err)
			return
		}
		b.logs.Lock()
		delete(b.logs.byKey, k)
		b.logs.Unlock()
		b.logger.Warn("a log of an earlier generation of the cluster is put aside: the partition is led by others, who did not have it",
			"topic", w.topic.Name, "partition", w.part.ID)
	}
	b.found.claim(k)
}
