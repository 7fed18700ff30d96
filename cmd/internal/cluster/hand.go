package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// InUseError says that a member runs already, and was not started by this
// cluster.
type InUseError struct {
	// Member is its name, PIDFile the file with its process if it was started
	// with the member's script.
	Member, PIDFile string
}

// Error says it for people.
func (e *InUseError) Error() string {
	return fmt.Sprintf("%s runs already and was started by hand: stop it with kill $(cat %s)", e.Member, e.PIDFile)
}

// free fails with *InUseError if another process has the member's directory.
//
// WHY ask before the start: the process would find out by itself, but after its
// number had taken the place of the other's in the PID file.
func (m *Member) free() error {
	f, err := os.Open(filepath.Join(m.DataDir(), "lock"))
	if err != nil {
		return nil //nolint:nilerr // it has not run here, or says itself what is wrong
	}
	defer func() { _ = f.Close() }() // and the lock goes with it
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return &InUseError{Member: m.Name(), PIDFile: m.PIDFile()}
	}
	return nil
}
