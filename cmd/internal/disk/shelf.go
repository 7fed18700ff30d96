package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/millstream-io/millstream/cmd/internal/owner"
)

const ownerFile = ".owner"

// UnavailableError says why a machine can have no such disks.
type UnavailableError struct {
	// Missing is what is missing.
	Missing string
}

// Error says it for people.
func (e *UnavailableError) Error() string { return "no disks of our own here: " + e.Missing }

// Shelf is a directory of disks.
type Shelf struct {
	dir   string
	disks []*Disk
}

// Open removes the mounts that dead runs have left, and makes a shelf of a
// directory that exists. An *UnavailableError says that there can be none.
// Close is to be called, whatever happens later.
func Open(dir string) (*Shelf, error) {
	if runtime.GOOS != "linux" {
		return nil, &UnavailableError{"they take Linux, and this is " + runtime.GOOS}
	}
	if uid := os.Geteuid(); uid != 0 {
		return nil, &UnavailableError{fmt.Sprintf("mounting takes root, and this is user %d", uid)}
	}
	for command, pkg := range map[string]string{"mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs", "mount": "mount", "unshare": "util-linux"} {
		if _, err := exec.LookPath(command); err != nil {
			return nil, &UnavailableError{fmt.Sprintf("the command %s (of the package %s) is not installed", command, pkg)}
		}
	}
	self, err := owner.Self()
	if err != nil {
		return nil, err
	}
	sweep()
	if err := os.WriteFile(filepath.Join(dir, ownerFile), []byte(self.String()), 0o600); err != nil {
		return nil, err
	}
	s := &Shelf{dir: dir}
	if err := run("mount", "--bind", dir, dir); err != nil {
		return nil, &UnavailableError{err.Error()}
	}
	if err := run("mount", "--make-private", dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := run("mount", "--make-shared", dir); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Make makes a disk and mounts it at a name in the directory.
func (s *Shelf) Make(name string, size int64) (*Disk, error) {
	d := &Disk{Dir: filepath.Join(s.dir, name), image: filepath.Join(s.dir, name+".img")}
	f, err := os.OpenFile(d.image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil { // sparse
		return nil, err
	}
	// Nothing is set aside for root, which the processes are.
	if err := run("mkfs.ext4", "-q", "-F", "-m", "0", d.image); err != nil {
		return nil, &UnavailableError{err.Error()}
	}
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := d.mount(); err != nil {
		return nil, &UnavailableError{err.Error()}
	}
	s.disks = append(s.disks, d)
	return d, os.Remove(filepath.Join(d.Dir, "lost+found")) // it is nobody's
}

// Close unmounts everything. The files stay.
// REQUIRES: nobody uses the disks.
func (s *Shelf) Close() error {
	var errs []error
	for _, d := range s.disks {
		errs = append(errs, d.Thaw(), d.unmount())
	}
	return errors.Join(append(errs, run("umount", s.dir))...)
}

// sweep unmounts what is of processes that are no more. What cannot be
// unmounted is left: this run has no need of it.
func sweep() {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	var left []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if at := fields[1]; abandoned(at) || abandoned(filepath.Dir(at)) {
			left = append(left, at)
		}
	}
	slices.Reverse(left) // what was mounted later is above
	for _, at := range left {
		_ = thaw(at) // it may not be frozen
		// Lazily, since members of that run may still be there.
		_ = run("umount", "-l", at)
	}
}

// abandoned tells whether a directory was the shelf of a process that is gone.
func abandoned(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, ownerFile))
	if err != nil {
		return false
	}
	of, ok := owner.Parse(string(text))
	return ok && !of.Lives()
}

// run runs a command.
func run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return nil
}

// exists tells whether a file is there.
func exists(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}
