package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/millstream-io/millstream/cmd/internal/cluster"
	"github.com/millstream-io/millstream/cmd/internal/history"
	"github.com/millstream-io/millstream/storage/segment"
)

// diskFull leaves a process no room for a while. It is to go on serving, and to
// take what it is given again when there is room.
func (r *run) diskFull(ctx context.Context, m *cluster.Member) error {
	r.book.Fault("disk-full", brokerOf(m))
	defer r.book.Healed("disk-full", brokerOf(m))
	d := r.rig.disks[m.Name()]
	if err := d.Fill(); err != nil {
		return err
	}
	pause(ctx, r.between(time.Second, 10*time.Second))
	return d.Free()
}

// slowDisk has everything that a process writes or syncs wait, again and again.
func (r *run) slowDisk(ctx context.Context, m *cluster.Member) error {
	r.book.Fault("slow-disk", brokerOf(m))
	defer r.book.Healed("slow-disk", brokerOf(m))
	d := r.rig.disks[m.Name()]
	for range 1 + r.random.IntN(20) {
		frozen := r.between(20*time.Millisecond, time.Second)
		if err := d.Freeze(); err != nil {
			return err
		}
		goOn := pause(ctx, frozen)
		if err := d.Thaw(); err != nil {
			return err
		}
		if !goOn || !pause(ctx, 20*time.Millisecond) {
			break
		}
	}
	return nil
}

// bitFlip flips a bit in a sealed segment of a broker while that is down. It is
// to find that by itself, and to have the records of the others instead. All
// replicas are in sync before.
func bitFlip(ctx context.Context, r *run) error {
	if err := r.whole(ctx); err != nil {
		return err
	}
	m := r.anyBroker()
	pick, bit := r.random.Uint64(), r.random.IntN(8)
	r.guard.expect(m)
	if err := m.Stop(ctx); err != nil {
		return err
	}
	sealed, err := sealedSegments(m.DataDir())
	if err != nil {
		return err
	}
	var damaged *flipped
	if len(sealed) > 0 {
		r.book.Fault(history.FaultDisk, brokerOf(m))
		defer r.book.Healed(history.FaultDisk, brokerOf(m))
		if damaged, err = flip(sealed[pick%uint64(len(sealed))], pick, bit); err != nil {
			return err
		}
		r.say("%9s %-16s bit %d of byte %d of %s\n", "", m.Name(), bit, damaged.at, damaged.path)
	}
	if err := r.startAll(ctx, []*cluster.Member{m}); err != nil || damaged == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mendTimeout)
	defer cancel()
	for damaged.there() {
		if !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%s has not put %s aside %v after a bit in it was flipped", m.Name(), damaged.path, mendTimeout)
		}
	}
	return r.whole(ctx)
}

// sealedSegments are the segments of all logs in a data directory but the last
// of each, by name.
func sealedSegments(dataDir string) ([]string, error) {
	all, err := filepath.Glob(filepath.Join(dataDir, "topics", "*", "*"+segment.LogSuffix))
	if err != nil {
		return nil, err
	}
	slices.Sort(all)
	var sealed []string
	for i, path := range all {
		if i+1 < len(all) && filepath.Dir(all[i+1]) == filepath.Dir(path) {
			sealed = append(sealed, path)
		}
	}
	return sealed, nil
}

// judgeDamage looks for logs that brokers have put aside as damaged, though no
// fault damaged any: neither a death at any moment nor the loss of what was not
// synced is damage.
func (r *run) judgeDamage() error {
	if r.faults["bit-flip"] > 0 || r.faults["read-only"] > 0 {
		return nil
	}
	var errs []error
	for _, m := range r.c.Brokers() {
		aside, err := damagedLogs(m.DataDir())
		if errs = append(errs, err); len(aside) > 0 {
			errs = append(errs, fmt.Errorf("%s took logs for damaged, and nothing had damaged them: %v", m.Name(), aside))
		}
	}
	return errors.Join(errs...)
}

// damagedLogs are the logs in a data directory that were put aside as damaged.
func damagedLogs(dataDir string) ([]string, error) {
	return filepath.Glob(filepath.Join(dataDir, "trash", "*.damaged"))
}

// flipped is a file in which a bit was flipped.
type flipped struct {
	path string
	at   int64
	file os.FileInfo
}

// flip flips a bit of a byte that pick decides, in the middle half of a file.
func flip(path string, pick uint64, bit int) (*flipped, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it is synced by then
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	at := info.Size()/4 + int64(pick%uint64(max(1, info.Size()/2)))
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return nil, err
	}
	b[0] ^= 1 << bit
	if _, err := f.WriteAt(b, at); err != nil {
		return nil, err
	}
	return &flipped{path, at, info}, f.Sync()
}

// there tells whether the file is where it was.
func (x *flipped) there() bool {
	info, err := os.Stat(x.path)
	return err == nil && os.SameFile(info, x.file)
}

// readOnly has the kernel find an error in the file system of a broker: nothing
// can be written any more. It is to stop in order nevertheless; then its file
// system is repaired, and its machine booted. All replicas are in sync before,
// as for lostWrites: what was not synced is gone.
func readOnly(ctx context.Context, r *run) error {
	if err := r.whole(ctx); err != nil {
		return err
	}
	m := r.anyBroker()
	r.book.Fault(history.FaultPower, brokerOf(m))
	defer r.book.Healed(history.FaultPower, brokerOf(m))
	d := r.rig.disks[m.Name()]
	// It stands still meanwhile: of the syncs that are under way when ext4 gives up
	// its journal, some succeed whose metadata was never written. The transaction
	// that they would wait for has ended by then, with nothing.
	if err := m.Pause(); err != nil {
		return err
	}
	if err := errors.Join(d.Fail(), m.Resume()); err != nil {
		return err
	}
	pause(ctx, r.between(time.Second, 8*time.Second))
	r.guard.expect(m)
	stopped := m.Stop(ctx)
	if !errors.Is(stopped, context.DeadlineExceeded) {
		stopped = nil // it may say that not everything could be written
	}
	if err := errors.Join(stopped, d.Repair(), r.rig.boot(m.Name())); err != nil {
		return fmt.Errorf("%s on a read-only disk: %w", m.Name(), err)
	}
	return r.startAll(ctx, []*cluster.Member{m})
}
