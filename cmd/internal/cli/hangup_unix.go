//go:build unix

package cli

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// watchHangup calls gone when nobody reads w any more, so that `| head` ends a
// command that has nothing to write: only a write would tell otherwise. It
// watches pipes and sockets, until stop is called, which waits for its end.
func watchHangup(w io.Writer, gone func(error)) (stop func()) {
	f, ok := w.(*os.File)
	if !ok {
		return func() {}
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return func() {}
	}
	quit, quitter, err := os.Pipe()
	if err != nil {
		return func() {} // a write will tell
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Errors and hang-ups are told without being asked for.
		fds := []unix.PollFd{{Fd: int32(f.Fd())}, {Fd: int32(quit.Fd())}}
		for {
			_, err := unix.Poll(fds, -1)
			switch {
			case err != nil && err != unix.EINTR, fds[1].Revents != 0:
				return
			case fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0:
				gone(syscall.EPIPE)
				return
			}
		}
	}()
	return func() {
		_ = quitter.Close() // nothing was written
		<-done
		_ = quit.Close()
	}
}
