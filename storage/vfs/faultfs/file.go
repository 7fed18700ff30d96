package faultfs

import (
	"syscall"

	"github.com/millstream-io/millstream/storage/vfs"
)

// file is an open file with faults.
type file struct {
	inner vfs.File
	fs    *FS
}

var _ vfs.File = (*file)(nil)

// reserver is a file that can have room set aside.
type reserver struct {
	file
	inner vfs.Reserver
}

var _ vfs.Reserver = (*reserver)(nil)

func (r *reserver) Reserve(off, n int64) error {
	return r.fs.simple(Reserve, r.Name(), func() error { return r.inner.Reserve(off, n) })
}

func (r *reserver) Trim(size int64) error {
	return r.fs.simple(Trim, r.Name(), func() error { return r.inner.Trim(size) })
}

func (f *file) Name() string { return f.inner.Name() }

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	ft := f.fs.ask(Read, f.Name())
	switch {
	case ft == nil:
		return f.inner.ReadAt(p, off)
	case ft.change != nil:
		n, err := f.inner.ReadAt(p, off)
		ft.change(p[:n], off)
		return n, err
	}
	n, err := f.inner.ReadAt(p[:min(ft.bytes, len(p))], off)
	if err == nil {
		err = pathError(Read, f.Name(), ft.err)
	}
	return n, err
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	return f.Writev([][]byte{p}, off)
}

func (f *file) Writev(pieces [][]byte, off int64) (int, error) {
	want := 0
	for _, p := range pieces {
		want += len(p)
	}
	ft := f.fs.ask(Write, f.Name())
	if ft == nil {
		ft = f.fs.take(want)
	}
	if ft == nil {
		return f.inner.Writev(pieces, off)
	}
	n := 0
	if part := head(pieces, ft.bytes); len(part) > 0 {
		var err error
		if n, err = f.inner.Writev(part, off); err != nil {
			return n, err
		}
	}
	if ft.silent {
		return want, nil
	}
	return n, pathError(Write, f.Name(), ft.err)
}

// head is the first n bytes of pieces.
func head(pieces [][]byte, n int) [][]byte {
	var out [][]byte
	for _, p := range pieces {
		p = p[:min(len(p), n)]
		if n -= len(p); len(p) > 0 {
			out = append(out, p)
		}
	}
	return out
}

// take uses room for a write, and returns the fault of one that finds too
// little.
func (f *FS) take(want int) *fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.bounded {
		return nil
	}
	got := min(int64(want), f.room)
	f.room -= got
	if got == int64(want) {
		return nil
	}
	return &fault{err: syscall.ENOSPC, bytes: int(got)}
}

func (f *file) Sync() error {
	ft := f.fs.ask(Sync, f.Name())
	switch {
	case ft == nil:
		return f.inner.Sync()
	case ft.silent:
		return nil
	}
	// A sync that fails loses what it should have written, for good: memfs
	// can do as Linux does.
	if l, ok := f.inner.(interface{ FailSync() }); ok {
		l.FailSync()
	}
	return pathError(Sync, f.Name(), ft.err)
}

func (f *file) Truncate(size int64) error {
	return f.fs.simple(Truncate, f.Name(), func() error { return f.inner.Truncate(size) })
}

func (f *file) Size() (int64, error) {
	if ft := f.fs.ask(Size, f.Name()); ft != nil {
		return 0, pathError(Size, f.Name(), ft.err)
	}
	return f.inner.Size()
}

func (f *file) Close() error {
	err := f.inner.Close()
	if ft := f.fs.ask(Close, f.Name()); ft != nil && !ft.silent {
		return pathError(Close, f.Name(), ft.err)
	}
	return err
}
