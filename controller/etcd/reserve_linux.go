package etcd

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// reserve takes disk space for the beginning of a file, and leaves its size.
func reserve(name string, bytes int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("reserve space: %w", err)
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, bytes); err != nil {
		return errors.Join(fmt.Errorf("reserve space for %s: %w", name, err), f.Close())
	}
	return f.Close()
}
