package history

import "golang.org/x/sys/unix"

// monotonic returns CLOCK_MONOTONIC in ns, which all processes of a host share.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // the kernel has this clock
	}
	return ts.Nano()
}
