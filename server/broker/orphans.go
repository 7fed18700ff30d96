package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/millstream-io/millstream/server/metadata"
	"github.com/millstream-io/millstream/storage/vfs"
)

// Orphan is something in the data directory that the metadata does not know.
// In topics/ it is never removed by itself; in the trash it waits for its time.
type Orphan struct {
	// Directory is its path.
	Directory string
	// TopicID and Partition are what its name says; the id is "" if it says
	// nothing.
	TopicID   string
	Partition uint32
	// Bytes in it.
	Bytes int64
	// Trash is whether it lies there after a deletion.
	Trash bool
	// Why it is an orphan, for people.
	Why string
}

// Orphans lists what is in the data directory and is nobody's, by name.
func (b *Broker) Orphans() ([]Orphan, error) {
	logs, strangers, err := b.dir.entries()
	if err != nil {
		return nil, err
	}
	trash, err := b.dir.trashList()
	if err != nil {
		return nil, err
	}
	s := b.mirror.Current()
	var found []Orphan
	for _, k := range logs {
		if why := b.orphaned(s, k); why != "" {
			found = append(found, orphanOf(b.dir.logPath(k), k, why))
		}
	}
	for _, name := range strangers {
		found = append(found, Orphan{Directory: filepath.Join(b.dir.topics(), name), Why: "not the name of a log"})
	}
	for _, t := range trash {
		why := "its topic was deleted"
		switch {
		case t.damaged:
			why = "it was damaged, and is replaced"
		case s.TopicByID(metadata.TopicID(t.log.topic)) != nil:
			why = "it was moved to other brokers"
		}
		o := orphanOf(filepath.Join(b.dir.trash(), t.name), t.log, why)
		o.Trash = true
		found = append(found, o)
	}
	for i := range found {
		if found[i].Bytes, err = bytesIn(b.opts.FS, found[i].Directory); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, func(x, y Orphan) int { return strings.Compare(x.Directory, y.Directory) })
	return found, nil
}

func orphanOf(path string, k logKey, why string) Orphan {
	return Orphan{Directory: path, TopicID: k.topic.String(), Partition: uint32(k.partition), Why: why}
}

// bytesIn adds up the files of a tree. What goes meanwhile counts nothing.
func bytesIn(fsys vfs.FS, path string) (int64, error) {
	gone := func(err error) (int64, error) {
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		return 0, fmt.Errorf("size of orphan: %w", err)
	}
	info, err := fsys.Stat(path)
	if err != nil {
		return gone(err)
	}
	if !info.IsDir() {
		return info.Size(), nil
	}
	list, err := fsys.ReadDir(path)
	if err != nil {
		return gone(err)
	}
	total := int64(0)
	for _, e := range list {
		if !e.IsDir() && !e.Type().IsRegular() {
			continue // a link may lead anywhere
		}
		n, err := bytesIn(fsys, filepath.Join(path, e.Name()))
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (b *Broker) orphaned(s *metadata.Snapshot, k logKey) string {
	id := metadata.TopicID(k.topic)
	t := s.TopicByID(id)
	switch {
	case t == nil && s.Deletion(id) != nil && s.Deletion(id).Generation == s.Generation:
		return "" // on its way to the trash
	case t == nil && s.Deletion(id) != nil:
		return "its topic was deleted in an earlier generation of the cluster"
	case t == nil:
		return "no such topic, and no record of its deletion"
	case t.Partition(uint32(k.partition)) == nil:
		return "the topic has no such partition"
	case !slices.Contains(t.Partition(uint32(k.partition)).Replicas, b.opts.ID):
		return "the replica is not this broker's"
	}
	return ""
}
