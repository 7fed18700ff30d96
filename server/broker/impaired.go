package broker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	controllerv1 "github.com/millstream-io/millstream/gen/go/millstream/controller/v1"
	"github.com/millstream-io/millstream/server/partition"
	"github.com/millstream-io/millstream/storage/vfs"
	"github.com/millstream-io/millstream/storage/vfs/watchfs"
)

// The broker watches how its disk does. While something is the matter with it,
// the broker says so to the controller, which has others lead; and it tries the
// disk itself, for nobody else may.
//
// A failed sync is another matter: it ends the log directory (rule S6).

const (
	// probeBytes is how much is written to a disk to try it.
	probeBytes = 64 << 10
	// A disk that was full has room again when one part in roomParts of it is
	// free, or roomBytes.
	roomParts = 50
	roomBytes = 1 << 30
)

// diskWatch is how the disk does.
type diskWatch struct {
	meter *watchfs.Meter
	// Stored by watchDisk.
	impairment atomic.Uint32
	delay      atomic.Int64 // as time.Duration
}

// impairment returns what is the matter with the disk.
func (b *Broker) impairment() impairment { return impairment(b.disk.impairment.Load()) }

// watchDisk looks at the disk until ctx ends.
func (b *Broker) watchDisk(ctx context.Context) error {
	j := newJudge(b.opts.SlowDisk)
	p := prober{fs: b.opts.FS, name: filepath.Join(b.opts.DataDir, "probe")}
	defer p.end()
	return every(ctx, lookEvery, nil, func() {
		if b.failure.Load() != nil {
			return // nothing is written any more
		}
		now, was := partition.Uptime(), j.is
		s := b.disk.meter.Take()
		is := j.see(now, s, was == diskFull && b.roomy())
		b.disk.delay.Store(int64(j.delay(now)))
		b.disk.impairment.Store(uint32(is))
		switch is {
		case was:
		case unimpaired:
			b.logger.Info("the disk is well again", "directory", b.opts.DataDir)
		default:
			b.logger.Warn("the disk is in trouble, and others should lead", "directory", b.opts.DataDir, "impairment", is.String(),
				"delay", j.delay(now), "err", errors.Join(s.Broken, s.ReadOnly, s.Full))
		}
		if is != was {
			b.beatNow()
		}
		if is != unimpaired {
			p.try()
		}
	})
}

// roomy tells whether a disk that was full has room again.
func (b *Broker) roomy() bool {
	free, total, err := b.opts.FS.FreeBytes(b.opts.DataDir)
	return err == nil && (free >= roomBytes || free >= total/roomParts)
}

// told is the impairment as the controller is told of it.
func (i impairment) told() controllerv1.Impairment {
	switch i {
	case diskSlow:
		return controllerv1.Impairment_IMPAIRMENT_SLOW_DISK
	case diskFull:
		return controllerv1.Impairment_IMPAIRMENT_DISK_FULL
	case diskReadOnly:
		return controllerv1.Impairment_IMPAIRMENT_DISK_READ_ONLY
	case diskError:
		return controllerv1.Impairment_IMPAIRMENT_DISK_ERROR
	case unimpaired, impairments:
	}
	return controllerv1.Impairment_IMPAIRMENT_UNSPECIFIED
}

// prober tries the disk: what becomes of it, the meter sees. One try is under
// way at a time, and may last as long as the disk keeps it.
type prober struct {
	fs   vfs.FS
	name string
	busy atomic.Bool
	done sync.WaitGroup
}

// try begins to write a file, sync and remove it, unless that is under way.
func (p *prober) try() {
	if p.busy.Swap(true) {
		return
	}
	p.done.Go(func() {
		defer p.busy.Store(false)
		f, err := p.fs.OpenFile(p.name, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o644)
		if err != nil {
			return
		}
		if _, err := f.WriteAt(make([]byte, probeBytes), 0); err == nil {
			_ = f.Sync()
		}
		_ = f.Close()
		_ = p.fs.Remove(p.name)
	})
}

// end waits for the try that is under way.
func (p *prober) end() { p.done.Wait() }
