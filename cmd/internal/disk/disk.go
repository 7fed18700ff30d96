package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ballast is the file that fills a disk.
const ballast = ".ballast"

// Disk is one disk. Its methods may be called from any goroutine, those of one
// disk one at a time.
type Disk struct {
	// Dir is where it is mounted.
	Dir string

	image string
}

func (d *Disk) mount() error {
	return run("mount", "-o", "loop,noatime,errors=remount-ro", d.image, d.Dir)
}

// unmount unmounts it, if it is mounted. What was written is on the disk then,
// unless its power is off.
func (d *Disk) unmount() error { return run("umount", d.Dir) }

// PowerOff takes the power: nothing is written any more, and whoever uses it
// gets errors. For a disk that is lost with its whole machine, stop who uses
// it first.
func (d *Disk) PowerOff() error {
	if err := shutdown(d.Dir); err != nil {
		return fmt.Errorf("power off %s: %w", d.Dir, err)
	}
	return nil
}

// PowerOn makes it usable again, with what had been written to it, and repairs
// the file system as far as its log does.
// REQUIRES: nobody uses it.
func (d *Disk) PowerOn() error { return errors.Join(d.unmount(), d.mount()) }

// Fill leaves next to no room on it.
func (d *Disk) Fill() error {
	f, err := os.OpenFile(filepath.Join(d.Dir, ballast), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

// Free gives the room back. It may be called again.
func (d *Disk) Free() error {
	name := filepath.Join(d.Dir, ballast)
	if !exists(name) {
		return nil
	}
	return os.Remove(name)
}
