package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const (
	ext4Shutdown = 0x8004587d // EXT4_IOC_SHUTDOWN, as _IOR('X', 125, __u32)
	noLogFlush   = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
)

func shutdown(dir string) error { return control(dir, ext4Shutdown, noLogFlush) }

// control asks a file system for something.
func control(dir string, what uint, arg int) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.IoctlSetPointerInt(int(f.Fd()), what, arg), f.Close())
}

const (
	fiFreeze = 0xc0045877 // FIFREEZE, as _IOWR('X', 119, int)
	fiThaw   = 0xc0045878 // FITHAW, as _IOWR('X', 120, int)
)

func freeze(dir string) error { return control(dir, fiFreeze, 0) }

func thaw(dir string) error { return control(dir, fiThaw, 0) }

// fill sets room aside for a file until there is none: in ever smaller pieces,
// since a request is granted as a whole.
func fill(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	for at, piece := st.Size(), int64(1<<30); piece >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, at, piece); {
		case err == nil:
			at += piece
		case errors.Is(err, unix.ENOSPC):
			piece /= 2
		case !errors.Is(err, unix.EINTR):
			return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
	}
	return nil
}
