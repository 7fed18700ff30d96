//go:build unix

package etcd

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// freeBytes returns how much space the disk of a directory has left.
func freeBytes(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}
