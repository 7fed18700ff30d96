//go:build !linux

package mmap

import "github.com/millstream-io/millstream/storage/vfs"

// mapFile maps nothing: only Linux can populate a mapping by a system call,
// and without that a read costs less than a page fault that holds the
// scheduler.
func mapFile(vfs.File, int64) ([]byte, error) { return nil, nil }

func (r *Region) unmap() error { return nil }

func (r *Region) copyMapped(dst []byte, off int64) error { return r.readAt(dst, off) }

func (r *Region) withMapped(int64, int, func([]byte) error) error { return ErrOutside }
