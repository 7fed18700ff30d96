package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm sleeps to some microseconds. It is a timerfd, whose reader the runtime
// wakes as it does those of sockets: a timer of the runtime may be late by a
// millisecond on an idle machine, which would be most of what is measured.
type alarm struct {
	fd   int // of file; asking the file for it would make it block
	file *os.File
}

func (a *alarm) open() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	a.fd, a.file = fd, os.NewFile(uintptr(fd), "timerfd")
	return nil
}

// sleep returns after d. A context that ends meanwhile is seen the next time.
func (a *alarm) sleep(ctx context.Context, d time.Duration) error {
	if d > time.Second { // slow rates: the end of ctx shall not wait
		select {
		case <-time.After(d - time.Second):
			d = time.Second
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))}
	if err := unix.TimerfdSettime(a.fd, 0, &spec, nil); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	var fired [8]byte
	if _, err := a.file.Read(fired[:]); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	return nil
}

func (a *alarm) close() {
	a.file.Close() //nolint:errcheck // nothing is written to it.
}
