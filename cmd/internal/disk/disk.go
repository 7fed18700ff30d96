package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ballast is the file that fills a disk.
const ballast = ".ballast"

// Disk is one disk. Its methods may be called from any goroutine, those of one
// disk one at a time.
type Disk struct {
	// Dir is where it is mounted.
	Dir string

	image  string
	frozen bool
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

// Freeze has whoever writes to it, or syncs, wait until Thaw: it is as slow as a
// disk can be. It is not to be frozen already.
func (d *Disk) Freeze() error {
	if err := freeze(d.Dir); err != nil {
		return fmt.Errorf("freeze %s: %w", d.Dir, err)
	}
	d.frozen = true
	return nil
}

// Thaw ends Freeze. It may be called again.
func (d *Disk) Thaw() error {
	if !d.frozen {
		return nil
	}
	if err := thaw(d.Dir); err != nil {
		return fmt.Errorf("thaw %s: %w", d.Dir, err)
	}
	d.frozen = false
	return nil
}

// Fail makes it read-only, as the kernel does with a file system in which it
// finds an error: what was not written yet never is. It cannot be written to
// again before Repair.
func (d *Disk) Fail() error {
	device, err := device(d.Dir)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(device), "trigger_fs_error"), []byte("1"), 0o200)
}

// Repair checks the file system and mounts it again.
// REQUIRES: nobody uses it.
func (d *Disk) Repair() error {
	if err := d.unmount(); err != nil {
		return err
	}
	err := run("e2fsck", "-f", "-p", d.image)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 1 {
		err = nil // it had errors, and has none
	}
	return errors.Join(err, d.mount())
}

// device returns what is mounted at a directory.
func device(dir string) (string, error) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == dir {
			return fields[0], nil
		}
	}
	return "", fmt.Errorf("nothing is mounted at %s", dir)
}

// Free gives the room back. It may be called again.
func (d *Disk) Free() error {
	name := filepath.Join(d.Dir, ballast)
	if !exists(name) {
		return nil
	}
	return os.Remove(name)
}
