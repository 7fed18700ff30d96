//go:build unix

package etcd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// InUseError says that another process has the directory.
type InUseError struct{ Dir string }

// Error says it for people.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s is in use by another controller: stop that one, or name another directory", e.Dir)
}

// lockDir locks a file, creating it if need be. The lock goes with the file's
// closing or the process. etcd would wait for its own lock for ever.
func lockDir(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the controller's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = &InUseError{Dir: filepath.Dir(name)}
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
