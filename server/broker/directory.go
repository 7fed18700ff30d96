package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millstream-io/millstream/storage/record"
	"github.com/millstream-io/millstream/storage/vfs"
)

// The data directory:
//
//	lock                                  held while a broker runs
//	incarnation                           who used it last (rule S3)
//	controllers                           where the controllers were last
//	found                                 what was in it when the cluster was restored
//	probe                                 there for a moment, while the disk is tried
//	topics/<topic id>-<partition>/        a log
//	trash/<topic id>-<partition>.<ms>     a log that was deleted, and when
//	trash/<topic id>-<partition>.<ms>.now one that is to go at once
//	trash/<topic id>-<partition>.<ms>.damaged
//	                                      one that was damaged, and is replaced
//
// A log's directory leaves topics/ only on the record of a deletion (rule S5).
type directory struct {
	fs   vfs.FS
	path string
}

// logKey names a log of this broker.
type logKey struct {
	topic     record.TopicID
	partition record.PartitionID
}

// String returns the name of the log's directory.
func (k logKey) String() string {
	return k.topic.String() + "-" + strconv.FormatUint(uint64(k.partition), 10)
}

// parseLogKey reads what String wrote.
func parseLogKey(name string) (logKey, bool) {
	id, number, ok := strings.Cut(name, "-")
	if !ok {
		return logKey{}, false
	}
	topic, err := record.ParseTopicID(id)
	if err != nil {
		return logKey{}, false
	}
	n, err := strconv.ParseUint(number, 10, 32)
	k := logKey{topic, record.PartitionID(n)}
	return k, err == nil && k.String() == name
}

func (d *directory) lock() string            { return filepath.Join(d.path, "lock") }
func (d *directory) topics() string          { return filepath.Join(d.path, "topics") }
func (d *directory) trash() string           { return filepath.Join(d.path, "trash") }
func (d *directory) logPath(k logKey) string { return filepath.Join(d.topics(), k.String()) }

// create makes the data directory. DURABLE when it returns: with its parents,
// as far as they were missing.
func (d *directory) create() error {
	missing := []string{}
	for p := filepath.Clean(d.path); ; p = filepath.Dir(p) {
		_, err := d.fs.Stat(p)
		if err == nil || p == filepath.Dir(p) {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data directory: %w", err)
		}
		missing = append(missing, p)
	}
	if err := d.fs.MkdirAll(d.path, 0o755); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	for _, p := range missing {
		if err := d.fs.SyncDir(filepath.Dir(p)); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	return nil
}

// prepare makes what is in it. DURABLE when it returns.
func (d *directory) prepare() error {
	for _, dir := range []string{d.topics(), d.trash()} {
		if err := d.fs.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
	}
	if err := d.fs.SyncDir(d.path); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// entries lists topics/: the logs, and the names that are none.
func (d *directory) entries() (logs []logKey, strangers []string, err error) {
	list, err := d.fs.ReadDir(d.topics())
	if err != nil {
		return nil, nil, fmt.Errorf("list logs: %w", err)
	}
	for _, e := range list {
		if k, ok := parseLogKey(e.Name()); ok && e.IsDir() {
			logs = append(logs, k)
		} else {
			strangers = append(strangers, e.Name())
		}
	}
	return logs, strangers, nil
}

// discard moves a log to the trash. A log that is not there is no error.
// DURABLE after settle.
func (d *directory) discard(k logKey, at time.Time, now bool) error {
	name := fmt.Sprintf("%s.%d", k, at.UnixMilli())
	if now {
		name += "." + trashNow
	}
	err := d.fs.Rename(d.logPath(k), filepath.Join(d.trash(), name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("move log to trash: %w", err)
	}
	return nil
}

// quarantine moves a damaged log to the trash, where it stays as long as what
// was deleted, however full the disk is. DURABLE after settle.
func (d *directory) quarantine(k logKey, at time.Time) error {
	name := fmt.Sprintf("%s.%d.%s", k, at.UnixMilli(), trashDamaged)
	err := d.fs.Rename(d.logPath(k), filepath.Join(d.trash(), name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("move damaged log to trash: %w", err)
	}
	return nil
}

// What stands behind the time of a log in the trash.
const (
	trashNow     = "now"
	trashDamaged = "damaged"
)

// putAside gives a log a name that is none, under which it stays. DURABLE when
// it returns.
func (d *directory) putAside(k logKey, generation uint32) error {
	err := d.fs.Rename(d.logPath(k), fmt.Sprintf("%s.before-generation-%d", d.logPath(k), generation))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("put log aside: %w", err)
	}
	return d.fs.SyncDir(d.topics())
}

// settle makes discards durable.
func (d *directory) settle() error {
	return errors.Join(d.fs.SyncDir(d.trash()), d.fs.SyncDir(d.topics()))
}

// trashed is a directory in the trash.
type trashed struct {
	name string
	log  logKey
	at   time.Time
	now  bool
	// damaged says that it was replaced, not deleted.
	damaged bool
}

// trashList lists the trash, oldest first. Names that are not ours stay.
func (d *directory) trashList() ([]trashed, error) {
	list, err := d.fs.ReadDir(d.trash())
	if err != nil {
		return nil, fmt.Errorf("list trash: %w", err)
	}
	var ts []trashed
	for _, e := range list {
		parts := strings.Split(e.Name(), ".")
		if len(parts) < 2 || len(parts) > 3 || len(parts) == 3 && parts[2] != trashNow && parts[2] != trashDamaged {
			continue
		}
		log, ok := parseLogKey(parts[0])
		if !ok {
			continue
		}
		ms, err := strconv.ParseInt(parts[1], 10, 64)
		if err != nil {
			continue
		}
		ts = append(ts, trashed{
			name: e.Name(), log: log, at: time.UnixMilli(ms),
			now: len(parts) == 3 && parts[2] == trashNow, damaged: len(parts) == 3 && parts[2] == trashDamaged,
		})
	}
	slices.SortFunc(ts, func(a, b trashed) int { return a.at.Compare(b.at) })
	return ts, nil
}

// empty removes from the trash what has been there for keep, what is to go at
// once, and, oldest first, as much as it takes to bring the disk below
// highWater (a fraction of its size). It returns how many went. It may be
// interrupted by ctx between two files.
func (d *directory) empty(ctx context.Context, now time.Time, keep time.Duration, highWater float64) (int, error) {
	ts, err := d.trashList()
	if err != nil {
		return 0, err
	}
	gone := 0
	for _, t := range ts {
		if !t.now && now.Sub(t.at) < keep && (t.damaged || !d.above(highWater)) {
			continue
		}
		whole, err := d.remove(ctx, filepath.Join(d.trash(), t.name))
		if err != nil {
			return gone, fmt.Errorf("empty trash: %w", err)
		}
		if !whole {
			break
		}
		gone++
	}
	return gone, nil
}

// remove removes a log from the trash, file by file; false if ctx ended before
// it was gone.
//
// WHY not at once: a stop would wait for gigabytes.
func (d *directory) remove(ctx context.Context, path string) (bool, error) {
	list, err := d.fs.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, e := range list {
		if ctx.Err() != nil {
			return false, nil
		}
		if err := d.fs.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			return false, err
		}
	}
	return true, d.fs.RemoveAll(path)
}

// above tells whether the disk is fuller than a fraction of its size.
func (d *directory) above(highWater float64) bool {
	free, total, err := d.fs.FreeBytes(d.path)
	return err == nil && total > 0 && float64(total-free) > highWater*float64(total)
}
