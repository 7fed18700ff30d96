package broker

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// MadeAt returns what tells a file from a copy of it: when it was made, as the
// file system says; empty if it does not. It stays when the file is written to,
// moved or given to somebody else.
func MadeAt(path string) string {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return ""
	}
	return fmt.Sprintf("%d.%09d", st.Btime.Sec, st.Btime.Nsec)
}
