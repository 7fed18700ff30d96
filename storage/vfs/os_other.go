//go:build unix && !linux

package vfs

import "os"

// syncFile is os.File.Sync, which on macOS asks the drive too (F_FULLFSYNC).
func syncFile(f *os.File, _ uintptr) error { return f.Sync() }

// writev writes the pieces one by one. Only Linux is tuned.
func writev(f *osFile, pieces [][]byte, off int64) (int, error) {
	written := 0
	for _, p := range pieces {
		if len(p) == 0 {
			continue
		}
		n, err := f.file.WriteAt(p, off+int64(written))
		written += n
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
